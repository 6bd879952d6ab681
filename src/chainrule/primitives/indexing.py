"""`x[i]` and `x[i] = v`: Python's index expressions turned into patterns of the index primitives."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..core.errors import DTypeError, GradientError, IndexingError, located
from ..core.node import leaf, mode
from ..core.tensor import Tensor, Variable, new_tensor, operand, to_array
from .index import Pattern, index, index_set
from .pointwise import astype
from .shape import reshape

_FULL = slice(None)


def get_item(x: Tensor, key: Any) -> Tensor:
    """x[key] with NumPy's semantics: integers, slices, `...`, None, integer arrays, boolean masks."""
    if type(key) is int and x.ndim:
        length = x.shape[0]
        position = key + length if key < 0 else key
        if not 0 <= position < length:
            raise IndexingError(
                located(f"index {key} is out of range for an axis of length {length} (shape {x.shape})")
            )
        return index(x, pattern=(("i", position), *((("s", 0, n, 1)) for n in x.shape[1:])))
    x, pattern, arrays = parse(x, key)
    return index(x, *arrays, pattern=pattern)


def set_item(x: Tensor, key: Any, value: Any) -> None:
    """x[key] = value: the handle x points to a new value; graphs that used the old one keep it."""
    if isinstance(x, Variable):
        if x.requires_grad and mode.grad:
            raise GradientError(located("a parameter is changed by an optimiser, or by assignment under no_grad()"))
    elif x.requires_grad and x.is_leaf and mode.grad:
        raise GradientError(
            located("assigning into a leaf that requires a gradient would make it an intermediate value; "
                    "compute with x.clone() or assign under no_grad()")
        )  # fmt: skip
    spread, pattern, arrays = parse(x, key)
    v = operand(value, x.dtype)
    if v is NotImplemented:
        v = new_tensor(to_array(value), None)
        if v.dtype.kind == x.dtype.kind:  # numbers as exact as the tensor they go into
            v = new_tensor(to_array(value, x.dtype), None)
    if v.dtype != x.dtype:
        if not np.can_cast(v.dtype, x.dtype, "same_kind"):
            raise DTypeError(located(f"cannot assign {v.dtype} values into a tensor of {x.dtype}"))
        v = astype(v, dtype=x.dtype)
    result = index_set(spread, v, *arrays, pattern=pattern)
    if spread is not x:
        result = reshape(result, shape=x.shape)
    if isinstance(x, Variable):
        x.assign(result)
    elif x.requires_grad and x.is_leaf:  # under no_grad: a leaf stays one
        x._value, x._node = result._value, leaf(result._value, True, owner=x)
    else:
        x._value, x._node = result._value, result._node


def iterate(x: Tensor) -> Iterator[Tensor]:
    """The slices along the first axis."""
    if not x.ndim:
        raise DTypeError(located("iteration over a 0-d tensor"))
    return (get_item(x, i) for i in range(x.shape[0]))


def parse(x: Tensor, key: Any) -> tuple[Tensor, Pattern, list[Tensor]]:
    """The pattern and the index arrays of an index expression, every entry checked and normalised.

    They apply to the tensor returned with them: x, or x with an axis of length 1 where a
    0-d mask stands, which selects that axis (True) or nothing (False).
    """
    entries = list(key) if isinstance(key, tuple) else [key]
    entries = [_array_or_entry(e) for e in entries]
    used = sum(_axes_used(e) for e in entries)
    if used > x.ndim:
        raise IndexingError(located(f"too many indices: {used} for a tensor of shape {x.shape}"))
    dots = [i for i, e in enumerate(entries) if e is Ellipsis]
    if len(dots) > 1:
        raise IndexingError(located("an index can have one ellipsis (...) only"))
    at = dots[0] if dots else len(entries)
    entries[at : at + 1] = [_FULL] * (x.ndim - used)
    pattern: list[tuple[Any, ...]] = []
    arrays: list[Tensor] = []
    shape = x.shape
    axis = 0
    for entry in entries:
        if entry is None:
            pattern.append(("n",))
            continue
        if isinstance(entry, Tensor):
            if _is_mask(entry) and not entry.ndim:
                shape = (*shape[:axis], 1, *shape[axis:])
                entry = reshape(entry, shape=(1,))
            for array in _as_positions(entry, shape, axis):
                pattern.append(("a", len(arrays)))
                arrays.append(array)
            axis += _axes_used(entry)
            continue
        length = shape[axis]
        if isinstance(entry, slice):
            pattern.append(("s", *_bounds(entry, length)))
        else:
            position = entry + length if entry < 0 else entry
            if not 0 <= position < length:
                raise IndexingError(
                    located(f"index {entry} is out of range for axis {axis} of length {length} (shape {x.shape})")
                )
            pattern.append(("i", position))
        axis += 1
    return x if shape == x.shape else reshape(x, shape=shape), tuple(pattern), arrays


def _array_or_entry(entry: Any) -> Any:
    if entry is None or entry is Ellipsis or isinstance(entry, slice):
        return entry
    if isinstance(entry, bool | np.bool_):
        return new_tensor(np.asarray(entry), None)
    if isinstance(entry, list):
        entry = np.asarray(entry, dtype=np.int64) if not entry else np.asarray(entry)
    if isinstance(entry, np.ndarray):
        entry = new_tensor(np.array(entry), None)
    if isinstance(entry, Tensor):
        if entry.dtype.kind not in "biu":
            raise IndexingError(located(f"an index array holds integers or bools, not {entry.dtype}"))
        return entry
    try:
        return operator.index(entry)
    except TypeError:
        raise IndexingError(
            located(f"an index is an integer, slice, ..., None or an array of integers or bools, not {entry!r}")
        ) from None


def _axes_used(entry: Any) -> int:
    if entry is None or entry is Ellipsis:
        return 0
    return entry.ndim if _is_mask(entry) else 1


def _is_mask(entry: Any) -> bool:
    return isinstance(entry, Tensor) and entry.dtype.kind == "b"


def _as_positions(entry: Tensor, shape: tuple[int, ...], axis: int) -> list[Tensor]:
    """Index arrays for one entry; a mask becomes the positions of its True elements."""
    if entry.dtype.kind == "b":
        mask = entry._array("indexing with a mask")
        expected = shape[axis : axis + mask.ndim]
        # As in NumPy, a mask without elements selects nothing, whatever the lengths beside its 0.
        if len(expected) != mask.ndim or any(m not in (n, 0) for m, n in zip(mask.shape, expected, strict=True)):
            raise IndexingError(located(f"a mask of shape {mask.shape} does not fit axes of shape {expected}"))
        return [new_tensor(p, None) for p in mask.nonzero()]
    if isinstance(entry._value, np.ndarray) and entry.size:
        low, high = int(entry._value.min()), int(entry._value.max())
        if low < -shape[axis] or high >= shape[axis]:
            raise IndexingError(
                located(f"indices from {low} to {high} are out of range for axis {axis} of length {shape[axis]}")
            )
    return [entry]


def _bounds(entry: slice, length: int) -> tuple[int, int, int]:
    try:
        return entry.indices(length)
    except (TypeError, ValueError) as error:
        raise IndexingError(located(f"slice {entry}: {error}")) from None
