"""The code of a convolution: copies of images, tiles of channels by pixels, and the epilogue."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

from .conv import Part
from .conv_plans import AnyPlan, ConvolutionPlan
from .elements import Elements
from .image import emit_copy, emit_zeros
from .ir import I1, I64, PTR, VOID, Function, Module, Value, vector
from .packing import Packing, emit_packing
from .target import Target
from .tile import Micro, emit_micro


def emit_convolution(
    module: Module, name: str, plan: ConvolutionPlan, arguments: dict[tuple[Any, int], int]
) -> Function:
    """The function `name(addresses…, scratch, thread, threads)`, as `emit_gemm` makes it."""
    return _ConvolutionCode(module, name, plan, arguments).f


class DenseCode:
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


Plan = TypeVar("Plan", bound=AnyPlan)


class ConvolutionCode(DenseCode, Generic[Plan]):
    """What all ways of cutting up a convolution have in common: the units of a thread's share, and the weights."""

    def __init__(self, module: Module, name: str, plan: Plan, arguments: dict[tuple[Any, int], int]) -> None:
        super().__init__(module, name, arguments, plan.scratch)
        self.plan, self.conv = plan, plan.conv
        f = self.f
        self.weights = self.room
        self.images = f.offset(self.room, plan.weight_bytes)
        self.results = f.offset(self.images, plan.image_bytes)
        low, high = self.share(plan.units, plan.single)
        with f.when(low < high):
            emit_zeros(f, plan.type, plan.shape.lanes, self.images, plan.image_elements)
        with f.loop(low, high) as loop:
            unit = loop.index
            band = unit % plan.bands
            block = unit // plan.bands % plan.image_blocks
            chunk = unit // (plan.bands * plan.image_blocks) % plan.row_chunks
            group = unit // (plan.bands * plan.image_blocks * plan.row_chunks)
            first, last = chunk * plan.blocks // plan.row_chunks, (chunk + 1) * plan.blocks // plan.row_chunks
            with f.when(f.equal(unit, low) | (f.equal(block, 0) & f.equal(band, 0))):
                self._pack_weights(group, first, last)
            self._unit(block, band, group, first, last)
        f.ret()

    def _unit(self, block: Value, band: Value, group: Value, first: Value, last: Value) -> None:
        """A block of images, a band of their rows, a group, and its blocks of output channels `first` to `last`."""
        raise NotImplementedError

    def _source(self, block: Value, group: Value) -> Value:
        """The address of a block's first image and a group's first channel."""
        source = self.conv.source
        image, by_group, *_ = source.strides
        start = block * (self.plan.together * image) + group * by_group
        return self.f.element(self.address(source.buffer, source.offset), start, self.plan.type)

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


class _ConvolutionCode(ConvolutionCode[ConvolutionPlan]):
    """Pixels in vectors."""

    def _unit(self, block: Value, band: Value, group: Value, first: Value, last: Value) -> None:
        plan, (image, _, *strides) = self.plan, self.conv.source.strides
        begin = band * plan.band_rows
        steps = (image, strides[0], strides[1], strides[2])
        source = self._source(block, group)
        emit_copy(self.f, plan.layout, plan.type, plan.shape.lanes, source, steps, self.images, begin)
        for together in self._side_by_side():
            for place, number in enumerate(together):
                self._part(number, place, first, last)
            self._epilogue([self.conv.parts[n] for n in together], block, group, first, last, begin)

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
            following = (block * plan.together + image.index, group * conv.outputs + channel.index + 1)
            down = (row.index + begin) * part.apart[0] + part.start[0]
            elements.axis = dict(zip(conv.axes, (*following, down, f.index(0)), strict=True))
            elements.prefetch(conv.stores, width * apart)
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
