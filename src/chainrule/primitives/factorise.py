"""Orthogonal factorisations: QR, the singular value decomposition and Hermitian eigenvectors.

Each derivative splits the motion of an orthonormal basis into a rotation within its span
(a skew matrix) and a part that leaves it. Sources: M. Giles (2008) as in `linalg`; S. Walter
and L. Lehmann, "Algorithmic differentiation of linear algebra functions" (2010); M. Seeger
et al., "Auto-differentiating linear algebra" (2017); for complex matrices, Z. Wan and
S. Zhang, "Automatic differentiation for complex valued SVD" (2019).

Singular vectors and eigenvectors are determined only up to a phase (a sign, if real) and,
for equal singular values or eigenvalues, up to a rotation. A loss that depends on that
choice has no derivative: the phase is checked, equal values give infinities, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.dtypes import real_dtype
from ..core.errors import GradientError, located
from ..core.node import ShapeDtype
from ..core.primitive import Primitive, table
from ..core.tensor import Tensor
from .linalg import (
    adjoint,
    constant,
    diagonal,
    diagonal_matrix,
    hermitian_part,
    leading,
    product,
    refused,
    require_matrix,
    require_square,
    skew_part,
    solve,
)
from .pointwise import conj, imag, real, where
from .shape import concat

_F = np.dtype("float32")
Pair = tuple[Tensor, Tensor]
Triple = tuple[Tensor, Tensor, Tensor]


def _qr_value(x: np.ndarray, complete: bool) -> tuple[np.ndarray, np.ndarray]:
    q, r = np.linalg.qr(x, "complete" if complete else "reduced")
    return q, r


def _qr_rule(x: Any, complete: bool) -> tuple[ShapeDtype, ShapeDtype]:
    require_matrix(x)
    *batch, m, n = x.shape
    k = m if complete else min(m, n)
    return ShapeDtype((*batch, m, k), x.dtype), ShapeDtype((*batch, k, n), x.dtype)


def _require_thin(x: Any, complete: bool) -> None:
    m, n = x.shape[-2:]
    if complete and m > n:
        raise GradientError(
            located(
                f"qr: mode 'complete' of a {m}×{n} matrix adds {m - n} columns to Q that the matrix does not "
                "determine, so it has no derivative; use mode 'reduced'"
            )
        )
    if m < n:
        raise GradientError(
            located(f"qr: the primitive has no derivative for a wide {m}×{n} matrix; linalg.qr splits it first")
        )


def _qr_vjp(g: Sequence[Tensor | None], y: Pair, _x: Tensor, complete: bool) -> Tensor:
    # dQ = C - Q K + Q Ω and dR = (K - Ω) R with C = dA R⁻¹, K = Qᴴ C and Ω the skew matrix
    # that makes K - Ω upper triangular with a real diagonal.
    _require_thin(_x, complete)
    (q, r), (gq, gr) = y, g
    upper = None
    if gr is not None:
        upper = product(gr, adjoint(r))
    if gq is not None:
        pulled = product(adjoint(q), gq)
        upper = -pulled if upper is None else upper - pulled
    assert upper is not None
    strict = _strict_upper(upper)
    whole = strict + adjoint(strict) + diagonal_matrix(real(diagonal(upper)))
    inner = product(q, whole) if gq is None else gq + product(q, whole)
    return adjoint(solve(r, adjoint(inner)))


def _qr_jvp(tangents: Sequence[Tensor], y: Pair, x: Tensor, complete: bool) -> Pair:
    _require_thin(x, complete)
    q, r = y
    c = adjoint(solve(adjoint(r), adjoint(tangents[0])))
    k = product(adjoint(q), c)
    lower = adjoint(_strict_upper(adjoint(k)))
    omega = lower - adjoint(lower)
    if k.dtype.kind == "c":
        omega = omega + diagonal_matrix(imag(diagonal(k)) * 1j)
    return c + product(q, omega - k), product(k - omega, r)


def _strict_upper(x: Tensor) -> Tensor:
    n = x.shape[-1]
    return where(constant(~np.tri(n, dtype=bool)), x, 0.0)


qr = leading(Primitive(
    "qr", _qr_value, abstract=_qr_rule, vjps=(_qr_vjp,), jvp=_qr_jvp, outputs=2,
    latex=r"\mathrm{{qr}}({x:0})", example=([((3, 2), _F)], {"complete": False}),
    doc="Q with orthonormal columns and R upper triangular, A = Q R; differentiable where A is not wide.",
))  # fmt: skip


def _check_phase(name: str, phase: Tensor, *cotangents: Tensor | None) -> None:
    """Refuse a loss that depends on the phase of complex vectors, where its values are at hand."""
    arrays = [t._value for t in (phase, *cotangents) if t is not None]
    if not all(isinstance(value, np.ndarray) for value in arrays):
        return
    turn, *sizes = (np.abs(value).max(initial=0.0) for value in arrays)
    # Rounding stays far below a hundredth of the cotangents; a loss that does depend is of their size.
    if turn > 1e-2 * max(sizes) + 1e-6:
        raise GradientError(
            located(
                f"{name}: the loss depends on the phase of the complex vectors, which the matrix does not "
                "determine, so it has no gradient; use a loss that is the same for v and exp(i φ) v"
            )
        )


def _gaps(s: Tensor, squared: bool) -> Tensor:
    """d[j, k] = s[k] - s[j], or s[k]² - s[j]², with 1 on the diagonal."""
    row, column = s[..., None, :], s[..., :, None]
    gap = (row - column) * (row + column) if squared else row - column
    return where(constant(np.eye(s.shape[-1], dtype=bool)), 1.0, gap)


def _eigh_value(x: np.ndarray) -> Any:
    try:
        return tuple(np.linalg.eigh(x))
    except np.linalg.LinAlgError:
        raise refused(np.linalg.eigh, x, "the eigenvalues did not converge") from None


def _eigvalsh_value(x: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.eigvalsh(x)
    except np.linalg.LinAlgError:
        raise refused(np.linalg.eigvalsh, x, "the eigenvalues did not converge") from None


def _eigvalsh_rule(x: Any) -> ShapeDtype:
    require_square(x)
    return ShapeDtype(tuple(x.shape[:-1]), real_dtype(x.dtype))


def _eigh_vjp(g: Sequence[Tensor | None], y: Pair, _x: Tensor) -> Tensor:
    (w, v), (gw, gv) = y, g
    vh = adjoint(v)
    if gv is None:
        assert gw is not None
        return product(v * gw[..., None, :], vh)
    turned = product(vh, gv)
    if turned.dtype.kind == "c":
        _check_phase("eigh", imag(diagonal(turned)), gv)
    core = _off_diagonal(skew_part(turned)) / _gaps(w, squared=False)
    return product(v, core if gw is None else core + diagonal_matrix(gw), vh)


def _eigh_jvp(tangents: Sequence[Tensor], y: Pair, x: Tensor) -> Pair:
    w, v = y
    moved = product(adjoint(v), hermitian_part(tangents[0]), v)
    return real(diagonal(moved)), product(v, _off_diagonal(moved) / _gaps(w, squared=False))


def _off_diagonal(x: Tensor) -> Tensor:
    return where(constant(np.eye(x.shape[-1], dtype=bool)), 0.0, x)


eigh = leading(Primitive(
    "eigh", _eigh_value, abstract=lambda x: (_eigvalsh_rule(x), ShapeDtype(tuple(x.shape), x.dtype)),
    vjps=(_eigh_vjp,), jvp=_eigh_jvp, outputs=2,
    latex=r"\mathrm{{eigh}}({x:0})", example=([((3, 3), _F)], {}),
    doc=(
        "Eigenvalues w in ascending order and eigenvectors V of a Hermitian A, whose lower triangle is read. "
        "dw = Re diag(Vᴴ dA V), dV = V (Vᴴ dA V / (w_k - w_j)) off the diagonal; dA by its Hermitian part."
    ),
))  # fmt: skip


def _eigvalsh_vjp(g: Tensor, _y: Any, x: Tensor) -> Tensor:
    _, v = eigh(x)
    return product(v * g[..., None, :], adjoint(v))


def _eigvalsh_jvp(tangents: Sequence[Tensor], _y: Any, x: Tensor) -> Tensor:
    _, v = eigh(x)
    return _diagonal_of(adjoint(v), product(hermitian_part(tangents[0]), v))


def _diagonal_of(a: Tensor, b: Tensor) -> Tensor:
    """Re diag(A B), without the rest of the product."""
    return real(table["sum"](a * _plain_transpose(b), axis=(a.ndim - 1,), keepdims=False))


def _plain_transpose(x: Tensor) -> Tensor:
    flipped = adjoint(x)
    return conj(flipped) if x.dtype.kind == "c" else flipped


eigvalsh = leading(Primitive(
    "eigvalsh", _eigvalsh_value, abstract=_eigvalsh_rule, vjps=(_eigvalsh_vjp,), jvp=_eigvalsh_jvp,
    latex=r"\mathrm{{eigvalsh}}({x:0})", example=([((3, 3), _F)], {}),
    doc="The eigenvalues that `eigh` returns, without the eigenvectors; the derivative computes those.",
))  # fmt: skip


def _svd_value(x: np.ndarray, full_matrices: bool) -> Any:
    try:
        return tuple(np.linalg.svd(x, full_matrices))
    except np.linalg.LinAlgError:
        raise refused(np.linalg.svd, x, "the singular values did not converge") from None


def _svd_rule(x: Any, full_matrices: bool) -> tuple[ShapeDtype, ShapeDtype, ShapeDtype]:
    require_matrix(x)
    *batch, m, n = x.shape
    k = min(m, n)
    rows, columns = (m, n) if full_matrices else (k, k)
    return (
        ShapeDtype((*batch, m, rows), x.dtype),
        ShapeDtype((*batch, k), real_dtype(x.dtype)),
        ShapeDtype((*batch, columns, n), x.dtype),
    )


def _onto_thin(basis: Tensor, g: Tensor | None, k: int) -> tuple[Tensor, Tensor | None]:
    """The first k columns of a basis, and the cotangent of the whole basis as one of these columns.

    The other columns span what is left, so they turn against the first: dB₂ = -B₁ dB₁ᴴ B₂.
    """
    if basis.shape[-1] == k:
        return basis, g
    thin, rest = basis[..., :k], basis[..., k:]
    if g is None:
        return thin, None
    return thin, g[..., :k] - product(rest, adjoint(g[..., k:]), thin)


def _svd_vjp(g: Sequence[Tensor | None], y: Triple, _x: Tensor, full_matrices: bool) -> Tensor:
    m, n = _x.shape[-2:]
    k = min(m, n)
    s, gs, gvh = y[1], g[1], g[2]
    u, gu = _onto_thin(y[0], g[0], k)
    v, gv = _onto_thin(adjoint(y[2]), None if gvh is None else adjoint(gvh), k)
    vh = adjoint(v)
    if gu is None and gv is None:
        assert gs is not None
        return product(u * gs[..., None, :], vh)
    rotation_u, rotation_v = (_rotation(b, gb) for b, gb in ((u, gu), (v, gv)))
    row, column, gaps = s[..., None, :], s[..., :, None], _gaps(s, squared=True)
    core = (_off_diagonal(rotation_u) * row + column * _off_diagonal(rotation_v)) * 2 / gaps
    if gs is not None:
        core = core + diagonal_matrix(gs)
    if _x.dtype.kind == "c":
        turn_u, turn_v = imag(diagonal(rotation_u)), imag(diagonal(rotation_v))
        _check_phase("svd", turn_u + turn_v, gu, gv)
        core = core + diagonal_matrix((turn_u - turn_v) / (2 * s) * 1j)
    total = product(u, core, vh)
    if gu is not None and m > k:
        total = total + product(_outside(u, gu) / s[..., None, :], vh)
    if gv is not None and n > k:
        total = total + product(u, adjoint(_outside(v, gv) / s[..., None, :]))
    return total


def _rotation(basis: Tensor, g: Tensor | None) -> Tensor:
    """The cotangent of the rotation of a basis within its span."""
    if g is None:
        k = basis.shape[-1]
        return constant(np.zeros((k, k), basis.dtype))
    return skew_part(product(adjoint(basis), g))


def _outside(basis: Tensor, x: Tensor) -> Tensor:
    """The part of x orthogonal to the span of the basis."""
    return x - product(basis, adjoint(basis), x)


def _svd_jvp(tangents: Sequence[Tensor], y: Triple, x: Tensor, full_matrices: bool) -> Triple:
    m, n = x.shape[-2:]
    k = min(m, n)
    dx, s = tangents[0], y[1]
    u, v = y[0][..., :k], adjoint(y[2])[..., :k]
    moved = product(adjoint(u), dx, v)
    gaps = _gaps(s, squared=True)
    row, column = s[..., None, :], s[..., :, None]
    off, off_h = _off_diagonal(moved), adjoint(_off_diagonal(moved))
    rotation_u = (off * row + column * off_h) / gaps
    rotation_v = (column * off + off_h * row) / gaps
    if x.dtype.kind == "c":
        turn = diagonal_matrix(imag(diagonal(moved)) / (2 * s) * 1j)
        rotation_u, rotation_v = rotation_u + turn, rotation_v - turn
    du, dv = product(u, rotation_u), product(v, rotation_v)
    if m > k:
        du = du + _outside(u, product(dx, v)) / row
    if n > k:
        dv = dv + _outside(v, product(adjoint(dx), u)) / row
    return _whole(y[0], u, du), real(diagonal(moved)), adjoint(_whole(adjoint(y[2]), v, dv))


def _whole(basis: Tensor, thin: Tensor, moved: Tensor) -> Tensor:
    k = thin.shape[-1]
    if basis.shape[-1] == k:
        return moved
    rest = -product(thin, adjoint(moved), basis[..., k:])
    return concat(moved, rest, axis=moved.ndim - 1)


svd = leading(Primitive(
    "svd", _svd_value, abstract=_svd_rule, vjps=(_svd_vjp,), jvp=_svd_jvp, outputs=3,
    latex=r"\mathrm{{svd}}({x:0})", example=([((3, 2), _F)], {"full_matrices": False}),
    doc=(
        "U, S, Vᴴ with A = U S Vᴴ and S in descending order. With M = Uᴴ dA V: dS = Re diag(M), "
        "dU = U ((M S + S Mᴴ) / (s_k² - s_j²)) + (1 - U Uᴴ) dA V S⁻¹, and V likewise."
    ),
))  # fmt: skip


def _svdvals_value(x: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.svd(x, compute_uv=False)
    except np.linalg.LinAlgError:
        raise refused(np.linalg.svd, x, "the singular values did not converge") from None


def _svdvals_rule(x: Any) -> ShapeDtype:
    return _svd_rule(x, full_matrices=False)[1]


def _svdvals_vjp(g: Tensor, _y: Any, x: Tensor) -> Tensor:
    u, _, vh = svd(x, full_matrices=False)
    return product(u * g[..., None, :], vh)


def _svdvals_jvp(tangents: Sequence[Tensor], _y: Any, x: Tensor) -> Tensor:
    u, _, vh = svd(x, full_matrices=False)
    return _diagonal_of(adjoint(u), product(tangents[0], adjoint(vh)))


svdvals = leading(Primitive(
    "svdvals", _svdvals_value, abstract=_svdvals_rule, vjps=(_svdvals_vjp,), jvp=_svdvals_jvp,
    latex=r"\mathrm{{svdvals}}({x:0})", example=([((3, 2), _F)], {}),
    doc="The singular values that `svd` returns, without the vectors; the derivative computes those.",
))  # fmt: skip
