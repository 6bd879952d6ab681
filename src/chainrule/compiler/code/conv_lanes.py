"""The code of a convolution of small images: vectors run over images.

Every pixel of as many images as a vector has lanes is a *cell*, and a channel of cells is laid out as one image of a
`Padded`. No vector then crosses the border of an image, however small it is, and taps that lie above or below it
are left out row by row. Images are turned when they are copied, results before the epilogue, which again sees
vectors of pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .conv import Part
from .conv_loops import ConvolutionCode
from .conv_plans import LanesPlan
from .elements import Elements
from .ir import I1, I64, VOID, Function, Module, Value, vector
from .packing import transpose
from .tile import Micro


def emit_lanes(module: Module, name: str, plan: LanesPlan, arguments: dict[tuple[Any, int], int]) -> Function:
    """The function `name(addresses…, scratch, thread, threads)`, as `emit_gemm` makes it."""
    return _LanesCode(module, name, plan, arguments).f


class _LanesCode(ConvolutionCode[LanesPlan]):
    def __init__(self, module: Module, name: str, plan: LanesPlan, arguments: dict[tuple[Any, int], int]) -> None:
        self.lanes = plan.shape.lanes
        self.wide = vector(plan.type, self.lanes)
        self.cell_table = module.table(f"{name}_cells", I64, [c * self.lanes for c in plan.cells])
        self.window_tables = [
            module.table(f"{name}_window{number}", I64, [edge for window in windows for edge in window])
            for number, windows in enumerate(plan.windows)
        ]
        super().__init__(module, name, plan, arguments)

    def _unit(self, block: Value, band: Value, group: Value, first: Value, last: Value) -> None:
        f, plan, conv = self.f, self.plan, self.conv
        turned = f.alloca(self.lanes * plan.turned * plan.type.nbytes)
        self._copy(self._source(block, group))
        for together in self._side_by_side():
            parts = [conv.parts[n] for n in together]
            height = parts[0].size[0]
            with f.loop(0, height, plan.band_rows) as loop:
                rows = f.pairwise("smin", height - loop.index, plan.band_rows)
                for place, number in enumerate(together):
                    self._part(number, place, loop.index, rows, first, last)
                self._epilogue(parts, block, group, first, last, loop.index, rows, turned)

    def _copy(self, source: Value) -> None:
        """The images' pixels as cells, a vector of pixels of all images at a time; the last ones overlap."""
        f, plan, lanes, conv = self.f, self.plan, self.lanes, self.conv
        image, _, by_channel, _, _ = conv.source.strides
        pixels = len(plan.cells)
        with f.loop(0, conv.channels) as channel, f.loop(0, pixels, lanes) as loop:
            here = f.element(source, channel.index * by_channel, plan.type)
            there = f.element(self.images, channel.index * (plan.channel * lanes), plan.type)
            start = f.pairwise("smin", loop.index, pixels - lanes)
            vectors = [f.load(self.wide, here, start + n * image) for n in range(lanes)]
            for i, cell in enumerate(transpose(f, vectors)):
                f.store(cell, there, f.load(I64, f.address_of(self.cell_table), start + i))

    def _part(self, number: int, place: int, begin: Value, rows: Value, first: Value, last: Value) -> None:
        """The sums of some rows of a part, into results number `place`."""
        f, plan, conv, lanes = self.f, self.plan, self.conv, self.lanes
        part, shape = conv.parts[number], plan.shape
        results = f.offset(self.results, place * plan.result_bytes)
        taps = tuple(plan.layout.tap(t.position) * lanes for t in part.taps) or (0,)
        panels = -(-part.size[1] // shape.vectors)
        left = part.size[1] - (panels - 1) * shape.vectors
        windowed = any(window != (0, len(taps)) for window in plan.windows[number])
        with f.loop(0, rows) as row, f.loop(0, panels) as panel, f.loop(first, last) as loop:
            at, column = row.index + begin, panel.index * shape.vectors
            to = (loop.index - first) * (shape.rows * plan.width) + row.index * part.size[1] + column
            out = f.element(results, to * lanes, plan.type)
            depth = (loop.index - first) * (plan.depths[number] * shape.rows) + plan.weight_starts[number]
            a_at = f.element(self.weights, depth, plan.type)
            b_at = f.element(self.images, (at * plan.layout.pitch + column) * lanes, plan.type)
            table = f.address_of(self.window_tables[number])
            window = [f.load(I64, table, at * 2 + edge) for edge in (0, 1)] if windowed else []

            def tile(count: int, vectors: int) -> None:
                micro = Micro(
                    plan.type, tuple(range(count)), lanes, vectors, lanes,
                    ((conv.channels, len(taps) * shape.rows, plan.channel * lanes),),
                    tuple(r * plan.width * lanes for r in range(count)), False, False, taps, shape.rows, windowed,
                )  # fmt: skip
                f.call(self.micro(micro), VOID, a_at, b_at, out, f.index(0), f.constant(I1, 0), *window)

            def by_width(count: int) -> None:
                if left == shape.vectors or panels == 1:
                    tile(count, left)
                    return
                is_full = panel.index < panels - 1
                f.either(is_full, lambda: tile(count, shape.vectors), lambda: tile(count, left))

            self._rows(loop.index, by_width)

    def _epilogue(
        self, parts: Sequence[Part], block: Value, group: Value, first: Value, last: Value, begin: Value, rows: Value,
        turned: Value,
    ) -> None:  # fmt: skip
        """Rows of results, turned back into vectors of pixels, go through the stores' expressions.

        Of two parts the pixels take turns.
        """
        f, plan, conv, lanes = self.f, self.plan, self.conv, self.lanes
        part, count = parts[0], len(parts)
        apart = 1 if count == 2 else part.apart[1]
        width = sum(p.size[1] for p in parts)
        elements = Elements(f, self.arguments, conv.axes[3], lanes, apart)
        start = first * plan.shape.rows
        end = f.pairwise("smin", last * plan.shape.rows, conv.outputs)
        pixels = rows * width
        with f.loop(start, end) as channel:
            with f.loop(0, pixels, lanes) as pixel:
                cell = (channel.index - start) * plan.width + pixel.index // count
                at = [f.offset(self.results, n * plan.result_bytes) for n in range(count)]
                cells = [f.load(self.wide, at[i % count], (cell + i // count) * lanes) for i in range(lanes)]
                for n, value in enumerate(transpose(f, cells)):
                    f.store(value, turned, pixel.index + n * plan.turned)
            with f.loop(0, lanes) as image, f.loop(0, pixels, lanes) as pixel:
                where = (
                    block * lanes + image.index,
                    group * conv.outputs + channel.index,
                    begin * part.apart[0] + part.start[0],
                    pixel.index * apart + (0 if count == 2 else part.start[1]),
                )
                elements.axis = dict(zip(conv.axes, where, strict=True))
                elements.mask = f.mask(lanes, pixels - pixel.index)
                memo = {id(conv.product): f.load(self.wide, turned, image.index * plan.turned + pixel.index)}
                for s in conv.stores:
                    elements.store(s, memo)
