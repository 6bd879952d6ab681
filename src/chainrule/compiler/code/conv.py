"""Convolutions as products without im2col: what is computed.

Rows of a tile are output channels, its vectors run over pixels. A unit of work is a few images of one
group: it copies their channels into a `Padded` layout, in which every tap of the kernel is a constant distance,
and sums over channels and taps. The cotangent of the images is the same sum with other taps: those
that reach a pixel. Where the convolution moves in steps these differ from pixel to pixel, and pixels
of the same taps make a `Part`. `conv_plans.py` says how the work is cut up; the cotangent of the weights
is in `conv_weights.py`.

Images are in the order (image, channel, row, column) on both sides; nothing else knows another one.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

from ..schedule.kernels import Store, View
from .elements import pointers
from .expression import Outside
from .image import Pair

Axes = tuple[int, int, int, int]


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


def taps_of(kernel: Pair) -> list[Pair]:
    return [(i, j) for i in range(kernel[0]) for j in range(kernel[1])]


def grouped(x: View, groups: int) -> Images:
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
        for i, j in taps_of((w.shape[2], w.shape[3]))
    )
    outputs = w.shape[0] // groups
    return Convolution(
        n, groups, outputs, c // groups, grouped(x, groups), (height, width),
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
        for i, j in taps_of((w.shape[2], w.shape[3])):
            far = [start[d] + before[d] - (i, j)[d] * dilation[d] for d in (0, 1)]
            if far[0] % stride[0] == 0 and far[1] % stride[1] == 0:
                taps.append(Tap((far[0] // stride[0], far[1] // stride[1]), i * down + j * right))
        parts.append(Part(tuple(taps), start, stride, (count[0], count[1])))
    outputs = o // groups
    return Convolution(
        n, groups, w.shape[1], outputs, grouped(g, groups), (height, width),
        (w.base, w.offset, (outputs * output, channel, output)), (1, 1), tuple(parts), axes, product, stores,
    )  # fmt: skip
