"""Matrix products and what reduces to them: loops around the micro-kernel of `tile.py`.

A `Gemm` says what is computed, in the same terms as a loop kernel: axes, and affine addresses. For every
index of the batch, rows and columns, the product of A and B is summed over the reduced axes; expressions
of that sum (bias, activation, derivative mask, residual) are stored. Rows and reduced index may have several
axes: a convolution is such a product too.

Work is cut into units, shared among threads without any synchronisation: a batch index, a chunk of rows, a
chunk of columns. A unit packs its part of B where that pays, and goes over the tiles of its result, in blocks
of the reduced axes where those are long. The order of loops is Goto's (Goto and van de Geijn, "Anatomy of
high-performance matrix multiplication", 2008), with panels of B in the second-level cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..schedule.kernels import Store
from .dot import Dot, columns_at_once, emit_dot
from .elements import Elements, pointers
from .expression import Affine, Call, Load, Outside, Position, nodes
from .ir import I1, I64, PTR, VOID, Function, Module, Value, type_of, vector
from .packing import Packing, emit_packing
from .target import Target
from .tile import Micro, Shape, choose, emit_micro, row_offsets

Axis = tuple[int, int]  # number and length

_SPLIT_FLOPS = 400_000  # a product with fewer operations is left to one thread
_UNROLLED = 16  # operations of an epilogue up to which it is written out for every vector of a tile


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
        self.shape = choose([n for _, n in self.rows], gemm.columns[1], self.type, target)
        self._dots()
        self._tile_rows()
        self.panels = -(-gemm.columns[1] // self.shape.columns)
        self.last_panel = gemm.columns[1] - (self.panels - 1) * self.shape.columns
        self._reduced_blocks()
        self._divide()
        self._packs()
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

    def _packs(self) -> None:
        gemm, size = self.gemm, self.type.nbytes
        row_uses = -(-self.all_blocks // self.row_chunks)
        panel_uses = -(-self.panels // self.column_chunks)
        b_step = gemm.b.index.coefficient(gemm.columns[0])
        b_depth = abs(gemm.b.index.coefficient(self.reduced[-1][0])) * size
        self.pack_b = not self.dots and (b_step != 1 or (row_uses >= 4 and b_depth >= 1024))
        a_step = abs(gemm.a.index.coefficient(self.tiled[-1][0])) * size
        a_depth = abs(gemm.a.index.coefficient(self.reduced[-1][0])) * size
        crowded = a_step % 4096 == 0 and a_step > 0 and self.shape.rows > 6
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


def _lines(nbytes: int) -> int:
    return -(-nbytes // 64) * 64


def emit_gemm(module: Module, name: str, plan: Plan, arguments: dict[tuple[Any, int], int]) -> Function:
    """The function `name(addresses…, scratch, thread, threads)` of a product.

    Args:
        arguments: for each buffer and offset of `Gemm.buffers()` the position of its address. `scratch`
            is memory for all threads, `plan.scratch` bytes each, at a multiple of 64.
    """
    return _GemmCode(module, name, plan, arguments).f


class _GemmCode:
    def __init__(self, module: Module, name: str, plan: Plan, arguments: dict[tuple[Any, int], int]) -> None:
        self.plan, self.gemm, self.module, self.name = plan, plan.gemm, module, name
        self.arguments = arguments
        count = max(arguments.values()) + 1
        self.count = count
        self.f = f = module.function(name, [PTR] * (count + 1) + [I64, I64], internal=True)
        scratch, thread, threads = f.arguments[count:]
        self.axis: dict[int, Value] = {}
        self._helpers: dict[Any, str] = {}
        mine = f.offset(scratch, thread * plan.scratch)
        self.b_room, self.a_room = mine, f.offset(mine, plan.b_bytes)
        self.tiles = f.offset(mine, plan.b_bytes + plan.a_bytes)
        if plan.single:
            # Whoever calls this with several threads may leave it to the first.
            low = f.select(f.equal(thread, 0), f.index(0), f.index(plan.units))
            high = f.index(plan.units)
        else:
            low, high = thread * plan.units // threads, (thread + 1) * plan.units // threads
        with f.loop(low, high) as loop:
            self._unit(loop.index)
        f.ret()

    # A unit

    def _unit(self, unit: Value) -> None:
        f, plan, gemm = self.f, self.plan, self.gemm
        column_chunk = unit % plan.column_chunks if plan.column_chunks > 1 else f.index(0)
        unit = unit // plan.column_chunks
        row_chunk = unit % plan.row_chunks if plan.row_chunks > 1 else f.index(0)
        batch = unit // plan.row_chunks
        self._decode(plan.batch, batch)
        self.j = _share(column_chunk, plan.panels, plan.column_chunks)
        self.i = _share(row_chunk, plan.all_blocks, plan.row_chunks)
        if gemm.sums:
            self._clear_sums()
        self.k_at: dict[int, Value] = {}
        self._reduced_loops(list(plan.k_outer), f.constant(I1, 1), f.constant(I1, 1))

    def _decode(self, axes: Sequence[Axis], index: Value) -> None:
        for position, (axis, n) in reversed(list(enumerate(axes))):
            self.axis[axis] = index % n if position else index
            index = index // n

    def _clear_sums(self) -> None:
        f, plan = self.f, self.plan
        lanes = plan.shape.lanes
        low, high = self.j
        first = low * plan.shape.columns
        last = f.pairwise("smin", high * plan.shape.columns, self.gemm.columns[1])
        for s in self.gemm.sums:
            type = vector(type_of(s.expression.dtype), lanes)
            with f.loop(first, last, lanes) as loop:
                mask = f.mask(lanes, last - loop.index)
                f.store_masked(f.zero(type), self._address(s.buffer, s.index.offset), mask, loop.index)

    # Blocks of the reduced axes

    def _reduced_loops(self, axes: list[Axis], first: Value, last: Value) -> None:
        f, plan = self.f, self.plan
        if axes:
            (axis, n), *rest = axes
            with f.loop(0, n) as loop:
                self.k_at[axis] = loop.index
                self._reduced_loops(rest, first & f.equal(loop.index, 0), last & f.equal(loop.index, n - 1))
            return
        axis, n = plan.k_axis
        if not plan.k_blocked:
            self.k_at[axis] = f.index(0)
            self._block(f.index(n), None, None)
            return
        with f.loop(0, n, plan.k_step) as loop:
            self.k_at[axis] = loop.index
            length = f.index(plan.k_step)
            if not plan.k_even:
                length = f.pairwise("smin", n - loop.index, plan.k_step)
            begins = first & f.equal(loop.index, 0)
            ends = last & f.compare("ge", loop.index, n - plan.k_step)
            self._block(length, begins, ends)

    def _block(self, length: Value, first: Value | None, last: Value | None) -> None:
        """All tiles of the unit, for one block of the reduced axes."""
        f, plan = self.f, self.plan
        if plan.pack_b:
            with f.loop(*self.j) as loop:
                self._by_panel(loop.index, lambda columns: self._pack_b(loop.index, columns, length))
        low, high = self.i
        if not plan.pack_a and plan.super_rows * 2 >= plan.all_blocks:
            self._tiles(low, high, low, length, first, last)
            return
        with f.loop(low, high, plan.super_rows) as outer:
            end = f.pairwise("smin", outer.index + plan.super_rows, high)
            if plan.pack_a:
                with f.loop(outer.index, end) as loop:
                    place = (loop.index - outer.index) * (plan.k_depth * plan.shape.rows)
                    self._by_rows(loop.index, lambda rows: self._pack_a(rows, place, length))
            self._tiles(outer.index, end, outer.index, length, first, last)

    def _tiles(
        self, low: Value, high: Value, start: Value, length: Value, first: Value | None, last: Value | None
    ) -> None:
        f = self.f
        with f.loop(*self.j) as panels, f.loop(low, high) as blocks:
            j, i = panels.index, blocks.index

            def tile(columns: int) -> None:
                self._by_rows(i, lambda rows: self._tile(i, j, i - start, rows, columns, length, first, last))

            self._by_panel(j, tile)

    def _by_panel(self, j: Value, body: Callable[[int], None]) -> None:
        plan = self.plan
        self._cases(j, plan.panels, plan.shape.columns, plan.last_panel, body)

    def _by_rows(self, i: Value, body: Callable[[int], None]) -> None:
        """Sets the axes of rows for block i, and runs the body for its number of rows."""
        plan = self.plan
        block = i % plan.row_blocks if plan.outer_rows else i
        if plan.outer_rows:
            self._decode(plan.outer_rows, i // plan.row_blocks)
        start = block * plan.shape.rows
        if len(plan.tiled) == 2:
            self.axis[plan.tiled[0][0]] = start // plan.tiled[1][1]
            self.axis[plan.tiled[1][0]] = self.f.index(0)
        else:
            self.axis[plan.tiled[0][0]] = start
        self._cases(block, plan.row_blocks, plan.shape.rows, plan.last_rows, body)

    def _cases(self, position: Value, count: int, size: int, last: int, body: Callable[[int], None]) -> None:
        f = self.f
        if last == size or count == 1:
            body(last if count == 1 else size)
            return

        f.either(f.compare("lt", position, count - 1), lambda: body(size), lambda: body(last))

    # Pieces of a block

    def _address(self, buffer: Any, offset: int) -> Value:
        return self.f.arguments[self.arguments[buffer, offset]]

    def _moved(self, index: Affine, axes: Iterable[int]) -> Value:
        """The part of an address that comes from these axes as they stand."""
        total: Value = self.f.index(0)
        for axis in axes:
            c = index.coefficient(axis)
            if c:
                total = total + (self.axis[axis] if axis in self.axis else self.k_at[axis]) * c
        return total

    def _source(self, operand: Operand, axes: Iterable[int], more: Value | int = 0) -> Value:
        start = self._moved(operand.index, [*axes, *self.k_at])
        return self.f.element(self._address(operand.buffer, operand.index.offset), start + more, self.plan.type)

    def _k_lengths(self) -> tuple[int, ...]:
        """Of the reduced axes in a block, 0 where it is given at the call."""
        plan = self.plan
        first = plan.k_step if not plan.k_blocked or plan.k_even else 0
        return (first, *(n for _, n in plan.k_inner))

    def _k_steps(self, index: Affine) -> list[int]:
        return [index.coefficient(axis) for axis, _ in (self.plan.k_axis, *self.plan.k_inner)]

    def _pack_b(self, j: Value, columns: int, length: Value) -> None:
        f, plan, b = self.f, self.plan, self.gemm.b
        step = b.index.coefficient(self.gemm.columns[0])
        width = -(-columns // plan.shape.lanes) * plan.shape.lanes
        packing = Packing(
            plan.type, columns, width, tuple(c * step for c in range(columns)),
            tuple(zip(self._k_lengths(), self._k_steps(b.index), strict=True)),
        )  # fmt: skip
        source = self._source(b, [a for a, _ in plan.batch], j * (plan.shape.columns * step))
        panel = f.element(self.b_room, (j - self.j[0]) * (plan.k_depth * plan.shape.columns), plan.type)
        f.call(self._packer(packing), VOID, source, panel, length)

    def _pack_a(self, rows: int, place: Value, length: Value) -> None:
        f, plan, a = self.f, self.plan, self.gemm.a
        packing = Packing(
            plan.type, rows, plan.shape.rows, self._row_offsets(a.index, rows),
            tuple(zip(self._k_lengths(), self._k_steps(a.index), strict=True)),
        )  # fmt: skip
        axes = [axis for axis, _ in (*plan.batch, *plan.rows)]
        f.call(self._packer(packing), VOID, self._source(a, axes), f.element(self.a_room, place, plan.type), length)

    def _packer(self, packing: Packing) -> str:
        if packing not in self._helpers:
            self._helpers[packing] = name = f"{self.name}_pack{len(self._helpers)}"
            emit_packing(self.module, name, packing, self.plan.target)
        return self._helpers[packing]

    def _row_offsets(self, index: Affine, rows: int) -> tuple[int, ...]:
        tiled = self.plan.tiled
        return row_offsets(rows, [n for _, n in tiled], [index.coefficient(a) for a, _ in tiled])

    def _tile(
        self, i: Value, j: Value, in_super: Value, rows: int, columns: int, length: Value,
        first: Value | None, last: Value | None,
    ) -> None:  # fmt: skip
        f, plan, gemm = self.f, self.plan, self.gemm
        shape, lanes = plan.shape, plan.shape.lanes
        row_axes = [axis for axis, _ in (*plan.batch, *plan.rows)]
        vectors = -(-columns // lanes)
        lengths = self._k_lengths()
        inside = [math.prod(lengths[position + 1 :]) for position in range(len(lengths))]
        if plan.pack_a:
            a_at = f.element(self.a_room, in_super * (plan.k_depth * shape.rows), plan.type)
            a_offsets, a_steps = tuple(range(rows)), [n * shape.rows for n in inside]
        else:
            a_at = self._source(gemm.a, row_axes)
            a_offsets, a_steps = self._row_offsets(gemm.a.index, rows), self._k_steps(gemm.a.index)
        width = vectors * lanes
        if plan.pack_b:
            b_at = f.element(self.b_room, (j - self.j[0]) * (plan.k_depth * shape.columns), plan.type)
            b_steps = [n * width for n in inside]
        else:
            step = gemm.b.index.coefficient(gemm.columns[0])
            b_at = self._source(gemm.b, [a for a, _ in plan.batch], j * (shape.columns * step))
            b_steps = self._k_steps(gemm.b.index)
        if plan.plain:
            (store,) = gemm.stores
            start = self._moved(store.index, row_axes) + j * shape.columns
            out = f.element(self._address(store.buffer, store.index.offset), start, plan.type)
            out_offsets = self._row_offsets(store.index, rows)
        else:
            place: Value | int = 0
            if plan.k_blocked:
                panels = self.j[1] - self.j[0]
                place = ((i - self.i[0]) * panels + (j - self.j[0])) * (shape.rows * shape.columns)
            out = f.element(self.tiles, place, plan.type)
            out_offsets = tuple(r * shape.columns for r in range(rows))
        rest = columns - (vectors - 1) * lanes
        reduced = _joined(list(zip(lengths, a_steps, b_steps, strict=True)))
        kernel: Micro | Dot
        if plan.dots:
            step = gemm.b.index.coefficient(gemm.columns[0])
            group = columns_at_once(rows, plan.target.registers)
            kernel = Dot(plan.type, a_offsets, out_offsets, columns, step, tuple(reduced), lanes, group)
        else:
            kernel = Micro(
                plan.type, a_offsets, lanes, vectors, rest, tuple(reduced), out_offsets, plan.plain, not plan.pack_b
            )
        if kernel not in self._helpers:
            self._helpers[kernel] = name = f"{self.name}_tile{len(self._helpers)}"
            if isinstance(kernel, Dot):
                emit_dot(self.module, name, kernel)
            else:
                emit_micro(self.module, name, kernel)
        add = f.constant(I1, 0) if first is None else ~first
        f.call(self._helpers[kernel], VOID, a_at, b_at, out, length, add)
        if plan.plain:
            return
        if last is None:
            self._epilogue(out, j, rows, columns)
        else:
            with f.when(last):
                self._epilogue(out, j, rows, columns)

    # The epilogue

    def _epilogue(self, tile: Value, j: Value, rows: int, columns: int) -> None:
        f, plan = self.f, self.plan
        axes = [axis for axis, _ in (*plan.batch, *plan.rows)]
        key = ("epilogue", columns)
        if key not in self._helpers:
            self._helpers[key] = f"{self.name}_epilogue{columns}"
            _Epilogue(self.module, self._helpers[key], plan, self.arguments, axes, columns)
        inner = plan.tiled[1][1] if len(plan.tiled) == 2 else rows
        counts = [f.index(rows // inner), f.index(inner)]
        where = [self.axis[a] if a in self.axis else f.index(0) for a in axes]
        f.call(self._helpers[key], VOID, *f.arguments[: self.count], tile, j * plan.shape.columns, *counts, *where)


def _joined(axes: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Reduced axes (length, strides) along which both addresses advance evenly become one."""
    result: list[tuple[int, int, int]] = []
    for n, a, b in axes:
        if result and n and result[-1][0] and result[-1][1] == a * n and result[-1][2] == b * n:
            result[-1] = (result[-1][0] * n, a, b)
        else:
            result.append((n, a, b))
    return result


def _share(chunk: Value, pieces: int, chunks: int) -> tuple[Value, Value]:
    return chunk * pieces // chunks, (chunk + 1) * pieces // chunks


class _Epilogue:
    """The function `name(addresses…, tile, first column, stretches, rows in each, axes…)`: what is stored."""

    def __init__(
        self,
        module: Module,
        name: str,
        plan: Plan,
        arguments: dict[tuple[Any, int], int],
        axes: Sequence[int],
        columns: int,
    ) -> None:
        self.plan, self.gemm, self.arguments = plan, plan.gemm, arguments
        count = max(arguments.values()) + 1
        self.f = f = module.function(name, [PTR] * (count + 1) + [I64] * (3 + len(axes)), internal=True)
        tile, first, stretches, length, *where = f.arguments[count:]
        self.start = dict(zip(axes, where, strict=True))
        lanes = plan.shape.lanes
        vectors = -(-columns // lanes)
        expressions = [s.expression for s in (*self.gemm.stores, *self.gemm.sums)]
        written_out = sum(isinstance(n, Call) for n in nodes(*expressions)) <= _UNROLLED
        if written_out:
            parts = [(v * lanes, f.mask(lanes, columns - v * lanes)) for v in range(vectors)]
            self._rows(tile, first, stretches, length, parts)
        else:
            with f.loop(0, columns, lanes) as loop:
                mask = f.mask(lanes, columns - loop.index) if columns % lanes else None
                self._rows(tile, first, stretches, length, [(loop.index, mask)])
        f.ret()

    def _rows(
        self, tile: Value, first: Value, stretches: Value, length: Value, parts: Sequence[tuple[Any, Value | None]]
    ) -> None:
        """All rows of a tile, for vectors of columns at the given distances from its first."""
        f, plan, sums = self.f, self.plan, self.gemm.sums
        column, lanes = self.gemm.columns[0], plan.shape.lanes
        elements = Elements(f, self.arguments, column, lanes)
        zeros = [f.zero(vector(type_of(s.expression.dtype), lanes)) for s in sums for _ in parts]
        with f.loop(0, stretches, carry=zeros) as outer:
            with f.loop(0, length, carry=outer.carried) as inner:
                elements.axis = dict(self.start)
                tiled = [a for a, _ in plan.tiled]
                elements.axis[tiled[-1]] = self.start[tiled[-1]] + inner.index
                if len(tiled) == 2:
                    elements.axis[tiled[0]] = self.start[tiled[0]] + outer.index
                row = outer.index * length + inner.index
                totals = list(inner.carried)
                for number, (distance, mask) in enumerate(parts):
                    elements.axis[column] = first + distance
                    elements.mask = mask
                    value = f.load(vector(plan.type, lanes), tile, row * plan.shape.columns + distance)
                    memo: dict[int, Value] = {id(self.gemm.product): value}
                    for s in self.gemm.stores:
                        elements.store(s, memo)
                    for which, s in enumerate(sums):
                        place = which * len(parts) + number
                        totals[place] = totals[place] + elements.wide(elements.evaluate(s.expression, memo))
                inner.carry(*totals)
            outer.carry(*inner.results)
        for which, s in enumerate(sums):
            pointer = f.arguments[self.arguments[s.buffer, s.index.offset]]
            for number, (distance, mask) in enumerate(parts):
                total = outer.results[which * len(parts) + number]
                before = f.load_masked(total.type, pointer, mask, first + distance)
                f.store_masked(before + total, pointer, mask, first + distance)
