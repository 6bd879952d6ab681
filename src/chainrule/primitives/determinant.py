"""Determinants, and their derivative, the adjugate, which exists for singular matrices too.

Jacobi's formula d det X = tr(adj(X) dX) is evaluated through the singular values, without a
division, and so is the derivative of the adjugate; sources as in `linalg`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.dtypes import real_dtype
from ..core.node import ShapeDtype
from ..core.primitive import Primitive
from ..core.tensor import Tensor
from .families import align_batched, broadcast_shapes, match
from .linalg import adjoint, inv, leading, product, require_square, solve, square_rule, trace
from .pointwise import conj, imag, make_complex, real

_F = np.dtype("float32")
# NumPy warns in its own name where a determinant overflows or meets NaN; here these are values.
_quiet = np.errstate(all="ignore")


def _products_of_others(s: np.ndarray) -> np.ndarray:
    """Per element the product of all others along the last axis, without a division."""
    ones = np.ones_like(s[..., :1])
    before = np.cumprod(np.concatenate([ones, s[..., :-1]], -1), -1)
    after = np.cumprod(np.concatenate([ones, s[..., :0:-1]], -1), -1)[..., ::-1]
    return (before * after)[..., : s.shape[-1]]


def _svd_with_phase(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Uᴴ, S, V and det(U) det(Vᴴ); a matrix with NaN or infinity has NaN for the latter."""
    finite = np.isfinite(x).all((-2, -1), keepdims=True)
    u, s, vh = np.linalg.svd(np.where(finite, x, np.eye(x.shape[-1], dtype=x.dtype)))
    phase = (np.linalg.det(u) * np.linalg.det(vh))[..., None, None]
    return u.conj().swapaxes(-1, -2), s, vh.conj().swapaxes(-1, -2), np.where(finite, phase, np.nan)


@_quiet
def _adjugate_value(x: np.ndarray) -> np.ndarray:
    # adj(U S Vᴴ) = det(U) det(Vᴴ) V adj(S) Uᴴ
    uh, s, v, phase = _svd_with_phase(x)
    return (phase * ((v * _products_of_others(s)[..., None, :]) @ uh)).astype(x.dtype, copy=False)


adjugate = leading(Primitive(
    "adjugate", _adjugate_value, abstract=square_rule,
    vjps=(lambda g, _y, x: adjoint(adjugate_slope(x, adjoint(g))),),
    jvp=lambda tangents, _y, x: adjugate_slope(x, tangents[0]),
    latex=r"\mathrm{{adj}}({x:0})", example=([((3, 3), _F)], {}),
    doc="det(X) X⁻¹, defined for singular matrices too: the derivative of the determinant (Jacobi's formula).",
))  # fmt: skip


@_quiet
def _slope_value(x: np.ndarray, h: np.ndarray) -> np.ndarray:
    # Along M a diagonal S has d adj(S)[i, j] = -M[i, j] P[i, j] and d adj(S)[i, i] = Σ_l P[i, l] M[l, l],
    # where P[i, j] is the product of all singular values but the i-th and the j-th.
    uh, s, v, phase = _svd_with_phase(x)
    n = s.shape[-1]
    without_one = np.where(np.eye(n, dtype=bool), 1, s[..., None, :])
    pairs = _products_of_others(without_one) * ~np.eye(n, dtype=bool)
    moved = uh @ h @ v
    turned = -moved * pairs
    i = np.arange(n)
    turned[..., i, i] += (pairs @ moved[..., i, i, None])[..., 0]
    return (phase * (v @ turned @ uh)).astype(np.result_type(x, h), copy=False)


def _slope_rule(x: Any, h: Any) -> ShapeDtype:
    require_square(x)
    return ShapeDtype(broadcast_shapes("adjugate_slope", x.shape, h.shape), np.result_type(x.dtype, h.dtype))


def _second_slope(x: Tensor, h: Tensor, k: Tensor, along_h: Tensor) -> Tensor:
    """The second derivative of the adjugate along h and k, of an invertible matrix."""
    y, along_k = adjugate(x), adjugate_slope(x, k)
    first = trace(product(along_k, h))[..., None, None] * y + trace(product(y, h))[..., None, None] * along_k
    second = product(along_k, h, y) + product(y, h, along_k)
    return (first - second - trace(product(y, k))[..., None, None] * along_h) / det(x)[..., None, None]


def _slope_vjp_x(g: Tensor, y: Tensor, x: Tensor, h: Tensor) -> Tensor:
    # tr(G D²adj(X)[H, K]) is the third derivative of det, symmetric in G, H and K.
    return match(adjoint(_second_slope(x, h, adjoint(g), y)), x)


def _slope_jvp(tangents: Sequence[Tensor | None], y: Tensor, x: Tensor, h: Tensor) -> Tensor | None:
    dx, dh = tangents
    by_h = None if dh is None else adjugate_slope(x, dh)
    if dx is None:
        return by_h
    by_x = _second_slope(x, h, dx, y)
    return by_x if by_h is None else by_x + by_h


adjugate_slope = Primitive(
    "adjugate_slope", _slope_value, abstract=_slope_rule,
    vjps=(_slope_vjp_x, lambda g, _y, x, _h: match(adjoint(adjugate_slope(x, adjoint(g))), _h)), jvp=_slope_jvp,
    batch=lambda _size, batched, inputs, _params: adjugate_slope(*align_batched(batched, inputs)),
    latex=r"D\,\mathrm{{adj}}({a:0})[{b:0}]", text="D adj({a:0})[{b:0}]", example=([((3, 3), _F), ((3, 3), _F)], {}),
    doc=(
        "The derivative of the adjugate of X along H: (tr(Y H) Y - Y H Y) / det X with Y = adj(X), "
        "computed without the division, so for singular X too. Its own derivative by X divides."
    ),
)  # fmt: skip


@_quiet
def _det_value(x: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.det(x), dtype=x.dtype)


def _det_rule(x: Any) -> ShapeDtype:
    require_square(x)
    return ShapeDtype(tuple(x.shape[:-2]), x.dtype)


det = leading(Primitive(
    "det", _det_value, abstract=_det_rule,
    vjps=(lambda g, _y, x: g[..., None, None] * adjoint(adjugate(x)),),
    jvp=lambda tangents, _y, x: trace(product(adjugate(x), tangents[0])),
    latex=r"\det {x}", example=([((3, 3), _F)], {}),
    doc="The determinant. d det X = tr(adj(X) dX), which holds for singular X too.",
))  # fmt: skip


@_quiet
def _slogdet_value(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sign, logarithm = np.linalg.slogdet(x)
    return np.asarray(sign, dtype=x.dtype), np.asarray(logarithm, dtype=real_dtype(x.dtype))


def _slogdet_rule(x: Any) -> tuple[ShapeDtype, ShapeDtype]:
    require_square(x)
    batch = tuple(x.shape[:-2])
    return ShapeDtype(batch, x.dtype), ShapeDtype(batch, real_dtype(x.dtype))


def _slogdet_vjp(g: Sequence[Tensor | None], y: tuple[Tensor, Tensor], x: Tensor) -> Tensor | None:
    # With t = tr(X⁻¹ dX): d log|det X| = Re t and d sign = i sign Im t.
    g_sign, factor = g
    if g_sign is not None and x.dtype.kind == "c":
        turn = imag(g_sign * conj(y[0]))
        factor = make_complex(turn * 0 if factor is None else factor, turn)
    return None if factor is None else factor[..., None, None] * adjoint(inv(x))


def _slogdet_jvp(tangents: Sequence[Tensor], y: tuple[Tensor, Tensor], x: Tensor) -> tuple[Tensor | None, Tensor]:
    t = trace(solve(x, tangents[0]))
    if x.dtype.kind != "c":
        return None, t
    return imag(t) * (y[0] * 1j), real(t)


slogdet = leading(Primitive(
    "slogdet", _slogdet_value, abstract=_slogdet_rule, vjps=(_slogdet_vjp,), jvp=_slogdet_jvp, outputs=2,
    latex=r"\mathrm{{slogdet}}({x:0})", example=([((3, 3), _F)], {}),
    doc="det X / |det X| and log |det X|. d log|det X| = Re tr(X⁻¹ dX).",
))  # fmt: skip
