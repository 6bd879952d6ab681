"""Products over axes: the linear algebra of the standard that is not in its extension."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ..core.errors import ShapeError, located
from ..core.tensor import Tensor
from ..primitives import pointwise as p
from ..primitives import reduce
from ..primitives.matmul import matmul as matmul_primitive
from ..primitives.products import matrix_product
from ..primitives.shape import permute_dims, reshape
from .arguments import integer, one_axis, public, several_axes, tensor_of
from .manipulation import swapaxes

__all__ = ["matmul", "matrix_transpose", "outer", "tensordot", "vecdot"]


@public
def matmul(x1: Tensor, x2: Tensor, /) -> Tensor:
    """The matrix product of the last two axes; the axes in front broadcast.

    A 1-d operand is a row on the left and a column on the right, and its axis disappears.

    Args:
        x1: shape (..., m, k) or (k,).
        x2: shape (..., k, n) or (k,).

    Returns:
        Shape (..., m, n) of the promoted type.

    Raises:
        ShapeError: the inner lengths differ, an operand is 0-d, or the rest does not broadcast.
    """
    return matrix_product(tensor_of(x1, "matmul"), tensor_of(x2, "matmul"))


@public
def matrix_transpose(x: Tensor, /) -> Tensor:
    """Exchange the last two axes. Raises ShapeError for fewer than 2 axes."""
    x = tensor_of(x, "matrix_transpose")
    if x.ndim < 2:
        raise ShapeError(located(f"matrix_transpose: needs at least 2 axes, got shape {x.shape}"))
    return swapaxes(x, -1, -2)


@public
def outer(x1: Tensor, x2: Tensor, /) -> Tensor:
    """The matrix of all products x1[i] x2[j] of two 1-d tensors. Raises ShapeError for other shapes."""
    x1, x2 = tensor_of(x1, "outer"), tensor_of(x2, "outer")
    if x1.ndim != 1 or x2.ndim != 1:
        raise ShapeError(located(f"outer: operands are 1-d, got shapes {x1.shape} and {x2.shape}"))
    return reshape(x1, shape=(x1.size, 1)) * x2


@public
def tensordot(x1: Tensor, x2: Tensor, /, *, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Tensor:
    """Sum of products over some axes of x1 and as many of x2.

    Args:
        x1, x2: numeric.
        axes: a number n, for the last n axes of x1 and the first n of x2; or two sequences
            with the axes of each in corresponding order.

    Returns:
        The axes of x1 that remain, then those of x2.

    Raises:
        ShapeError: corresponding lengths differ, or an axis is out of range or given twice.
    """
    x1, x2 = tensor_of(x1, "tensordot"), tensor_of(x2, "tensordot")
    left, right = _summed_axes(x1, x2, axes)
    if [x1.shape[a] for a in left] != [x2.shape[b] for b in right]:
        raise ShapeError(
            located(f"tensordot: axes {left} of shape {x1.shape} and {right} of shape {x2.shape} differ in length")
        )
    rows = [d for d in range(x1.ndim) if d not in left]
    columns = [d for d in range(x2.ndim) if d not in right]
    inner = math.prod(x1.shape[a] for a in left)
    shape1, shape2 = [x1.shape[d] for d in rows], [x2.shape[d] for d in columns]
    a = reshape(permute_dims(x1, axes=(*rows, *left)), shape=(math.prod(shape1), inner))
    b = reshape(permute_dims(x2, axes=(*right, *columns)), shape=(inner, math.prod(shape2)))
    return reshape(matmul_primitive(a, b, transpose_a=False, transpose_b=False), shape=(*shape1, *shape2))


def _summed_axes(x1: Tensor, x2: Tensor, axes: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if isinstance(axes, tuple | list):
        if len(axes) != 2:
            raise ShapeError(located(f"tensordot: axes is a number or two sequences, got {axes}"))
        left, right = (several_axes(given, x.ndim, "tensordot") for given, x in zip(axes, (x1, x2), strict=True))
        if len(left) != len(right):
            raise ShapeError(located(f"tensordot: {len(left)} axes of x1 for {len(right)} of x2"))
        return left, right
    count = integer(axes, "tensordot", "axes")
    if not 0 <= count <= min(x1.ndim, x2.ndim):
        raise ShapeError(located(f"tensordot: {count} axes of shapes {x1.shape} and {x2.shape}"))
    return tuple(range(x1.ndim - count, x1.ndim)), tuple(range(count))


@public
def vecdot(x1: Tensor, x2: Tensor, /, *, axis: int = -1) -> Tensor:
    """Sum over one axis of conj(x1) x2; the other axes broadcast.

    Args:
        x1, x2: the length of `axis` is the same in both.
        axis: counted from the end in each operand, so negative.

    Raises:
        ShapeError: the lengths differ, or the axis is out of range.
    """
    x1, x2 = tensor_of(x1, "vecdot"), tensor_of(x2, "vecdot")
    a, b = (_last(x, one_axis(axis, x.ndim, "vecdot")) for x in (x1, x2))
    if a.shape[-1] != b.shape[-1]:
        raise ShapeError(located(f"vecdot: axis {axis} of shapes {x1.shape} and {x2.shape} differs in length"))
    product = (p.conj(a) if a.dtype.kind == "c" else a) * b
    return reduce.sum(product, axis=(product.ndim - 1,), keepdims=False)


def _last(x: Tensor, axis: int) -> Tensor:
    if axis == x.ndim - 1:
        return x
    return permute_dims(x, axes=(*(d for d in range(x.ndim) if d != axis), axis))
