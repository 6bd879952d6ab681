"""Convolution, pooling, resizing and borders: calls of every function and layer, with their options."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Case = tuple[Any, ...]


def x(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers, the same for the same arguments."""
    return np.random.default_rng([seed, *shape]).normal(size=shape)


def functions() -> Iterator[Case]:
    """(name, differentiable operands, constant operands, options)."""
    yield from convolutions()
    yield from transposed()
    yield from pools()
    yield from resized()
    yield from bordered()


OPTIONS: list[dict[str, Any]] = [
    {}, {"stride": 2}, {"padding": 1}, {"dilation": 2, "padding": 2}, {"stride": 3, "padding": 2, "dilation": 2},
    {"padding": "same"}, {"padding": "same", "dilation": 3}, {"padding": "valid"},
]  # fmt: skip


def convolutions() -> Iterator[Case]:
    for rank in (1, 2, 3):
        size = (7, 6, 5)[:rank]
        for options in OPTIONS if rank < 3 else OPTIONS[:5]:
            yield f"conv{rank}d", (x(2, 3, *size), x(4, 3, *(3, 2, 2)[:rank]), x(4)), (), options
        yield f"conv{rank}d", (x(3, *size), x(4, 3, *(1,) * rank)), (), {}
        yield f"conv{rank}d", (x(2, 4, *size), x(6, 2, *(2,) * rank)), (), {"groups": 2, "stride": 2, "padding": 1}
        yield f"conv{rank}d", (x(2, 4, *size), x(4, 1, *(3,) * rank)), (), {"groups": 4, "padding": 1}
    pairs: dict[str, Any] = {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 3)}
    yield "conv2d", (x(2, 3, 7, 9), x(4, 3, 3, 2)), (), pairs
    yield "conv2d", (x(2, 3, 4, 4), x(4, 3, 1, 1)), (), {"stride": 2, "padding": 1}
    yield "conv2d", (x(0, 3, 4, 4), x(4, 3, 3, 3), x(4)), (), {}


def transposed() -> Iterator[Case]:
    for rank in (1, 2, 3):
        size = (4, 3, 2)[:rank]
        name = f"conv_transpose{rank}d"
        yield name, (x(2, 3, *size), x(3, 4, *(3, 2, 2)[:rank]), x(4)), (), {}
        yield name, (x(2, 3, *size), x(3, 4, *(3,) * rank)), (), {"stride": 2, "padding": 1, "output_padding": 1}
        yield name, (x(4, *size), x(4, 3, *(2,) * rank), x(6)), (), {"groups": 2, "stride": 2}
        yield name, (x(2, 3, *size), x(3, 4, *(1,) * rank)), (), {}
    for options in (
        {"stride": 2, "dilation": 3, "padding": 1, "output_padding": 2},
        {"dilation": 3, "output_padding": 2},
        {"dilation": (1, 4), "stride": (3, 2), "padding": (1, 0), "output_padding": (2, 3)},
        {"padding": 2},
    ):
        yield "conv_transpose2d", (x(2, 3, 4, 5), x(3, 4, 3, 2)), (), options


def pools() -> Iterator[Case]:
    for rank in (1, 2, 3):
        image, single = x(2, 3, *(7, 6, 5)[:rank]), x(3, *(7, 6, 5)[:rank])
        yield f"max_pool{rank}d", (image,), (2,), {}
        yield f"max_pool{rank}d", (single,), (3, 2, 1), {"ceil_mode": True}
        yield f"max_pool{rank}d", (image,), (3, 1, 1, 2), {}
        yield f"avg_pool{rank}d", (image,), (2,), {}
        yield f"avg_pool{rank}d", (single,), (3, 2, 1), {"ceil_mode": True}
        yield f"avg_pool{rank}d", (image,), (3, 2, 1), {"ceil_mode": True, "count_include_pad": False}
        for output in (1, 3, (7, 3, 2)[:rank]):
            yield f"adaptive_avg_pool{rank}d", (image,), (output,), {}
            yield f"adaptive_max_pool{rank}d", (image,), (output,), {}
        yield f"adaptive_max_pool{rank}d", (x(1, *(5, 3, 2)[:rank]),), (2,), {}
        for kind in ("max", "avg"):
            yield f"{kind}_pool{rank}d", (x(1, *(5, 3, 3)[:rank]),), (2, 1), {}
    for options in (
        {"stride": (2, 1), "padding": (1, 0)},
        {"stride": 3, "padding": 1, "ceil_mode": True},
        {"stride": 1, "divisor_override": 5},
    ):
        yield "avg_pool2d", (x(2, 3, 8, 6),), ((3, 2),), options
    for mode in (False, True):
        yield "max_pool2d", (x(2, 3, 8, 6),), ((3, 2), (2, 3), (1, 0), (1, 2)), {"ceil_mode": mode}
    yield "adaptive_avg_pool2d", (x(2, 3, 5, 7),), ((None, 3),), {}
    yield "unfold", (x(2, 3, 5, 6),), ((2, 3),), {}
    yield "unfold", (x(3, 5, 6),), (2, 2, 1, 2), {}
    yield "fold", (x(2, 12, 20),), ((5, 6), 2), {}
    yield "fold", (x(12, 9),), ((5, 6), 2, 2, 1, 2), {}


def resized() -> Iterator[Case]:
    for rank in (1, 2, 3):
        image = x(2, 3, *(4, 3, 5)[:rank])
        for mode in ("nearest", "nearest-exact", "area", ("linear", "bilinear", "trilinear")[rank - 1]):
            yield "interpolate", (image,), ((8, 5, 3)[:rank],), {"mode": mode}
            yield "interpolate", (image,), (), {"mode": mode, "scale_factor": 2}
            yield "interpolate", (image,), (), {"mode": mode, "scale_factor": (1.7, 0.7, 2.3)[:rank]}
    for mode in ("bilinear", "bicubic"):
        for align in (False, True):
            yield "interpolate", (x(2, 3, 4, 5),), ((7, 1),), {"mode": mode, "align_corners": align}
            yield "interpolate", (x(2, 3, 4, 5),), (), {"mode": mode, "align_corners": align, "scale_factor": 2.3}
    recomputed = {"scale_factor": 1.7, "mode": "bilinear", "recompute_scale_factor": True}
    yield "interpolate", (x(2, 3, 4, 5),), (), recomputed
    yield "interpolate", (x(2, 3, 4, 4),), (4,), {"mode": "bilinear"}
    yield "pixel_shuffle", (x(2, 8, 3, 2),), (2,), {}
    yield "pixel_unshuffle", (x(2, 2, 6, 4),), (2,), {}


def bordered() -> Iterator[Case]:
    yield "pad", (x(2, 3, 4),), ((1, 2),), {}
    yield "pad", (x(2, 3, 4),), ((1, -2, 0, 3),), {"value": 1.5}
    for mode in ("reflect", "replicate", "circular"):
        yield "pad", (x(2, 3, 5),), ((1, 2),), {"mode": mode}
        yield "pad", (x(3, 5, 4),), ((1, 2, 3, 0),), {"mode": mode}
        yield "pad", (x(2, 3, 3, 3, 3),), ((1, 2, 2, 1, 0, 1),), {"mode": mode}


def layers() -> Iterator[Case]:
    """(name, arguments, inputs, constant inputs, options)."""
    for rank in (1, 2, 3):
        image = x(2, 4, *(6, 5, 4)[:rank])
        yield f"Conv{rank}d", (4, 6, 3), (image,), (), {}
        yield f"Conv{rank}d", (4, 6, 2, 2, 1, 1, 2, False), (image,), (), {}
        yield f"ConvTranspose{rank}d", (4, 6, 3), (image,), (), {}
        yield f"ConvTranspose{rank}d", (4, 6, 2, 2, 1, 1, 2, False), (image,), (), {}
        for mode in ("reflect", "replicate", "circular"):
            yield f"Conv{rank}d", (4, 2, 3), (image,), (), {"padding": 1, "padding_mode": mode}
        yield f"Conv{rank}d", (4, 2, 2), (image,), (), {"padding": "same", "padding_mode": "circular"}
        yield f"MaxPool{rank}d", (2,), (image,), (), {}
        yield f"MaxPool{rank}d", (3, 2, 1), (image,), (), {"ceil_mode": True}
        yield f"AvgPool{rank}d", (2, 1, 1), (image,), (), {}
        yield f"AdaptiveAvgPool{rank}d", (2,), (image,), (), {}
        yield f"AdaptiveMaxPool{rank}d", (2,), (image,), (), {}
        for kind in ("Zero", "Reflection", "Replication", "Circular"):
            yield f"{kind}Pad{rank}d", (1,), (image,), (), {}
        yield f"ConstantPad{rank}d", (tuple(range(2 * rank)), 1.5), (image,), (), {}
        yield "Upsample", (), (image,), (), {"scale_factor": 2}
    yield "Conv2d", (4, 6, (3, 2), (1, 2), (2, 0), (1, 2)), (x(2, 4, 6, 5),), (), {}
    yield "Upsample", ((7, 3), None, "bilinear", True), (x(2, 4, 6, 5),), (), {}
    yield "UpsamplingNearest2d", (), (x(2, 4, 6, 5),), (), {"scale_factor": 3}
    yield "UpsamplingBilinear2d", ((7, 3),), (x(2, 4, 6, 5),), (), {}
    yield "PixelShuffle", (2,), (x(2, 4, 3, 2),), (), {}
    yield "PixelUnshuffle", (2,), (x(2, 4, 4, 2),), (), {}
    yield "Unfold", (2,), (x(2, 4, 4, 3),), (), {}
    yield "Fold", ((4, 3), 2), (x(2, 8, 6),), (), {}
