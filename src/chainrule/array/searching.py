"""Positions of elements, and choosing by a condition."""

from __future__ import annotations

from typing import Any, Literal

from ..core.dtypes import int64
from ..core.errors import ArgumentError, DTypeError, ShapeError, located
from ..core.tensor import Tensor, new_tensor
from ..primitives import pointwise as p
from ..primitives import reduce
from ..primitives.shape import reshape
from ..primitives.sort import searchsorted as searchsorted_primitive
from .arguments import one_axis, public, reduced_axes, tensor_of
from .elementwise import paired
from .indexing import take

__all__ = ["argmax", "argmin", "count_nonzero", "nonzero", "searchsorted", "where"]


def _extremum_position(x: Any, axis: int | None, keepdims: bool, name: str) -> Tensor:
    x = tensor_of(x, name)
    if x.dtype.kind == "c":
        raise DTypeError(located(f"{name}: complex numbers have no order, got {x.dtype}"))
    primitive = reduce.argmax if name == "argmax" else reduce.argmin
    if axis is not None:
        return primitive(x, axis=one_axis(axis, x.ndim, name), keepdims=keepdims)
    found = primitive(reshape(x, shape=(x.size,)), axis=0, keepdims=False)
    return reshape(found, shape=(1,) * x.ndim) if keepdims else found


@public
def argmax(x: Tensor, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position (int64) of the largest element, the first one of several; of a NaN if there is one.

    Args:
        x: any shape; real.
        axis: one axis; the position in the flattened tensor if None.
        keepdims: keep the axis (all axes) with length 1.

    Raises:
        ShapeError: there are no elements, or the axis is out of range.
        DTypeError: x is complex.
    """
    return _extremum_position(x, axis, keepdims, "argmax")


@public
def argmin(x: Tensor, /, *, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Position (int64) of the smallest element; everything else as in `argmax`."""
    return _extremum_position(x, axis, keepdims, "argmin")


@public
def count_nonzero(x: Tensor, /, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
    """Number (int64) of elements over `axis` that are not 0; NaN is not 0.

    Raises:
        ShapeError: an axis is out of range or given twice.
    """
    x = tensor_of(x, "count_nonzero")
    counted = p.astype(p.not_equal(x, 0), dtype=int64)
    return reduce.sum(counted, axis=reduced_axes(axis, x.ndim, "count_nonzero"), keepdims=keepdims)


@public
def nonzero(x: Tensor, /) -> tuple[Tensor, ...]:
    """Positions (int64) of the elements that are not 0, one 1-d tensor per axis.

    Their number depends on the values, so it cannot be used inside a transformation that
    runs without values.

    Raises:
        ShapeError: x is 0-d.
    """
    x = tensor_of(x, "nonzero")
    if x.ndim == 0:
        raise ShapeError(located("nonzero: a 0-d tensor has no positions; compare it with 0 instead"))
    return tuple(new_tensor(positions, None) for positions in x._array("nonzero").nonzero())


@public
def searchsorted(
    x1: Tensor, x2: Tensor, /, *, side: Literal["left", "right"] = "left", sorter: Tensor | None = None
) -> Tensor:
    """The positions (int64) in x1 before which the elements of x2 keep x1 sorted.

    Args:
        x1: 1-d, real, ascending.
        x2: any shape, real.
        side: "left" gives the first such position, "right" the last.
        sorter: positions that sort x1, as from `argsort`.

    Raises:
        ShapeError: x1 is not 1-d.
        ArgumentError: `side` is neither "left" nor "right".
    """
    x1, x2 = tensor_of(x1, "searchsorted"), tensor_of(x2, "searchsorted")
    if side not in ("left", "right"):
        raise ArgumentError(located(f'searchsorted: side is "left" or "right", got {side!r}'))
    if "c" in (x1.dtype.kind, x2.dtype.kind):
        raise DTypeError(located("searchsorted: complex numbers have no order"))
    if sorter is not None and x1.ndim == 1:
        x1 = take(x1, sorter)
    return searchsorted_primitive(x1, x2, side=side)


@public
def where(condition: Tensor, x1: Any, x2: Any, /) -> Tensor:
    """x1 where the condition holds, x2 elsewhere; the three broadcast.

    The gradient goes to the chosen one only: NaN in the other does no harm.

    Args:
        condition: bool.
        x1, x2: tensors or numbers.

    Raises:
        ShapeError: the shapes do not broadcast.
    """
    condition = tensor_of(condition, "where")
    if condition.dtype.kind != "b":
        condition = p.not_equal(condition, 0)
    return p.where(condition, *paired(x1, x2, "where"))
