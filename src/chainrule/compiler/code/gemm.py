"""Matrix products and what reduces to them: what is computed, and how it is cut up.

A `Gemm` says what is computed, in the same terms as a loop kernel: axes, and affine addresses. For every
index of the batch, rows and columns, the product of A and B is summed over the reduced axes; expressions
of that sum (bias, activation, derivative mask, residual) are stored. Rows and reduced index may have several
axes: a convolution is such a product too.

A `Plan` cuts the work into units, shared among threads without any synchronisation: a batch index, a chunk of
rows, a chunk of columns. `gemm_loops.py` writes them out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..schedule.kernels import Store
from .dot import columns_at_once
from .elements import pointers
from .expression import Affine, Load, Outside, Position, nodes
from .ir import type_of
from .target import Target
from .tile import Shape, choose

Axis = tuple[int, int]  # number and length

_MANY = 20  # uses of a large B with contiguous columns that are worth packing it
_SPLIT_FLOPS = 400_000  # a product with fewer operations is left to one thread


@dataclass(frozen=True, eq=False)
class Operand:
    """A or B: a buffer and the address in it, in elements."""

    buffer: Any
    index: Affine


@dataclass(eq=False)
class Gemm:
    """sum over `reduced` of A · B, for every index of `batch`, `rows` and `columns`.

    Attributes:
        batch, rows, reduced: axes, outermost first. A does not depend on the column, B not on the rows.
        columns: the axis that runs in vectors.
        a, b: the operands, of the data type of `product`.
        product: the leaf that stands for the sum in the expressions.
        stores: what is written for every batch index, row and column. An index that steps by one along
            the columns is best.
        sums: what is added up over all rows and written for every column; there must be no batch.
    """

    batch: list[Axis]
    rows: list[Axis]
    columns: Axis
    reduced: list[Axis]
    a: Operand
    b: Operand
    product: Outside
    stores: list[Store]
    sums: list[Store] = field(default_factory=list)

    @property
    def flops(self) -> int:
        """Multiplications and additions."""
        axes = (*self.batch, *self.rows, self.columns, *self.reduced)
        return 2 * math.prod(n for _, n in axes)

    def buffers(self) -> list[tuple[Any, int]]:
        """Buffers with offsets (in elements) whose addresses the function takes."""
        return pointers([(o.buffer, o.index.offset) for o in (self.a, self.b)], [*self.stores, *self.sums])


class Plan:
    """How a product is cut up on a target: what `emit_gemm` writes out.

    Attributes:
        scratch: bytes of working memory for each thread.
        units: pieces of work that threads share.
    """

    def __init__(self, gemm: Gemm, target: Target, threads: int) -> None:
        self.gemm, self.target, self.threads = gemm, target, threads
        self.type = type_of(gemm.product.dtype)
        self._merge()
        depth = math.prod(n for _, n in self.reduced)
        self.shape = choose([n for _, n in self.rows], gemm.columns[1], self.type, target, depth)
        self._dots()
        self._tile_rows()
        self.panels = -(-gemm.columns[1] // self.shape.columns)
        self.last_panel = gemm.columns[1] - (self.panels - 1) * self.shape.columns
        self._reduced_blocks()
        self._divide()
        self._packs()
        self._refine()
        self._room()

    def _merge(self) -> None:
        gemm = self.gemm
        expressions = [s.expression for s in (*gemm.stores, *gemm.sums)]
        outer = [n.index for n in nodes(*expressions) if isinstance(n, Load | Position)]
        outer += [s.index for s in (*gemm.stores, *gemm.sums)]
        a, b = gemm.a.index, gemm.b.index
        self.batch = merged(gemm.batch, [a, b, *outer])
        self.rows = merged(gemm.rows, [a, *outer]) or [(-1, 1)]
        self.reduced = merged(gemm.reduced, [a, b]) or [(-2, 1)]
        accumulator = gemm.stores[0] if len(gemm.stores) == 1 and not gemm.sums else None
        self.plain = (
            accumulator is not None
            and accumulator.expression is gemm.product
            and accumulator.index.coefficient(gemm.columns[0]) == 1
        )

    def _dots(self) -> None:
        """Few rows, and columns of B that are contiguous: dot products."""
        gemm, lanes = self.gemm, self.shape.lanes
        (axis, length), rows = self.reduced[-1], self.rows[-1][1]
        self.dots = (
            len(self.rows) == 1
            and columns_at_once(rows, self.target.registers) > 0
            and length >= max(rows, 2) * lanes
            and gemm.b.index.coefficient(gemm.columns[0]) != 1
            and gemm.a.index.coefficient(axis) == gemm.b.index.coefficient(axis) == 1
        )
        if self.dots:
            self.shape = Shape(rows, min(4, -(-gemm.columns[1] // lanes)), lanes)

    def _tile_rows(self) -> None:
        """Which axes of rows a tile covers, and how many tiles there are along them."""
        covers = 2 if self.shape.rows > self.rows[-1][1] else 1
        self.outer_rows, self.tiled = self.rows[:-covers], self.rows[-covers:]
        self.row_length = math.prod(n for _, n in self.tiled)
        self.row_blocks = -(-self.row_length // self.shape.rows)
        self.last_rows = self.row_length - (self.row_blocks - 1) * self.shape.rows
        self.all_blocks = self.row_blocks * math.prod(n for _, n in self.outer_rows)

    def _reduced_blocks(self) -> None:
        """Cut the reduced axes so that a panel of B stays in the second-level cache.

        `k_outer` run outside, `k_axis` in steps of `k_step`, `k_inner` inside the micro-kernel.
        """
        most = max(self.target.l2 // 4 // (self.shape.columns * self.type.nbytes), 64)
        lengths = [n for _, n in self.reduced]
        self.k_position = 0
        self.k_step = lengths[0]
        if math.prod(lengths) > most * 3 // 2:
            inner = math.prod(lengths)
            for position, n in enumerate(lengths):
                inner //= n
                if inner <= most:
                    self.k_position = position
                    blocks = -(-n // max(most // inner, 1))
                    self.k_step = -(-n // blocks)
                    break
        self.k_outer = self.reduced[: self.k_position]
        self.k_axis = self.reduced[self.k_position]
        self.k_inner = self.reduced[self.k_position + 1 :]
        self.k_depth = self.k_step * math.prod(n for _, n in self.k_inner)
        self.k_blocked = bool(self.k_outer) or self.k_step < self.k_axis[1]
        self.k_even = self.k_axis[1] % self.k_step == 0

    def _divide(self) -> None:
        """Units: all of a batch index, or chunks of its columns or rows, so that threads get equal shares."""
        batches = math.prod(n for _, n in self.batch)
        self.row_chunks = self.column_chunks = 1
        if self.gemm.flops < _SPLIT_FLOPS:
            self.units, self.batches = batches, batches
            self.single = True
            return
        self.single = False
        if batches % self.threads and batches < 8 * self.threads:
            by_columns, by_rows = (_imbalance(n, self.threads) for n in (self.panels, self.all_blocks))
            if self.gemm.sums or by_columns <= by_rows + 0.06:
                self.column_chunks = min(self.threads, self.panels)
            else:
                self.row_chunks = min(self.threads, self.all_blocks)
        # Panels of a unit's B, and the sums of a unit whose reduced axes are blocked, should stay in the cache.
        panel = self.k_depth * self.shape.columns * self.type.nbytes
        room = max(self.target.l2 // panel, 1) if self.k_blocked else max(8 * self.target.l2 // panel, 1)
        if not self.gemm.sums:
            while self.panels / self.column_chunks > max(room, 2):
                self.column_chunks += self.threads if self.column_chunks > 1 else 1
        self.batches = batches
        self.units = batches * self.row_chunks * self.column_chunks

    def _refine(self) -> None:
        """More chunks of columns than threads, where none packs A for itself: whoever is held up leaves less to do."""
        if self.single or self.pack_a or self.units != self.threads or self.column_chunks != self.threads:
            return
        finer = [n * self.threads for n in (1, 2, 3, 4) if self.panels >= 2 * n * self.threads]
        if finer:
            least = min(_busiest(self.panels, n, self.threads) for n in finer)
            good = [n for n in finer if _busiest(self.panels, n, self.threads) <= 1.02 * least]
            self.column_chunks = self.units = good[-1]

    def _packs(self) -> None:
        gemm, size = self.gemm, self.type.nbytes
        row_uses = -(-self.all_blocks // self.row_chunks)
        panel_uses = -(-self.panels // self.column_chunks)
        b_step = gemm.b.index.coefficient(gemm.columns[0])
        b_depth = abs(gemm.b.index.coefficient(self.reduced[-1][0])) * size
        b_size = size * gemm.columns[1] * math.prod(n for _, n in self.reduced)
        # What lies in the second-level cache is read from there as fast as from a packed copy.
        far = row_uses >= _MANY and b_depth >= 1024 and b_size > self.target.l2
        self.pack_b = not self.dots and (b_step != 1 or far)
        a_step = abs(gemm.a.index.coefficient(self.tiled[-1][0])) * size
        a_depth = abs(gemm.a.index.coefficient(self.reduced[-1][0])) * size
        # Rows that are a multiple of 4096 bytes apart share the few places of one line in the first-level cache.
        crowded = a_step % 4096 == 0 and a_step > 0 and self.shape.rows + self.shape.vectors > self.target.l1 // 4096
        scattered = a_depth >= 2048 and self.k_depth >= 64
        self.pack_a = not self.dots and panel_uses >= 4 and (crowded or scattered)
        # Rows whose A is packed at once, or stays in the cache while all panels pass by.
        depth = self.k_depth * self.shape.rows * size
        self.super_rows = max(self.target.l2 // 4 // depth, 1)

    def _room(self) -> None:
        size, shape = self.type.nbytes, self.shape
        panels = -(-self.panels // self.column_chunks)
        blocks = -(-self.all_blocks // self.row_chunks)
        slack = 64
        self.b_bytes = _lines(panels * self.k_depth * shape.columns * size + slack) if self.pack_b else 0
        a_rows = min(self.super_rows, blocks) * shape.rows
        self.a_bytes = _lines(a_rows * self.k_depth * size + slack) if self.pack_a else 0
        tile = shape.rows * shape.columns * size
        self.tiles_bytes = 0 if self.plain else _lines(panels * blocks * tile if self.k_blocked else tile)
        self.scratch = self.b_bytes + self.a_bytes + self.tiles_bytes


def merged(axes: Sequence[Axis], affines: Iterable[Affine]) -> list[Axis]:
    """Neighbouring axes along which every address advances evenly become one; axes of length 1 go."""
    result: list[Axis] = []
    affines = list(affines)
    for axis, n in axes:
        if n == 1:
            continue
        if result:
            left, count = result[-1]
            if all(a.coefficient(left) == a.coefficient(axis) * n and not a.dynamic for a in affines):
                result[-1] = (axis, count * n)
                continue
        result.append((axis, n))
    return result


def _imbalance(pieces: int, threads: int) -> float:
    """By how much the busiest thread has more than an equal share."""
    return math.ceil(pieces / threads) * threads / pieces - 1


def _busiest(pieces: int, chunks: int, threads: int) -> int:
    """The pieces of the busiest thread, if threads take one chunk after the other."""
    done = [0] * threads
    for chunk in range(chunks):
        done[done.index(min(done))] += (chunk + 1) * pieces // chunks - chunk * pieces // chunks
    return max(done)


def _lines(nbytes: int) -> int:
    return -(-nbytes // 64) * 64
