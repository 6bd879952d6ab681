"""The gradient of the weights of a convolution of 3×3 taps in Winograd's form.

Tiles of the images and of the outputs' cotangents are transformed, multiplied and summed over all tiles; of each of the
sixteen numbers of a tile there is one sum (channel, output channel), and these are transformed to taps at the
end. Rows of the products' tiles are channels, vectors run over output channels. A part of the work has some of the
channels, and the cotangents of all output channels.

What is not finite is computed again, tap by tap: see `winograd.py`.
"""

from __future__ import annotations

from typing import Any

from .conv_loops import DenseCode
from .elements import Elements
from .image import emit_zeros
from .ir import I64, PTR, VOID, Function, Module, Value, vector
from .tile import Micro
from .winograd_cotangents import emit_cotangents, emit_turn
from .winograd_plan import WinogradWeightsPlan
from .winograd_tiles import emit_tiles, inside
from .winograd_transforms import IN, OUT, POINTS, both_axes, taps


def emit_winograd_weights(
    module: Module, name: str, plan: WinogradWeightsPlan, arguments: dict[tuple[Any, int], int]
) -> Function:
    """The function `name(addresses…, scratch, thread, threads)`, as `emit_gemm` makes it."""
    return _WeightsCode(module, name, plan, arguments).f


class _WeightsCode(DenseCode):
    def __init__(
        self, module: Module, name: str, plan: WinogradWeightsPlan, arguments: dict[tuple[Any, int], int]
    ) -> None:
        super().__init__(module, name, arguments, plan.scratch)
        self.plan, self.conv = plan, plan.conv
        self.lanes = plan.shape.lanes
        f, conv, rows = self.f, self.conv, plan.shape.rows
        self.tiles = self.room
        self.cotangents = f.offset(self.tiles, plan.tile_bytes)
        self.sums = f.offset(self.cotangents, plan.cotangent_bytes)
        self.turned = f.offset(self.sums, plan.sum_bytes)
        self.zeros = f.offset(self.turned, plan.turned_bytes)
        self.taps = f.alloca(9 * plan.shape.lanes * plan.type.nbytes)
        emit_tiles(module, f"{name}_tiles", plan.tiles)
        emit_turn(module, f"{name}_turn", plan)
        emit_cotangents(module, f"{name}_cotangents", plan)
        _emit_again(module, f"{name}_again", plan)
        low, high = self.share(plan.blocks, plan.single)
        self.first = low * rows
        self.channels = f.pairwise("smin", high * rows, conv.channels) - self.first
        at = self.first * conv.x.strides[2]
        self.x = f.element(self.address(conv.x.buffer, conv.x.offset), at, plan.type)
        self.g = self.address(conv.g.buffer, conv.g.offset)
        with f.when(low < high):
            emit_zeros(f, plan.type, self.lanes, self.zeros, conv.size[1])
            emit_zeros(f, plan.type, self.lanes, self.turned, plan.turned)
            with f.loop(0, plan.units) as unit:
                begin = unit.index % plan.bands * plan.band_rows
                count = f.pairwise("smin", plan.height - begin, plan.band_rows)
                self._transform(unit.index // plan.bands * plan.together, begin, count)
                self._multiply(high - low, count, f.compare("ne", unit.index, 0))
            with f.loop(0, self.channels) as channel, f.loop(0, conv.outputs, self.lanes) as output:
                self._store(channel.index, output.index)
        f.ret()

    def _transform(self, first: Value, begin: Value, rows: Value) -> None:
        """The tiles of a unit's images, from the first on, and of their cotangents: `rows` rows from `begin` on."""
        f, plan, conv = self.f, self.plan, self.conv
        x = f.element(self.x, first * conv.x.strides[0], plan.type)
        f.call(f"{self.name}_tiles", VOID, x, self.zeros, self.tiles, begin, rows, self.channels)
        height = f.pairwise("smin", conv.out[0] - begin * OUT, rows * OUT)
        with f.loop(0, plan.together) as image:
            at = (first + image.index) * conv.g.strides[0] + begin * (OUT * conv.g.strides[3])
            f.call(f"{self.name}_turn", VOID, f.element(self.g, at, plan.type), self.turned, rows, height)
            place = image.index * (plan.height * plan.across * plan.shape.columns)
            out = f.element(self.cotangents, place, plan.type)
            f.call(f"{self.name}_cotangents", VOID, self.turned, out, rows)

    def _multiply(self, blocks: Value, rows: Value, add: Value) -> None:
        """Adds the products of a unit's tiles to the sums."""
        f, plan, shape = self.f, self.plan, self.plan.shape
        count = rows * (plan.together * plan.across)
        with f.loop(0, POINTS) as point, f.loop(0, plan.panels) as panel, f.loop(0, blocks) as block:
            a_at = point.index * plan.tiles.point + block.index * (shape.rows * plan.tiles.pitch)
            b_at = point.index * plan.cotangent_point + panel.index * (plan.count * shape.columns)
            to = (block.index * plan.panels + panel.index) * (shape.rows * shape.columns)
            a, b, out = (
                f.element(base, place, plan.type)
                for base, place in (
                    (self.tiles, a_at), (self.cotangents, b_at), (self.sums, point.index * plan.sum_point + to),
                )
            )  # fmt: skip

            def tile(height: int, width: int) -> None:
                micro = Micro(
                    plan.type, tuple(r * plan.tiles.pitch for r in range(height)), self.lanes, width, self.lanes,
                    ((0, 1, shape.columns),), tuple(r * shape.columns for r in range(height)), False, False,
                )  # fmt: skip
                f.call(self.micro(micro), VOID, a, b, out, count, add)

            is_last = f.equal(panel.index, plan.panels - 1)
            left = f.compare("ge", block.index * shape.rows, self.channels - (shape.rows - 1))

            def by_rows(width: int) -> None:
                if plan.last_rows == shape.rows:
                    tile(shape.rows, width)
                else:
                    f.either(left, lambda: tile(plan.last_rows, width), lambda: tile(shape.rows, width))

            if plan.last_vectors == shape.vectors:
                by_rows(shape.vectors)
            else:
                f.either(is_last, lambda: by_rows(plan.last_vectors), lambda: by_rows(shape.vectors))

    def _store(self, channel: Value, output: Value) -> None:
        """The taps of a vector of output channels."""
        f, plan, conv, lanes, shape = self.f, self.plan, self.conv, self.lanes, self.plan.shape
        wide = vector(plan.type, lanes)
        panel = output // shape.columns
        place = (channel // shape.rows * plan.panels + panel) * (shape.rows * shape.columns)
        place = place + channel % shape.rows * shape.columns + output % shape.columns
        m = [f.load(wide, self.sums, place + p * plan.sum_point) for p in range(POINTS)]
        w = [tap for line in both_axes(taps, [m[i * IN : (i + 1) * IN] for i in range(IN)]) for tap in line]
        mask = f.mask(lanes, conv.outputs - output)
        total = f.zero(wide)
        for number, value in enumerate(w):
            f.store(value, self.taps, number * lanes)
            total = f.fma(value, f.zero(wide), total)
        if mask is not None:
            total = f.select(mask, total, f.zero(wide))
        with f.when(f.reduce("or", f.is_nan(total))):
            x = f.element(self.x, channel * conv.x.strides[2], plan.type)
            g = f.element(self.g, output * conv.g.strides[2], plan.type)
            count = f.pairwise("smin", conv.outputs - output, lanes)
            f.call(f"{self.name}_again", VOID, x, g, self.zeros, self.taps, count)
        elements = Elements(f, self.arguments, conv.axes[0], lanes)
        elements.mask = mask
        with f.loop(0, 9) as tap:
            where = (output, self.first + channel, tap.index // 3, tap.index % 3)
            elements.axis = dict(zip(conv.axes, where, strict=True))
            memo = {id(conv.product): f.load(wide, self.taps, tap.index * lanes)}
            for s in conv.stores:
                elements.store(s, memo)


def _emit_again(module: Module, name: str, plan: WinogradWeightsPlan) -> None:
    """The function `name(x, g, zeros, out, i64 count)`: the taps of one channel and `count` output channels."""
    f = module.function(name, [PTR] * 4 + [I64], internal=True)
    x, g, zeros, out, count = f.arguments
    conv, lanes, type = plan.conv, plan.shape.lanes, plan.type
    wide = vector(type, lanes)
    low = plan.tiles.low
    nothing = [f.zero(wide)] * 9
    with f.loop(0, count) as output:
        cotangents = f.element(g, output.index * conv.g.strides[2], type)
        with f.loop(0, conv.images, carry=nothing) as image:
            here = f.element(x, image.index * conv.x.strides[0], type)
            there = f.element(cotangents, image.index * conv.g.strides[0], type)
            with f.loop(0, conv.out[0], carry=image.carried) as row:
                lines = []
                for i in range(3):
                    at = row.index + (low[0] + i)
                    is_row = f.compare("ult", at, conv.size[0])
                    lines.append(f.select(is_row, f.element(here, at * conv.x.strides[3], type), zeros))
                with f.loop(0, conv.out[1], lanes, carry=row.carried) as column:
                    mask = inside(f, lanes, column.index, conv.out[1])
                    value = f.load_masked(wide, there, mask, row.index * conv.g.strides[3] + column.index)
                    totals = []
                    for tap in range(9):
                        first = column.index + (low[1] + tap % 3)
                        exists = inside(f, lanes, first, conv.size[1])
                        pixels = f.load_masked(wide, lines[tap // 3], exists, first)
                        product = f.fma(pixels, value, column.carried[tap])
                        totals.append(f.select(mask, product, column.carried[tap]) if mask is not None else product)
                    column.carry(*totals)
                row.carry(*column.results)
            image.carry(*row.results)
        for tap, total in enumerate(image.results):
            f.store(f.reduce("add", total), out, output.index + tap * lanes)
    f.ret()
