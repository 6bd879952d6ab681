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


LINE = 64  # bytes of a line of the caches


def columns(across: int, lanes: int) -> list[int]:
    """The first tiles of a row's vectors. The last overlaps the one before it; if a row is shorter than a vector, what
    is beyond it is written over by the next row."""
    return [min(at, max(across - lanes, 0)) for at in range(0, across, lanes)]


def rows_at_once(across: int, lanes: int) -> int:
    """Rows of tiles in a vector: several, one after another, where they are short."""
    return next((rows for rows in (4, 2) if rows * across <= lanes), 1)


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

    at_once = rows_at_once(tiles.across, tiles.lanes)

    def line_at(at: Value, image: Value) -> Value:
        """The address of an image's row, or of zeros."""
        return f.select(f.compare("ult", at, height), f.element(image, at * row_step, tiles.type), zeros)

    def long_row(at: Value, image: Value, first: Value | int, masks: list[Value | None]) -> list[Value]:
        """A row of an image, transformed along columns; `at` is its number in the image."""
        line = line_at(at, image)
        result: list[Value] = []
        for pair in (0, 2):
            left, right = (
                f.load_masked(wide, line, masks[pair + half], first + (pair + half * tiles.lanes)) for half in (0, 1)
            )
            result += [f.shuffle(left, right, range(odd, 2 * tiles.lanes, 2)) for odd in (0, 1)]
        return pixels(result)

    def store(lines: list[list[Value]], there: Value, place: Value) -> None:
        for j in range(IN):
            for i, value in enumerate(pixels([line[j] for line in lines])):
                f.store(value, there, place + (i * IN + j) * tiles.point)

    def long_rows(image: Value, there: Value, at: Value | int) -> None:
        """All rows of tiles, for a vector of columns of tiles that begins at number `at`."""
        first = at * OUT + tiles.low[1]
        masks = [inside(f, tiles.lanes, first + (start + half), width) for start in (0, 2) for half in (0, tiles.lanes)]
        top = begin * OUT + tiles.low[0]
        above = [v for i in (0, 1) for v in long_row(top + i, image, first, masks)]
        with f.loop(0, rows, carry=above) as loop:
            lines = [loop.carried[:IN], loop.carried[IN:]]
            lines += [long_row(top + loop.index * OUT + i, image, first, masks) for i in (2, 3)]
            store(lines, there, loop.index * tiles.across + at)
            loop.carry(*lines[2], *lines[3])

    def short_rows(image: Value, there: Value) -> None:
        """All rows of tiles, a few at once."""
        top = begin * OUT + tiles.low[0]
        with f.loop(0, rows, at_once) as loop:
            addresses = [line_at(top + loop.index * OUT + i, image) for i in range(OUT * at_once + OUT)]
            shifted = []
            for first in (tiles.low[1], tiles.low[1] + OUT):
                mask = inside(f, tiles.lanes, first, width)
                shifted.append([f.load_masked(wide, line, mask, first) for line in addresses])
            lines = []
            for i in range(IN):
                x = [v for side in shifted for v in _apart(f, side[i : i + OUT * at_once : OUT], tiles.across)]
                lines.append(pixels(x))
            store(lines, there, loop.index * tiles.across)

    with f.loop(0, channels) as channel, f.loop(0, tiles.images) as number:
        image = f.element(source, channel.index * channel_step + number.index * image_step, tiles.type)
        place = channel.index * tiles.pitch + number.index * rows * tiles.across
        there = f.element(out, place, tiles.type)
        if row_step == width:
            following = f.element(image, begin * (OUT * row_step) + channel_step, tiles.type)
            with f.loop(0, rows * (OUT * row_step), LINE // tiles.type.nbytes) as line:
                f.prefetch(f.element(following, line.index, tiles.type))
        if at_once > 1:
            short_rows(image, there)
        elif table is None:
            long_rows(image, there, 0)
        else:
            with f.loop(0, len(starts)) as loop:
                long_rows(image, there, f.load(I64, f.address_of(table), loop.index))
    f.ret()
    return f


def _apart(f: Function, rows: list[Value], across: int) -> list[Value]:
    """Even and odd pixels of a few rows, each from lane 0 on, row after row."""
    lanes = rows[0].type.lanes
    each = 1  # rows of a vector
    if len(rows) > 2:
        two = [*range(OUT * across), *range(lanes, lanes + OUT * across)]
        rows = [f.shuffle(rows[i], rows[i + 1], _filled(two, lanes)) for i in (0, 2)]
        each = 2
    places = [row * lanes + tile * OUT for row in range(2) for tile in range(across * each)]
    return [f.shuffle(rows[0], rows[1], _filled([p + odd for p in places], lanes)) for odd in (0, 1)]


def _filled(order: list[int], lanes: int) -> list[int]:
    return (order + [-1] * lanes)[:lanes]


def inside(f: Function, lanes: int, first: Value | int, width: int) -> Value | None:
    """Which of the columns from `first` on lie in an image."""
    if isinstance(first, int):
        kept = [int(0 <= first + i < width) for i in range(lanes)]
        return None if all(kept) else f.lanes(I1, kept)
    return f.compare("ult", f.binary("add", f.lanes(I64, range(lanes)), first), width)
