"""Images with zeros around them, laid out so that every tap of a kernel is a constant distance in memory.

A `Padded` is a thread's copy of some images: plane by plane, a plane for each channel and, if the kernel moves
in steps, for each position modulo the step. In a plane, output (image, row, column) stands at image · plane +
row · pitch + column, and what a tap multiplies it with at a constant distance from there. So all outputs of a
few images, rows and columns together, are one axis that runs in vectors; what is computed between the end
of a row and the start of the next is left aside. Zeros to the right of a row serve as those to the left of
the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .ir import I64, Function, Type, Value, vector

Pair = tuple[int, int]


@dataclass(frozen=True)
class Padded:
    """The layout of the copy. All numbers are in elements.

    Attributes:
        size: height and width of the source.
        step: rows and columns from one output to the next.
        low: the position that the first output's first tap has in the source; may be negative.
        rows: of a plane. pitch: from row to row.
        first, last: for each position modulo the step, the rows and the columns of a plane that come from
            the source: ((first row, first column), …) and one past the last.
        images: in a copy. channels: in a copy.
        margin: what may be read behind the last plane.
        is_band: whether a plane is a band of the outputs' rows, that begins anywhere: of its rows any may
            lie outside of the source.
    """

    size: Pair
    step: Pair
    low: Pair
    rows: int
    pitch: int
    first: tuple[Pair, ...]
    last: tuple[Pair, ...]
    images: int
    channels: int
    margin: int
    is_band: bool = False

    @property
    def plane(self) -> int:
        """Elements of a plane of one image."""
        return self.rows * self.pitch

    @property
    def channel(self) -> int:
        """From channel to channel."""
        return self.plane * self.images * self.step[0] * self.step[1]

    @property
    def elements(self) -> int:
        return self.channels * self.channel + self.margin

    def tap(self, position: Pair) -> int:
        """The distance of a tap: its position in the source, seen from the first output."""
        (sy, sx), (ly, lx) = self.step, self.low
        y, x = position[0] - ly, position[1] - lx
        phase = y % sy * sx + x % sx
        return phase * self.plane * self.images + y // sy * self.pitch + x // sx


def padded(
    size: Pair, step: Pair, outputs: Pair, taps: Sequence[Pair], channels: int, images: int, margin: int,
    is_band: bool = False,
) -> Padded:  # fmt: skip
    """The layout for so many outputs along rows and columns, of taps at these positions."""
    low = min(y for y, _ in taps), min(x for _, x in taps)
    spans = [(max(t[d] for t in taps) - low[d]) // step[d] for d in (0, 1)]
    rows = outputs[0] + spans[0]
    width = outputs[1] + spans[1]
    limits = (rows, width)
    used = {((y - low[0]) % step[0], (x - low[1]) % step[1]) for y, x in taps}
    first, last = [], []
    for phase in ((i, j) for i in range(step[0]) for j in range(step[1])):
        # Position p of the plane is row (or column) p · step + phase + low of the source.
        starts = [max(0, -((phase[d] + low[d]) // step[d])) for d in (0, 1)]
        ends = [min(limits[d], (size[d] - 1 - phase[d] - low[d]) // step[d] + 1) for d in (0, 1)]
        if phase not in used:
            ends = starts
        first.append((0 if is_band else starts[0], starts[1]))
        last.append((rows if is_band else max(ends[0], starts[0]), max(ends[1], starts[1])))
    zeros = min(x for _, x in first)
    pitch = max(*(x for _, x in last), width - zeros, outputs[1])
    return Padded(size, step, low, rows, pitch, tuple(first), tuple(last), images, channels, margin + width, is_band)


def emit_copy(
    f: Function, layout: Padded, type: Type, lanes: int, source: Value, strides: tuple[int, int, int, int], out: Value,
    begin: Value,
) -> None:  # fmt: skip
    """Copies images into the layout, whose other elements are zero.

    Args:
        source: the address of the first image and channel; `strides`: of image, channel, row and column.
        begin: the row of the outputs at which a band begins.
    """
    image_step, channel_step, row_step, column_step = strides
    with f.loop(0, layout.channels) as channel, f.loop(0, layout.images) as image:
        here = f.element(source, channel.index * channel_step + image.index * image_step, type)
        there = f.element(out, channel.index * layout.channel + image.index * layout.plane, type)
        for phase, ((top, left), (bottom, right)) in enumerate(zip(layout.first, layout.last, strict=True)):
            y = phase // layout.step[1] + layout.low[0]
            x = phase % layout.step[1] + layout.low[1]
            with f.loop(top, bottom) as row:
                position = (row.index + begin) * layout.step[0] + y
                start = position * row_step + (left * layout.step[1] + x) * column_step
                to = row.index * layout.pitch + (left + phase * layout.plane * layout.images)
                step, count = column_step * layout.step[1], right - left

                def copy() -> None:
                    _copy_row(f, type, lanes, here, start, step, there, to, count)  # noqa: B023

                def clear() -> None:
                    with f.loop(0, count, lanes) as loop:  # noqa: B023
                        mask = f.mask(lanes, count - loop.index)  # noqa: B023
                        f.store_masked(f.zero(vector(type, lanes)), there, mask, to + loop.index)  # noqa: B023

                if layout.is_band:
                    f.either((position >= 0) & (position < layout.size[0]), copy, clear)
                else:
                    copy()


def _copy_row(
    f: Function, type: Type, lanes: int, source: Value, start: Value, step: int, out: Value, to: Value, count: int
) -> None:
    wide = vector(type, lanes)

    def piece(at: Value | int, mask: Value | None) -> None:
        distance = f.as_type(I64, at)
        if step == 1:
            value = f.load_masked(wide, source, mask, start + distance)
        elif step == 2 and mask is None:
            # Every second of two vectors; the last of them is not read, it may lie outside.
            left = f.load(wide, source, start + distance * 2)
            right = f.load_masked(wide, source, f.mask(lanes, lanes - 1), start + distance * 2 + lanes)
            value = f.shuffle(left, right, range(0, 2 * lanes, 2))
        elif step == 2:
            left, right = (
                f.load_masked(
                    wide, source, f.mask(lanes, 2 * rest - 1 - part * lanes), start + distance * 2 + part * lanes
                )
                for part in (0, 1)
            )
            value = f.shuffle(left, right, range(0, 2 * lanes, 2))
        else:
            index = f.binary("add", f.lanes(I64, [step * i for i in range(lanes)]), start + distance * step)
            value = f.gather(wide, source, index, mask)
        f.store_masked(value, out, mask, to + distance)

    whole = count // lanes * lanes
    rest = count - whole
    with f.loop(0, whole, lanes) as loop:
        piece(loop.index, None)
    if count % lanes:
        piece(whole, f.mask(lanes, count - whole))


def emit_zeros(f: Function, type: Type, lanes: int, out: Value, elements: int) -> None:
    """Clears memory; it may write up to a vector more."""
    with f.loop(0, elements, lanes) as loop:
        f.store(f.zero(vector(type, lanes)), out, loop.index)
