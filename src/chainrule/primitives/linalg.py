"""Linear systems and what follows from them: solve, inv, pinv, cholesky; matrix algebra in primitives.

Matrices are the last two axes, everything before them is a batch. Derivatives follow
M. Giles, "An extended collection of matrix derivative results for forward and reverse mode
algorithmic differentiation" (2008) and, where complex, the conventions of PyTorch: the
cotangent of A is G with dL = Re tr(Gᴴ dA). Determinants are in `determinant`,
factorisations in `factorise`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.dtypes import real_dtype
from ..core.errors import DTypeError, OperationError, ShapeError
from ..core.node import ShapeDtype
from ..core.primitive import Primitive, table
from ..core.tensor import Tensor, new_tensor
from .families import align_batched, broadcast_shapes, match
from .matmul import matmul
from .pointwise import conj, where
from .shape import permute_dims, reshape

_F = np.dtype("float32")


def transpose(x: Tensor) -> Tensor:
    """The last two axes exchanged."""
    rest = range(x.ndim - 2)
    return permute_dims(x, axes=(*rest, x.ndim - 1, x.ndim - 2))


def adjoint(x: Tensor) -> Tensor:
    """The conjugate transpose Xᴴ."""
    x = transpose(x)
    return conj(x) if x.dtype.kind == "c" else x


def product(*factors: Tensor) -> Tensor:
    """The matrix product of the factors, from left to right."""
    result, *rest = factors
    for factor in rest:
        result = matmul(result, factor, transpose_a=False, transpose_b=False)
    return result


def hermitian_part(x: Tensor) -> Tensor:
    """(X + Xᴴ) / 2."""
    return (x + adjoint(x)) * 0.5


def skew_part(x: Tensor) -> Tensor:
    """(X - Xᴴ) / 2."""
    return (x - adjoint(x)) * 0.5


def diagonal(x: Tensor, offset: int = 0) -> Tensor:
    """The elements x[..., i, i + offset]: in a matrix of n columns every (n + 1)-th from the first."""
    m, n = x.shape[-2:]
    length = max(0, min(m + min(offset, 0), n - max(offset, 0)))
    start = offset if offset >= 0 else -offset * n
    batch = x.shape[:-2]
    flat = reshape(x, shape=(*batch, m * n))
    stop = min(start + length * (n + 1), m * n)
    pattern = (*(("s", 0, k, 1) for k in batch), ("s", start, stop, n + 1) if length else ("s", 0, 0, 1))
    return table["index"](flat, pattern=pattern)


def trace(x: Tensor) -> Tensor:
    """The sum of the diagonal."""
    return table["sum"](diagonal(x), axis=(x.ndim - 2,), keepdims=False)


def diagonal_matrix(v: Tensor) -> Tensor:
    """The square matrix with v on its diagonal."""
    return where(constant(np.eye(v.shape[-1], dtype=bool)), v[..., None, :], 0.0)


def lower_half(x: Tensor) -> Tensor:
    """Φ(X): the strictly lower triangle and half of the diagonal."""
    n = x.shape[-1]
    return x * constant((np.tri(n) - 0.5 * np.eye(n)).astype(real_dtype(x.dtype)))


def constant(array: np.ndarray) -> Tensor:
    """A tensor that no gradient flows to."""
    return new_tensor(array, None)


def require_square(x: Any) -> None:
    """Raise unless x is a batch of square matrices of a floating or complex type."""
    require_matrix(x)
    if x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"the last two axes must be a square matrix, got {x.shape[-2]}×{x.shape[-1]}")


def require_matrix(x: Any) -> None:
    """Raise unless x is a batch of matrices of a floating or complex type."""
    if len(x.shape) < 2:
        raise ShapeError(f"a matrix has at least 2 axes, got shape {x.shape}")
    if x.dtype.kind not in "fc":
        raise DTypeError(f"needs a floating or complex matrix, got {x.dtype}; convert with astype()")


def refused(compute: Callable[..., Any], a: np.ndarray, problem: str) -> OperationError:
    """The error for a matrix that LAPACK refused; in a batch it names the first such matrix."""
    where_ = ""
    if a.ndim > 2:
        for position in np.ndindex(a.shape[:-2]):
            try:
                compute(a[position])
            except np.linalg.LinAlgError:
                where_ = f" (matrix {list(position)} of the batch)"
                break
    finite = "" if np.isfinite(a).all() else "; it contains NaN or infinity"
    return OperationError(problem + where_ + finite)


def square_rule(x: Any) -> ShapeDtype:
    """The shape rule of functions that map square matrices to square matrices."""
    require_square(x)
    return ShapeDtype(x.shape, x.dtype)


def leading(primitive: Primitive) -> Primitive:
    """Give a primitive of one matrix its batch rule: a batch is one more leading axis."""
    primitive.batch = lambda _size, _batched, inputs, params: primitive(inputs[0], **params)
    return primitive


_SINGULAR = "the matrix is singular: it has no inverse; pinv() gives the least-squares solution"


def _solve_value(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.solve(a, b)
    except np.linalg.LinAlgError:
        raise refused(np.linalg.inv, a, _SINGULAR) from None


def _solve_rule(a: Any, b: Any) -> ShapeDtype:
    require_square(a)
    require_matrix(b)
    if a.shape[-1] != b.shape[-2]:
        raise ShapeError(f"{a.shape[-2]}×{a.shape[-1]} matrix and {b.shape[-2]} rows on the right: they must agree")
    batch = broadcast_shapes("solve", a.shape[:-2], b.shape[:-2])
    return ShapeDtype((*batch, *b.shape[-2:]), np.result_type(a.dtype, b.dtype))


def _solve_vjp_a(g: Tensor, y: Tensor, a: Tensor, _b: Any) -> Tensor:
    return match(-product(solve(adjoint(a), g), adjoint(y)), a)


def _solve_vjp_b(g: Tensor, _y: Any, a: Tensor, _b: Any) -> Tensor:
    return match(solve(adjoint(a), g), _b)


def _solve_jvp(tangents: Sequence[Tensor | None], y: Tensor, a: Tensor, _b: Any) -> Tensor | None:
    da, db = tangents
    if da is None:
        return None if db is None else solve(a, db)
    moved = product(da, y)
    return solve(a, -moved if db is None else db - moved)


solve = Primitive(
    "solve", _solve_value, abstract=_solve_rule, vjps=(_solve_vjp_a, _solve_vjp_b), jvp=_solve_jvp,
    batch=lambda _size, batched, inputs, _params: solve(*align_batched(batched, inputs)),
    latex="{a:4}^{{-1}} {b:2}", text="{a:4}⁻¹ {b:2}", precedence=2, example=([((3, 3), _F), ((3, 2), _F)], {}),
    doc="X with A X = B, A square. dX = A⁻¹ (dB - dA X).",
)  # fmt: skip


def _inv_value(x: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.inv(x)
    except np.linalg.LinAlgError:
        raise refused(np.linalg.inv, x, _SINGULAR) from None


def _inv_vjp(g: Tensor, y: Tensor, _x: Any) -> Tensor:
    adjoint_y = adjoint(y)
    return -product(adjoint_y, g, adjoint_y)


inv = leading(Primitive(
    "inv", _inv_value, abstract=square_rule, vjps=(_inv_vjp,),
    jvp=lambda tangents, y, _x: -product(y, tangents[0], y),
    latex="{x:4}^{{-1}}", text="{x:4}⁻¹", precedence=3, example=([((3, 3), _F)], {}),
    doc="The inverse Y of a square matrix. dY = -Y dX Y.",
))  # fmt: skip


def _pinv_rule(x: Any, rtol: Any) -> ShapeDtype:
    require_matrix(x)
    batch = broadcast_shapes("pinv", tuple(x.shape[:-2]), tuple(rtol.shape))
    return ShapeDtype((*batch, x.shape[-1], x.shape[-2]), x.dtype)


def _pinv_vjp(g: Tensor, y: Tensor, x: Tensor, _rtol: Any) -> Tensor:
    # The adjoint of _pinv_jvp, term by term.
    yh, gh = adjoint(y), adjoint(g)
    outside_columns = gh - product(x, y, gh)
    outside_rows = gh - product(gh, y, x)
    return match(product(outside_columns, y, yh) + product(yh, y, outside_rows) - product(yh, g, yh), x)


def _pinv_jvp(tangents: Sequence[Tensor | None], y: Tensor, x: Tensor, _rtol: Any) -> Tensor | None:
    dx = tangents[0]
    if dx is None:
        return None
    dxh, yh = adjoint(dx), adjoint(y)
    columns = product(y, yh, dxh)
    rows = product(dxh, yh, y)
    return -product(y, dx, y) + columns - product(columns, x, y) + rows - product(y, x, rows)


def _pinv_value(x: np.ndarray, rtol: np.ndarray) -> np.ndarray:
    batch = np.broadcast_shapes(x.shape[:-2], rtol.shape)
    try:
        return np.linalg.pinv(np.broadcast_to(x, (*batch, *x.shape[-2:])), rtol)
    except np.linalg.LinAlgError:
        raise refused(np.linalg.pinv, x, "the singular values did not converge") from None


pinv = Primitive(
    "pinv", _pinv_value, abstract=_pinv_rule,
    vjps=(_pinv_vjp, None), jvp=_pinv_jvp,
    batch=lambda size, batched, inputs, _params: pinv(*_batch_with_tolerance(size, batched, inputs)),
    latex="{a:4}^{{+}}", text="{a:4}⁺", precedence=3, example=([((3, 2), _F), ((), _F)], {}),
    doc=(
        "The Moore-Penrose inverse Y; singular values up to rtol times the largest count as 0. "
        "dY = -Y dX Y + Y Yᴴ dXᴴ (1 - X Y) + (1 - Y X) dXᴴ Yᴴ Y where the rank is constant "
        "(Golub and Pereyra 1973), also for repeated singular values."
    ),
)  # fmt: skip


def _batch_with_tolerance(size: int, batched: Sequence[bool], inputs: Sequence[Tensor]) -> list[Tensor]:
    # The tolerance aligns with the axes before the matrix.
    x, rtol = inputs
    rank = max(x.ndim - batched[0] - 2, rtol.ndim - batched[1])
    if batched[0]:
        x = reshape(x, shape=(size, *(1,) * (rank - x.ndim + 3), *x.shape[1:]))
    if batched[1]:
        rtol = reshape(rtol, shape=(size, *(1,) * (rank - rtol.ndim + 1), *rtol.shape[1:]))
    return [x, rtol]


def _cholesky_value(x: np.ndarray) -> np.ndarray:
    try:
        return np.linalg.cholesky(x)
    except np.linalg.LinAlgError:
        problem = "the matrix is not positive definite"
        if np.isfinite(x).all():
            problem += f": its smallest eigenvalue is {np.linalg.eigvalsh(x).min():.3g}; add a positive diagonal"
        raise refused(np.linalg.cholesky, x, problem) from None


def _cholesky_vjp(g: Tensor, y: Tensor, _x: Any) -> Tensor:
    # L⁻ᴴ Φ(Lᴴ G) L⁻¹, of which the Hermitian part acts on a Hermitian dA.
    yh = adjoint(y)
    left = solve(yh, lower_half(product(yh, g)))
    return hermitian_part(adjoint(solve(yh, adjoint(left))))


def _cholesky_jvp(tangents: Sequence[Tensor], y: Tensor, _x: Any) -> Tensor:
    half = solve(y, hermitian_part(tangents[0]))
    return product(y, lower_half(solve(y, adjoint(half))))


cholesky = leading(Primitive(
    "cholesky", _cholesky_value, abstract=square_rule, vjps=(_cholesky_vjp,), jvp=_cholesky_jvp,
    latex=r"\mathrm{{chol}}({x:0})", example=([((3, 3), _F)], {}),
    doc=(
        "Lower triangular L with A = L Lᴴ, of a Hermitian positive definite A whose lower triangle is read. "
        "dL = L Φ(L⁻¹ dA L⁻ᴴ) (Giles 2008; Murray 2016, 'Differentiation of the Cholesky decomposition'); "
        "dA is replaced by its Hermitian part, as in PyTorch."
    ),
))  # fmt: skip
