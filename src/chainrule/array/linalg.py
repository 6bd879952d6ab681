"""The `linalg` extension of the Array API standard 2024.12: factorisations, systems, products.

Matrices are the last two axes and everything before them is a batch. Functions that need
real or complex numbers convert integers to the default type. Every function is
differentiable, as often as wanted, wherever its result is (not `matrix_rank`); formulas and
sources stand with the primitives. Norms are in `norms`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..core.dtypes import int64, real_dtype, uint64
from ..core.errors import ArgumentError, DTypeError, OperationError, ShapeError, located
from ..core.tensor import Tensor, new_tensor
from ..primitives import determinant, factorise, reduce
from ..primitives import linalg as p
from ..primitives.pointwise import astype, greater
from ..primitives.shape import broadcast_to, concat, reshape
from .arguments import dtype_of, floating, integer, public, tensor_of

__all__ = [
    "EighResult", "QRResult", "SVDResult", "SlogdetResult", "cholesky", "cross", "det", "diagonal", "eigh",
    "eigvalsh", "inv", "matrix_power", "matrix_rank", "pinv", "qr", "slogdet", "solve", "svd", "svdvals",
    "trace",
]  # fmt: skip


class EighResult(NamedTuple):
    """What `eigh` returns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class QRResult(NamedTuple):
    """What `qr` returns."""

    Q: Tensor
    R: Tensor


class SlogdetResult(NamedTuple):
    """What `slogdet` returns."""

    sign: Tensor
    logabsdet: Tensor


class SVDResult(NamedTuple):
    """What `svd` returns."""

    U: Tensor
    S: Tensor
    Vh: Tensor


def _matrix(x: Any, name: str) -> Tensor:
    x = tensor_of(x, name)
    if x.ndim < 2:
        raise ShapeError(located(f"{name}: a matrix has at least 2 axes, got shape {x.shape}"))
    return x


def _floating_matrix(x: Any, name: str) -> Tensor:
    return floating(_matrix(x, name), name)


def _square(x: Any, name: str) -> Tensor:
    x = _floating_matrix(x, name)
    if x.shape[-1] != x.shape[-2]:
        raise ShapeError(located(f"{name}: the last two axes must be a square matrix, got shape {x.shape}"))
    return x


@public
def cholesky(x: Tensor, /, *, upper: bool = False) -> Tensor:
    """The triangular factor of a positive definite matrix: x = L Lᴴ, or x = Uᴴ U if `upper`.

    Args:
        x: (..., M, M), Hermitian (symmetric); only the lower triangle is read.
        upper: return U = Lᴴ instead of L.

    Returns:
        (..., M, M), of x's type. The gradient is Hermitian, as in PyTorch.

    Raises:
        ShapeError: the matrix is not square.
        OperationError: it is not positive definite.
    """
    factor = p.cholesky(_square(x, "cholesky"))
    return p.adjoint(factor) if upper else factor


@public
def det(x: Tensor, /) -> Tensor:
    """The determinant of a square matrix.

    Args:
        x: (..., M, M).

    Returns:
        (...), of x's type. The gradient is the cofactor matrix, also where x is singular.

    Raises:
        ShapeError: the matrix is not square.
    """
    return determinant.det(_square(x, "det"))


@public
def slogdet(x: Tensor, /) -> SlogdetResult:
    """Sign and logarithm of the determinant, which do not overflow: det x = sign · exp(logabsdet).

    Args:
        x: (..., M, M).

    Returns:
        `sign` (...), of x's type: ±1, or a complex number of modulus 1, or 0 where x is
        singular; `logabsdet` (...), real: log |det x|, -inf where x is singular.

    Raises:
        ShapeError: the matrix is not square.
        OperationError: in the gradient, where x is singular.
    """
    return SlogdetResult(*determinant.slogdet(_square(x, "slogdet")))


@public
def inv(x: Tensor, /) -> Tensor:
    """The inverse of a square matrix (to solve equations, `solve` is faster and more accurate).

    Args:
        x: (..., M, M).

    Returns:
        (..., M, M), of x's type.

    Raises:
        ShapeError: the matrix is not square.
        OperationError: it is singular.
    """
    return p.inv(_square(x, "inv"))


@public
def solve(x1: Tensor, x2: Tensor, /) -> Tensor:
    """The solution of x1 @ x = x2.

    Args:
        x1: (..., M, M).
        x2: (M,), one right-hand side for all matrices, or (..., M, K); the axes before the
            last two broadcast.

    Returns:
        (..., M) for a 1-d x2, otherwise (..., M, K), of the promoted type.

    Raises:
        ShapeError: x1 is not square, or the shapes do not agree.
        OperationError: a matrix is singular.
    """
    a, b = _square(x1, "solve"), floating(x2, "solve")
    if not b.ndim:
        raise ShapeError(located("solve: the right-hand side must have axes, got a 0-d tensor"))
    if b.ndim > 1:
        return p.solve(a, b)
    x = p.solve(a, reshape(b, shape=(*b.shape, 1)))
    return reshape(x, shape=x.shape[:-1])


@public
def pinv(x: Tensor, /, *, rtol: float | Tensor | None = None) -> Tensor:
    """The Moore-Penrose pseudo-inverse: `pinv(a) @ b` is the shortest least-squares solution of a @ x = b.

    Args:
        x: (..., M, N).
        rtol: singular values up to `rtol` times the largest count as zero; a number or a
            tensor (...); max(M, N) times the machine epsilon if left out.

    Returns:
        (..., N, M), of x's type. The gradient holds where the rank does not change, also
        for repeated singular values.
    """
    x = _floating_matrix(x, "pinv")
    return p.pinv(x, _tolerance(x, rtol, "pinv"))


def _tolerance(x: Tensor, rtol: Any, name: str) -> Tensor:
    kind = real_dtype(x.dtype)
    if rtol is None:
        rtol = max(x.shape[-2:]) * float(np.finfo(kind).eps)
    tolerance = tensor_of(rtol, name)
    if tolerance.dtype.kind not in "fiu":
        raise DTypeError(located(f"{name}: rtol is a real number or tensor, got {tolerance.dtype}"))
    return astype(tolerance, dtype=kind)


@public
def matrix_rank(x: Tensor, /, *, rtol: float | Tensor | None = None) -> Tensor:
    """The number of singular values above `rtol` times the largest.

    Args:
        x: (..., M, N).
        rtol: a number or a tensor (...); max(M, N) times the machine epsilon if left out.

    Returns:
        (...), int64. It has no gradient.
    """
    x = _floating_matrix(x, "matrix_rank")
    s = factorise.svdvals(x)
    threshold = _tolerance(x, rtol, "matrix_rank")[..., None]
    if s.shape[-1]:
        # The largest comes first.
        threshold = threshold * s[..., :1]
    counted = astype(greater(s, threshold), dtype=int64)
    return reduce.sum(counted, axis=(counted.ndim - 1,), keepdims=False)


@public
def matrix_power(x: Tensor, n: int, /) -> Tensor:
    """x multiplied by itself n times; the inverse if n is negative, the identity if it is 0.

    Args:
        x: (..., M, M).
        n: any integer. About log2(n) products are computed, by repeated squaring.

    Raises:
        ShapeError: the matrix is not square.
        OperationError: n is negative and the matrix singular.
    """
    n = integer(n, "matrix_power", "the exponent")
    x = _square(x, "matrix_power")
    if n == 0:
        return broadcast_to(new_tensor(np.eye(x.shape[-1], dtype=x.dtype), None), shape=x.shape)
    base, n = (p.inv(x), -n) if n < 0 else (x, n)
    result = None
    while True:
        if n & 1:
            result = base if result is None else p.product(result, base)
        n >>= 1
        if not n:
            assert result is not None
            return result
        base = p.product(base, base)


@public
def qr(x: Tensor, /, *, mode: str = "reduced") -> QRResult:
    """x = Q R with orthonormal columns in Q and R upper triangular.

    Args:
        x: (..., M, N), of full column rank for a gradient; K = min(M, N).
        mode: "reduced" for Q (..., M, K) and R (..., K, N), or "complete" for Q (..., M, M)
            and R (..., M, N).

    Raises:
        GradientError: in the gradient, for mode "complete" of a matrix with M > N, whose
            added columns of Q the matrix does not determine (PyTorch has none either).
    """
    x = _floating_matrix(x, "qr")
    if mode not in ("reduced", "complete"):
        raise OperationError(located(f"qr: mode is 'reduced' or 'complete', got {mode!r}"))
    m, n = x.shape[-2:]
    if m >= n:
        return QRResult(*factorise.qr(x, complete=mode == "complete"))
    # The leading square determines Q; the other columns of R are those of x in this basis.
    q, r = factorise.qr(x[..., :m], complete=False)
    return QRResult(q, concat(r, p.product(p.adjoint(q), x[..., m:]), axis=x.ndim - 1))


@public
def svd(x: Tensor, /, *, full_matrices: bool = True) -> SVDResult:
    """The singular value decomposition x = U diag(S) Vh.

    Args:
        x: (..., M, N); K = min(M, N).
        full_matrices: U is (..., M, M) and Vh (..., N, N); otherwise (..., M, K) and (..., K, N).

    Returns:
        U, S (..., K) in descending order and real, Vh. Singular vectors are determined up to
        a phase (a sign): a loss must not depend on it to have a gradient, and gradients
        through U or Vh are infinite where two singular values are equal, as in PyTorch.

    Raises:
        GradientError: in the gradient, for a complex x and a loss that depends on the phase.
    """
    return SVDResult(*factorise.svd(_floating_matrix(x, "svd"), full_matrices=bool(full_matrices)))


@public
def svdvals(x: Tensor, /) -> Tensor:
    """The singular values of x (..., M, N), descending: (..., min(M, N)), real."""
    return factorise.svdvals(_floating_matrix(x, "svdvals"))


@public
def eigh(x: Tensor, /) -> EighResult:
    """Eigenvalues and eigenvectors of a Hermitian (symmetric) matrix: x = Q diag(λ) Qᴴ.

    Args:
        x: (..., M, M), Hermitian; only the lower triangle is read.

    Returns:
        `eigenvalues` (..., M), ascending and real; `eigenvectors` (..., M, M), one a column.
        They are determined up to a phase (a sign): a loss must not depend on it to have a
        gradient, and gradients through eigenvectors are infinite where two eigenvalues are
        equal, as in PyTorch. The gradient is Hermitian.

    Raises:
        ShapeError: the matrix is not square.
        GradientError: in the gradient, for a complex x and a loss that depends on the phase.
    """
    return EighResult(*factorise.eigh(_square(x, "eigh")))


@public
def eigvalsh(x: Tensor, /) -> Tensor:
    """The eigenvalues of a Hermitian matrix (..., M, M), ascending: (..., M), real."""
    return factorise.eigvalsh(_square(x, "eigvalsh"))


@public
def diagonal(x: Tensor, /, *, offset: int = 0) -> Tensor:
    """The elements x[..., i, i + offset].

    Args:
        x: (..., M, N), of any type.
        offset: which diagonal: 0 the main one, positive above, negative below.

    Returns:
        (..., L), with the length L of that diagonal.
    """
    return p.diagonal(_matrix(x, "diagonal"), integer(offset, "diagonal", "offset"))


@public
def trace(x: Tensor, /, *, offset: int = 0, dtype: Any = None) -> Tensor:
    """The sum of a diagonal of x (..., M, N): (...).

    Args:
        offset: which diagonal, as in `diagonal`.
        dtype: type to sum in; x's own if left out, and 64 bits for smaller integers.
    """
    elements = p.diagonal(_matrix(x, "trace"), integer(offset, "trace", "offset"))
    if dtype is not None:
        wanted = dtype_of(dtype, "trace")
    else:
        wanted = {"b": int64, "i": int64, "u": uint64}.get(elements.dtype.kind, elements.dtype)
    if wanted != elements.dtype:
        elements = astype(elements, dtype=wanted)
    return reduce.sum(elements, axis=(elements.ndim - 1,), keepdims=False)


@public
def cross(x1: Tensor, x2: Tensor, /, *, axis: int = -1) -> Tensor:
    """The cross product of vectors of length 3.

    Args:
        x1, x2: tensors of length 3 along `axis`; the other axes broadcast.
        axis: counted from the end, so negative; counted from the start only where both
            operands have the same number of axes.

    Raises:
        ShapeError: an operand is not of length 3 along `axis`.
    """
    a, b = tensor_of(x1, "cross"), tensor_of(x2, "cross")
    axis = integer(axis, "cross", "the axis")
    if axis >= 0:
        if a.ndim != b.ndim:
            raise ArgumentError(located(f"cross: for shapes {a.shape} and {b.shape} count the axis from the end"))
        axis -= a.ndim
    if not all(-t.ndim <= axis < 0 and t.shape[axis] == 3 for t in (a, b)):
        raise ShapeError(located(f"cross: both operands have length 3 along axis {axis}, got {a.shape} and {b.shape}"))
    return _turned(a, axis, 1) * _turned(b, axis, 2) - _turned(a, axis, 2) * _turned(b, axis, 1)


def _turned(x: Tensor, axis: int, by: int) -> Tensor:
    """The components x[by], x[by + 1], … of a cyclic order."""
    rest = (slice(None),) * (-axis - 1)
    return concat(x[..., by:, *rest], x[..., :by, *rest], axis=x.ndim + axis)
