"""The gradient of a convolution's weights: sums over images and pixels.

Rows of a tile are channels and taps, its vectors run over output channels. Every thread copies all images, as a
convolution does, and the cotangents of its own output channels, turned so that these are side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from ..schedule.kernels import Store, View
from .conv import Axes, Images, grouped, taps_of
from .conv_loops import DenseCode
from .conv_plans import SPLIT_FLOPS, bands, lines_of, together
from .elements import Elements, pointers
from .expression import Outside
from .image import Pair, emit_copy, emit_zeros, padded
from .ir import I64, VOID, Function, Module, Type, Value, type_of, vector
from .packing import Packing
from .target import Target
from .tile import Micro, choose


@dataclass(eq=False)
class WeightGradient:
    """For every output channel, channel of its group and tap the sum over images and pixels of g · x.

    Attributes:
        x, size: the images, and their height and width. g, out: the cotangents of the outputs, likewise.
        kernel: height and width; taps are in the order of its elements.
        axes: of output channel, channel, kernel row and kernel column in the stores.
        product, stores: as in a `Gemm`.
    """

    images: int
    groups: int
    outputs: int
    channels: int
    x: Images
    size: Pair
    g: Images
    out: Pair
    kernel: Pair
    taps: tuple[Pair, ...]
    step: Pair
    axes: Axes
    product: Outside
    stores: list[Store]

    @property
    def key(self) -> Hashable:
        """What the code depends on beside the stores and where the buffers are."""
        counts = (self.images, self.groups, self.outputs, self.channels)
        return (*counts, self.x.strides, self.size, self.g.strides, self.out, self.kernel, self.taps, self.step)

    @property
    def flops(self) -> int:
        return 2 * self.images * self.groups * self.outputs * self.channels * len(self.taps) * math.prod(self.out)

    def buffers(self) -> list[tuple[Any, int]]:
        """Buffers with offsets (in elements) whose addresses the function takes."""
        return pointers([(self.x.buffer, self.x.offset), (self.g.buffer, self.g.offset)], self.stores)


def weight_gradient(
    x: View, g: View, kernel: Pair, *, stride: Pair, padding: Sequence[Pair], dilation: Pair, groups: int,
    axes: Axes, product: Outside, stores: list[Store],
) -> WeightGradient:  # fmt: skip
    """w[o, c, k] = Σ x[n, c, p · stride + k · dilation - before] g[n, o, p]: the transpose of `forward` in w."""
    n, c, height, width = x.shape
    (top, _), (left, _) = padding
    taps = tuple((i * dilation[0] - top, j * dilation[1] - left) for i, j in taps_of(kernel))
    return WeightGradient(
        n, groups, g.shape[1] // groups, c // groups, grouped(x, groups), (height, width), grouped(g, groups),
        (g.shape[2], g.shape[3]), kernel, taps, stride, axes, product, stores,
    )  # fmt: skip


class WeightGradientPlan:
    """How the gradient of a convolution's weights is cut up. `scratch` and `single` as in `ConvolutionPlan`."""

    def __init__(self, conv: WeightGradient, target: Target, threads: int) -> None:
        self.conv, self.target = conv, target
        self.type: Type = type_of(conv.product.dtype)
        self.single = conv.flops < SPLIT_FLOPS
        one = padded(conv.size, conv.step, conv.out, conv.taps, conv.channels, 1, 0)
        self.together = together(conv.images, one.plane, 1)
        self.image_blocks = conv.images // self.together
        self.bands, self.band_rows = bands(one, conv.out[0], 1, self.type, target, 1)
        self.out = (self.band_rows, conv.out[1])
        self.layout = padded(conv.size, conv.step, self.out, conv.taps, conv.channels, self.together, 0, self.bands > 1)
        rows = len(conv.taps) * conv.channels
        # With few channels the rows of a tile are channels of several taps.
        self.mixed = conv.channels < 8
        self.shape = choose([rows if self.mixed else conv.channels], conv.outputs, self.type, target)
        self.blocks = -(-(rows if self.mixed else conv.channels) // self.shape.rows)
        self.last_rows = (rows if self.mixed else conv.channels) - (self.blocks - 1) * self.shape.rows
        self.tiles = self.blocks if self.mixed else self.blocks * len(conv.taps)
        self.panels = -(-conv.outputs // self.shape.columns)
        self.last_panel = conv.outputs - (self.panels - 1) * self.shape.columns
        self.units = self.panels * self.tiles
        self.depth = self.together * math.prod(self.out)
        size = self.type.nbytes
        self.image_bytes = lines_of((self.layout.elements + 64) * size)
        self.panel_bytes = lines_of((self.panels * self.depth * self.shape.columns + 64) * size)
        # A call with fewer threads than planned for has larger shares.
        self.result_bytes = lines_of(self.units * self.shape.rows * self.shape.columns * size)
        self.scratch = self.image_bytes + self.panel_bytes + self.result_bytes

    def rows_of(self, tile: int) -> list[tuple[int, int]]:
        """(tap, channel) of the rows of a tile whose rows are mixed."""
        rows = [(t, c) for c in range(self.conv.channels) for t in range(len(self.conv.taps))]
        return rows[tile * self.shape.rows : (tile + 1) * self.shape.rows]


def emit_weight_gradient(
    module: Module, name: str, plan: WeightGradientPlan, arguments: dict[tuple[Any, int], int]
) -> Function:
    """The function `name(addresses…, scratch, thread, threads)`, as `emit_gemm` makes it."""
    return _WeightGradientCode(module, name, plan, arguments).f


class _WeightGradientCode(DenseCode):
    def __init__(
        self, module: Module, name: str, plan: WeightGradientPlan, arguments: dict[tuple[Any, int], int]
    ) -> None:
        super().__init__(module, name, arguments, plan.scratch)
        self.plan, self.conv = plan, plan.conv
        f, conv = self.f, self.conv
        self.images = self.room
        self.panel_room = f.offset(self.room, plan.image_bytes)
        self.results = f.offset(self.panel_room, plan.panel_bytes)
        self.low, self.high = self.share(plan.units, plan.single)
        positions = [plan.layout.tap(t) for t in conv.taps]
        self.tap_table = module.table(f"{name}_taps", I64, positions)
        with f.when(self.low < self.high):
            emit_zeros(f, plan.type, plan.shape.lanes, self.images, plan.layout.elements)
            with f.loop(0, conv.groups) as group:
                with f.loop(0, plan.image_blocks * plan.bands) as block:
                    begin = block.index % plan.bands * plan.band_rows
                    rows = f.pairwise("smin", conv.out[0] - begin, plan.band_rows)
                    self._copy(group.index, block.index // plan.bands, begin, rows)
                    with f.loop(self.low, self.high) as unit:
                        self._unit(unit.index, f.compare("ne", block.index, 0), rows)
                with f.loop(self.low, self.high) as unit:
                    self._store(unit.index, group.index)
        f.ret()

    def _copy(self, group: Value, block: Value, begin: Value, rows: Value) -> None:
        """A block of images, or a band of one, and the cotangents of this thread's panels, turned."""
        f, plan, conv = self.f, self.plan, self.conv
        image, by_group, *strides = conv.x.strides
        start = block * (plan.together * image) + group * by_group
        at = f.element(self.address(conv.x.buffer, conv.x.offset), start, plan.type)
        layout, lanes = plan.layout, plan.shape.lanes
        steps = (image, strides[0], strides[1], strides[2])
        emit_copy(f, layout, plan.type, lanes, at, steps, self.images, begin)
        image, by_group, channel, row, column = conv.g.strides
        start = block * (plan.together * image) + group * by_group + begin * row
        at = f.element(self.address(conv.g.buffer, conv.g.offset), start, plan.type)
        height, width = plan.out
        whole = plan.bands == 1
        reduced: tuple[Pair, ...] = ((height * whole, row), (width, column))
        length = rows
        if row == width * column:
            reduced, length = ((height * width * whole, column),), rows * width
        with f.loop(self.low // plan.tiles, (self.high - 1) // plan.tiles + 1) as panel:

            def pack(columns: int) -> None:
                wide = -(-columns // lanes) * lanes
                packing = Packing(plan.type, columns, wide, tuple(o * channel for o in range(columns)), reduced)
                name = self.packer(packing, plan.target)
                with f.loop(0, plan.together) as number:
                    offset = panel.index * (plan.shape.columns * channel) + number.index * image
                    to = panel.index * (plan.depth * plan.shape.columns)
                    to = to + number.index * (height * width * wide)
                    source, out = f.element(at, offset, plan.type), f.element(self.panel_room, to, plan.type)
                    f.call(name, VOID, source, out, length)

            self._panel(panel.index, pack)

    def _panel(self, panel: Value, body: Callable[[int], None]) -> None:
        """The body for the number of columns that a panel has."""
        plan = self.plan
        if plan.panels == 1 or plan.last_panel == plan.shape.columns:
            body(plan.last_panel)
        else:
            self.f.either(panel < plan.panels - 1, lambda: body(plan.shape.columns), lambda: body(plan.last_panel))

    def _place(self, unit: Value) -> Value:
        size = self.plan.shape.rows * self.plan.shape.columns
        return self.f.element(self.results, (unit - self.low) * size, self.plan.type)

    def _unit(self, unit: Value, add: Value, length: Value) -> None:
        """One tile, for a block of images."""
        f, plan, conv = self.f, self.plan, self.conv
        shape, layout = plan.shape, plan.layout
        panel, tile = unit // plan.tiles, unit % plan.tiles
        out = self._place(unit)

        def micro(columns: int, offsets: Sequence[int], a_at: Value) -> None:
            vectors = -(-columns // shape.lanes)
            wide = vectors * shape.lanes
            height, width = plan.out
            reduced = [(plan.together, layout.plane, height * width * wide)] if plan.together > 1 else []
            reduced += [(height if plan.bands == 1 else 0, layout.pitch, width * wide), (width, 1, wide)]
            wanted = Micro(
                plan.type, tuple(offsets), shape.lanes, vectors, shape.lanes,
                tuple(r for r in reduced if r[0] != 1) or ((1, 1, 1),),
                tuple(r * shape.columns for r in range(len(offsets))), False, False,
            )  # fmt: skip
            b_at = f.element(self.panel_room, panel * (plan.depth * shape.columns), plan.type)
            f.call(self.micro(wanted), VOID, a_at, b_at, out, length, add)

        if plan.mixed:
            for number in range(plan.tiles):
                offsets = [layout.tap(conv.taps[t]) + c * layout.channel for t, c in plan.rows_of(number)]
                with f.when(f.equal(tile, number)):
                    self._panel(panel, lambda columns: micro(columns, offsets, self.images))  # noqa: B023
            return
        block = tile % plan.blocks
        tap = f.load(I64, f.address_of(self.tap_table), tile // plan.blocks)
        a_at = f.element(self.images, tap + block * (shape.rows * layout.channel), plan.type)

        def rows(count: int) -> None:
            offsets = [r * layout.channel for r in range(count)]
            self._panel(panel, lambda columns: micro(columns, offsets, a_at))

        if plan.last_rows == shape.rows or plan.blocks == 1:
            rows(plan.last_rows)
        else:
            f.either(block < plan.blocks - 1, lambda: rows(shape.rows), lambda: rows(plan.last_rows))

    def _store(self, unit: Value, group: Value) -> None:
        """The results of a tile, vectors along the output channels."""
        f, plan, conv = self.f, self.plan, self.conv
        shape = plan.shape
        panel, tile = unit // plan.tiles, unit % plan.tiles
        at = self._place(unit)
        if plan.mixed:
            first = tile * shape.rows
            count = f.pairwise("smin", len(conv.taps) * conv.channels - first, shape.rows)
        else:
            first = tile % plan.blocks * shape.rows
            count = f.pairwise("smin", conv.channels - first, shape.rows)
        columns = f.pairwise("smin", conv.outputs - panel * shape.columns, shape.columns)
        elements = Elements(f, self.arguments, conv.axes[0], shape.lanes)
        with f.loop(0, count) as row, f.loop(0, columns, shape.lanes) as column:
            if plan.mixed:
                tap, channel = (first + row.index) % len(conv.taps), (first + row.index) // len(conv.taps)
            else:
                tap, channel = tile // plan.blocks, first + row.index
            output = group * conv.outputs + panel * shape.columns + column.index
            where = (output, channel, tap // conv.kernel[1], tap % conv.kernel[1])
            elements.axis = dict(zip(conv.axes, where, strict=True))
            elements.mask = f.mask(shape.lanes, columns - column.index)
            value = f.load(vector(plan.type, shape.lanes), at, row.index * shape.columns + column.index)
            memo = {id(conv.product): value}
            for s in conv.stores:
                elements.store(s, memo)
