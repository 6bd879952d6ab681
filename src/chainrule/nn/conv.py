"""Convolution layers in one, two and three dimensions, and their transposes."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from ..core.errors import ChainruleError, OperationError, ShapeError, located
from ..core.tensor import Tensor
from ..primitives.conv import transposed_size
from . import functional as F
from . import init
from .functional.conv import padding_pairs
from .functional.spatial import sizes
from .linear import size_of
from .module import Module, in_module
from .parameter import Parameter, empty, parameter_dtype

_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class _Convolution(Module):
    """What the layers share: arguments, parameters, their initial values, how they print."""

    rank: ClassVar[int]
    transposed: ClassVar[bool] = False
    weight: Parameter
    bias: Parameter | None

    def _build(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any, padding: Any, dilation: Any,
        output_padding: Any, groups: int, bias: bool, padding_mode: str, device: Any, dtype: Any,
    ) -> None:  # fmt: skip
        name, rank = type(self).__name__, self.rank
        self.in_channels, self.out_channels = size_of("in_channels", in_channels), size_of("out_channels", out_channels)
        self.groups = size_of("groups", groups)
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise OperationError(
                located(
                    f"{name}: in_channels={in_channels} and out_channels={out_channels} must be multiples of "
                    f"groups={groups}"
                )
            )
        self.kernel_size = sizes(kernel_size, rank, name, "kernel_size", least=1)
        self.stride = sizes(stride, rank, name, "stride", least=1)
        self.dilation = sizes(dilation, rank, name, "dilation", least=1)
        self.output_padding = sizes(output_padding, rank, name, "output_padding")
        pairs = padding_pairs(padding, self.kernel_size, self.stride, self.dilation, name)
        self.padding: Any = padding if isinstance(padding, str) else tuple(before for before, _ in pairs)
        if padding_mode not in _PADDING_MODES:
            raise OperationError(
                located(f"{name}: padding_mode is one of {', '.join(_PADDING_MODES)}; got {padding_mode!r}")
            )
        self.padding_mode = padding_mode
        # In the order of F.pad: the last axis first.
        self._border = tuple(width for pair in reversed(pairs) for width in pair)
        kind = parameter_dtype(device, dtype)
        ends = (in_channels, out_channels) if self.transposed else (out_channels, in_channels)
        self.weight = empty((ends[0], ends[1] // groups, *self.kernel_size), kind)
        self.bias = empty((out_channels,), kind) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values, uniform on (-k, k) with k = 1 / √(axes 1, 2, … of the weight)."""
        if not self.weight.size:
            return
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in = math.prod(self.weight.shape[1:])
            bound = 1 / math.sqrt(fan_in) if fan_in else 0
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        parts = [f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"]
        nothing, one = (0,) * self.rank, (1,) * self.rank
        settings = {
            "padding": (self.padding, nothing), "dilation": (self.dilation, one),
            "output_padding": (self.output_padding, nothing), "groups": (self.groups, 1),
            "bias": (self.bias is not None, True), "padding_mode": (self.padding_mode, "zeros"),
        }  # fmt: skip
        parts += [f"{name}={value}" for name, (value, usual) in settings.items() if value != usual]
        return ", ".join(parts)


class _Conv(_Convolution):
    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        dilation: Any = 1, groups: int = 1, bias: bool = True, padding_mode: str = "zeros", device: Any = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        self._build(
            in_channels, out_channels, kernel_size, stride, padding, dilation, 0, groups, bias, padding_mode, device,
            dtype,
        )  # fmt: skip

    def forward(self, input: Tensor) -> Tensor:
        """The convolution of the input with the weight, and the bias added."""
        function = (F.conv1d, F.conv2d, F.conv3d)[self.rank - 1]
        padding: Any = self.padding
        try:
            if self.padding_mode != "zeros":
                input = F.pad(input, self._border, mode=self.padding_mode)
                padding = 0
            return function(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)
        except ChainruleError as error:
            raise in_module(self, error) from None


class Conv1d(_Conv):
    """`Conv2d` over one spatial axis: input (N, C, L) or (C, L), weight (out_channels, in_channels / groups, k)."""

    rank = 1


class Conv2d(_Conv):
    """y[n, o, p] = b[o] + Σ x[n, c, p·stride + k·dilation - padding] w[o, c, k], summed over channels c and taps k.

    Args:
        in_channels, out_channels: number of channels of input and output.
        kernel_size: size of the kernel; an integer or one per axis, as below.
        stride: step between positions.
        padding: lines put around the input; "valid" for none, "same" to keep the size.
        dilation: step between taps.
        groups: the channels are divided into groups, each convolved by itself; `groups=in_channels`
            is the depthwise convolution.
        bias: whether there is a b.
        padding_mode: what the padding holds: "zeros", "reflect", "replicate" or "circular".

    Shapes: input (N, in_channels, H, W) or (in_channels, H, W), output (N, out_channels, H', W'); weight
    (out_channels, in_channels / groups, kH, kW), bias (out_channels,). Both start uniform on (-k, k),
    k = 1 / √(in_channels / groups · kH · kW).

    Raises:
        ShapeError: the input has other channels, or is smaller than the kernel; the message names the layer.
        DTypeError: the input is not floating, or not of the weight's data type.
    """

    rank = 2


class Conv3d(_Conv):
    """`Conv2d` over three spatial axes: input (N, C, D, H, W) or (C, D, H, W)."""

    rank = 3


class _ConvTranspose(_Convolution):
    transposed = True

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: Any, stride: Any = 1, padding: Any = 0,
        output_padding: Any = 0, groups: int = 1, bias: bool = True, dilation: Any = 1, padding_mode: str = "zeros",
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        if padding_mode != "zeros":
            raise OperationError(
                located(f"{type(self).__name__}: padding_mode can only be 'zeros', got {padding_mode!r}")
            )
        if isinstance(padding, str):
            raise OperationError(located(f"{type(self).__name__}: padding is made of integers, got {padding!r}"))
        self._build(
            in_channels, out_channels, kernel_size, stride, padding, dilation, output_padding, groups, bias,
            padding_mode, device, dtype,
        )  # fmt: skip

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        """The transposed convolution; `output_size` chooses among the sizes that the stride allows."""
        function = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[self.rank - 1]
        try:
            extra = self.output_padding if output_size is None else self._output_padding(input, output_size)
            return function(input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation)
        except ChainruleError as error:
            raise in_module(self, error) from None

    def _output_padding(self, input: Tensor, output_size: Any) -> tuple[int, ...]:
        given = tuple(output_size) if isinstance(output_size, tuple | list) else output_size
        if isinstance(given, tuple) and len(given) == input.ndim and len(given) > self.rank:
            given = given[-self.rank :]
        wanted = sizes(given, self.rank, type(self).__name__, "output_size", least=1)
        pairs = tuple((p, p) for p in self.padding)
        smallest = transposed_size(input.shape[-self.rank :], self.kernel_size, self.stride, pairs, self.dilation)
        extra = tuple(a - b for a, b in zip(wanted, smallest, strict=True))
        if any(not 0 <= e < s for e, s in zip(extra, self.stride, strict=True)):
            largest = tuple(n + s - 1 for n, s in zip(smallest, self.stride, strict=True))
            raise ShapeError(
                located(
                    f"output_size {wanted} is not possible: for this input it lies between {smallest} and {largest}"
                )
            )
        return extra


class ConvTranspose1d(_ConvTranspose):
    """`ConvTranspose2d` over one spatial axis: input (N, C, L) or (C, L)."""

    rank = 1


class ConvTranspose2d(_ConvTranspose):
    """The transpose of `Conv2d` as a linear map: every pixel spreads the kernel over the output.

    Args:
        in_channels, out_channels: number of channels of input and output.
        kernel_size, stride, padding, dilation: those of the convolution that this is the transpose of.
        output_padding: lines added after each axis of the output.
        groups: the channels are divided into groups, each convolved by itself.
        bias: whether a bias is added.
        padding_mode: "zeros", the only one.

    Shapes: input (N, in_channels, H, W) or (in_channels, H, W), output (N, out_channels, H', W') with
    H' = (H - 1) stride - 2 padding + dilation (kH - 1) + output_padding + 1; weight (in_channels,
    out_channels / groups, kH, kW), bias (out_channels,). Both start uniform on (-k, k),
    k = 1 / √(out_channels / groups · kH · kW).
    """

    rank = 2


class ConvTranspose3d(_ConvTranspose):
    """`ConvTranspose2d` over three spatial axes: input (N, C, D, H, W) or (C, D, H, W)."""

    rank = 3
