"""The micro-kernel of matrix products: a tile of the result in registers, a loop over the reduced axes.

A tile has a few rows and one to four vectors of columns. Each turn of the loop loads the vectors of B,
and for every row broadcasts one element of A and multiplies and adds. This is the batch-reduce
building block of Georganas et al., "High-Performance Deep Learning via a Single Building Block" (2019):
the reduced index may have several axes, each with its own strides in A and B, so that a convolution is
a matrix product whose reduced axes are the kernel's height and width and the channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .ir import I1, I64, PTR, Function, Module, Type, Value, vector
from .target import Target


@dataclass(frozen=True)
class Shape:
    """How the result is cut into tiles.

    Attributes:
        rows: rows of a tile.
        vectors: vectors of columns of a tile.
        lanes: columns of a vector.
    """

    rows: int
    vectors: int
    lanes: int

    @property
    def columns(self) -> int:
        return self.vectors * self.lanes


_MOST_ROWS = 24
_LOAD = 0.03  # cycles that a load costs beside multiplications
_BETWEEN = 30  # cycles between tiles


def accumulators(target: Target) -> int:
    """Registers left for a tile beside the operands."""
    return target.registers - 4 if target.fma else target.registers - 6


def _cycles(rows: int, vectors: int, nbytes: int) -> float:
    """Of one turn, with `nbytes` in a vector: two multiply-adds and two loads a cycle, 16 bytes of B from the
    second-level cache; and no sum is ready for its next addition before four cycles."""
    return max(rows * vectors / 2, (rows + vectors) / 2, vectors * nbytes / 16, 4.0) + 0.25


def choose(rows: Sequence[int], columns: int, type: Type, target: Target, depth: int = 0) -> Shape:
    """The tile shape with the least time for a result of so many rows (an index space) and columns.

    A tile's rows lie along the last axis; where that is short they may also be several whole stretches
    of it, along the axis before.

    Args:
        depth: turns of the loop over the reduced axes; 0 if nothing is known.
    """
    lanes = target.lanes(type)
    room = accumulators(target)
    stretch = rows[-1]
    best: tuple[float, Shape] | None = None
    for vectors in range(1, min(4, -(-columns // lanes)) + 1):
        most = min(room // vectors, _MOST_ROWS)
        options = [(count, stretch, 1) for count in range(1, min(most, stretch) + 1)]
        if len(rows) > 1:
            several = range(2, min(most // stretch, rows[-2]) + 1)
            options += [(many * stretch, rows[-2] * stretch, rows[-2]) for many in several]
        full, rest = divmod(columns, vectors * lanes)
        for count, length, stretches in options:
            blocks, left = divmod(length, count)
            tiles = [
                (height, width, times * many)
                for width, times in ((vectors, full), (-(-rest // lanes), min(rest, 1)))
                for height, many in ((count, blocks), (left, min(left, 1)))
                if times and many
            ]
            key = _time(tiles, target.vector_bytes, depth) / stretches
            if not depth:  # the same time in fewer tiles is better: less runs between them
                key *= 1 + 0.002 * (blocks / stretches + full)
            if best is None or key < best[0]:
                best = key, Shape(count, vectors, lanes)
    assert best is not None
    return best[1]


def _time(tiles: Sequence[tuple[int, int, int]], nbytes: int, depth: int) -> float:
    """Cycles of so many tiles of each size; with a depth, what lies between tiles and what loads take of the units
    that multiply count, too."""
    if not depth:
        return sum(count * _cycles(height, width, nbytes) for height, width, count in tiles)
    return sum(
        count * (depth * (_cycles(height, width, nbytes) + _LOAD * (height + width)) + height * width + _BETWEEN)
        for height, width, count in tiles
    )


@dataclass(frozen=True)
class Micro:
    """A micro-kernel to be generated. Lengths and strides are in elements.

    Attributes:
        type: of A, B and the tile.
        offsets: of each row's first element in A.
        lanes, vectors: columns of the tile.
        rest: columns of the last vector (lanes: all of them).
        reduced: (length, stride in A, stride in B) of the reduced axes; the first length may be 0, which
            stands for one given at the call.
        out: of each row's first element in the result.
        masked: whether only `rest` columns of the last vector may be touched in the result, and in B.
        b_masked: the same in B; a packed panel has all columns of its vectors.
        taps: a further, innermost reduced axis: offsets in B, and steps of `tap_step` in A; none: no such axis.
        windowed: whether only some of the taps count: from the one to the other that are given at the call.
    """

    type: Type
    offsets: tuple[int, ...]
    lanes: int
    vectors: int
    rest: int
    reduced: tuple[tuple[int, int, int], ...]
    out: tuple[int, ...]
    masked: bool
    b_masked: bool
    taps: tuple[int, ...] = ()
    tap_step: int = 0
    windowed: bool = False


def emit_micro(module: Module, name: str, micro: Micro) -> Function:
    """The function `name(a, b, out, i64 length, i1 add)`: out (+)= tile; `add` keeps what is in out.

    If `windowed`, it takes the first tap and one past the last besides.
    """
    f = module.function(name, [PTR, PTR, PTR, I64, I1] + [I64, I64] * micro.windowed, internal=True)
    a, b, out, length, add, *window = f.arguments
    wide = vector(micro.type, micro.lanes)
    rows, vectors = len(micro.offsets), micro.vectors
    partial = micro.rest < micro.lanes
    mask = f.lanes(I1, [int(i < micro.rest) for i in range(micro.lanes)]) if partial else None

    def masks(wanted: bool) -> list[Value | None]:
        return [mask if wanted and v == vectors - 1 else None for v in range(vectors)]

    b_masks, out_masks = masks(micro.b_masked), masks(micro.masked)
    places = [(r, v) for r in range(rows) for v in range(vectors)]

    def load_out() -> list[Value]:
        return [f.load_masked(wide, out, out_masks[v], micro.out[r] + v * micro.lanes) for r, v in places]

    totals = f.cond(add, load_out, lambda: [f.zero(wide)] * len(places))

    table = module.table(f"{name}_taps", I64, micro.taps) if len(micro.taps) > 1 or micro.windowed else None

    def multiply(a_at: Value, b_at: Value, totals: list[Value]) -> list[Value]:
        columns = [f.load_masked(wide, b_at, b_masks[v], v * micro.lanes) for v in range(vectors)]
        result = []
        for r in range(rows):
            x = f.broadcast(f.load(micro.type, a_at, micro.offsets[r]), micro.lanes)
            result += [f.fma(x, columns[v], totals[r * vectors + v]) for v in range(vectors)]
        return result

    def nest(level: int, a_at: Value, b_at: Value, totals: list[Value]) -> list[Value]:
        if level == len(micro.reduced):
            if table is None:
                return multiply(a_at, f.element(b_at, micro.taps[0] if micro.taps else 0, micro.type), totals)
            begin, end = window if micro.windowed else (0, len(micro.taps))
            a_first = f.element(a_at, begin * micro.tap_step, micro.type) if micro.windowed else a_at
            with f.loop(begin, end, carry=[a_first, *totals]) as loop:
                here, *sums = loop.carried
                tap = f.load(I64, f.address_of(table), loop.index)
                sums = multiply(here, f.element(b_at, tap, micro.type), sums)
                loop.carry(f.element(here, micro.tap_step, micro.type), *sums)
            return loop.results[1:]
        n, a_step, b_step = micro.reduced[level]
        stop = length if n == 0 else n
        with f.loop(0, stop, carry=[a_at, b_at, *totals]) as loop:
            a_here, b_here, *sums = loop.carried
            sums = nest(level + 1, a_here, b_here, sums)
            loop.carry(f.element(a_here, a_step, micro.type), f.element(b_here, b_step, micro.type), *sums)
        return loop.results[2:]

    totals = nest(0, a, b, totals)
    for (r, v), value in zip(places, totals, strict=True):
        f.store_masked(value, out, out_masks[v], micro.out[r] + v * micro.lanes)
    f.ret()
    return f


def row_offsets(count: int, lengths: Sequence[int], strides: Sequence[int]) -> tuple[int, ...]:
    """Offsets of `count` consecutive rows of an index space, the last axis fastest."""
    if len(lengths) == 1:
        return tuple(i * strides[-1] for i in range(count))
    inner = lengths[-1]
    return tuple(i // inner * strides[-2] + i % inner * strides[-1] for i in range(count))
