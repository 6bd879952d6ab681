"""Copies of operands in the order in which a micro-kernel reads them.

A panel holds `width` rows (of A) or columns (of B) side by side, one group for each reduced index, so
the micro-kernel walks through memory from front to end whatever the strides of the operand are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .ir import I64, PTR, Function, Module, Type, Value, vector
from .target import Target


@dataclass(frozen=True)
class Packing:
    """A copy to be generated. Strides are in elements.

    Attributes:
        type: of the elements.
        count: rows or columns that there are; what the panel's width has beyond becomes zero or, in a
            panel of A, is not read.
        width: of the panel: distance of two reduced indices in it, at least `count`.
        offsets: of each row or column in the operand.
        reduced: (length, stride) of the reduced axes; the first length may be 0: given at the call.
    """

    type: Type
    count: int
    width: int
    offsets: tuple[int, ...]
    reduced: tuple[tuple[int, int], ...]

    @property
    def even(self) -> int | None:
        """The stride of the rows or columns, if there is one."""
        steps = {b - a for a, b in zip(self.offsets, self.offsets[1:], strict=False)}
        return steps.pop() if len(steps) == 1 else (1 if not steps else None)


def emit_packing(module: Module, name: str, packing: Packing, target: Target) -> Function:
    """The function `name(source, panel, i64 length)`. It may write up to a vector behind the panel."""
    f = module.function(name, [PTR, PTR, I64], internal=True)
    source, panel, length = f.arguments
    lanes = target.lanes(packing.type)

    def nest(level: int, source: Value, panel: Value) -> Value:
        n, step = packing.reduced[level]
        stop: Value | int = length if n == 0 else n
        if level == len(packing.reduced) - 1:
            return _innermost(f, packing, source, panel, stop, step, lanes)
        with f.loop(0, stop, carry=[source, panel]) as loop:
            here, there = loop.carried
            loop.carry(f.element(here, step, packing.type), nest(level + 1, here, there))
        return loop.results[1]

    nest(0, source, panel)
    f.ret()
    return f


def _innermost(
    f: Function, packing: Packing, source: Value, panel: Value, stop: Value | int, step: int, lanes: int
) -> Value:
    """Copies along the last reduced axis; returns the end of what was written."""
    type, width = packing.type, packing.width
    end = f.element(panel, f.as_type(I64, stop) * width, type)
    if step == 1 and packing.even != 1 and (not isinstance(stop, int) or stop >= lanes // 2):
        _transposed(f, packing, source, panel, stop, lanes)
        return end
    with f.loop(0, stop, carry=[source, panel]) as loop:
        here, there = loop.carried
        if packing.even == 1:
            for first in range(0, packing.count, lanes):
                mask = f.mask(lanes, packing.count - first)
                f.store(f.load_masked(vector(type, lanes), here, mask, first), there, first)
        else:
            for i, offset in enumerate(packing.offsets):
                f.store(f.load(type, here, offset), there, i)
            for i in range(packing.count, width):
                f.store(f.zero(type), there, i)
        loop.carry(f.element(here, step, type), f.element(there, width, type))
    return end


def _transposed(f: Function, packing: Packing, source: Value, panel: Value, stop: Value | int, lanes: int) -> None:
    """Blocks of lanes × lanes, turned in registers. Along the reduced axis the source is contiguous."""
    type, width = packing.type, packing.width
    wide = vector(type, lanes)

    def block(first: int, at: Value | int, count: Value | int) -> None:
        """Rows `first` on, reduced indices `at` on, `count` of them."""
        rows = min(lanes, packing.count - first)
        mask = f.mask(lanes, count)
        vectors = [
            f.load_masked(wide, f.element(source, packing.offsets[first + r], type), mask, at) for r in range(rows)
        ]
        vectors += [f.zero(wide)] * (lanes - rows)
        target = f.element(panel, f.as_type(I64, at) * width + first, type)
        # What overlaps the next group is written over by it, unless this is not the first of its panel.
        kept = f.mask(lanes, width - first) if first and width - first < lanes else None
        for i, column in enumerate(transpose(f, vectors)):
            if isinstance(count, int):
                if i < count:
                    f.store_masked(column, target, kept, i * width)
            else:
                with f.when(count > i):
                    f.store_masked(column, target, kept, i * width)

    whole = f.as_type(I64, stop) // lanes * lanes
    with f.loop(0, whole, lanes) as loop:
        for first in range(0, packing.count, lanes):
            block(first, loop.index, lanes)
    if isinstance(stop, int):
        if stop % lanes:
            for first in range(0, packing.count, lanes):
                block(first, stop // lanes * lanes, stop % lanes)
        return
    with f.loop(whole, stop, lanes) as loop:
        for first in range(0, packing.count, lanes):
            block(first, loop.index, f.as_type(I64, stop) - loop.index)


def transpose(f: Function, rows: Sequence[Value]) -> list[Value]:
    """As many vectors as each has lanes, turned: element j of vector i becomes element i of vector j."""
    count = len(rows)
    vectors = list(rows)
    distance = count // 2
    while distance:
        # In each block of 2·distance the upper right and the lower left quarters change places.
        low = [j if not j & distance else count + j - distance for j in range(count)]
        high = [j + distance if not j & distance else count + j for j in range(count)]
        for i in range(count):
            if not i & distance:
                a, b = vectors[i], vectors[i + distance]
                vectors[i], vectors[i + distance] = f.shuffle(a, b, low), f.shuffle(a, b, high)
        distance //= 2
    return vectors
