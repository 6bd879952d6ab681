"""The kernel of products with few rows: dot products, with vectors along the reduced axis.

Where a column of B is contiguous and used by a few rows only (a layer applied to one sample), packing it would
cost more than the product. Each sum is kept in a vector of partial sums, which are added up at the end.
"""

from __future__ import annotations

from dataclasses import dataclass

from .ir import I1, I64, PTR, Function, Module, Type, Value, vector


def columns_at_once(rows: int, registers: int) -> int:
    """How many columns are summed side by side: their sums, the rows and one vector of B stay in registers."""
    fitting = (registers - 4 - rows) // rows
    return max((n for n in (8, 4, 2) if n <= fitting), default=0)


@dataclass(frozen=True)
class Dot:
    """A kernel to be generated. Lengths and strides are in elements.

    Attributes:
        type: of the elements.
        offsets: of each row's first element in A; out: in the result.
        columns: of the tile; `step` from column to column in B.
        reduced: (length, stride in A, stride in B) of the reduced axes, the last of stride 1 in both; the first
            length may be 0: given at the call.
        lanes: of a vector. group: columns that are summed side by side.
    """

    type: Type
    offsets: tuple[int, ...]
    out: tuple[int, ...]
    columns: int
    step: int
    reduced: tuple[tuple[int, int, int], ...]
    lanes: int
    group: int


def emit_dot(module: Module, name: str, dot: Dot) -> Function:
    """The function `name(a, b, out, i64 length, i1 add)`, as `emit_micro` makes it."""
    f = module.function(name, [PTR, PTR, PTR, I64, I1], internal=True)
    a, b, out = f.arguments[:3]
    whole = dot.columns // dot.group * dot.group
    with f.loop(0, whole, dot.group) as loop:
        _columns(
            f, dot, a, f.element(b, loop.index * dot.step, dot.type), f.element(out, loop.index, dot.type), dot.group
        )
    if dot.columns > whole:
        rest = dot.columns - whole
        _columns(f, dot, a, f.element(b, whole * dot.step, dot.type), f.element(out, whole, dot.type), rest)
    f.ret()
    return f


def _columns(f: Function, dot: Dot, a: Value, b: Value, out: Value, count: int) -> None:
    """The sums of all rows for so many columns."""
    length, add = f.arguments[3:]
    wide, rows = vector(dot.type, dot.lanes), len(dot.offsets)

    def multiply(a_at: Value, b_at: Value, at: Value | int, mask: Value | None, sums: list[Value]) -> list[Value]:
        left = [f.load_masked(wide, f.element(a_at, offset, dot.type), mask, at) for offset in dot.offsets]
        result = list(sums)
        for c in range(count):
            right = f.load_masked(wide, f.element(b_at, c * dot.step, dot.type), mask, at)
            for r in range(rows):
                result[r * count + c] = f.fma(left[r], right, result[r * count + c])
        return result

    def innermost(a_at: Value, b_at: Value, n: Value | int, sums: list[Value]) -> list[Value]:
        stop = f.as_type(I64, n)
        end = stop // dot.lanes * dot.lanes
        with f.loop(0, end, dot.lanes, carry=sums) as loop:
            loop.carry(*multiply(a_at, b_at, loop.index, None, loop.carried))
        if isinstance(n, int):
            mask = f.mask(dot.lanes, n % dot.lanes)
            return multiply(a_at, b_at, end, mask, loop.results) if n % dot.lanes else loop.results
        with f.loop(end, stop, dot.lanes, carry=loop.results) as rest:
            rest.carry(*multiply(a_at, b_at, rest.index, f.mask(dot.lanes, stop - rest.index), rest.carried))
        return rest.results

    def nest(level: int, a_at: Value, b_at: Value, sums: list[Value]) -> list[Value]:
        n, a_step, b_step = dot.reduced[level]
        stop: Value | int = length if n == 0 else n
        if level == len(dot.reduced) - 1:
            return innermost(a_at, b_at, stop, sums)
        with f.loop(0, stop, carry=[a_at, b_at, *sums]) as loop:
            a_here, b_here, *inside = loop.carried
            inside = nest(level + 1, a_here, b_here, inside)
            loop.carry(f.element(a_here, a_step, dot.type), f.element(b_here, b_step, dot.type), *inside)
        return loop.results[2:]

    sums = nest(0, a, b, [f.zero(wide)] * (rows * count))
    row = vector(dot.type, count)
    for r in range(rows):
        total = f.zero(row)
        for c in range(count):
            total = f.insert(total, f.reduce("add", sums[r * count + c]), c)
        place = f.element(out, dot.out[r], dot.type)
        (before,) = f.cond(add, lambda: [f.load(row, place)], lambda: [f.zero(row)])  # noqa: B023
        f.store(before + total, place)
