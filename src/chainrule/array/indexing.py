"""Elements chosen by integer positions along one axis."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.errors import DTypeError, ShapeError, located
from ..core.tensor import Tensor, new_tensor
from ..primitives.index import index
from ..primitives.indexing import get_item
from .arguments import one_axis, public, tensor_of

__all__ = ["take", "take_along_axis"]


def _positions(indices: Any, name: str) -> Tensor:
    found = indices if isinstance(indices, Tensor) else tensor_of(np.asarray(indices), name)
    if found.dtype.kind not in "iu":
        raise DTypeError(located(f"{name}: indices are integers, got {found.dtype}"))
    return found


@public
def take(x: Tensor, indices: Tensor, /, *, axis: int | None = None) -> Tensor:
    """The elements of x at `indices` along one axis.

    Args:
        x: at least one axis.
        indices: integers; negative ones count from the end. Their axes replace `axis`.
        axis: may be left out for one axis only.

    Raises:
        IndexingError: an index is out of range.
        ShapeError: the axis is missing or out of range.
        DTypeError: the indices are no integers.
    """
    x = tensor_of(x, "take")
    positions = _positions(indices, "take")
    if axis is None:
        if x.ndim != 1:
            raise ShapeError(located(f"take: give the axis of a tensor with {x.ndim} axes (shape {x.shape})"))
        axis = 0
    return get_item(x, (slice(None),) * one_axis(axis, x.ndim, "take") + (positions,))


@public
def take_along_axis(x: Tensor, indices: Tensor, /, *, axis: int = -1) -> Tensor:
    """For each line of x along `axis` the elements at that line's own indices.

    Args:
        x: at least one axis.
        indices: integers, as many axes as x, which broadcast with x except along `axis`.
        axis: the axis along which the indices count.

    Raises:
        IndexingError: an index is out of range.
        ShapeError: the shapes do not fit, or the axis is out of range.
        DTypeError: the indices are no integers.
    """
    x = tensor_of(x, "take_along_axis")
    positions = _positions(indices, "take_along_axis")
    along = one_axis(axis, x.ndim, "take_along_axis")
    fits = positions.ndim == x.ndim and all(
        d == along or a == b or 1 in (a, b) for d, (a, b) in enumerate(zip(x.shape, positions.shape, strict=True))
    )
    if not fits:
        raise ShapeError(
            located(f"take_along_axis: indices of shape {positions.shape} for shape {x.shape}: all axes but {along} "
                    "must be equal or 1")
        )  # fmt: skip
    arrays = [
        positions if d == along else new_tensor(np.arange(n).reshape((n,) + (1,) * (x.ndim - 1 - d)), None)
        for d, n in enumerate(x.shape)
    ]
    return index(x, *arrays, pattern=tuple(("a", d) for d in range(x.ndim)))
