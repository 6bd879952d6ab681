"""Images in other sizes: interpolation and the exchange of channels for pixels.

Interpolation is linear in the image and separable: along each axis it is a matrix of weights,
so its derivatives are products with that matrix and its transpose.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...core.errors import DTypeError, OperationError, ShapeError, located
from ...core.tensor import Tensor, new_tensor
from ...primitives.index import index
from ...primitives.shape import broadcast_to, permute_dims, reshape
from .common import floating
from .pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d
from .spatial import Sizes, apply_along, sizes

_AXES = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}
_MODES = ("nearest", "nearest-exact", "area", *_AXES)


def interpolate(
    input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest",
    align_corners: bool | None = None, recompute_scale_factor: bool | None = None, antialias: bool = False,
) -> Tensor:  # fmt: skip
    """The image at another size.

    Args:
        input: shape (N, C, spatial…) with one to three spatial axes.
        size: the new spatial size; or
        scale_factor: by how much it grows, ⌊length · scale_factor⌋.
        mode: "nearest" (and "nearest-exact", which rounds from pixel centres), "linear",
            "bilinear", "trilinear" for one, two, three spatial axes, "bicubic" for two (Keys
            1981 with a = -3/4), "area" for adaptive average pooling.
        align_corners: for the linear and cubic modes: True lets the centres of the corner
            pixels coincide, False (the default) the corners of the images.
        recompute_scale_factor: take the ratio of the sizes, not the given factor, as the scale.
        antialias: not supported.

    Raises:
        OperationError: size and scale_factor are both given or both missing, or the mode does
            not go with the other arguments.
        ShapeError: the mode needs another number of spatial axes, or the result would be empty.
    """
    x = floating(input, "interpolate")
    rank = x.ndim - 2
    _check_mode(x, mode, align_corners, antialias)
    given, out = _new_size(x, rank, size, scale_factor, recompute_scale_factor)
    if mode == "area":
        pool: Callable[..., Tensor] = (adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d)[rank - 1]
        return pool(x, out)
    for axis in range(2, x.ndim):
        n, m, factor = x.shape[axis], out[axis - 2], given[axis - 2]
        if mode.startswith("nearest"):
            x = _nearest(x, axis, m, factor, exact=mode == "nearest-exact")
        elif n != m or factor is not None:
            matrix = _cubic if mode == "bicubic" else _linear
            x = apply_along(matrix(n, m, factor, bool(align_corners)), x, axis)
    return x


def _check_mode(x: Tensor, mode: str, align_corners: bool | None, antialias: bool) -> None:
    if mode not in _MODES:
        raise OperationError(located(f"interpolate: mode is one of {', '.join(_MODES)}; got {mode!r}"))
    if not 3 <= x.ndim <= 5:
        raise ShapeError(located(f"interpolate: the input has shape (N, C, spatial…) with 3 to 5 axes, got {x.shape}"))
    if mode in _AXES and x.ndim - 2 != _AXES[mode]:
        raise ShapeError(
            located(f"interpolate: mode {mode!r} is for {_AXES[mode]} spatial axes, shape {x.shape} has {x.ndim - 2}")
        )
    if mode not in _AXES and align_corners is not None:
        raise OperationError(located(f"interpolate: align_corners goes with {', '.join(_AXES)}; not with {mode!r}"))
    if antialias:
        raise OperationError(located("interpolate: antialias is not supported; blur with avg_pool2d before shrinking"))


def _new_size(
    x: Tensor, rank: int, size: Any, scale_factor: Any, recompute: bool | None
) -> tuple[list[float | None], Sizes]:
    """The scale factor of each axis where it counts, and the new size."""
    if (size is None) == (scale_factor is None):
        raise OperationError(located("interpolate: give either size or scale_factor"))
    if size is not None:
        if recompute:
            raise OperationError(located("interpolate: recompute_scale_factor goes with scale_factor, not with size"))
        return [None] * rank, sizes(size, rank, "interpolate", "size", least=1)
    factors = list(scale_factor) if isinstance(scale_factor, tuple | list) else [scale_factor] * rank
    if len(factors) != rank:
        raise OperationError(located(f"interpolate: scale_factor is one number or {rank}, got {scale_factor!r}"))
    try:
        factors = [float(f) for f in factors]
    except (TypeError, ValueError):
        raise DTypeError(located(f"interpolate: scale_factor is a number, got {scale_factor!r}")) from None
    out = tuple(math.floor(n * f) for n, f in zip(x.shape[2:], factors, strict=True))
    if min(out) < 1:
        raise ShapeError(located(f"interpolate: shape {x.shape} scaled by {scale_factor} has no pixels left"))
    return ([None] * rank if recompute else factors), out


def _nearest(x: Tensor, axis: int, m: int, factor: float | None, exact: bool) -> Tensor:
    n = x.shape[axis]
    if m == n and factor is None:
        return x
    if m % n == 0 and (factor is None or factor == m // n):
        # Every pixel a whole number of times: a broadcast, whose derivative is a sum.
        times = m // n
        spread = reshape(x, shape=(*x.shape[: axis + 1], 1, *x.shape[axis + 1 :]))
        spread = broadcast_to(spread, shape=(*x.shape[: axis + 1], times, *x.shape[axis + 1 :]))
        return reshape(spread, shape=(*x.shape[:axis], m, *x.shape[axis + 1 :]))
    # Single precision, as in PyTorch, so that both round to the same pixel.
    scale = np.float32(1 / factor if factor is not None else n / m)
    position = np.arange(m, dtype=np.float32)
    chosen = np.minimum(np.floor((position + np.float32(0.5) if exact else position) * scale).astype(np.int64), n - 1)
    pattern = tuple(("a", 0) if a == axis else ("s", 0, length, 1) for a, length in enumerate(x.shape))
    return index(x, new_tensor(chosen, None), pattern=pattern)


def _sources(n: int, m: int, factor: float | None, align_corners: bool) -> np.ndarray:
    """Where each of m new pixels lies among n old ones."""
    i = np.arange(m)
    if align_corners:
        return i * ((n - 1) / (m - 1)) if m > 1 else np.zeros(m)
    return (i + 0.5) * (1 / factor if factor is not None else n / m) - 0.5


def _linear(n: int, m: int, factor: float | None, align_corners: bool) -> np.ndarray:
    """The weights of the two neighbours of each new pixel, as a matrix (m, n)."""
    source = np.maximum(_sources(n, m, factor, align_corners), 0)
    left = np.minimum(source.astype(np.int64), n - 1)
    share = source - left
    matrix = np.zeros((m, n))
    rows = np.arange(m)
    np.add.at(matrix, (rows, left), 1 - share)
    np.add.at(matrix, (rows, np.minimum(left + 1, n - 1)), share)
    return matrix


def _cubic(n: int, m: int, factor: float | None, align_corners: bool) -> np.ndarray:
    """The weights of the four neighbours of each new pixel, as a matrix (m, n); the edge is repeated."""
    source = _sources(n, m, factor, align_corners)
    left = np.floor(source).astype(np.int64)
    matrix = np.zeros((m, n))
    rows, a = np.arange(m), -0.75
    for offset in range(-1, 3):
        t = np.abs(source - left - offset)
        near = ((a + 2) * t - (a + 3)) * t * t + 1
        far = ((a * t - 5 * a) * t + 8 * a) * t - 4 * a
        np.add.at(matrix, (rows, np.clip(left + offset, 0, n - 1)), np.where(t <= 1, near, far))
    return matrix


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Channels become pixels: (…, C r², H, W) to (…, C, H r, W r) (Shi et al. 2016).

    Raises:
        ShapeError: the number of channels is no multiple of r².
    """
    (r,) = sizes(upscale_factor, 1, "pixel_shuffle", "upscale_factor", least=1)
    shape = input.shape
    if len(shape) < 3 or shape[-3] % (r * r):
        raise ShapeError(
            located(f"pixel_shuffle: shape (…, C·{r * r}, H, W) is needed for upscale_factor={r}, got {shape}")
        )
    front, (channels, h, width) = shape[:-3], shape[-3:]
    k = len(front)
    split = reshape(input, shape=(*front, channels // (r * r), r, r, h, width))
    order = (*range(k), k, k + 3, k + 1, k + 4, k + 2)
    return reshape(permute_dims(split, axes=order), shape=(*front, channels // (r * r), h * r, width * r))


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Pixels become channels: (…, C, H r, W r) to (…, C r², H, W).

    Raises:
        ShapeError: height or width is no multiple of r.
    """
    (r,) = sizes(downscale_factor, 1, "pixel_unshuffle", "downscale_factor", least=1)
    shape = input.shape
    if len(shape) < 3 or shape[-2] % r or shape[-1] % r:
        raise ShapeError(
            located(f"pixel_unshuffle: height and width must be multiples of downscale_factor={r}, got shape {shape}")
        )
    front, (channels, h, width) = shape[:-3], shape[-3:]
    k = len(front)
    split = reshape(input, shape=(*front, channels, h // r, r, width // r, r))
    order = (*range(k), k, k + 2, k + 4, k + 1, k + 3)
    return reshape(permute_dims(split, axes=order), shape=(*front, channels * r * r, h // r, width // r))
