"""Convolutions, transposed convolutions, and images as columns of patches."""

from __future__ import annotations

import itertools
import math
from typing import Any

from ...core.errors import OperationError, ShapeError, located
from ...core.tensor import Tensor
from ...primitives import conv as c
from ...primitives.index import index, index_add
from ...primitives.pointwise import add
from ...primitives.shape import concat, reshape
from ...primitives.shape import pad as pad_widths
from .common import floating
from .spatial import Pairs, Sizes, batched, like_given, sizes


def conv1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """`conv2d` over one spatial axis: input (N, C, L) or (C, L), weight (O, C / groups, k)."""
    return _conv("conv1d", 1, input, weight, bias, stride, padding, dilation, groups)


def conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """y[n, o, p] = b[o] + Σ x[n, c, p·stride + k·dilation - padding] w[o, c, k], summed over channels c and taps k.

    Args:
        input: x, shape (N, C, H, W) or (C, H, W).
        weight: w, shape (O, C / groups, kH, kW).
        bias: b, shape (O,).
        stride: step from one position of the kernel to the next; an integer or one per axis, as below.
        padding: zeros put around each axis; "valid" for none, "same" for as many as keep the size.
        dilation: step from one tap of the kernel to the next.
        groups: the channels are divided into groups, and outputs see the inputs of their group only.

    Returns:
        Shape (N, O, H', W') with H' = ⌊(H + 2 padding - dilation (kH - 1) - 1) / stride⌋ + 1.

    Raises:
        ShapeError: the channels do not fit the weight and the groups, or the kernel not into the padded input.
        DTypeError: input and weight are not floating, or not of one data type.
    """
    return _conv("conv2d", 2, input, weight, bias, stride, padding, dilation, groups)


def conv3d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0, dilation: Any = 1,
    groups: int = 1,
) -> Tensor:  # fmt: skip
    """`conv2d` over three spatial axes: input (N, C, D, H, W) or (C, D, H, W), weight (O, C / groups, kD, kH, kW)."""
    return _conv("conv3d", 3, input, weight, bias, stride, padding, dilation, groups)


def _weight_of(weight: Any, rank: int, name: str) -> Tensor:
    w = floating(weight, f"{name} (weight)")
    if w.ndim != rank + 2:
        raise ShapeError(located(f"{name}: the weight has {rank + 2} axes, got shape {w.shape}"))
    return w


def _add_bias(y: Tensor, bias: Tensor | None, rank: int, name: str) -> Tensor:
    if bias is None:
        return y
    if bias.shape != (y.shape[1],):
        raise ShapeError(located(f"{name}: a bias of shape {bias.shape} for {y.shape[1]} output channels"))
    return add(y, reshape(bias, shape=(bias.size, *(1,) * rank)))


def _conv(
    name: str, rank: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Tensor:
    given, w = floating(input, name), _weight_of(weight, rank, name)
    x = batched(given, rank, name)
    strides = sizes(stride, rank, name, "stride", least=1)
    dilations = sizes(dilation, rank, name, "dilation", least=1)
    pairs = padding_pairs(padding, w.shape[2:], strides, dilations, name)
    y = c.conv(x, w, stride=strides, padding=pairs, dilation=dilations, groups=groups)
    return like_given(_add_bias(y, bias, rank, name), given)


def padding_pairs(padding: Any, kernel: Sizes, stride: Sizes, dilation: Sizes, name: str) -> Pairs:
    """Zeros (before, after) each axis, from integers, "valid" or "same"."""
    if isinstance(padding, str):
        if padding == "valid":
            return ((0, 0),) * len(kernel)
        if padding != "same":
            raise OperationError(located(f"{name}: padding is a number, 'valid' or 'same', got {padding!r}"))
        if any(s != 1 for s in stride):
            raise OperationError(
                located(f"{name}: padding='same' needs stride 1, got {stride}; give the padding as a number")
            )
        totals = [d * (k - 1) for k, d in zip(kernel, dilation, strict=True)]
        return tuple((total // 2, total - total // 2) for total in totals)
    return tuple((p, p) for p in sizes(padding, len(kernel), name, "padding"))


def conv_transpose1d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """`conv_transpose2d` over one spatial axis: input (N, C, L) or (C, L), weight (C, O / groups, k)."""
    return _conv_transpose(
        "conv_transpose1d", 1, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """The transpose of `conv2d` as a linear map of its input: every pixel spreads the kernel over the output.

    y[n, o, p·stride + k·dilation - padding] is the sum of x[n, c, p] w[c, o, k].

    Args:
        input: x, shape (N, C, H, W) or (C, H, W).
        weight: w, shape (C, O / groups, kH, kW).
        bias: shape (O,).
        stride, padding, dilation, groups: those of the convolution that this is the transpose of.
        output_padding: lines added after each axis of the output, fewer than the stride or the
            dilation: several sizes of image have the same number of positions under a stride.

    Returns:
        Shape (N, O, H', W') with H' = (H - 1) stride - 2 padding + dilation (kH - 1) + output_padding + 1.
    """
    return _conv_transpose(
        "conv_transpose2d", 2, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def conv_transpose3d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Any = 1, padding: Any = 0,
    output_padding: Any = 0, groups: int = 1, dilation: Any = 1,
) -> Tensor:  # fmt: skip
    """`conv_transpose2d` over three spatial axes: input (N, C, D, H, W), weight (C, O / groups, kD, kH, kW)."""
    return _conv_transpose(
        "conv_transpose3d", 3, input, weight, bias, stride, padding, output_padding, groups, dilation
    )


def _conv_transpose(
    name: str, rank: int, input: Any, weight: Any, bias: Any, stride: Any, padding: Any, output_padding: Any,
    groups: int, dilation: Any,
) -> Tensor:  # fmt: skip
    given, w = floating(input, name), _weight_of(weight, rank, name)
    x = batched(given, rank, name)
    strides = sizes(stride, rank, name, "stride", least=1)
    dilations = sizes(dilation, rank, name, "dilation", least=1)
    extra = sizes(output_padding, rank, name, "output_padding")
    for more, s, d in zip(extra, strides, dilations, strict=True):
        if more >= max(s, d):
            raise OperationError(
                located(f"{name}: output_padding {extra} must be less than stride {strides} or dilation {dilations}")
            )
    around = sizes(padding, rank, name, "padding")
    # Lines added behind are lines that the convolution's padding behind no longer covers.
    pairs = tuple((p, p - more) for p, more in zip(around, extra, strict=True))
    size = c.transposed_size(x.shape[2:], w.shape[2:], strides, pairs, dilations)
    y = c.conv_transpose(x, w, size=size, stride=strides, padding=pairs, dilation=dilations, groups=groups)
    return like_given(_add_bias(y, bias, rank, name), given)


def unfold(input: Tensor, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Tensor:
    """The patches of an image as columns.

    Args:
        input: shape (N, C, H, W) or (C, H, W).
        kernel_size: height and width of a patch.
        dilation, padding, stride: as in `conv2d`.

    Returns:
        Shape (N, C kH kW, positions): column p holds the pixels under the kernel at position p.
    """
    given = floating(input, "unfold")
    x = batched(given, 2, "unfold")
    taps, out, widths, _ = _patches("unfold", x.shape[2:], kernel_size, dilation, padding, stride)
    x = pad_widths(x, widths=widths)
    count, channels = x.shape[:2]
    full = (("s", 0, count, 1), ("s", 0, channels, 1))
    shape = (count, channels, 1, math.prod(out))
    pieces = [reshape(index(x, pattern=(*full, *tap)), shape=shape) for tap in taps]
    columns = reshape(concat(*pieces, axis=2), shape=(count, channels * len(taps), math.prod(out)))
    return columns if given.ndim == 4 else reshape(columns, shape=columns.shape[1:])


def fold(
    input: Tensor, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Tensor:
    """The transpose of `unfold`: columns of patches added up to an image.

    Args:
        input: shape (N, C kH kW, positions) or (C kH kW, positions).
        output_size: height and width of the image.
        kernel_size, dilation, padding, stride: as in `unfold`.

    Returns:
        Shape (N, C, H, W).

    Raises:
        ShapeError: rows or columns are not as many as `unfold` gives for an image of that size.
    """
    given = floating(input, "fold")
    size = sizes(output_size, 2, "fold", "output_size", least=1)
    taps, out, widths, padded = _patches("fold", size, kernel_size, dilation, padding, stride)
    if given.ndim not in (2, 3) or given.shape[-1] != math.prod(out) or given.shape[-2] % len(taps):
        raise ShapeError(
            located(
                f"fold: the input has shape (N, C·{len(taps)}, {math.prod(out)}) for an image of {size} with "
                f"{out} positions, got {given.shape}"
            )
        )
    x = given if given.ndim == 3 else reshape(given, shape=(1, *given.shape))
    count, channels = x.shape[0], x.shape[1] // len(taps)
    x = reshape(x, shape=(count, channels, len(taps), *out))
    full = tuple(("s", 0, n, 1) for n in (count, channels))
    spatial = tuple(("s", 0, n, 1) for n in out)
    image = None
    for number, tap in enumerate(taps):
        piece = index(x, pattern=(*full, ("i", number), *spatial))
        part = index_add(piece, pattern=(*full, *tap), shape=(count, channels, *padded))
        image = part if image is None else add(image, part)
    assert image is not None
    kept = tuple(("s", before, before + n, 1) for n, (before, _) in zip(size, widths[2:], strict=True))
    image = index(image, pattern=(*full, *kept))
    return image if given.ndim == 3 else reshape(image, shape=image.shape[1:])


def _patches(
    name: str, size: Sizes, kernel_size: Any, dilation: Any, padding: Any, stride: Any
) -> tuple[list[tuple[Any, ...]], Sizes, Pairs, Sizes]:
    """The slices of the padded image that each tap sees, the positions, the padding and the padded size."""
    kernel = sizes(kernel_size, 2, name, "kernel_size", least=1)
    dilations = sizes(dilation, 2, name, "dilation", least=1)
    strides = sizes(stride, 2, name, "stride", least=1)
    pairs = tuple((p, p) for p in sizes(padding, 2, name, "padding"))
    out = c.output_size(size, kernel, strides, pairs, dilations)
    if min(out) < 1:
        raise ShapeError(
            located(
                f"{name}: a kernel of {kernel} with dilation {dilations} does not fit into {size} padded by {pairs}"
            )
        )
    lines = [
        [("s", k * d, k * d + (n - 1) * s + 1, s) for k in range(count)]
        for count, d, n, s in zip(kernel, dilations, out, strides, strict=True)
    ]
    padded = tuple(n + before + after for n, (before, after) in zip(size, pairs, strict=True))
    return list(itertools.product(*lines)), out, ((0, 0), (0, 0), *pairs), padded
