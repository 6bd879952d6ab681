"""Convolutions of 3×3 taps in Winograd's form: fewer multiplications, and additions before and after them.

A unit of work is a few images or a band of one. Its tiles are transformed into sixteen matrices (channel, tile),
each of which is multiplied with a matrix of transformed weights; the sums are transformed back for one
output channel at a time and go through the stores' expressions. Weights are transformed once for each part of
the work.

An infinity or NaN would reach outputs of its tile that do not see it, and so would a sum that overflows: where a
channel's outputs are not all finite they are computed again, tap by tap.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .conv_loops import DenseCode
from .elements import Elements
from .image import emit_zeros
from .ir import I1, I64, PTR, VOID, Function, Module, Value, vector
from .packing import Packing
from .tile import Micro
from .winograd_plan import WinogradPlan, corner, grid
from .winograd_tiles import columns, emit_tiles, inside, rows_at_once
from .winograd_transforms import IN, OUT, POINTS, both_axes, outputs, weights


def emit_winograd(module: Module, name: str, plan: WinogradPlan, arguments: dict[tuple[Any, int], int]) -> Function:
    """The function `name(addresses…, scratch, thread, threads)`, as `emit_gemm` makes it."""
    return _WinogradCode(module, name, plan, arguments).f


class _WinogradCode(DenseCode):
    def __init__(self, module: Module, name: str, plan: WinogradPlan, arguments: dict[tuple[Any, int], int]) -> None:
        super().__init__(module, name, arguments, plan.scratch)
        self.plan, self.conv = plan, plan.conv
        self.lanes = plan.shape.lanes
        self.wide = vector(plan.type, self.lanes)
        f = self.f
        self.weights = self.room
        self.packed = f.offset(self.weights, plan.weight_bytes)
        self.tiles = f.offset(self.packed, plan.packed_bytes)
        self.products = f.offset(self.tiles, plan.tile_bytes)
        self.zeros = f.offset(self.products, plan.product_bytes)
        self.pixels = f.offset(self.zeros, plan.zero_bytes)
        emit_tiles(module, f"{name}_tiles", plan.tiles)
        _emit_again(module, f"{name}_again", plan)
        low, high = self.share(plan.units, plan.single)
        with f.when(low < high):
            emit_zeros(f, plan.type, self.lanes, self.zeros, self.conv.size[1])
            self._weights()
        with f.loop(low, high) as loop:
            self._unit(loop.index // plan.bands, loop.index % plan.bands * plan.band_rows)
        f.ret()

    def _weights(self) -> None:
        """G w Gᵀ of all weights: for each point tile by tile (channel, output channel)."""
        f, plan, conv, lanes = self.f, self.plan, self.conv, self.lanes
        buffer, offset, (_, by_output, by_channel) = conv.weights
        distances = grid(conv)
        assert distances is not None
        rows, channels = plan.shape.rows, conv.channels
        # In the order in which they lie in memory; the gradient of the images reads them from the last to the first.
        order = sorted(range(9), key=distances.__getitem__)
        down, right = distances[order[3]] - distances[order[0]], distances[order[1]] - distances[order[0]]
        reduced = [(channels, by_channel), (3, down), (3, right)]
        if down == 3 * right:
            reduced[1:] = [(9, right)]
            if by_channel == 9 * right:
                reduced = [(9 * channels, right)]
        with f.loop(0, plan.blocks) as block:
            at = block.index * (rows * by_output) + distances[order[0]]
            source = f.element(self.address(buffer, offset), at, plan.type)

            def pack(count: int) -> None:
                packing = Packing(plan.type, count, rows, tuple(r * by_output for r in range(count)), tuple(reduced))
                f.call(self.packer(packing, plan.target), VOID, source, self.packed, f.index(0))

            self._rows(block.index, pack)
            with f.loop(0, channels) as channel:
                here = f.element(self.packed, channel.index * (9 * rows), plan.type)
                there = f.element(self.weights, (block.index * channels + channel.index) * rows, plan.type)
                for first in range(0, rows, lanes):
                    w = [f.load(self.wide, here, order.index(tap) * rows + first) for tap in range(9)]
                    for i, line in enumerate(both_axes(weights, [w[0:3], w[3:6], w[6:9]])):
                        for j, value in enumerate(line):
                            f.store(value, there, (i * IN + j) * plan.weight_point + first)

    def _rows(self, block: Value, body: Callable[[int], None]) -> None:
        """The body for the number of rows that a block of output channels has."""
        plan = self.plan
        if plan.last_rows == plan.shape.rows or plan.blocks == 1:
            body(plan.last_rows)
            return
        self.f.either(block < plan.blocks - 1, lambda: body(plan.shape.rows), lambda: body(plan.last_rows))

    def _unit(self, block: Value, begin: Value) -> None:
        """A block of images, and of their rows of tiles those of a band that begins at `begin`."""
        f, plan, conv = self.f, self.plan, self.conv
        rows = f.pairwise("smin", plan.height - begin, plan.band_rows) if plan.bands > 1 else f.index(plan.height)
        source = self.address(conv.source.buffer, conv.source.offset)
        source = f.element(source, block * (plan.together * conv.source.strides[0]), plan.type)
        f.call(f"{self.name}_tiles", VOID, source, self.zeros, self.tiles, begin, rows, f.index(conv.channels))
        with f.loop(0, plan.blocks, plan.at_once) as chunk:
            last = f.pairwise("smin", chunk.index + plan.at_once, plan.blocks)
            self._multiply(chunk.index, last, rows)
            first = chunk.index * plan.shape.rows
            count = f.pairwise("smin", last * plan.shape.rows, conv.outputs) - first
            with f.loop(0, count) as channel, f.loop(0, plan.together) as image:
                place = channel.index * plan.tiles.pitch + image.index * (plan.height * plan.across)
                products = f.element(self.products, place, plan.type)
                here = f.element(source, image.index * conv.source.strides[0], plan.type)
                where = block * plan.together + image.index, first + channel.index
                self._outputs(products, here, where, begin, rows)

    def _multiply(self, first: Value, last: Value, rows: Value) -> None:
        """The sums over channels for blocks `first` to `last` of the output channels."""
        f, plan, conv = self.f, self.plan, self.conv
        shape, pitch = plan.shape, plan.tiles.pitch
        vectors = (rows * (plan.together * plan.across) + (self.lanes - 1)) // self.lanes
        with f.loop(0, POINTS) as point, f.loop(0, vectors, shape.vectors) as panel, f.loop(first, last) as loop:
            b_at = f.element(self.tiles, point.index * plan.tiles.point + panel.index * self.lanes, plan.type)
            depth = point.index * plan.weight_point + loop.index * (conv.channels * shape.rows)
            a_at = f.element(self.weights, depth, plan.type)
            to = point.index * plan.product_point + (loop.index - first) * (shape.rows * pitch)
            out = f.element(self.products, to + panel.index * self.lanes, plan.type)

            def tile(count: int, width: int) -> None:
                micro = Micro(
                    plan.type, tuple(range(count)), self.lanes, width, self.lanes,
                    ((conv.channels, shape.rows, pitch),), tuple(r * pitch for r in range(count)), False, False,
                )  # fmt: skip
                f.call(self.micro(micro), VOID, a_at, b_at, out, f.index(0), f.constant(I1, 0))

            def by_width(count: int) -> None:
                self._widths(vectors - panel.index, lambda width: tile(count, width))

            self._rows(loop.index, by_width)

    def _widths(self, left: Value, body: Callable[[int], None]) -> None:
        """The body for the number of vectors that a panel has, if so many are left."""
        f, plan = self.f, self.plan

        def at_most(widths: list[int]) -> None:
            widest, *narrower = widths
            if not narrower:
                body(widest)
            else:
                f.either(left >= widest, lambda: body(widest), lambda: at_most(narrower))

        at_most(sorted(plan.widths, reverse=True))

    def _outputs(self, products: Value, source: Value, where: tuple[Value, Value], begin: Value, rows: Value) -> None:
        """One image's outputs of one channel."""
        f, plan, conv, lanes = self.f, self.plan, self.conv, self.lanes
        height = f.pairwise("smin", plan.out[0] - begin * OUT, rows * OUT)
        self._prefetch(where, begin * OUT, height)
        starts, at_once = columns(plan.across, lanes), rows_at_once(plan.across, lanes)
        table = self.module.table(f"{self.name}_starts", I64, starts)
        with f.loop(0, rows, at_once, carry=[f.zero(self.wide)]) as row:
            with f.loop(0, len(starts), carry=row.carried) as piece:
                at = f.load(I64, f.address_of(table), piece.index)
                place = row.index * plan.across + at
                m = [f.load(self.wide, products, place + p * plan.product_point) for p in range(POINTS)]
                y = both_axes(outputs, [m[i * IN : (i + 1) * IN] for i in range(IN)])
                to = row.index * (OUT * plan.pitch) + at * OUT
                for tile in range(at_once):
                    for i in range(OUT):
                        for half in range(2 if at_once == 1 else 1):
                            first = tile * plan.across + half * lanes // 2
                            order = [first + k // 2 + k % 2 * lanes for k in range(lanes)]
                            order = [k if k % lanes >= first else -1 for k in order]
                            value = f.shuffle(y[i][0], y[i][1], order)
                            f.store(value, self.pixels, to + (tile * OUT + i) * plan.pitch + half * lanes)
                total = y[0][0] + y[0][1] + y[1][0] + y[1][1]
                if plan.across < lanes:
                    exists = f.mask(lanes, (rows - row.index) * plan.across if at_once > 1 else plan.across)
                    total = f.select(exists, total, f.zero(self.wide)) if exists is not None else total
                piece.carry(f.fma(total, f.zero(self.wide), piece.carried[0]))
            row.carry(*piece.results)
        with f.when(f.reduce("or", f.is_nan(row.results[0]))):
            weights = self.address(*conv.weights[:2])
            weights = f.element(weights, where[1] * conv.weights[2][1], plan.type)
            f.call(f"{self.name}_again", VOID, source, weights, self.zeros, self.pixels, begin * OUT, height)
        self._store(where, begin * OUT, height)

    def _prefetch(self, where: tuple[Value, Value], begin: Value, height: Value) -> None:
        """Asks for what the stores will touch."""
        f, plan, conv = self.f, self.plan, self.conv
        elements = Elements(f, self.arguments, conv.axes[3], self.lanes)
        width = height * plan.out[1] if plan.is_flat else f.index(plan.out[1])
        with f.loop(0, 1 if plan.is_flat else height) as row:
            elements.axis = dict(zip(conv.axes, (*where, begin + row.index, f.index(0)), strict=True))
            elements.prefetch(conv.stores, width)

    def _store(self, where: tuple[Value, Value], begin: Value, height: Value) -> None:
        """An image's outputs of one channel, from row `begin` on, go through the stores' expressions."""
        f, plan, conv, lanes = self.f, self.plan, self.conv, self.lanes
        elements = Elements(f, self.arguments, conv.axes[3], lanes)
        width = height * plan.out[1] if plan.is_flat else f.index(plan.out[1])
        with f.loop(0, 1 if plan.is_flat else height) as row, f.loop(0, width, lanes) as column:
            place = (*where, begin + row.index, column.index)
            elements.axis = dict(zip(conv.axes, place, strict=True))
            elements.mask = f.mask(lanes, width - column.index)
            memo = {id(conv.product): f.load(self.wide, self.pixels, row.index * plan.pitch + column.index)}
            for s in conv.stores:
                elements.store(s, memo)


def _emit_again(module: Module, name: str, plan: WinogradPlan) -> None:
    """The function `name(source, weights, zeros, out, i64 begin, i64 rows)`: outputs of one image and channel."""
    f = module.function(name, [PTR] * 4 + [I64, I64], internal=True)
    source, weights, zeros, out, begin, rows = f.arguments
    conv, lanes = plan.conv, plan.shape.lanes
    _, _, channel_step, row_step, _ = conv.source.strides
    low, distances = corner(conv), grid(conv)
    assert distances is not None
    wide = vector(plan.type, lanes)
    with f.loop(0, rows) as row, f.loop(0, plan.out[1], lanes) as column:
        with f.loop(0, conv.channels, carry=[f.zero(wide)] * 3) as channel:
            totals = list(channel.carried)
            image = f.element(source, channel.index * channel_step, plan.type)
            w = f.element(weights, channel.index * conv.weights[2][2], plan.type)
            for i in range(3):
                at = begin + row.index + (low[0] + i)
                line = f.select(f.compare("ult", at, conv.size[0]), f.element(image, at * row_step, plan.type), zeros)
                for j in range(3):
                    first = column.index + (low[1] + j)
                    pixels = f.load_masked(wide, line, inside(f, lanes, first, conv.size[1]), first)
                    weight = f.broadcast(f.load(plan.type, w, distances[3 * i + j]), lanes)
                    totals[i] = f.fma(weight, pixels, totals[i])
            channel.carry(*totals)
        first, second, third = channel.results
        f.store(first + second + third, out, row.index * plan.pitch + column.index)
    f.ret()
