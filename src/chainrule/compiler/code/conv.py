"""Convolutions as loops around the micro-kernel, without im2col.

Rows of a tile are output channels, its vectors run over pixels. A unit of work is a few images of one
group: it copies their channels into a `Padded` layout, in which every tap of the kernel is a constant distance,
and sums over channels and taps. The cotangent of the images is the same sum with other taps: those
that reach a pixel. Where the convolution moves in steps these differ from pixel to pixel, and pixels
of the same taps make a `Part`. The cotangent of the weights sums over pixels instead: rows of its tiles are
channels and taps, vectors run over output channels.

Images are in the order (image, channel, row, column) on both sides; nothing else knows another one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from ..schedule.kernels import Store, View
from .elements import Elements, pointers
from .expression import Outside
from .image import Padded, Pair, emit_copy, emit_zeros, padded
from .ir import I1, I64, PTR, VOID, Function, Module, Type, Value, type_of, vector
from .packing import Packing, emit_packing
from .target import Target
from .tile import Micro, choose, emit_micro

Axes = tuple[int, int, int, int]

_SPLIT_FLOPS = 400_000
_PIXELS = 256  # that a unit has at least, if there are so many


@dataclass(frozen=True, eq=False)
class Images:
    """An operand: (image, group, channel of the group, row, column), addressed from `offset` by `strides`."""

    buffer: Any
    offset: int
    strides: tuple[int, int, int, int, int]


@dataclass(frozen=True)
class Tap:
    """What a weight is multiplied with: its position in the source as the first output sees it."""

    position: Pair
    weight: int


@dataclass(frozen=True)
class Part:
    """Outputs of the same taps: rows start[0], start[0] + apart[0], … of the result, and columns likewise."""

    taps: tuple[Tap, ...]
    start: Pair
    apart: Pair
    size: Pair


@dataclass(eq=False)
class Convolution:
    """For every image, output channel and pixel the sum over a group's channels and a part's taps.

    Attributes:
        images, groups, outputs, channels: how many; the last two in a group.
        source, size: what is convolved, its height and width.
        weights: buffer, offset, and strides of group, output and channel; a tap adds its `weight`.
        step: rows and columns of the source from one output of a part to the next.
        parts: which together are all outputs.
        axes: of image, channel, row and column in the stores' expressions and addresses.
        product, stores: as in a `Gemm`.
    """

    images: int
    groups: int
    outputs: int
    channels: int
    source: Images
    size: Pair
    weights: tuple[Any, int, tuple[int, int, int]]
    step: Pair
    parts: tuple[Part, ...]
    axes: Axes
    product: Outside
    stores: list[Store]

    @property
    def key(self) -> Hashable:
        """What the code depends on beside the stores and where the buffers are."""
        counts = (self.images, self.groups, self.outputs, self.channels)
        return (*counts, self.source.strides, self.size, self.weights[2], self.step, self.parts)

    @property
    def flops(self) -> int:
        each = sum(len(p.taps) * math.prod(p.size) for p in self.parts)
        return 2 * self.images * self.groups * self.outputs * self.channels * each

    def buffers(self) -> list[tuple[Any, int]]:
        """Buffers with offsets (in elements) whose addresses the function takes."""
        operands = [(self.source.buffer, self.source.offset), (self.weights[0], self.weights[1])]
        return pointers(operands, self.stores)


def _grid(kernel: Pair) -> list[Pair]:
    return [(i, j) for i in range(kernel[0]) for j in range(kernel[1])]


def _images(x: View, groups: int) -> Images:
    """A view (n, c, h, w) with its channels in groups."""
    image, channel, row, column = x.strides
    return Images(x.base, x.offset, (image, x.shape[1] // groups * channel, channel, row, column))


def forward(
    x: View, w: View, out: Pair, *, stride: Pair, padding: Sequence[Pair], dilation: Pair, groups: int,
    axes: Axes, product: Outside, stores: list[Store],
) -> Convolution:  # fmt: skip
    """y[n, o, p] = Σ x[n, c, p · stride + k · dilation - before] w[o, c, k], for x (n, c, h, w) and w (o, c, i, j)."""
    n, c, height, width = x.shape
    (top, _), (left, _) = padding
    output, channel, down, right = w.strides
    taps = tuple(
        Tap((i * dilation[0] - top, j * dilation[1] - left), i * down + j * right)
        for i, j in _grid((w.shape[2], w.shape[3]))
    )
    outputs = w.shape[0] // groups
    return Convolution(
        n, groups, outputs, c // groups, _images(x, groups), (height, width),
        (w.base, w.offset, (outputs * output, output, channel)), stride,
        (Part(taps, (0, 0), (1, 1), out),), axes, product, stores,
    )  # fmt: skip


def backward(
    g: View, w: View, out: Pair, *, stride: Pair, padding: Sequence[Pair], dilation: Pair, groups: int,
    axes: Axes, product: Outside, stores: list[Store],
) -> Convolution:  # fmt: skip
    """x[n, c, p · stride + k · dilation - before] = Σ g[n, o, p] w[o, c, k]: the transpose of `forward` in x."""
    n, o, height, width = g.shape
    before = (padding[0][0], padding[1][0])
    output, channel, down, right = w.strides
    parts = []
    for start in ((y, x) for y in range(stride[0]) for x in range(stride[1])):
        count = tuple(-(-(out[d] - start[d]) // stride[d]) for d in (0, 1))
        if min(count) < 1:
            continue
        taps = []
        for i, j in _grid((w.shape[2], w.shape[3])):
            far = [start[d] + before[d] - (i, j)[d] * dilation[d] for d in (0, 1)]
            if far[0] % stride[0] == 0 and far[1] % stride[1] == 0:
                taps.append(Tap((far[0] // stride[0], far[1] // stride[1]), i * down + j * right))
        parts.append(Part(tuple(taps), start, stride, (count[0], count[1])))
    outputs = o // groups
    return Convolution(
        n, groups, w.shape[1], outputs, _images(g, groups), (height, width),
        (w.base, w.offset, (outputs * output, channel, output)), (1, 1), tuple(parts), axes, product, stores,
    )  # fmt: skip


class ConvolutionPlan:
    """How a convolution is cut up: what `emit_convolution` writes out.

    Attributes:
        scratch: bytes of working memory for each thread.
        single: whether one thread does all of it.
    """

    def __init__(self, conv: Convolution, target: Target, threads: int) -> None:
        self.conv, self.target = conv, target
        self.type: Type = type_of(conv.product.dtype)
        self.single = conv.flops < _SPLIT_FLOPS
        threads = 1 if self.single else threads
        taps = [t.position for p in conv.parts for t in p.taps] or [(0, 0)]
        outputs = max(p.size[0] for p in conv.parts), max(p.size[1] for p in conv.parts)
        one = padded(conv.size, conv.step, outputs, taps, conv.channels, 1, 0)
        self.together = _together(conv.images, one.plane, threads)
        self.bands, self.band_rows = _bands(one, outputs[0], conv.images * conv.groups, self.type, target, threads)
        outputs = self.band_rows, outputs[1]
        columns = (self.together - 1) * one.plane + (outputs[0] - 1) * one.pitch + outputs[1]
        self.shape = choose([conv.outputs], columns, self.type, target)
        self.layout = padded(
            conv.size, conv.step, outputs, taps, conv.channels, self.together, self.shape.columns, self.bands > 1
        )
        self.blocks = -(-conv.outputs // self.shape.rows)
        self.last_rows = conv.outputs - (self.blocks - 1) * self.shape.rows
        self.panels = -(-columns // self.shape.columns)
        self.width = self.panels * self.shape.columns
        self.columns = columns
        self.image_blocks = conv.images // self.together
        shared = conv.groups * self.image_blocks * self.bands
        self.row_chunks = 1 if shared % threads == 0 or shared >= 8 * threads else min(threads, self.blocks)
        self.units = shared * self.row_chunks
        # Weights of a chunk of rows, for all parts: tile by tile (channel, tap, row).
        self.depths = [conv.channels * max(len(p.taps), 1) for p in conv.parts]
        size = self.type.nbytes
        chunk = -(-self.blocks // self.row_chunks)
        self.weight_starts = [sum(self.depths[:i]) * self.shape.rows * chunk for i in range(len(self.depths))]
        self.weight_bytes = _lines(sum(self.depths) * self.shape.rows * chunk * size)
        self.image_bytes = _lines((self.layout.elements + 64) * size)
        self.result_bytes = _lines((chunk * self.shape.rows * self.width + self.shape.columns) * size)
        in_turn = 2 if any(p.apart[1] == 2 for p in conv.parts) else 1
        self.scratch = self.weight_bytes + self.image_bytes + in_turn * self.result_bytes


def _together(images: int, plane: int, threads: int) -> int:
    """How many images a unit has: enough pixels for whole tiles, and equal shares for the threads."""
    wanted = max(1, _PIXELS // plane)
    fits = [n for n in range(1, images + 1) if images % n == 0 and n <= wanted]
    fair = [n for n in fits if images // n % threads == 0]
    return (fair or fits)[-1]


def _bands(layout: Padded, rows: int, images: int, type: Type, target: Target, threads: int) -> tuple[int, int]:
    """Into how many bands an image is cut, and their rows: each fits into half of the second-level cache, and there
    are enough for the threads."""
    bands = 1
    if layout.rows > 1 and layout.elements * type.nbytes > target.l2 // 2:
        around = layout.rows - rows
        line = layout.channels * layout.channel * type.nbytes // layout.rows
        bands = -(-rows // max(target.l2 // 2 // line - around, around, 4))
    if images % threads and images < 8 * threads and rows >= 4 * threads and layout.images == 1:
        bands = max(bands, threads)
    height = -(-rows // bands)
    return -(-rows // height), height


def _lines(nbytes: int) -> int:
    return -(-nbytes // 64) * 64


def emit_convolution(
    module: Module, name: str, plan: ConvolutionPlan, arguments: dict[tuple[Any, int], int]
) -> Function:
    """The function `name(addresses…, scratch, thread, threads)`, as `emit_gemm` makes it."""
    return _ConvolutionCode(module, name, plan, arguments).f


class _Code:
    """What both kinds of convolution need: the function, a thread's memory and share, helpers by their description."""

    def __init__(self, module: Module, name: str, arguments: dict[tuple[Any, int], int], scratch: int) -> None:
        self.module, self.name, self.arguments = module, name, arguments
        self.count = max(arguments.values()) + 1
        self.f = f = module.function(name, [PTR] * (self.count + 1) + [I64, I64], internal=True)
        room, self.thread, self.threads = f.arguments[self.count :]
        self.room = f.offset(room, self.thread * scratch)
        self._helpers: dict[Any, str] = {}

    def share(self, units: int, single: bool) -> tuple[Value, Value]:
        f = self.f
        if single:
            return f.select(f.equal(self.thread, 0), f.index(0), f.index(units)), f.index(units)
        return self.thread * units // self.threads, (self.thread + 1) * units // self.threads

    def address(self, buffer: Any, offset: int) -> Value:
        return self.f.arguments[self.arguments[buffer, offset]]

    def micro(self, micro: Micro) -> str:
        if micro not in self._helpers:
            self._helpers[micro] = f"{self.name}_tile{len(self._helpers)}"
            emit_micro(self.module, self._helpers[micro], micro)
        return self._helpers[micro]

    def packer(self, packing: Packing, target: Target) -> str:
        if packing not in self._helpers:
            self._helpers[packing] = f"{self.name}_pack{len(self._helpers)}"
            emit_packing(self.module, self._helpers[packing], packing, target)
        return self._helpers[packing]


class _ConvolutionCode(_Code):
    def __init__(self, module: Module, name: str, plan: ConvolutionPlan, arguments: dict[tuple[Any, int], int]) -> None:
        super().__init__(module, name, arguments, plan.scratch)
        self.plan, self.conv = plan, plan.conv
        f = self.f
        self.weights = self.room
        self.images = f.offset(self.room, plan.weight_bytes)
        self.results = f.offset(self.images, plan.image_bytes)
        lanes = plan.shape.lanes
        low, high = self.share(plan.units, plan.single)
        with f.when(low < high):
            emit_zeros(f, plan.type, lanes, self.images, plan.layout.elements)
        with f.loop(low, high) as loop:
            unit = loop.index
            band = unit % plan.bands
            block = unit // plan.bands % plan.image_blocks
            chunk = unit // (plan.bands * plan.image_blocks) % plan.row_chunks
            group = unit // (plan.bands * plan.image_blocks * plan.row_chunks)
            first, last = chunk * plan.blocks // plan.row_chunks, (chunk + 1) * plan.blocks // plan.row_chunks
            with f.when(f.equal(unit, low) | (f.equal(block, 0) & f.equal(band, 0))):
                self._pack_weights(group, first, last)
            source = self.conv.source
            image, by_group, *strides = source.strides
            start = block * (plan.together * image) + group * by_group
            at = f.element(self.address(source.buffer, source.offset), start, plan.type)
            begin = band * plan.band_rows
            steps = (image, strides[0], strides[1], strides[2])
            emit_copy(f, plan.layout, plan.type, lanes, at, steps, self.images, begin)
            for together in self._side_by_side():
                for place, number in enumerate(together):
                    self._part(number, place, first, last)
                self._epilogue([self.conv.parts[n] for n in together], block, group, first, last, begin)
        f.ret()

    def _rows(self, block: Value, body: Callable[[int], None]) -> None:
        """The body for the number of rows that a block of rows has."""
        f, plan = self.f, self.plan
        if plan.last_rows == plan.shape.rows or plan.blocks == 1:
            body(plan.last_rows)
            return

        f.either(block < plan.blocks - 1, lambda: body(plan.shape.rows), lambda: body(plan.last_rows))

    def _pack_weights(self, group: Value, first: Value, last: Value) -> None:
        f, plan, conv = self.f, self.plan, self.conv
        buffer, offset, (by_group, by_output, by_channel) = conv.weights
        for number, part in enumerate(conv.parts):
            if not part.taps:
                continue
            table = self.module.table(f"{self.name}_weights{number}", I64, [t.weight for t in part.taps])
            with f.loop(first, last) as loop:
                source = group * by_group + loop.index * (plan.shape.rows * by_output)
                at = f.element(self.address(buffer, offset), source, plan.type)
                to = (loop.index - first) * (plan.depths[number] * plan.shape.rows) + plan.weight_starts[number]
                panel = f.element(self.weights, to, plan.type)

                def block(rows: int) -> None:
                    with f.loop(0, conv.channels) as channel, f.loop(0, len(part.taps)) as tap:  # noqa: B023
                        weight = f.load(I64, f.address_of(table), tap.index)  # noqa: B023
                        here = f.element(at, channel.index * by_channel + weight, plan.type)  # noqa: B023
                        depth = channel.index * len(part.taps) + tap.index  # noqa: B023
                        there = f.element(panel, depth * plan.shape.rows, plan.type)  # noqa: B023
                        for row in range(rows):
                            f.store(f.load(plan.type, here, row * by_output), there, row)

                self._rows(loop.index, block)

    def _side_by_side(self) -> list[list[int]]:
        """Parts by number, those together that take turns along a row."""
        groups: dict[int, list[int]] = {}
        for number, part in enumerate(self.conv.parts):
            groups.setdefault(part.start[0] if part.apart[1] == 2 else -1 - number, []).append(number)
        return list(groups.values())

    def _part(self, number: int, place: int, first: Value, last: Value) -> None:
        """The sums of a part, into results number `place`."""
        f, plan, conv = self.f, self.plan, self.conv
        results = f.offset(self.results, place * plan.result_bytes)
        part = conv.parts[number]
        rows, lanes = plan.shape.rows, plan.shape.lanes
        taps = tuple(plan.layout.tap(t.position) for t in part.taps)
        height = min(part.size[0], plan.band_rows)
        columns = (plan.together - 1) * plan.layout.plane + (height - 1) * plan.layout.pitch + part.size[1]
        panels = -(-columns // plan.shape.columns)
        vectors = -(-(columns - (panels - 1) * plan.shape.columns) // lanes)
        if not taps:
            with f.loop(first, last) as loop:
                start = (loop.index - first) * (rows * plan.width)
                emit_zeros(f, plan.type, lanes, f.element(results, start, plan.type), rows * plan.width)
        with f.loop(0, panels if taps else 0) as panel, f.loop(first, last) as loop:
            to = (loop.index - first) * (rows * plan.width) + panel.index * plan.shape.columns
            out = f.element(results, to, plan.type)
            depth = (loop.index - first) * (plan.depths[number] * rows) + plan.weight_starts[number]
            a_at = f.element(self.weights, depth, plan.type)
            b_at = f.element(self.images, panel.index * plan.shape.columns, plan.type)

            def tile(count: int, width: int) -> None:
                micro = Micro(
                    plan.type, tuple(range(count)), lanes, width, lanes,
                    ((conv.channels, len(taps) * rows, plan.layout.channel),),
                    tuple(r * plan.width for r in range(count)), False, False, taps, rows,
                )  # fmt: skip
                f.call(self.micro(micro), VOID, a_at, b_at, out, f.index(0), f.constant(I1, 0))

            def by_width(count: int) -> None:
                if vectors == plan.shape.vectors or panels == 1:
                    tile(count, vectors)
                    return
                is_full = panel.index < panels - 1
                f.either(is_full, lambda: tile(count, plan.shape.vectors), lambda: tile(count, vectors))

            self._rows(loop.index, by_width)

    def _epilogue(
        self, parts: Sequence[Part], block: Value, group: Value, first: Value, last: Value, begin: Value
    ) -> None:
        """Every row of pixels that was computed goes through the stores' expressions.

        Of two parts the pixels take turns; they are put side by side in registers.
        """
        f, plan, conv = self.f, self.plan, self.conv
        part, lanes, wide = parts[0], plan.shape.lanes, vector(plan.type, plan.shape.lanes)
        apart = 1 if len(parts) == 2 else part.apart[1]
        width = sum(p.size[1] for p in parts)
        elements = Elements(f, self.arguments, conv.axes[3], lanes, apart)
        start = first * plan.shape.rows
        end = f.pairwise("smin", last * plan.shape.rows, conv.outputs)
        height = f.pairwise("smin", part.size[0] - begin, plan.band_rows) if plan.bands > 1 else f.index(part.size[0])
        with f.loop(start, end) as channel, f.loop(0, plan.together) as image, f.loop(0, height) as row:
            at = (channel.index - start) * plan.width + image.index * plan.layout.plane
            at = at + row.index * plan.layout.pitch

            def load(number: int, column: Value) -> Value:
                return f.load(wide, f.offset(self.results, number * plan.result_bytes), at + column)

            def piece(value: Value, column: Value, mask: Value | None) -> None:
                where = (
                    block * plan.together + image.index,
                    group * conv.outputs + channel.index,
                    (row.index + begin) * part.apart[0] + part.start[0],
                    column * apart + (0 if len(parts) == 2 else part.start[1]),
                )
                elements.axis = dict(zip(conv.axes, where, strict=True))
                elements.mask = mask
                memo = {id(conv.product): value}
                for s in conv.stores:
                    elements.store(s, memo)

            if len(parts) == 1:
                _columns(f, width, lanes, lambda column, mask: piece(load(0, column), column, mask))
                return
            with f.loop(0, part.size[1], lanes) as loop:
                pixels = [load(number, loop.index) for number in (0, 1)]
                for half in (0, 1):
                    column = loop.index * 2 + half * lanes
                    order = [i // 2 + half * lanes // 2 + i % 2 * lanes for i in range(lanes)]
                    piece(f.shuffle(pixels[0], pixels[1], order), column, f.mask(lanes, width - column))


def _columns(f: Function, count: int, lanes: int, body: Callable[[Value, Value | None], None]) -> None:
    """The body for every vector of so many columns."""
    whole = count // lanes * lanes
    with f.loop(0, whole, lanes) as loop:
        body(loop.index, None)
    if count % lanes:
        body(f.index(whole), f.mask(lanes, count - whole))


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
    taps = tuple((i * dilation[0] - top, j * dilation[1] - left) for i, j in _grid(kernel))
    return WeightGradient(
        n, groups, g.shape[1] // groups, c // groups, _images(x, groups), (height, width), _images(g, groups),
        (g.shape[2], g.shape[3]), kernel, taps, stride, axes, product, stores,
    )  # fmt: skip


class WeightGradientPlan:
    """How the gradient of a convolution's weights is cut up. `scratch` and `single` as in `ConvolutionPlan`."""

    def __init__(self, conv: WeightGradient, target: Target, threads: int) -> None:
        self.conv, self.target = conv, target
        self.type: Type = type_of(conv.product.dtype)
        self.single = conv.flops < _SPLIT_FLOPS
        one = padded(conv.size, conv.step, conv.out, conv.taps, conv.channels, 1, 0)
        self.together = _together(conv.images, one.plane, 1)
        self.image_blocks = conv.images // self.together
        self.bands, self.band_rows = _bands(one, conv.out[0], 1, self.type, target, 1)
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
        self.image_bytes = _lines((self.layout.elements + 64) * size)
        self.panel_bytes = _lines((self.panels * self.depth * self.shape.columns + 64) * size)
        # A call with fewer threads than planned for has larger shares.
        self.result_bytes = _lines(self.units * self.shape.rows * self.shape.columns * size)
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


class _WeightGradientCode(_Code):
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
