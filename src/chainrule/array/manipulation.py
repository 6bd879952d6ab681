"""Shapes: reshaping, permuting, joining, splitting, repeating. Elements move, none changes."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from ..core.errors import ArgumentError, OperationError, ShapeError, located
from ..core.tensor import Tensor, new_tensor
from ..primitives import shape as p
from ..primitives.families import broadcast_shapes
from ..primitives.index import Pattern, index
from ..primitives.pointwise import astype
from .arguments import integer, one_axis, public, reduced_axes, several_axes, shape_of, tensor_of, tensors_of

__all__ = [
    "broadcast_arrays", "broadcast_shapes", "broadcast_to", "concat", "expand_dims", "flatten", "flip", "moveaxis",
    "pad", "permute_dims", "repeat", "reshape", "roll", "split", "squeeze", "stack", "swapaxes", "tile", "unstack",
]  # fmt: skip


def same(x: Tensor) -> Tensor:
    """A new handle on the value of x, so that assigning into one leaves the other."""
    return astype(x, dtype=x.dtype)


def part(x: Tensor, axis: int, start: int, stop: int) -> Tensor:
    """x[start:stop] along one axis."""
    return index(x, pattern=_along(x, axis, ("s", start, stop, 1)))


def _along(x: Tensor, axis: int, entry: tuple[Any, ...]) -> Pattern:
    return tuple(entry if d == axis else ("s", 0, n, 1) for d, n in enumerate(x.shape))


@public
def reshape(x: Tensor, /, shape: int | tuple[int, ...], *, copy: bool | None = None) -> Tensor:
    """The elements of x in their order (row by row), in another shape.

    Args:
        x: any shape.
        shape: the new lengths; one may be -1 and follows from the number of elements.
        copy: accepted for the standard; tensors are values, so it makes no difference.

    Raises:
        ShapeError: the number of elements differs, or more than one length is negative.
    """
    x = tensor_of(x, "reshape")
    return p.reshape(x, shape=_resolved(x, shape))


def _resolved(x: Tensor, shape: Any) -> tuple[int, ...]:
    lengths = shape if isinstance(shape, tuple | list) else (shape,)
    wanted = tuple(integer(n, "reshape", "a length") for n in lengths)
    unknown = [d for d, n in enumerate(wanted) if n < 0]
    if not unknown:
        return wanted
    known = math.prod(n for n in wanted if n >= 0)
    if len(unknown) > 1 or wanted[unknown[0]] != -1:
        raise ShapeError(located(f"reshape: shape {wanted} can hold one -1 and no other negative length"))
    if known == 0 or x.size % known:
        raise ShapeError(located(f"reshape: {x.size} elements (shape {x.shape}) do not fill shape {wanted}"))
    return tuple(x.size // known if n < 0 else n for n in wanted)


@public
def flatten(x: Tensor, /, start_axis: int = 0, end_axis: int = -1) -> Tensor:
    """Join the axes from `start_axis` to `end_axis` into one; a 0-d tensor becomes 1-d.

    Raises:
        ShapeError: an axis is out of range, or the end lies before the start.
    """
    x = tensor_of(x, "flatten")
    if x.ndim == 0:
        return p.reshape(x, shape=(1,))
    start, end = one_axis(start_axis, x.ndim, "flatten"), one_axis(end_axis, x.ndim, "flatten")
    if end < start:
        raise ShapeError(located(f"flatten: axis {end_axis} comes before axis {start_axis} (shape {x.shape})"))
    return p.reshape(x, shape=(*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))


@public
def permute_dims(x: Tensor, /, axes: tuple[int, ...]) -> Tensor:
    """The axes of x in another order: axis i of the result is axis `axes[i]` of x.

    Raises:
        ShapeError: `axes` is no permutation of all axes.
    """
    x = tensor_of(x, "permute_dims")
    order = several_axes(axes, x.ndim, "permute_dims")
    if len(order) != x.ndim:
        raise ShapeError(located(f"permute_dims: {axes} names {len(order)} of the {x.ndim} axes of shape {x.shape}"))
    return p.permute_dims(x, axes=order)


@public
def swapaxes(x: Tensor, axis1: int, axis2: int, /) -> Tensor:
    """Exchange two axes. Raises ShapeError for an axis out of range."""
    x = tensor_of(x, "swapaxes")
    a, b = one_axis(axis1, x.ndim, "swapaxes"), one_axis(axis2, x.ndim, "swapaxes")
    order = list(range(x.ndim))
    order[a], order[b] = b, a
    return p.permute_dims(x, axes=tuple(order))


@public
def moveaxis(x: Tensor, source: int | tuple[int, ...], destination: int | tuple[int, ...], /) -> Tensor:
    """Move axes to other places; the rest keep their order.

    Raises:
        ShapeError: an axis is out of range or given twice, or the two lists differ in length.
    """
    x = tensor_of(x, "moveaxis")
    sources, places = (several_axes(a, x.ndim, "moveaxis") for a in (source, destination))
    if len(sources) != len(places):
        raise ShapeError(located(f"moveaxis: {len(sources)} axes for {len(places)} places"))
    order = [d for d in range(x.ndim) if d not in sources]
    for place, axis in sorted(zip(places, sources, strict=True)):
        order.insert(place, axis)
    return p.permute_dims(x, axes=tuple(order))


@public
def expand_dims(x: Tensor, /, axis: int | tuple[int, ...] = 0) -> Tensor:
    """Insert an axis of length 1 (or several) that stands at `axis` in the result.

    Raises:
        ShapeError: an axis is out of range or given twice.
    """
    x = tensor_of(x, "expand_dims")
    count = len(axis) if isinstance(axis, tuple | list) else 1
    new = several_axes(axis, x.ndim + count, "expand_dims")
    lengths = iter(x.shape)
    return p.reshape(x, shape=tuple(1 if d in new else next(lengths) for d in range(x.ndim + count)))


@public
def squeeze(x: Tensor, /, axis: int | tuple[int, ...] | None = None) -> Tensor:
    """Remove axes of length 1; all of them if no axis is given.

    Raises:
        ShapeError: an axis is longer than 1, out of range or given twice.
    """
    x = tensor_of(x, "squeeze")
    if axis is None:
        gone = tuple(d for d, n in enumerate(x.shape) if n == 1)
    else:
        gone = several_axes(axis, x.ndim, "squeeze")
    for d in gone:
        if x.shape[d] != 1:
            raise ShapeError(located(f"squeeze: axis {d} has length {x.shape[d]}, not 1 (shape {x.shape})"))
    return p.reshape(x, shape=tuple(n for d, n in enumerate(x.shape) if d not in gone))


@public
def broadcast_to(x: Tensor, /, shape: tuple[int, ...]) -> Tensor:
    """x repeated along axes of length 1, and along new axes in front, so as to have `shape`.

    Raises:
        ShapeError: a length of x is neither 1 nor that of `shape`.
    """
    return p.broadcast_to(tensor_of(x, "broadcast_to"), shape=shape_of(shape, "broadcast_to"))


@public
def broadcast_arrays(*arrays: Tensor) -> list[Tensor]:
    """All tensors broadcast to their common shape. Raises ShapeError if there is none."""
    xs = [tensor_of(x, "broadcast_arrays") for x in arrays]
    try:
        shape = np.broadcast_shapes(*(x.shape for x in xs))
    except ValueError:
        listed = ", ".join(str(x.shape) for x in xs)
        raise ShapeError(located(f"broadcast_arrays: shapes {listed} do not broadcast")) from None
    return [p.broadcast_to(x, shape=shape) for x in xs]


@public
def flip(x: Tensor, /, *, axis: int | tuple[int, ...] | None = None) -> Tensor:
    """Reverse the order of the elements along `axis` (all axes if None)."""
    x = tensor_of(x, "flip")
    return p.flip(x, axis=reduced_axes(axis, x.ndim, "flip"))


@public
def roll(x: Tensor, /, shift: int | tuple[int, ...], *, axis: int | tuple[int, ...] | None = None) -> Tensor:
    """Move the elements along `axis` by `shift` places; those pushed off one end enter at the other.

    Args:
        x: any shape.
        shift: places, positive towards higher indices; one number for all axes or one for each.
        axis: the axes; the flattened tensor is rolled if None.

    Raises:
        ShapeError: an axis is out of range, or there are more shifts than axes.
    """
    x = tensor_of(x, "roll")
    if axis is None:
        flat = p.reshape(x, shape=(x.size,))
        return p.reshape(roll(flat, shift, axis=0), shape=x.shape)
    axes = tuple(one_axis(a, x.ndim, "roll") for a in (axis if isinstance(axis, tuple | list) else (axis,)))
    shifts = tuple(integer(s, "roll", "a shift") for s in (shift if isinstance(shift, tuple | list) else (shift,)))
    shifts = shifts * len(axes) if len(shifts) == 1 else shifts
    if len(shifts) != len(axes):
        raise ShapeError(located(f"roll: {len(shifts)} shifts for {len(axes)} axes"))
    rolled = same(x)
    for places, d in zip(shifts, axes, strict=True):
        length = x.shape[d]
        cut = -places % length if length else 0
        if cut:
            rolled = p.concat(part(rolled, d, cut, length), part(rolled, d, 0, cut), axis=d)
    return rolled


@public
def concat(arrays: tuple[Tensor, ...] | list[Tensor], /, *, axis: int | None = 0) -> Tensor:
    """Join tensors along an axis that they have; flatten them first if `axis` is None.

    Args:
        arrays: tensors of equal shapes except along `axis`; mixed types are promoted.
        axis: where to join.

    Raises:
        ShapeError: the shapes differ elsewhere, or the axis is out of range.
        OperationError: there are no tensors.
    """
    xs = tensors_of(arrays, "concat")
    if axis is None:
        return p.concat(*(p.reshape(x, shape=(x.size,)) for x in xs), axis=0)
    return p.concat(*xs, axis=one_axis(axis, xs[0].ndim, "concat"))


@public
def stack(arrays: tuple[Tensor, ...] | list[Tensor], /, *, axis: int = 0) -> Tensor:
    """Join tensors of one shape along a new axis.

    Raises:
        ShapeError: the shapes differ, or the axis is out of range.
        OperationError: there are no tensors.
    """
    xs = tensors_of(arrays, "stack")
    first = xs[0].shape
    for x in xs:
        if x.shape != first:
            raise ShapeError(located(f"stack: all shapes must be equal, got {first} and {x.shape}"))
    d = one_axis(axis, len(first) + 1, "stack")
    return p.concat(*(p.reshape(x, shape=(*first[:d], 1, *first[d:])) for x in xs), axis=d)


@public
def unstack(x: Tensor, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of x along `axis`, without that axis. Raises ShapeError for an axis out of range."""
    x = tensor_of(x, "unstack")
    d = one_axis(axis, x.ndim, "unstack")
    return tuple(index(x, pattern=_along(x, d, ("i", i))) for i in range(x.shape[d]))


@public
def split(x: Tensor, sections: int | tuple[int, ...], /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """Cut x along `axis`, as NumPy does: into n equal parts, or before the given positions.

    Args:
        x: at least one axis.
        sections: the number of equal parts, or the positions at which a new part begins.
        axis: the axis to cut.

    Raises:
        ShapeError: the length is no multiple of the number of parts, or the axis is out of range.
    """
    x = tensor_of(x, "split")
    d = one_axis(axis, x.ndim, "split")
    length = x.shape[d]
    if isinstance(sections, tuple | list):
        marks = [slice(integer(s, "split", "a position")).indices(length)[1] for s in sections]
    else:
        count = integer(sections, "split", "the number of parts")
        if count < 1 or length % count:
            raise ShapeError(located(f"split: {count} equal parts of length {length} (axis {d} of shape {x.shape})"))
        marks = list(range(length // count, length, length // count)) if length else [0] * (count - 1)
    edges = [0, *marks, length]
    return tuple(part(x, d, a, max(a, b)) for a, b in itertools.pairwise(edges))


@public
def repeat(x: Tensor, repeats: int | Tensor, /, *, axis: int | None = None) -> Tensor:
    """Repeat each element along `axis`: abc → aabbcc.

    Args:
        x: any shape; flattened first if `axis` is None.
        repeats: how often; one integer for all, or an integer tensor with one entry per element.
        axis: the axis along which elements are repeated.

    Raises:
        ShapeError: the number of entries in `repeats` is not the length of the axis.
        OperationError: a number of repeats is negative.
    """
    x = tensor_of(x, "repeat")
    if axis is None:
        x, axis = p.reshape(x, shape=(x.size,)), 0
    d = one_axis(axis, x.ndim, "repeat")
    if not isinstance(repeats, Tensor | np.ndarray | tuple | list):
        return _repeat_all(x, integer(repeats, "repeat", "repeats"), d)
    counts = repeats._array("repeat") if isinstance(repeats, Tensor) else np.asarray(repeats)
    if counts.dtype.kind not in "iu":
        raise ArgumentError(located(f"repeat: repeats are integers, got {counts.dtype}"))
    if counts.size == 1:
        return _repeat_all(x, int(counts.reshape(())), d)
    if counts.shape != (x.shape[d],):
        raise ShapeError(located(f"repeat: repeats of shape {counts.shape} for an axis of length {x.shape[d]}"))
    if counts.min(initial=0) < 0:
        raise OperationError(located("repeat: a number of repeats is negative"))
    positions = new_tensor(np.repeat(np.arange(x.shape[d]), counts), None)
    return index(x, positions, pattern=_along(x, d, ("a", 0)))


def _repeat_all(x: Tensor, count: int, axis: int) -> Tensor:
    if count < 0:
        raise OperationError(located(f"repeat: the number of repeats is negative: {count}"))
    before, length, behind = x.shape[:axis], x.shape[axis], x.shape[axis + 1 :]
    spread = p.broadcast_to(p.reshape(x, shape=(*before, length, 1, *behind)), shape=(*before, length, count, *behind))
    return p.reshape(spread, shape=(*before, length * count, *behind))


@public
def tile(x: Tensor, repetitions: tuple[int, ...], /) -> Tensor:
    """Repeat the whole of x along its axes: abc → abcabc.

    Args:
        x: any shape; axes of length 1 are added in front if there are more repetitions.
        repetitions: how often along each axis; 1 for the axes in front that are not named.

    Raises:
        ShapeError: a number of repetitions is negative.
    """
    x = tensor_of(x, "tile")
    times = shape_of(repetitions, "tile")
    rank = max(x.ndim, len(times))
    shape = (1,) * (rank - x.ndim) + x.shape
    times = (1,) * (rank - len(times)) + times
    apart = p.reshape(x, shape=tuple(n for length in shape for n in (1, length)))
    spread = p.broadcast_to(apart, shape=tuple(n for pair in zip(times, shape, strict=True) for n in pair))
    return p.reshape(spread, shape=tuple(a * b for a, b in zip(times, shape, strict=True)))


@public
def pad(x: Tensor, pad_width: Any, /, *, constant_values: float = 0) -> Tensor:
    """Add a constant border.

    Args:
        x: any shape.
        pad_width: as in NumPy: one number for every side, one pair (before, after) for
            every axis, or one pair per axis.
        constant_values: the number that fills the border.

    Raises:
        ShapeError: a width is negative, or the number of pairs is not that of the axes.
    """
    x = tensor_of(x, "pad")
    pairs = pad_width if isinstance(pad_width, tuple | list) else (pad_width, pad_width)
    if pairs and not isinstance(pairs[0], tuple | list):
        pairs = (tuple(pairs),) * x.ndim
    widths = tuple(shape_of(pair, "pad") for pair in pairs)
    if len(widths) != x.ndim or not all(len(pair) == 2 for pair in widths):
        raise ShapeError(located(f"pad: {pad_width} gives no pair for each of the {x.ndim} axes of shape {x.shape}"))
    if not widths:
        return same(x)
    return p.pad(x, widths=widths, value=constant_values)
