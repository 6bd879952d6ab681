"""Operations along one axis that are no reduction to a number of the same kind: argmax, argmin, cumulative sums.

Where memory is contiguous across the rows, every lane has a row of its own. Along a contiguous axis, the position
of an extremum is found lane by lane and then among the lanes; a running sum is added up in NumPy's order, several
rows at a time.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from ..graph import Op
from .ir import I32, I64, PTR, Function, Module, Type, Value, type_of, vector
from .target import Target

_TOGETHER = 4  # rows that are added up at the same time: as many additions as are under way at once


@dataclass(frozen=True)
class Rows:
    """An array as `outer` × `length` × `inner` elements; rows run along the axis in the middle."""

    outer: int
    length: int
    inner: int

    @staticmethod
    def of(shape: Sequence[int], axis: int) -> Rows:
        """The rows of an array along an axis."""
        return Rows(math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :]))

    @property
    def count(self) -> int:
        return self.outer * self.inner


def share(count: int, thread: Value, threads: Value) -> tuple[Value, Value]:
    """The first and one past the last of so many pieces of work that a thread does."""
    return thread * count // threads, (thread + 1) * count // threads


def emit_extremum_position(module: Module, name: str, op: Op, target: Target) -> None:
    """The function `name(operand, result, thread, threads)` of `argmax` and `argmin`: the first extremum, NaN wins."""
    x = op.inputs[0]
    rows, type = Rows.of(x.shape, op.params["axis"]), type_of(x.dtype)
    lanes = min(target.lanes(type), target.lanes(I32))
    f = module.function(name, [PTR] * 2 + [I64, I64], internal=True)
    find = _Extremum(f, type, x.dtype, op.primitive.name == "argmax")
    if rows.inner > 1:
        with _columns(f, rows, lanes) as (first, mask, out):
            wide = vector(type, lanes)
            best = f.load_masked(wide, f.arguments[0], mask, first)
            with f.loop(1, rows.length, carry=[best, f.constant(vector(I32, lanes), 0)]) as loop:
                value = f.load_masked(wide, f.arguments[0], mask, first + loop.index * rows.inner)
                loop.carry(*find.better(loop.carried, value, f.cast("trunc", loop.index, I32)))
            f.store_masked(f.cast("sext", loop.results[1], vector(I64, lanes)), f.arguments[1], mask, out)
    elif rows.count:
        low, high = share(rows.count, *f.arguments[2:])
        with f.loop(low, high) as row:
            at = f.offset(f.arguments[0], row.index * (rows.length * type.nbytes))
            found = find.along(at, rows.length, lanes)
            f.store(f.cast("sext", found, I64), f.arguments[1], row.index)
    f.ret()


class _Extremum:
    """Comparisons of values and positions, lane by lane or of scalars."""

    def __init__(self, f: Function, type: Type, dtype: np.dtype, largest: bool) -> None:
        self.f, self.type, self.is_float = f, type, dtype.kind == "f"
        self._relation = ("" if dtype.kind in "fi" else "u") + ("gt" if largest else "lt")

    def _beats(self, a: Value, b: Value) -> Value:
        f = self.f
        if not self.is_float:
            return f.compare(self._relation, a, b)
        return f.compare(self._relation, a, b) | (f.is_nan(a) & f.equal(b, b))

    def better(self, best: Sequence[Value], value: Value, position: Value) -> list[Value]:
        """The better of what was found and a later value."""
        beats = self._beats(value, best[0])
        position = self.f.as_type(best[1].type, position)
        return [self.f.select(beats, value, best[0]), self.f.select(beats, position, best[1])]

    def along(self, pointer: Value, length: int, lanes: int) -> Value:
        """The position of the extremum of a contiguous row."""
        f, whole = self.f, length // lanes * lanes
        if length < 2 * lanes:
            best, start = [f.load(self.type, pointer), f.constant(I32, 0)], 1
        else:
            wide = vector(self.type, lanes)
            begin = [f.load(wide, pointer), f.lanes(I32, range(lanes))]
            with f.loop(lanes, whole, lanes, carry=begin) as loop:
                position = f.binary("add", f.lanes(I32, range(lanes)), f.cast("trunc", loop.index, I32))
                loop.carry(*self.better(loop.carried, f.load(wide, pointer, loop.index), position))
            best, start = self._among(*loop.results), whole
        with f.loop(start, length, carry=best) as rest:
            value = f.load(self.type, pointer, rest.index)
            rest.carry(*self.better(rest.carried, value, f.cast("trunc", rest.index, I32)))
        return rest.results[1]

    def _among(self, values: Value, positions: Value) -> list[Value]:
        """The best lane; of equal ones that with the first position."""
        f = self.f
        best = [f.extract(values, 0), f.extract(positions, 0)]
        for lane in range(1, values.type.lanes):
            value, position = f.extract(values, lane), f.extract(positions, lane)
            is_equal = ~(self._beats(best[0], value) | self._beats(value, best[0]))
            beats = self._beats(value, best[0]) | (is_equal & f.compare("lt", position, best[1]))
            best = [f.select(beats, value, best[0]), f.select(beats, position, best[1])]
        return best


def emit_cumulative(module: Module, name: str, op: Op, target: Target) -> None:
    """The function `name(operand, result, thread, threads)` of `cumulative_sum` and `cumulative_prod`."""
    x = op.inputs[0]
    rows, type = Rows.of(x.shape, op.params["axis"]), type_of(x.dtype)
    lanes = target.lanes(type)
    f = module.function(name, [PTR] * 2 + [I64, I64], internal=True)
    source, result = f.arguments[:2]

    def join(a: Value, b: Value) -> Value:
        return a + b if op.primitive.name == "cumulative_sum" else a * b

    if rows.inner > 1 and rows.length:
        with _columns(f, rows, lanes) as (first, mask, _):
            total = f.load_masked(vector(type, lanes), source, mask, first)
            f.store_masked(total, result, mask, first)
            with f.loop(1, rows.length, carry=[total]) as loop:
                at = first + loop.index * rows.inner
                total = join(loop.carried[0], f.load_masked(vector(type, lanes), source, mask, at))
                f.store_masked(total, result, mask, at)
                loop.carry(total)
    elif rows.count and rows.length:
        groups = -(-rows.count // _TOGETHER)
        low, high = share(groups, *f.arguments[2:])
        with f.loop(low, high) as group:
            # The last group may compute the last row several times.
            chosen = [f.pairwise("smin", group.index * _TOGETHER + i, rows.count - 1) for i in range(_TOGETHER)]
            starts = [row * rows.length for row in chosen[: rows.count]]
            totals = [f.load(type, source, at) for at in starts]
            for at, total in zip(starts, totals, strict=True):
                f.store(total, result, at)
            with f.loop(1, rows.length, carry=totals) as loop:
                places = [at + loop.index for at in starts]
                values = [f.load(type, source, at) for at in places]
                totals = [join(a, b) for a, b in zip(loop.carried, values, strict=True)]
                for at, total in zip(places, totals, strict=True):
                    f.store(total, result, at)
                loop.carry(*totals)
    f.ret()


@contextmanager
def _columns(f: Function, rows: Rows, lanes: int) -> Iterator[tuple[Value, Value | None, Value]]:
    """A loop over vectors of neighbouring rows: the first element, the mask, and the place among all rows."""
    blocks = -(-rows.inner // lanes)
    low, high = share(rows.outer * blocks, *f.arguments[2:])
    with f.loop(low, high) as loop:
        block, column = loop.index // blocks, loop.index % blocks * lanes
        mask = f.mask(lanes, f.index(rows.inner) - column) if rows.inner % lanes else None
        yield block * (rows.length * rows.inner) + column, mask, block * rows.inner + column
