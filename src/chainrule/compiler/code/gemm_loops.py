"""The code of a matrix product: loops around a micro-kernel, and the epilogue.

A unit packs its part of B where that pays, and goes over the tiles of its result, in blocks of the
reduced axes where those are long. The order of loops is Goto's (Goto and van de Geijn, "Anatomy of high-performance
matrix multiplication", 2008), with panels of B in the second-level cache.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from .dot import Dot, columns_at_once, emit_dot
from .elements import Elements
from .expression import Affine, Call, nodes
from .gemm import Axis, Operand, Plan
from .ir import I1, I64, PTR, VOID, Function, Module, Value, type_of, vector
from .packing import Packing, emit_packing
from .tile import Micro, emit_micro, row_offsets

_UNROLLED = 16  # operations of an epilogue up to which it is written out for every vector of a tile


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
