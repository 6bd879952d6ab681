"""Tiles of images, transformed for products: what Winograd's convolution and its gradient of the weights read.

Tiles of a few images, or of a band of an image's rows, are one axis; of each of the sixteen numbers of a transformed
tile there is a matrix (channel, tile). Vectors run along a row of tiles.
"""

from __future__ import annotations

from dataclasses import dataclass

from .image import Pair
from .ir import I1, I64, PTR, Function, Module, Type, Value, vector
from .winograd_transforms import IN, OUT, pixels


@dataclass(frozen=True)
class Tiles:
    """How tiles lie in memory. All numbers are in elements.

    Attributes:
        type, lanes: of the vectors.
        size: height and width of an image; the width's elements follow one another.
        strides: of image, channel and row.
        images: that are transformed together.
        low: where an image's first tile begins; may be negative.
        across: tiles of a row.
        pitch: from channel to channel of the result. point: from matrix to matrix.
    """

    type: Type
    lanes: int
    size: Pair
    strides: tuple[int, int, int]
    images: int
    low: Pair
    across: int
    pitch: int
    point: int

    @property
    def nbytes(self) -> int:
        """Of all matrices."""
        return IN * IN * self.point * self.type.nbytes


def columns(across: int, lanes: int) -> list[int]:
    """The first tiles of a row's vectors. The last overlaps the one before it; if a row is shorter than a vector, what
    is beyond it is written over by the next row."""
    return [min(at, max(across - lanes, 0)) for at in range(0, across, lanes)]


def pitch_of(tiles: int, lanes: int) -> int:
    """From channel to channel for so many tiles: whole vectors, and an odd number of them, so that channels do not
    compete for the same places of a cache."""
    return (-(-tiles // lanes) | 1) * lanes


def emit_tiles(module: Module, name: str, tiles: Tiles) -> Function:
    """The function `name(source, zeros, out, i64 begin, i64 rows, i64 channels)`.

    Args:
        source: the first image and channel. zeros: a row of zeros, for rows outside of the image.
        begin, rows: the first row of tiles and how many. channels: how many.
    """
    f = module.function(name, [PTR, PTR, PTR, I64, I64, I64], internal=True)
    source, zeros, out, begin, rows, channels = f.arguments
    image_step, channel_step, row_step = tiles.strides
    height, width = tiles.size
    wide = vector(tiles.type, tiles.lanes)
    starts = columns(tiles.across, tiles.lanes)
    table = module.table(f"{name}_columns", I64, starts) if len(starts) > 1 else None

    def row(at: Value, image: Value, first: Value | int, masks: list[Value | None]) -> list[Value]:
        """A row of the image transformed along columns; `at` is its number in the image."""
        inside = f.compare("ult", at, height)
        line = f.select(inside, f.element(image, at * row_step, tiles.type), zeros)
        result: list[Value] = []
        for pair in (0, 2):
            left, right = (
                f.load_masked(wide, line, masks[pair + half], first + (pair + half * tiles.lanes)) for half in (0, 1)
            )
            result += [f.shuffle(left, right, range(odd, 2 * tiles.lanes, 2)) for odd in (0, 1)]
        return pixels(result)

    def column(image: Value, there: Value, at: Value | int) -> None:
        """All rows of tiles, for a vector of columns of tiles that begins at number `at`."""
        first = at * OUT + tiles.low[1]
        masks = [inside(f, tiles.lanes, first + (start + half), width) for start in (0, 2) for half in (0, tiles.lanes)]
        top = begin * OUT + tiles.low[0]
        above = [v for i in (0, 1) for v in row(top + i, image, first, masks)]
        with f.loop(0, rows, carry=above) as loop:
            lines = [loop.carried[:IN], loop.carried[IN:]]
            lines += [row(top + loop.index * OUT + i, image, first, masks) for i in (2, 3)]
            place = loop.index * tiles.across + at
            for j in range(IN):
                for i, value in enumerate(pixels([line[j] for line in lines])):
                    f.store(value, there, place + (i * IN + j) * tiles.point)
            loop.carry(*lines[2], *lines[3])

    with f.loop(0, channels) as channel, f.loop(0, tiles.images) as number:
        image = f.element(source, channel.index * channel_step + number.index * image_step, tiles.type)
        place = channel.index * tiles.pitch + number.index * rows * tiles.across
        there = f.element(out, place, tiles.type)
        if table is None:
            column(image, there, 0)
        else:
            with f.loop(0, len(starts)) as loop:
                column(image, there, f.load(I64, f.address_of(table), loop.index))
    f.ret()
    return f


def inside(f: Function, lanes: int, first: Value | int, width: int) -> Value | None:
    """Which of the columns from `first` on lie in an image."""
    if isinstance(first, int):
        kept = [int(0 <= first + i < width) for i in range(lanes)]
        return None if all(kept) else f.lanes(I1, kept)
    return f.compare("ult", f.binary("add", f.lanes(I64, range(lanes)), first), width)
