"""How a convolution is cut up: into units for the threads, tiles, and what is in working memory."""

from __future__ import annotations

import math

from .conv import Convolution, Part
from .expression import Load, Position, nodes
from .image import Padded, Pair, padded
from .ir import Type, type_of
from .target import Target
from .tile import Shape, choose

SPLIT_FLOPS = 400_000
_PIXELS = 256  # that a unit has at least, if there are so many
_AT_ONCE = 64  # pixels of a channel whose results are turned and written together


class AnyPlan:
    """What both ways of cutting up a convolution decide.

    Attributes:
        type: of the elements. shape: of a tile of output channels by pixels.
        together: images of a unit. bands: into which an image's rows are cut.
        blocks, last_rows: tiles of a group's output channels, and the channels of the last.
        row_chunks: into how many parts the output channels are cut to have enough units.
        depths, weight_starts: of each part's packed weights: tile by tile (channel, tap, row).
        scratch: bytes of working memory for each thread: packed weights, copied images, results.
        single: whether one thread does all of it.
    """

    bands = 1

    def __init__(self, conv: Convolution, target: Target, threads: int) -> None:
        self.conv, self.target = conv, target
        self.type: Type = type_of(conv.product.dtype)
        self.single = conv.flops < SPLIT_FLOPS
        self.threads = 1 if self.single else threads
        self.taps = [t.position for p in conv.parts for t in p.taps] or [(0, 0)]
        self.outputs = max(p.size[0] for p in conv.parts), max(p.size[1] for p in conv.parts)

    def _share(self, shape: Shape, together: int) -> None:
        """The units, given a tile's shape and the images of a unit; `bands` is known."""
        conv, self.shape, self.together = self.conv, shape, together
        self.blocks = -(-conv.outputs // shape.rows)
        self.last_rows = conv.outputs - (self.blocks - 1) * shape.rows
        self.image_blocks = conv.images // together
        shared = conv.groups * self.image_blocks * self.bands
        threads = self.threads
        self.row_chunks = 1 if shared % threads == 0 or shared >= 8 * threads else min(threads, self.blocks)
        self.units = shared * self.row_chunks
        self.depths = [conv.channels * max(len(p.taps), 1) for p in conv.parts]
        self.chunk_rows = -(-self.blocks // self.row_chunks) * shape.rows
        self.weight_starts = [sum(self.depths[:i]) * self.chunk_rows for i in range(len(self.depths))]

    def _room(self, image_elements: int, result_elements: int) -> None:
        """Working memory for images, and for one part's results."""
        size = self.type.nbytes
        self.image_elements = image_elements
        self.weight_bytes = lines_of(sum(self.depths) * self.chunk_rows * size)
        self.image_bytes = lines_of((image_elements + 64) * size)
        self.result_bytes = lines_of(result_elements * size)
        in_turn = 2 if any(p.apart[1] == 2 for p in self.conv.parts) else 1
        self.scratch = self.weight_bytes + self.image_bytes + in_turn * self.result_bytes


class ConvolutionPlan(AnyPlan):
    """Vectors along pixels, of several images one after another: what `emit_convolution` writes out."""

    def __init__(self, conv: Convolution, target: Target, threads: int) -> None:
        super().__init__(conv, target, threads)
        outputs, threads = self.outputs, self.threads
        one = padded(conv.size, conv.step, outputs, self.taps, conv.channels, 1, 0)
        images = together(conv.images, one.plane, threads)
        self.bands, self.band_rows = bands(one, outputs[0], conv.images * conv.groups, self.type, target, threads)
        outputs = self.band_rows, outputs[1]
        self.columns = (images - 1) * one.plane + (outputs[0] - 1) * one.pitch + outputs[1]
        shape = choose([conv.outputs], self.columns, self.type, target)
        self._share(shape, images)
        self.layout = padded(
            conv.size, conv.step, outputs, self.taps, conv.channels, images, shape.columns, self.bands > 1
        )
        self.panels = -(-self.columns // shape.columns)
        self.width = self.panels * shape.columns
        self._room(self.layout.elements, self.chunk_rows * self.width + shape.columns)


class LanesPlan(AnyPlan):
    """Vectors along images: what `emit_lanes` writes out.

    A *cell* is one pixel of as many images as a vector has lanes.

    Attributes:
        layout: of the copied images, in cells.
        channel: cells from channel to channel; the last takes what no tap reads.
        band_rows: rows of outputs whose results are written at once. width: cells of a channel's results.
        turned: pixels of an image that the epilogue sees at once, in whole vectors.
        windows: for each part and row the taps that lie within the image: from the one to the other.
        cells: for each pixel of the source its cell.
    """

    def __init__(self, conv: Convolution, target: Target, threads: int) -> None:
        super().__init__(conv, target, threads)
        lanes = target.lanes(self.type)
        self._share(choose([conv.outputs], self.outputs[1] * lanes, self.type, target), lanes)
        self.layout = padded(conv.size, conv.step, self.outputs, self.taps, conv.channels, 1, 0)
        self.channel = self.layout.channel + self.layout.margin + 1
        self.is_flat = len(conv.parts) == 1 and conv.parts[0].apart == (1, 1) and is_flat(conv)
        self.band_rows = max(1, min(_AT_ONCE // self.outputs[1], self.outputs[0])) if self.is_flat else 1
        self.width = self.band_rows * self.outputs[1]
        self.turned = -(-self.width * max(p.apart[1] for p in conv.parts) // lanes) * lanes
        self.windows = [[_window(conv, p, row) for row in range(p.size[0])] for p in conv.parts]
        self.cells = [self._cell(y, x) for y in range(conv.size[0]) for x in range(conv.size[1])]
        self._room(conv.channels * self.channel * lanes, (self.chunk_rows * self.width + lanes) * lanes)

    def _cell(self, y: int, x: int) -> int:
        layout = self.layout
        down, right = y - layout.low[0], x - layout.low[1]
        phase = down % layout.step[0] * layout.step[1] + right % layout.step[1]
        place = down // layout.step[0], right // layout.step[1]
        read = all(layout.first[phase][d] <= place[d] < layout.last[phase][d] for d in (0, 1))
        return layout.tap((y, x)) if read else self.channel - 1


def suits_lanes(conv: Convolution, target: Target) -> bool:
    """Whether vectors along images pay.

    They do for small images, whose borders are much of a vector along pixels, if there is work enough for each pixel
    to be turned twice, and all images of a vector, before and after, fit into the second-level cache.
    """
    lanes = target.lanes(type_of(conv.product.dtype))
    height, width = conv.size
    _, _, _, row, column = conv.source.strides
    results = sum(math.prod(p.size) for p in conv.parts)
    return (
        conv.images % lanes == 0
        and column == 1
        and row == width
        and lanes <= height * width
        and max(conv.channels * height * width, conv.outputs * results) * target.vector_bytes <= target.l2
        and min(conv.channels, conv.outputs) >= lanes
        and any(len(p.taps) > 1 for p in conv.parts)
        and all(p.apart[1] <= 2 for p in conv.parts)
    )


def _window(conv: Convolution, part: Part, row: int) -> Pair:
    """The taps of an output's row that lie in a row of the source: from the one to the other."""
    inside = [i for i, t in enumerate(part.taps) if 0 <= row * conv.step[0] + t.position[0] < conv.size[0]]
    return (inside[0], inside[-1] + 1) if inside else (0, 0)


def is_flat(conv: Convolution) -> bool:
    """Whether rows of the result follow one another in everything that its stores read and write."""
    _, _, row, column = conv.axes
    width = conv.parts[0].size[1]
    found = nodes(*(s.expression for s in conv.stores))
    addresses = [n.index for n in found if isinstance(n, Load | Position)] + [s.index for s in conv.stores]
    return all(at.coefficient(row) == width * at.coefficient(column) for at in addresses)


def together(images: int, plane: int, threads: int) -> int:
    """How many images a unit has: enough pixels for whole tiles, and equal shares for the threads."""
    wanted = max(1, _PIXELS // plane)
    fits = [n for n in range(1, images + 1) if images % n == 0 and n <= wanted]
    fair = [n for n in fits if images // n % threads == 0]
    return (fair or fits)[-1]


def bands(layout: Padded, rows: int, images: int, type: Type, target: Target, threads: int) -> tuple[int, int]:
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


def lines_of(nbytes: int) -> int:
    return -(-nbytes // 64) * 64
