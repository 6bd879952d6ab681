"""Convolutions of one tap as plain matrix products: no image is copied.

Where every output meets the pixel at its own place, an image is a matrix (channel, pixel) as it lies in memory.
"""

from __future__ import annotations

import math
from typing import Any

from .conv import Convolution, Images
from .conv_plans import is_flat
from .conv_weights import WeightGradient
from .expression import Affine
from .gemm import Axis, Gemm, Operand

_LEAST = 8  # channels and pixels: fewer are no vectors
_CHANNEL, _IMAGE, _PIXEL = -3, -4, -5  # reduced axes, which no store knows


def as_product(conv: Convolution | WeightGradient) -> Gemm | None:
    """The same work as a matrix product, if it has one tap, does not move in steps and has no padding."""
    if conv.groups != 1 or conv.step != (1, 1) or min(conv.channels, conv.outputs, math.prod(conv.size)) < _LEAST:
        return None
    return _of_images(conv) if isinstance(conv, Convolution) else _of_weights(conv)


def _of_images(conv: Convolution) -> Gemm | None:
    if len(conv.parts) != 1 or len(conv.parts[0].taps) != 1:
        return None
    part = conv.parts[0]
    if part.taps[0].position != (0, 0) or part.apart != (1, 1) or part.size != conv.size:
        return None
    if not _is_even(conv.source, conv.size) or not (conv.size[0] == 1 or is_flat(conv)):
        return None
    image, channel, _, pixel = conv.axes
    buffer, offset, (_, by_output, by_channel) = conv.weights
    x = {image: conv.source.strides[0], _CHANNEL: conv.source.strides[2], pixel: 1}
    return Gemm(
        batch=[(image, conv.images)],
        rows=[(channel, conv.outputs)],
        columns=(pixel, math.prod(conv.size)),
        reduced=[(_CHANNEL, conv.channels)],
        a=_operand(buffer, offset + part.taps[0].weight, {channel: by_output, _CHANNEL: by_channel}),
        b=_operand(conv.source.buffer, conv.source.offset, x),
        product=conv.product,
        stores=conv.stores,
    )


def _of_weights(conv: WeightGradient) -> Gemm | None:
    if conv.taps != ((0, 0),) or conv.out != conv.size:
        return None
    if not _is_even(conv.x, conv.size) or not _is_even(conv.g, conv.size):
        return None
    output, channel, *_ = conv.axes
    reduced: list[Axis] = [(_IMAGE, conv.images), (_PIXEL, math.prod(conv.size))]
    g, x = (
        _operand(of.buffer, of.offset, {axis: of.strides[2], _IMAGE: of.strides[0], _PIXEL: 1})
        for of, axis in ((conv.g, output), (conv.x, channel))
    )
    return Gemm([], [(output, conv.outputs)], (channel, conv.channels), reduced, g, x, conv.product, conv.stores)


def _is_even(images: Images, size: tuple[int, int]) -> bool:
    """Whether the pixels of an image follow one another."""
    *_, row, column = images.strides
    return column == 1 and (row == size[1] or size[0] == 1)


def _operand(buffer: Any, offset: int, strides: dict[int, int]) -> Operand:
    return Operand(buffer, Affine(offset, strides.items()))
