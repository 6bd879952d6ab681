"""Linear maps as layers, and layers that only rearrange."""

from __future__ import annotations

import math
from typing import Any

from ..core.errors import DTypeError, ShapeError, located
from ..core.tensor import Tensor
from ..primitives.shape import reshape
from . import functional as F
from . import init
from .functional.common import axis_of
from .module import Module, in_module
from .parameter import Parameter, empty, parameter_dtype


class Linear(Module):
    """y = x Wᵀ + b along the last axis.

    Args:
        in_features: length of the input's last axis.
        out_features: length of the output's.
        bias: whether there is a b.

    Shapes: input (…, in_features), output (…, out_features); weight (out_features,
    in_features), bias (out_features,). Both start uniform on (-k, k), k = 1 / √in_features.

    Raises:
        ShapeError: the input's last axis has another length; the message names the layer.
        DTypeError: the input is not floating, or not of the weight's data type.
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self, in_features: int, out_features: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        kind = parameter_dtype(device, dtype)
        self.in_features, self.out_features = size_of("in_features", in_features), size_of("out_features", out_features)
        self.weight = empty((out_features, in_features), kind)
        self.bias = empty((out_features,), kind) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features else 0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """The map applied to the last axis."""
        try:
            return F.linear(input, self.weight, self.bias)
        except (ShapeError, DTypeError) as error:
            raise in_module(self, error) from None

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"


class Bilinear(Module):
    """y_k = x₁ᵀ W_k x₂ + b_k along the last axes.

    Shapes: inputs (…, in1_features) and (…, in2_features), output (…, out_features); weight
    (out_features, in1_features, in2_features). Both parameters start uniform on (-k, k),
    k = 1 / √in1_features.
    """

    weight: Parameter
    bias: Parameter | None

    def __init__(
        self, in1_features: int, in2_features: int, out_features: int, bias: bool = True,
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        kind = parameter_dtype(device, dtype)
        self.in1_features = size_of("in1_features", in1_features)
        self.in2_features = size_of("in2_features", in2_features)
        self.out_features = size_of("out_features", out_features)
        self.weight = empty((out_features, in1_features, in2_features), kind)
        self.bias = empty((out_features,), kind) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        bound = 1 / math.sqrt(self.in1_features) if self.in1_features else 0
        for parameter in self.parameters(recurse=False):
            init.uniform_(parameter, -bound, bound)

    def forward(self, input1: Tensor, input2: Tensor) -> Tensor:
        """The map applied to the last axes."""
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, "
            f"out_features={self.out_features}, bias={self.bias is not None}"
        )


class Identity(Module):
    """Returns its input; any arguments are accepted and ignored."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def forward(self, input: Tensor) -> Tensor:
        """The input."""
        return input


class Flatten(Module):
    """The axes from start_dim to end_dim as one; by default all but the first."""

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input: Tensor) -> Tensor:
        """The input in its new shape."""
        shape = input.shape
        start = axis_of(self.start_dim, len(shape) or 1, "Flatten")
        end = axis_of(self.end_dim, len(shape) or 1, "Flatten")
        if start > end:
            raise ShapeError(located(f"Flatten: start_dim {start} comes after end_dim {end} (shape {shape})"))
        return reshape(input, shape=(*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """One axis as several: axis `dim` in the shape `unflattened_size` (one length may be -1)."""

    def __init__(self, dim: int, unflattened_size: Any) -> None:
        if not isinstance(dim, int):
            raise DTypeError(located(f"Unflatten: dim is an integer (axes have no names), got {dim!r}"))
        self.dim, self.unflattened_size = dim, tuple(unflattened_size)

    def forward(self, input: Tensor) -> Tensor:
        """The input in its new shape."""
        shape = input.shape
        axis = axis_of(self.dim, len(shape), "Unflatten")
        sizes = self.unflattened_size
        if sizes.count(-1) == 1:
            known = -math.prod(sizes)
            sizes = tuple(shape[axis] // known if n == -1 and known else n for n in sizes)
        if math.prod(sizes) != shape[axis]:
            raise ShapeError(
                located(
                    f"Unflatten: axis {axis} of length {shape[axis]} (shape {shape}) does not "
                    f"fill {self.unflattened_size}"
                )
            )
        return reshape(input, shape=(*shape[:axis], *sizes, *shape[axis + 1 :]))

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


def size_of(name: str, value: Any) -> int:
    """A number of features: an integer that is not negative.

    Raises:
        DTypeError, ShapeError: it is no integer, or negative.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise DTypeError(located(f"{name} is an integer, got {value!r}"))
    if value < 0:
        raise ShapeError(located(f"{name} cannot be negative, got {value}"))
    return int(value)
