"""Activations: functions of each element, and the softmax family along one axis.

In-place forms are not needed, because tensors are immutable: `inplace` is accepted, so that
PyTorch code runs, and changes nothing.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from ... import random
from ...core.dtypes import as_dtype
from ...core.errors import OperationError, ShapeError, located
from ...core.tensor import Tensor
from ...primitives import nn
from ...primitives import pointwise as p
from ...primitives.reduce import max as maximum_along
from ...primitives.shape import reshape
from .common import axis_of, floating, number, select, take

SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    """max(0, x); its derivative at 0 is 0."""
    return p.relu(input)


def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, `value` elsewhere."""
    return select(p.less_equal(input, number(threshold, input)), value, input, input)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x limited to [min_val, max_val]; its derivative at the limits is 0."""
    x = input
    return select(x >= max_val, max_val, select(x <= min_val, min_val, x, x), x)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """min(max(0, x), 6)."""
    return hardtanh(input, 0.0, 6.0)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, negative_slope · x elsewhere."""
    return p.where(input > 0, input, input * negative_slope)


def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where x > 0, w x elsewhere, with one slope w or one for each channel (axis 1).

    Raises:
        ShapeError: the weight has neither one entry nor one for each channel.
    """
    x = floating(input, "prelu")
    if weight.size != 1:
        channels = x.shape[1] if x.ndim > 1 else 1
        if weight.ndim != 1 or weight.size != channels:
            raise ShapeError(
                located(f"prelu: a weight of shape {weight.shape} for {channels} channels (input shape {x.shape})")
            )
        weight = reshape(weight, shape=(weight.size, *(1,) * (x.ndim - 2)))
    elif weight.ndim:
        weight = reshape(weight, shape=())
    return p.where(x > 0, x, weight * x)


def rrelu(
    input: Tensor, lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> Tensor:
    """Leaky ReLU with a slope drawn uniformly from [lower, upper] for each element; their mean in evaluation."""
    x = floating(input, "rrelu")
    if not training:
        return leaky_relu(x, (lower + upper) / 2)
    slope = random.rand(*x.shape, dtype=x.dtype) * (upper - lower) + lower
    return p.where(x > 0, x, x * slope)


def _negative_part(x: Tensor) -> Tensor:
    # An exponential of the positive side, though not selected, would overflow and give 0 · inf.
    return select(x > 0, 0.0, x, x)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, alpha (eˣ - 1) elsewhere (Clevert et al. 2016)."""
    x = floating(input, "elu")
    return p.where(x > 0, x, p.expm1(_negative_part(x)) * alpha)


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """λ (x where x > 0, α (eˣ - 1) elsewhere) with the constants of Klambauer et al. 2017."""
    return elu(input, SELU_ALPHA) * SELU_SCALE


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, alpha (exp(x / alpha) - 1) elsewhere (Barron 2017)."""
    x = floating(input, "celu")
    if alpha == 0:
        raise OperationError(located("celu: alpha cannot be 0"))
    return p.where(x > 0, x, p.expm1(_negative_part(x) * (1.0 / alpha)) * alpha)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x Φ(x), Φ the normal distribution function (Hendrycks and Gimpel 2016).

    `approximate="tanh"`: x/2 (1 + tanh(√(2/π) (x + 0.044715 x³))).
    """
    x = floating(input, "gelu")
    if approximate == "none":
        return (p.erf(x * math.sqrt(0.5)) + 1.0) * x * 0.5
    if approximate == "tanh":
        inner = (p.square(x) * 0.044715 + 1.0) * x * math.sqrt(2.0 / math.pi)
        return (p.tanh(inner) + 1.0) * x * 0.5
    raise OperationError(located(f"gelu: approximate is 'none' or 'tanh', got {approximate!r}"))


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    """x σ(x), also called swish."""
    return input * p.sigmoid(floating(input, "silu"))


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x tanh(softplus(x)) (Misra 2019)."""
    return input * p.tanh(nn.softplus(floating(input, "mish")))


def tanh(input: Tensor) -> Tensor:
    """The hyperbolic tangent."""
    return p.tanh(floating(input, "tanh"))


def sigmoid(input: Tensor) -> Tensor:
    """1 / (1 + e⁻ˣ)."""
    return p.sigmoid(floating(input, "sigmoid"))


def logsigmoid(input: Tensor) -> Tensor:
    """ln σ(x) = -ln(1 + e⁻ˣ), without overflow."""
    return -nn.softplus(-floating(input, "logsigmoid"))


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """ln(1 + exp(beta x)) / beta; x itself where beta x > threshold."""
    x = floating(input, "softplus")
    scaled = x if beta == 1 else x * beta
    smooth = nn.softplus(scaled)
    return p.where(scaled > threshold, x, smooth if beta == 1 else smooth * (1.0 / beta))


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return input / (p.abs(floating(input, "softsign")) + 1.0)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh x."""
    return input - p.tanh(floating(input, "tanhshrink"))


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """x/6 + 1/2 limited to [0, 1]."""
    x = floating(input, "hardsigmoid")
    return select(x >= 3, 1.0, select(x <= -3, 0.0, x * (1 / 6) + 0.5, x), x)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """0 for x ≤ -3, x for x ≥ 3, x (x + 3) / 6 between (Howard et al. 2019)."""
    x = floating(input, "hardswish")
    return p.where(x >= 3, x, select(x <= -3, 0.0, x * (x + 3.0) * (1 / 6), x))


def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """0 for |x| ≤ lambd, x elsewhere."""
    return select(p.abs(input) <= lambd, 0.0, input, input)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by lambd, 0 within lambd of it."""
    x = floating(input, "softshrink")
    if lambd < 0:
        raise OperationError(located(f"softshrink: lambd cannot be negative, got {lambd}"))
    return p.where(x > lambd, x - lambd, select(x < -lambd, x + lambd, x * 0.0, x))


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a σ(b) for the two halves a and b of the input along `dim` (Dauphin et al. 2017).

    Raises:
        ShapeError: the axis has an odd length.
    """
    x = floating(input, "glu")
    axis = axis_of(dim, x.ndim, "glu")
    length = x.shape[axis]
    if length % 2:
        raise ShapeError(located(f"glu: axis {axis} of shape {x.shape} has an odd length, it cannot be halved"))
    return take(x, axis, 0, length // 2) * p.sigmoid(take(x, axis, length // 2, length))


def _softmax_axis(x: Tensor, dim: int | None, name: str) -> int:
    if dim is not None:
        return axis_of(dim, x.ndim, name)
    warnings.warn(f"{name}: pass dim; without it axis 0 or 1 is chosen by the number of axes", stacklevel=3)
    return 0 if x.ndim in (0, 1, 3) else 1


def _converted(input: Any, name: str, dtype: Any) -> Tensor:
    if dtype is not None and isinstance(input, Tensor):
        wanted = as_dtype(dtype)
        input = input if input.dtype == wanted else p.astype(input, dtype=wanted)
    return floating(input, name)


def softmax(input: Tensor, dim: int | None = None, *, dtype: Any = None) -> Tensor:
    """exp(x) / Σ exp(x) along the axis `dim`, without overflow.

    Args:
        input: any shape, floating.
        dim: the axis that sums to 1.
        dtype: convert the input to this type first.
    """
    x = _converted(input, "softmax", dtype)
    return nn.softmax(x, axis=_softmax_axis(x, dim, "softmax"))


def log_softmax(input: Tensor, dim: int | None = None, *, dtype: Any = None) -> Tensor:
    """x - ln Σ exp(x) along the axis `dim`, without overflow."""
    x = _converted(input, "log_softmax", dtype)
    return nn.log_softmax(x, axis=_softmax_axis(x, dim, "log_softmax"))


def softmin(input: Tensor, dim: int | None = None, *, dtype: Any = None) -> Tensor:
    """softmax(-x)."""
    x = _converted(input, "softmin", dtype)
    return nn.softmax(-x, axis=_softmax_axis(x, dim, "softmin"))


def gumbel_softmax(logits: Tensor, tau: float = 1.0, hard: bool = False, eps: float = 1e-10, dim: int = -1) -> Tensor:
    """Samples from the Gumbel-softmax distribution (Jang et al. 2017; Maddison et al. 2017).

    softmax((logits + G) / tau) with Gumbel noise G = -ln(-ln u). `hard` gives one-hot
    samples whose gradient is that of the soft ones.
    """
    x = floating(logits, "gumbel_softmax")
    axis = axis_of(dim, x.ndim, "gumbel_softmax")
    # 1 - u lies in (0, 1], so the inner logarithm is finite; its 0 at u = 0 is kept off by the smallest number.
    u = p.maximum(1.0 - random.rand(*x.shape, dtype=x.dtype), number(1e-30, x))
    noise = -p.log(p.maximum(-p.log(u), number(1e-30, x)))
    soft = nn.softmax((x + noise) * (1.0 / tau), axis=axis)
    if not hard:
        return soft
    value = soft.detach()
    largest = p.equal(value, maximum_along(value, axis=(axis,), keepdims=True))
    return p.astype(largest, dtype=x.dtype) - value + soft
