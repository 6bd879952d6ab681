"""Sorting."""

from __future__ import annotations

from ..core.errors import DTypeError, located
from ..core.tensor import Tensor
from ..primitives.sort import argsort as argsort_primitive
from .arguments import one_axis, public, tensor_of
from .indexing import take_along_axis

__all__ = ["argsort", "sort"]


@public
def argsort(x: Tensor, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The positions (int64) of the elements in sorted order along one axis.

    Args:
        x: at least one axis; real. NaN counts as the largest number.
        axis: the axis to sort along.
        descending: largest first.
        stable: equal elements keep their order; False may be faster.

    Raises:
        ShapeError: the axis is out of range.
        DTypeError: x is complex.
    """
    x = tensor_of(x, "argsort")
    if x.dtype.kind == "c":
        raise DTypeError(located(f"argsort: complex numbers have no order, got {x.dtype}"))
    return argsort_primitive(
        x, axis=one_axis(axis, x.ndim, "argsort"), descending=bool(descending), stable=bool(stable)
    )


@public
def sort(x: Tensor, /, *, axis: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The elements in sorted order along one axis; arguments and errors as in `argsort`.

    The gradient returns to the places that the elements came from.
    """
    x = tensor_of(x, "sort")
    return take_along_axis(x, argsort(x, axis=axis, descending=descending, stable=stable), axis=axis)
