"""What an element of a value is, as an expression over a kernel's index space.

Values that are in memory become loads. All others are written out: pointwise primitives as calls,
movement (reshape, transpose, slices, gathers, padding) as a change of the index, so that it costs
nothing but an address.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...core.node import ShapeDtype
from ...core.primitive import table
from ..code.expression import Affine, Call, Const, Expression, Load, Position
from ..graph import Op, Value

Index = tuple[Affine, ...]
_INT = np.dtype(np.int64)
_BOOL = np.dtype(bool)


class NotAffine(Exception):
    """An index cannot be expressed in the kernel's axes: `value` has to be in memory."""

    def __init__(self, value: Value) -> None:
        super().__init__(str(value))
        self.value = value


class SplitAxis(Exception):
    """An index could be expressed if an axis were two, the inner one of length `factor`."""

    def __init__(self, axis: int, factor: int) -> None:
        super().__init__(f"axis {axis} by {factor}")
        self.axis, self.factor = axis, factor


def strides(shape: Sequence[int]) -> tuple[int, ...]:
    """Elements between neighbours along each axis of a contiguous array."""
    result, step = [], 1
    for n in reversed(shape):
        result.append(step)
        step *= n
    return tuple(reversed(result))


def linear(shape: Sequence[int], index: Index) -> Affine:
    """The address of an index in a contiguous array."""
    total = Affine()
    for n, step, at in zip(shape, strides(shape), index, strict=True):
        if n > 1:
            total = total + at * step
    return total


class Sizes(dict[int, int]):
    """Lengths of the axes of an index space by number, and of the expressions that select."""

    def __init__(self, axes: Any = ()) -> None:
        super().__init__(axes)
        self.selectors: dict[int, int] = {}

    def bounds(self, at: Affine) -> tuple[int, int]:
        """The smallest and the largest value."""
        low = high = at.offset
        reaches = [c * (self[axis] - 1) for axis, c in at.terms]
        reaches += [c * (self.selectors[id(e)] - 1) for e, c in at.dynamic]
        for reach in reaches:
            low, high = low + min(reach, 0), high + max(reach, 0)
        return low, high


def split(at: Affine, shape: Sequence[int], sizes: Sizes, value: Value) -> Index:
    """The index into an array of `shape` whose address is `at`.

    Raises:
        SplitAxis, NotAffine: it is no affine function of the axes as they are.
    """
    result: list[Affine] = []
    for n in reversed(shape[1:]):
        if n <= 1:
            result.append(Affine())
            continue
        rest = Affine(at.offset % n, [(a, c) for a, c in at.terms if c % n], [(e, c) for e, c in at.dynamic if c % n])
        low, high = sizes.bounds(rest)
        if low < 0 or high >= n:
            for axis, c in rest.terms:
                if 0 < c < n and n % c == 0 and sizes[axis] * c > n and sizes[axis] % (n // c) == 0:
                    raise SplitAxis(axis, n // c)
            raise NotAffine(value)
        result.append(rest)
        at = Affine(
            (at.offset - rest.offset) // n,
            [(a, c // n) for a, c in at.terms if c % n == 0],
            [(e, c // n) for e, c in at.dynamic if c % n == 0],
        )
    if shape:
        result.append(at if shape[0] > 1 else Affine())
    return tuple(reversed(result))


def broadcast(index: Index, shape: Sequence[int]) -> Index:
    """The index into an operand of `shape` that is broadcast to the result at `index`."""
    own = index[len(index) - len(shape) :]
    return tuple(Affine() if n == 1 else at for n, at in zip(shape, own, strict=True))


def fits(at: Affine, n: int, sizes: Sizes) -> bool:
    low, high = sizes.bounds(at)
    return low >= 0 and high < n


def both(a: Expression | None, b: Expression | None) -> Expression | None:
    if a is None or b is None:
        return b if a is None else a
    return Call("logical_and", [a, b], _BOOL)


class Movement:
    """How a primitive that only moves elements maps an index of its result to one of its operand.

    `at` is the operand's index; where `inside` (a bool expression) is false the result is `other`: a
    number, or the element of another value at another index.
    """

    __slots__ = ("at", "inside", "other", "source")

    def __init__(self, source: Value, at: Index, inside: Expression | None = None, other: Any = None) -> None:
        self.source, self.at, self.inside, self.other = source, at, inside, other


Read = Callable[[Value, Index], Expression]


def _within(at: Affine, n: int, sizes: Sizes) -> Expression | None:
    """Whether 0 <= at < n; None if it always is."""
    low, high = sizes.bounds(at)
    position = Position(at)
    inside: Expression | None = None
    if low < 0:
        inside = Call("greater_equal", [position, Const(0, _INT)], _BOOL)
    if high >= n:
        inside = both(inside, Call("less", [position, Const(n, _INT)], _BOOL))
    return inside


def is_movement(op: Op) -> bool:
    """Whether `move` understands an operation."""
    name = op.primitive.name
    if name == "index":
        return _separate(op.params["pattern"]) and all(a.dtype.kind in "iu" for a in op.inputs[1:])
    if name in ("index_add", "index_set"):
        arrays = len(op.inputs) - (1 if name == "index_add" else 2)
        return not arrays and all(e[0] in "in" or e[3] == 1 for e in op.params["pattern"])
    return name in ("reshape", "permute_dims", "broadcast_to", "flip", "pad", "identity")


def _separate(pattern: Any) -> bool:
    """Whether the axes that index arrays make stay where the first array stands (NumPy's rule)."""
    places = [i for i, e in enumerate(pattern) if e[0] in "ai"] if any(e[0] == "a" for e in pattern) else []
    return not places or places == list(range(places[0], places[-1] + 1))


def move(op: Op, index: Index, sizes: Sizes, read: Read) -> Movement:
    """The movement of an operation for which `is_movement` holds."""
    name, x = op.primitive.name, op.inputs[0]
    if name == "reshape":
        return Movement(x, split(linear(op.output.shape, index), x.shape, sizes, x))
    if name == "permute_dims":
        at = [Affine()] * x.ndim
        for here, axis in zip(index, op.params["axes"], strict=True):
            at[axis] = here
        return Movement(x, tuple(at))
    if name == "broadcast_to":
        return Movement(x, broadcast(index, x.shape))
    if name == "flip":
        axes = op.params["axis"]
        axes = (axes,) if isinstance(axes, int) else axes
        return Movement(x, tuple(at * -1 + (x.shape[d] - 1) if d in axes else at for d, at in enumerate(index)))
    if name == "pad":
        moved = tuple(at + -before for at, (before, _) in zip(index, op.params["widths"], strict=True))
        return _inside(x, moved, x.shape, op.params.get("value", 0), sizes)
    if name == "index":
        return Movement(x, _indexed(op, index, sizes, read))
    if name == "index_add":
        return _placed(op, op.inputs[0], op.inputs[0].shape, 0, index, sizes)
    if name == "index_set":
        region = table["index"].abstract(ShapeDtype(x.shape, x.dtype), pattern=op.params["pattern"]).shape
        placed = _placed(op, op.inputs[1], region, (x, index), index, sizes)
        return Movement(placed.source, broadcast(placed.at, op.inputs[1].shape), placed.inside, placed.other)
    return Movement(x, index)


def _inside(x: Value, at: Index, lengths: Sequence[int], other: Any, sizes: Sizes) -> Movement:
    inside: Expression | None = None
    for here, n in zip(at, lengths, strict=True):
        inside = both(inside, _within(here, n, sizes))
    return Movement(x, at, inside, other)


def _placed(op: Op, source: Value, region: Sequence[int], outside: Any, index: Index, sizes: Sizes) -> Movement:
    """A source in the slices (of step 1) of a larger array: the index in the region, and what is outside of it."""
    at, lengths, other = [], [], []
    axis = 0
    for entry in op.params["pattern"]:
        if entry[0] == "n":
            at.append(Affine())
            continue
        if entry[0] == "i":
            other.append(index[axis] + -entry[1])
        else:
            at.append(index[axis] + -entry[1])
            lengths.append((at[-1], entry[2] - entry[1]))
        axis += 1
    inside: Expression | None = None
    for here, n in [*lengths, *((o, 1) for o in other)]:
        inside = both(inside, _within(here, n, sizes))
    assert len(at) == len(region)
    return Movement(source, tuple(at), inside, outside)


def _indexed(op: Op, index: Index, sizes: Sizes, read: Read) -> Index:
    x, *arrays = op.inputs
    pattern = op.params["pattern"]
    shape = np.broadcast_shapes(*(a.shape for a in arrays)) if arrays else ()
    at: list[Affine] = []
    here = 0
    arrays_at: Index | None = None
    for entry in pattern:
        kind = entry[0]
        if kind == "n":
            here += 1
        elif kind == "s":
            at.append(index[here] * entry[3] + entry[1])
            here += 1
        elif kind == "i":
            at.append(Affine(entry[1]))
        else:
            if arrays_at is None:
                arrays_at = index[here : here + len(shape)]
                here += len(shape)
            array = arrays[entry[1]]
            at.append(_selected(read(array, broadcast(arrays_at, array.shape)), x.shape[len(at)], sizes))
    return tuple(at)


def _selected(position: Expression, length: int, sizes: Sizes) -> Affine:
    """An index read from data: negative ones count from the end."""
    if isinstance(position, Position):
        return position.index
    if isinstance(position, Const):
        return Affine(position.value + length * (position.value < 0))
    wide = position if position.dtype == _INT else Call("astype", [position], _INT)
    if position.dtype.kind == "i":
        from_end = Call("add", [wide, Const(length, _INT)], _INT)
        negative = Call("less", [wide, Const(0, _INT)], _BOOL)
        wide = Call("where", [negative, from_end, wide], _INT)
    # An index out of range must not reach beyond the array; the check kernel reports it.
    wide = Call("minimum", [Call("maximum", [wide, Const(0, _INT)], _INT), Const(max(length - 1, 0), _INT)], _INT)
    sizes.selectors[id(wide)] = max(length, 1)
    return Affine(0, (), [(wide, 1)])


class Reader:
    """Expressions for elements of values, in one index space.

    Attributes:
        sizes: the index space.
        stored: the values that are in memory, with the name and shape under which a kernel knows them.
        constants: arrays of the graph's constants; those of one element become numbers in the code.
        results: reductions of this kernel, whose values the kernel has in registers.
        ops: the operations that the expressions made so far write out.
    """

    def __init__(
        self,
        sizes: Sizes,
        stored: Callable[[Value], Any],
        constants: dict[Value, np.ndarray],
        results: dict[Value, Any] | None = None,
    ) -> None:
        self.sizes = sizes
        self.stored = stored
        self.constants = constants
        self.results = results if results is not None else {}
        self.ops: dict[Op, None] = {}
        self._memo: dict[Any, Expression] = {}

    def at(self, value: Value, index: Index, guard: Expression | None = None) -> Expression:
        """The element of `value` at an index; where the guard is false, anything may come out."""
        key = (value, index, id(guard))
        found = self._memo.get(key)
        if found is None:
            found = self._memo[key] = self._make(value, index, guard)
        return found

    def _make(self, value: Value, index: Index, guard: Expression | None) -> Expression:
        constant = self.constants.get(value)
        if constant is not None:
            if constant.size == 1:
                return Const(constant.item(), value.dtype)
            progression = _progression(constant)
            if progression is not None:
                position = Position(index[0] * progression[1] + progression[0])
                return position if value.dtype == _INT else Call("astype", [position], value.dtype)
        if value in self.results:
            return self.results[value]
        name = self.stored(value)
        if name is not None:
            return Load(name, linear(value.shape, index), value.dtype, guard)
        op = value.op
        assert op is not None, f"{value} is neither in memory nor computed"
        self.ops[op] = None
        if is_movement(op):
            # A reshape of what is in memory needs no index: the address stays.
            source = op.inputs[0]
            if op.primitive.name == "reshape" and source not in self.results:
                name = self.stored(source)
                if name is not None and not (source in self.constants and self.constants[source].size == 1):
                    return Load(name, linear(value.shape, index), value.dtype, guard)
            moved = move(op, index, self.sizes, lambda v, i: self.at(v, i, guard))
            if moved.inside is None:
                return self.at(moved.source, moved.at, guard)
            inner = self.at(moved.source, moved.at, both(guard, moved.inside))
            other: Expression
            if type(moved.other) is tuple:
                other = self.at(moved.other[0], moved.other[1], guard)
            else:
                other = Const(moved.other, value.dtype)
            return Call("where", [moved.inside, inner, other], value.dtype)
        operands = [self.at(v, broadcast(index, v.shape), guard) for v in op.inputs]
        params = {k: v for k, v in op.params.items() if k != "dtype"}
        return Call(op.primitive.name, operands, value.dtype, params)


def _progression(constant: np.ndarray) -> tuple[int, int] | None:
    """Start and step of a vector of equally spaced integers: it need not be read from memory."""
    if constant.ndim != 1 or constant.dtype.kind not in "iu" or constant.size < 2:
        return None
    start, step = int(constant[0]), int(constant[1]) - int(constant[0])
    same = np.array_equal(constant, np.arange(start, start + step * constant.size, step)) if step else False
    return (start, step) if same else None
