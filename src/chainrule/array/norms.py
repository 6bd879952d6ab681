"""Norms of vectors and matrices, with 0 as the subgradient where they have a kink, as in PyTorch.

At a zero vector every derivative of a norm, of any order, is 0: the root is taken of 1 there
and the result put back by `where`, so that no derivative divides by zero.
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from ..core.dtypes import real_dtype
from ..core.errors import OperationError, ShapeError, located
from ..core.tensor import Tensor
from ..primitives import factorise, reduce
from ..primitives.pointwise import abs as absolute
from ..primitives.pointwise import astype, equal, imag, not_equal, real, sqrt, square, where
from ..primitives.shape import reshape
from .arguments import floating, public, reduced_axes

__all__ = ["matrix_norm", "vector_norm"]


@public
def vector_norm(
    x: Tensor, /, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False, ord: int | float = 2
) -> Tensor:
    """(Σ |x|^ord)^(1/ord) along some axes.

    Args:
        x: floating or complex tensor; integers take the default type.
        axis: one axis or several; all elements as one vector if None.
        keepdims: keep the reduced axes with length 1.
        ord: any number; inf for the largest and -inf for the smallest modulus, 0 for the
            number of elements that are not zero (which has no gradient).

    Returns:
        The norms, real, of x's precision.

    Raises:
        ShapeError: an axis does not exist, or there is no largest of no elements.
        OperationError: `ord` is no number.
    """
    x = floating(x, "vector_norm")
    axes = reduced_axes(axis, x.ndim, "vector_norm")
    keepdims = bool(keepdims)
    if isinstance(ord, bool) or not isinstance(ord, Real) or math.isnan(ord):
        raise OperationError(located(f"vector_norm: ord is a number, inf or -inf, got {ord!r}"))
    if ord == 2:
        return _euclidean(x, axes, keepdims)
    size = absolute(x)
    if ord == 1:
        return reduce.sum(size, axis=axes, keepdims=keepdims)
    if ord == 0:
        return reduce.sum(astype(not_equal(x, 0), dtype=real_dtype(x.dtype)), axis=axes, keepdims=keepdims)
    if math.isinf(ord):
        return (reduce.max if ord > 0 else reduce.min)(size, axis=axes, keepdims=keepdims)
    zero = equal(size, 0)
    powers = where(zero, 0.0 if ord > 0 else math.inf, where(zero, 1.0, size) ** float(ord))
    total = reduce.sum(powers, axis=axes, keepdims=keepdims)
    return _root(total, lambda t: t ** (1.0 / ord), vanishes_at=0.0 if ord > 0 else math.inf)


def _root(total: Tensor, root: Any, vanishes_at: float) -> Tensor:
    """The root of a sum, 0 without any derivative where the norm is zero."""
    zero = equal(total, vanishes_at)
    return where(zero, 0.0, root(where(zero, 1.0, total)))


def _euclidean(x: Tensor, axes: tuple[int, ...], keepdims: bool) -> Tensor:
    squares = square(real(x)) + square(imag(x)) if x.dtype.kind == "c" else square(x)
    return _root(reduce.sum(squares, axis=axes, keepdims=keepdims), sqrt, vanishes_at=0.0)


@public
def matrix_norm(x: Tensor, /, *, keepdims: bool = False, ord: int | float | str | None = "fro") -> Tensor:
    """A norm of the matrices in the last two axes.

    Args:
        x: (..., M, N), floating or complex; integers take the default type.
        keepdims: keep the last two axes with length 1.
        ord: "fro" (or None), the root of the sum of squares; "nuc", the sum of the singular
            values; 2 and -2, the largest and the smallest of them; 1 and -1, the largest and
            smallest sum of moduli of a column; inf and -inf, of a row.

    Returns:
        (...), real, of x's precision.

    Raises:
        ShapeError: x is no matrix.
        OperationError: `ord` is none of these.
    """
    x = floating(x, "matrix_norm")
    if x.ndim < 2:
        raise ShapeError(located(f"matrix_norm: a matrix has at least 2 axes, got shape {x.shape}"))
    rows, columns = x.ndim - 2, x.ndim - 1
    if ord is None or ord == "fro":
        return _euclidean(x, (rows, columns), bool(keepdims))
    if ord == "nuc":
        result = reduce.sum(factorise.svdvals(x), axis=(rows,), keepdims=False)
    elif ord in (2, -2):
        result = _extreme(factorise.svdvals(x), ord, rows)
    elif ord in (1, -1, math.inf, -math.inf):
        summed, left = (rows, rows) if ord in (1, -1) else (columns, rows)
        result = _extreme(reduce.sum(absolute(x), axis=(summed,), keepdims=False), ord, left)
    else:
        raise OperationError(located(f"matrix_norm: ord is 'fro', 'nuc', 1, -1, 2, -2, inf or -inf, got {ord!r}"))
    return reshape(result, shape=(*result.shape, 1, 1)) if keepdims else result


def _extreme(x: Tensor, ord: Any, axis: int) -> Tensor:
    return (reduce.max if ord > 0 else reduce.min)(x, axis=(axis,), keepdims=False)
