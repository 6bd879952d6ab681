"""Initial values of parameters: PyTorch's `torch.nn.init`, names and formulas.

Each function gives the tensor new values, records nothing and returns the tensor. Random
ones draw from the library's default stream unless `generator` is given. The fan-in of a
weight of shape (out, in, k1, k2, …) is in · k1 · k2 · …, the fan-out out · k1 · k2 · ….
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import random
from ..core.autodiff import unrecorded
from ..core.errors import OperationError, ShapeError, located
from ..core.tensor import Tensor, Variable
from ..primitives.special import erf
from ..random import Generator

_skipping = False


@contextlib.contextmanager
def skipped() -> Iterator[None]:
    """Within it, initialisers do nothing: for layers whose weights are loaded next.

    Weights start at 0 instead, which costs neither time nor, until they are set, memory; the
    random stream does not move.
    """
    global _skipping
    before, _skipping = _skipping, True
    try:
        yield
    finally:
        _skipping = before


def _set(tensor: Tensor, value: Any) -> Tensor:
    """Point `tensor` to a new value of its own shape and data type."""
    if _skipping:
        return tensor
    array = np.asarray(value._array("init") if isinstance(value, Tensor) else value).astype(tensor.dtype)
    array = np.array(np.broadcast_to(array, tensor.shape))
    if isinstance(tensor, Variable):
        tensor.assign(array)
    else:
        requires_grad = tensor.requires_grad
        tensor._value, tensor._node = array, None
        tensor.requires_grad_(requires_grad)
    return tensor


def _normal(shape: tuple[int, ...], generator: Generator | None) -> np.ndarray:
    if _skipping:
        return np.zeros(())
    with unrecorded():
        return random.randn(*shape, generator=generator)._array("init")


def _uniform(shape: tuple[int, ...], generator: Generator | None) -> np.ndarray:
    if _skipping:
        return np.zeros(())
    with unrecorded():
        return random.rand(*shape, generator=generator)._array("init")


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform on [a, b)."""
    return _set(tensor, a + (b - a) * _uniform(tensor.shape, generator))


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with the given mean and standard deviation."""
    return _set(tensor, mean + std * _normal(tensor.shape, generator))


def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0,
    generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """Normal with the given mean and standard deviation, redrawn outside [a, b].

    By the inverse distribution function: mean + std √2 erf⁻¹(u), u uniform between the
    images of a and b.
    """
    low, high = (math.erf((limit - mean) / (std * math.sqrt(2))) for limit in (a, b))
    u = low + (high - low) * _uniform(tensor.shape, generator).astype(np.float64)
    return _set(tensor, np.clip(mean + std * math.sqrt(2) * _erfinv(u), a, b))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """`val` everywhere."""
    return _set(tensor, val)


def ones_(tensor: Tensor) -> Tensor:
    """1 everywhere."""
    return _set(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """0 everywhere."""
    return _set(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix: 1 on the diagonal of a 2-d tensor, 0 elsewhere."""
    if tensor.ndim != 2:
        raise ShapeError(located(f"eye_: needs 2 axes, got shape {tensor.shape}"))
    return _set(tensor, np.eye(tensor.shape[0], tensor.shape[1]))


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """A convolution that keeps its input: 1 at the centre of kernel (i, i), for each group.

    Args:
        tensor: convolution weight of 3 to 5 axes.
        groups: number of groups of output channels.
    """
    if tensor.ndim not in (3, 4, 5):
        raise ShapeError(located(f"dirac_: needs 3 to 5 axes, got shape {tensor.shape}"))
    out, channels, *kernel = tensor.shape
    if out % groups:
        raise ShapeError(located(f"dirac_: {out} output channels cannot be divided into {groups} groups"))
    value = np.zeros(tensor.shape)
    centre = tuple(k // 2 for k in kernel)
    per_group = out // groups
    for group in range(groups):
        for i in range(min(per_group, channels)):
            value[(group * per_group + i, i, *centre)] = 1
    return _set(tensor, value)


def _fans(tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise ShapeError(located(f"fan-in and fan-out need at least 2 axes, got shape {tensor.shape}"))
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The recommended factor of the standard deviation before an activation.

    1 for linear, convolutions and sigmoid; 5/3 for tanh; √2 for relu; √(2 / (1 + slope²))
    for leaky_relu with slope `param` (0.01 if None); 3/4 for selu.
    """
    if nonlinearity in ("linear", "sigmoid") or nonlinearity.startswith("conv"):
        return 1.0
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, int | float):
            raise OperationError(located(f"calculate_gain: the slope is a number, got {slope!r}"))
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity == "selu":
        return 3.0 / 4
    raise OperationError(
        located(
            f"calculate_gain: unknown {nonlinearity!r}; known: linear, conv…, sigmoid, tanh, relu, leaky_relu, selu"
        )
    )


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Uniform on (-a, a), a = gain √(6 / (fan_in + fan_out)).

    Glorot and Bengio 2010, "Understanding the difficulty of training deep feedforward
    neural networks": equal variance of activations and of gradients across layers.
    """
    bound = gain * math.sqrt(6.0 / max(sum(_fans(tensor)), 1))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """Normal with standard deviation gain √(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / max(sum(_fans(tensor)), 1)), generator)


def _kaiming_std(tensor: Tensor, a: float, mode: str, nonlinearity: str) -> float:
    fans = _fans(tensor)
    if mode not in ("fan_in", "fan_out"):
        raise OperationError(located(f"mode is 'fan_in' or 'fan_out', got {mode!r}"))
    return calculate_gain(nonlinearity, a) / math.sqrt(max(fans[mode == "fan_out"], 1))


def kaiming_uniform_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """Uniform on (-b, b), b = gain √(3 / fan).

    He et al. 2015, "Delving deep into rectifiers": the variance of activations (fan_in) or
    of gradients (fan_out) stays the same through layers of rectifiers.

    Args:
        tensor: weight of at least 2 axes.
        a: slope of the leaky ReLU that follows.
        mode: "fan_in" or "fan_out".
        nonlinearity: name for `calculate_gain`.
    """
    bound = math.sqrt(3.0) * _kaiming_std(tensor, a, mode, nonlinearity)
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu",
    generator: Generator | None = None,
) -> Tensor:  # fmt: skip
    """Normal with standard deviation gain / √fan (He et al. 2015); arguments of `kaiming_uniform_`."""
    return normal_(tensor, 0.0, _kaiming_std(tensor, a, mode, nonlinearity), generator)


def orthogonal_(tensor: Tensor, gain: float = 1.0, generator: Generator | None = None) -> Tensor:
    """gain times a random matrix with orthonormal rows or columns, whichever are fewer.

    Saxe et al. 2014, "Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks". The Q factor of a normal matrix, with the signs of R's diagonal, is
    uniform among orthogonal matrices. Axes after the first count as one.
    """
    if tensor.ndim < 2:
        raise ShapeError(located(f"orthogonal_: needs at least 2 axes, got shape {tensor.shape}"))
    if not tensor.size:
        return tensor
    rows = tensor.shape[0]
    columns = tensor.size // rows
    drawn = _normal((rows, columns), generator).astype(np.float64)
    q, r = np.linalg.qr(drawn if rows >= columns else drawn.T)
    q = q * np.sign(np.diagonal(r))
    return _set(tensor, gain * (q if rows >= columns else q.T).reshape(tensor.shape))


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator | None = None) -> Tensor:
    """Normal, with a share `sparsity` of every column, chosen at random, set to 0 (Martens 2010)."""
    if tensor.ndim != 2:
        raise ShapeError(located(f"sparse_: needs 2 axes, got shape {tensor.shape}"))
    rows = tensor.shape[0]
    zeros = math.ceil(sparsity * rows)
    value = std * _normal(tensor.shape, generator)
    order = np.argsort(_uniform(tensor.shape, generator), axis=0)
    np.put_along_axis(value, order[:zeros], 0.0, axis=0)
    return _set(tensor, value)


# M. Giles, "Approximating the erfinv function" (GPU Computing Gems, 2011), single precision.
_CENTRE = (
    2.81022636e-08, 3.43273939e-07, -3.5233877e-06, -4.39150654e-06, 0.00021858087, -0.00125372503, -0.00417768164,
    0.246640727, 1.50140941,
)  # fmt: skip
_TAIL = (
    -0.000200214257, 0.000100950558, 0.00134934322, -0.00367342844, 0.00573950773, -0.0076224613, 0.00943887047,
    1.00167406, 2.83297682,
)  # fmt: skip


def _erfinv(u: np.ndarray) -> np.ndarray:
    """The inverse of the error function in float64: a polynomial, then one Newton step."""
    inner = np.clip(u, -1 + 1e-16, 1 - 1e-16)
    w = -np.log1p(-inner * inner)
    z = inner * np.where(
        w < 5, np.polyval(_CENTRE, w - 2.5), np.polyval(_TAIL, np.sqrt(np.maximum(w, 5)) - 3)
    )  # fmt: skip
    return z - (erf(z) - inner) * (math.sqrt(math.pi) / 2) * np.exp(z * z)
