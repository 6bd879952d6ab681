"""Pooling: the maximum or the mean of an image in windows, of a fixed size or as many as asked for."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...core.errors import OperationError, ShapeError, located
from ...core.tensor import Tensor, new_tensor
from ...primitives import window as w
from ...primitives.index import index
from ...primitives.pointwise import add, astype, multiply
from .common import floating, mean, number
from .spatial import Sizes, apply_along, batched, like_given, sizes


def max_pool1d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:  # fmt: skip
    """`max_pool2d` over one spatial axis: input (N, C, L) or (C, L)."""
    return _max_pool("max_pool1d", 1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:  # fmt: skip
    """The largest pixel of each window. Where several are equal, the gradient goes to the first.

    Args:
        input: shape (N, C, H, W) or (C, H, W).
        kernel_size: size of a window; an integer or one per axis, as below.
        stride: step from window to window; the kernel size if None.
        padding: how far windows may begin outside the image, at most half their size.
        dilation: step from pixel to pixel within a window.
        ceil_mode: also take the window that the image ends in.
        return_indices: return (maxima, positions); a position counts the pixels of its channel.

    Raises:
        ShapeError: a window does not fit into the padded input.
        OperationError: the padding is more than half a window.
    """
    return _max_pool("max_pool2d", 2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool3d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:  # fmt: skip
    """`max_pool2d` over three spatial axes: input (N, C, D, H, W) or (C, D, H, W)."""
    return _max_pool("max_pool3d", 3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def _windows(
    name: str, size: Sizes, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool
) -> dict[str, Any]:
    """The parameters of the window primitives; with ceil_mode the padding behind reaches as far as the last window."""
    rank = len(size)
    kernel = sizes(kernel_size, rank, name, "kernel_size", least=1)
    strides = kernel if stride is None or stride in ((), []) else sizes(stride, rank, name, "stride", least=1)
    dilations = sizes(dilation, rank, name, "dilation", least=1)
    around = sizes(padding, rank, name, "padding")
    pairs = []
    for n, k, s, p, d in zip(size, kernel, strides, around, dilations, strict=True):
        reach = d * (k - 1) + 1
        if 2 * p > reach:
            raise OperationError(
                located(f"{name}: padding {padding} is more than half of the window {kernel} (dilation {dilations})")
            )
        behind = p
        if ceil_mode:
            count = -(-(n + 2 * p - reach) // s) + 1
            if (count - 1) * s >= n + p:  # it would begin in the padding behind
                count -= 1
            behind = max(p, (count - 1) * s + reach - n - p) if count > 0 else p
        pairs.append((p, behind))
    return {"kernel": kernel, "stride": strides, "padding": tuple(pairs), "dilation": dilations}


def _max_pool(
    name: str, rank: int, input: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool,
    return_indices: bool,
) -> Any:  # fmt: skip
    given = floating(input, name)
    x = batched(given, rank, name)
    windows = _windows(name, x.shape[2:], kernel_size, stride, padding, dilation, ceil_mode)
    y = w.window_max(x, **windows)
    if not return_indices:
        return like_given(y, given)
    positions = _positions(w.window_argmax(x, y, **windows), x.shape[2:], y.shape[2:], **windows)
    return like_given(y, given), like_given(positions, given)


def _positions(
    winner: Tensor, size: Sizes, out: Sizes, kernel: Sizes, stride: Sizes, padding: Any, dilation: Sizes
) -> Tensor:
    """Taps as positions in the flattened image: that of the window's corner plus the tap's."""
    steps = [math.prod(size[axis + 1 :]) for axis in range(len(size))]
    offsets = [d * step * np.arange(k) for k, d, step in zip(kernel, dilation, steps, strict=True)]
    corners = [
        (s * np.arange(n) - before) * step for n, s, (before, _), step in zip(out, stride, padding, steps, strict=True)
    ]
    table = np.append(sum(np.ix_(*offsets), np.zeros((), np.int64)).reshape(-1), 0)
    corner = new_tensor(np.asarray(sum(np.ix_(*corners), np.zeros((), np.int64))), None)
    tap = index(new_tensor(table, None), astype(winner, dtype=np.dtype(np.int64)), pattern=(("a", 0),))
    return add(tap, corner)


def avg_pool1d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:  # fmt: skip
    """`avg_pool2d` over one spatial axis: input (N, C, L) or (C, L)."""
    return _avg_pool("avg_pool1d", 1, input, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """The mean of the pixels of each window.

    Args:
        input: shape (N, C, H, W) or (C, H, W).
        kernel_size, stride, padding, ceil_mode: as in `max_pool2d`; padding is with zeros.
        count_include_pad: whether the zeros of the padding count as pixels.
        divisor_override: divide the sum by this number instead.
    """
    return _avg_pool(
        "avg_pool2d", 2, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool3d(
    input: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
    count_include_pad: bool = True, divisor_override: int | None = None,
) -> Tensor:  # fmt: skip
    """`avg_pool2d` over three spatial axes: input (N, C, D, H, W) or (C, D, H, W)."""
    return _avg_pool(
        "avg_pool3d", 3, input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def _avg_pool(
    name: str, rank: int, input: Any, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool,
    count_include_pad: bool, divisor_override: int | None,
) -> Tensor:  # fmt: skip
    given = floating(input, name)
    x = batched(given, rank, name)
    windows = _windows(name, x.shape[2:], kernel_size, stride, padding, 1, ceil_mode)
    total = w.window_sum(x, **windows)
    if divisor_override is not None:
        if divisor_override == 0:
            raise OperationError(located(f"{name}: divisor_override cannot be 0"))
        return like_given(multiply(total, number(1 / divisor_override, x)), given)
    around = sizes(padding, rank, name, "padding") if count_include_pad else (0,) * rank
    counts = _counts(x.shape[2:], total.shape[2:], around, windows)
    if counts.size and (counts == counts.flat[0]).all():
        share = number(1 / float(counts.flat[0]), x)
    else:
        share = new_tensor((1 / counts).astype(x.dtype), None)
    return like_given(multiply(total, share), given)


def _counts(size: Sizes, out: Sizes, around: Sizes, windows: dict[str, Any]) -> np.ndarray:
    """How many pixels each window has within the image and `around` lines of padding."""
    lengths = []
    for n, count, p, k, s, (before, _) in zip(
        size, out, around, windows["kernel"], windows["stride"], windows["padding"], strict=True
    ):
        start = np.arange(count) * s - before
        lengths.append(np.minimum(start + k, n + p) - np.maximum(start, -p))
    counts = np.ones((), np.int64)
    for axis, length in enumerate(lengths):
        counts = counts * length.reshape(-1, *(1,) * (len(lengths) - 1 - axis))
    return counts


def adaptive_avg_pool1d(input: Tensor, output_size: Any) -> Tensor:
    """`adaptive_avg_pool2d` over one spatial axis: input (N, C, L) or (C, L)."""
    return _adaptive_avg("adaptive_avg_pool1d", 1, input, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> Tensor:
    """The means of output_size windows that divide each axis as evenly as can be.

    Window i of m along an axis of length n runs from ⌊i n / m⌋ to ⌈(i + 1) n / m⌉.

    Args:
        input: shape (N, C, H, W) or (C, H, W).
        output_size: number of windows; an integer or one per axis, None for the input's length.
    """
    return _adaptive_avg("adaptive_avg_pool2d", 2, input, output_size)


def adaptive_avg_pool3d(input: Tensor, output_size: Any) -> Tensor:
    """`adaptive_avg_pool2d` over three spatial axes: input (N, C, D, H, W) or (C, D, H, W)."""
    return _adaptive_avg("adaptive_avg_pool3d", 3, input, output_size)


def _adaptive_sizes(name: str, size: Sizes, output_size: Any) -> Sizes:
    given = list(output_size) if isinstance(output_size, tuple | list) else [output_size] * len(size)
    filled = [n if o is None else o for n, o in zip(size, given, strict=False)] if len(given) == len(size) else given
    out = sizes(tuple(filled), len(size), name, "output_size", least=1)
    if min(size) < 1:
        raise ShapeError(located(f"{name}: an image of size {size} has no pixels to pool"))
    return out


def _adaptive_avg(name: str, rank: int, input: Any, output_size: Any) -> Tensor:
    given = floating(input, name)
    x = batched(given, rank, name)
    size = x.shape[2:]
    out = _adaptive_sizes(name, size, output_size)
    if out == (1,) * rank:
        return like_given(mean(x, axis=tuple(range(2, x.ndim)), keepdims=True), given)
    if all(n % m == 0 for n, m in zip(size, out, strict=True)):
        kernel = tuple(n // m for n, m in zip(size, out, strict=True))
        return _avg_pool(name, rank, given, kernel, None, 0, False, True, None)
    for axis, (n, m) in enumerate(zip(size, out, strict=True), 2):
        if n != m:
            start, stop = _edges(n, m)
            pixel = np.arange(n)
            inside = (pixel >= start[:, None]) & (pixel < stop[:, None])
            x = apply_along(inside / (stop - start)[:, None], x, axis)
    return like_given(x, given)


def _edges(n: int, m: int) -> tuple[np.ndarray, np.ndarray]:
    """First and one past the last pixel of each of m windows over n pixels."""
    i = np.arange(m)
    return i * n // m, -(-(i + 1) * n // m)


def adaptive_max_pool1d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """`adaptive_max_pool2d` over one spatial axis: input (N, C, L) or (C, L)."""
    return _adaptive_max("adaptive_max_pool1d", 1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """The maxima of output_size windows that divide each axis as evenly as can be (see `adaptive_avg_pool2d`).

    Args:
        input: shape (N, C, H, W) or (C, H, W).
        output_size: number of windows; an integer or one per axis, None for the input's length.
        return_indices: return (maxima, positions); the axes must then be multiples of the output size.
    """
    return _adaptive_max("adaptive_max_pool2d", 2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
    """`adaptive_max_pool2d` over three spatial axes: input (N, C, D, H, W) or (C, D, H, W)."""
    return _adaptive_max("adaptive_max_pool3d", 3, input, output_size, return_indices)


def _adaptive_max(name: str, rank: int, input: Any, output_size: Any, return_indices: bool) -> Any:
    given = floating(input, name)
    x = batched(given, rank, name)
    size = x.shape[2:]
    out = _adaptive_sizes(name, size, output_size)
    if all(n % m == 0 for n, m in zip(size, out, strict=True)):
        kernel = tuple(n // m for n, m in zip(size, out, strict=True))
        return _max_pool(name, rank, given, kernel, None, 0, 1, False, return_indices)
    if return_indices:
        raise OperationError(
            located(f"{name}: return_indices needs windows of one size; {size} is no multiple of {out}")
        )
    # Axis by axis, the last one first: the first maximum of the first line that has it, as in PyTorch.
    for axis in range(x.ndim - 1, 1, -1):
        x = _max_along(x, axis, out[axis - 2])
    return like_given(x, given)


def _max_along(x: Tensor, axis: int, m: int) -> Tensor:
    n = x.shape[axis]
    start, stop = _edges(n, m)
    longest = int((stop - start).max())
    # Windows shorter than the longest repeat their last pixel; the first of equals has the gradient.
    pixels = np.minimum(start[:, None] + np.arange(longest), stop[:, None] - 1).reshape(-1)
    pattern = tuple(("a", 0) if a == axis else ("s", 0, length, 1) for a, length in enumerate(x.shape))
    spread = index(x, new_tensor(pixels, None), pattern=pattern)
    kernel = tuple(longest if a == axis else 1 for a in range(2, x.ndim))
    none = ((0, 0),) * len(kernel)
    return w.window_max(spread, kernel=kernel, stride=kernel, padding=none, dilation=(1,) * len(kernel))
