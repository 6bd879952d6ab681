"""Primitives of networks that would otherwise be several passes over the data: softmax and its kin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.errors import DTypeError
from ..core.node import ShapeDtype
from ..core.primitive import Primitive
from ..core.tensor import Tensor
from . import special
from .families import pointwise, real_floating_result
from .pointwise import exp, sigmoid
from .reduce import sum

_EXAMPLE: Any = ([((2, 3), np.dtype("float32"))], {"axis": 1})


def _shifted(x: np.ndarray, axis: int) -> np.ndarray:
    # Softmax does not change when a constant is added to x; with the maximum at 0, exp cannot overflow.
    if x.dtype.kind == "c":
        raise DTypeError(f"needs a floating tensor, got {x.dtype}")
    return x - np.maximum.reduce(x, axis, keepdims=True, initial=-np.inf)


def _softmax_value(x: np.ndarray, axis: int) -> np.ndarray:
    weights = _shifted(x, axis)
    np.exp(weights, out=weights)
    weights /= np.add.reduce(weights, axis, keepdims=True)
    return weights


def _log_softmax_value(x: np.ndarray, axis: int) -> np.ndarray:
    z = _shifted(x, axis)
    z -= np.log(np.add.reduce(np.exp(z), axis, keepdims=True))
    return z


def _rule(x: Any, axis: int) -> ShapeDtype:
    if x.dtype.kind != "f":
        raise DTypeError(f"needs a floating tensor, got {x.dtype}")
    return ShapeDtype(x.shape, x.dtype)


def _softmax_product(g: Tensor, y: Tensor, axis: int) -> Tensor:
    # The Jacobian diag(y) - y yᵀ is symmetric: the same product for vjp and jvp.
    return y * (g - sum(g * y, axis=(axis,), keepdims=True))


def _along(primitive: Any) -> Any:
    return lambda _size, _batched, inputs, params: primitive()(inputs[0], axis=params["axis"] + 1)


softmax = Primitive(
    "softmax", _softmax_value, abstract=_rule,
    vjps=(lambda g, y, _x, axis: _softmax_product(g, y, axis),),
    jvp=lambda tangents, y, _x, axis: _softmax_product(tangents[0], y, axis),
    batch=_along(lambda: softmax), latex=r"\mathrm{{softmax}}({x:0})", example=_EXAMPLE,
    doc="exp(x) / Σ exp(x) along `axis`.",
)  # fmt: skip


def _log_softmax_jvp(tangents: Sequence[Tensor], y: Tensor, _x: Any, axis: int) -> Tensor:
    t = tangents[0]
    return t - sum(exp(y) * t, axis=(axis,), keepdims=True)


log_softmax = Primitive(
    "log_softmax", _log_softmax_value, abstract=_rule,
    vjps=(lambda g, y, _x, axis: g - exp(y) * sum(g, axis=(axis,), keepdims=True),),
    jvp=_log_softmax_jvp, batch=_along(lambda: log_softmax),
    latex=r"\ln \mathrm{{softmax}}({x:0})", text="ln softmax({x:0})", example=_EXAMPLE,
    doc="x - ln Σ exp(x) along `axis`.",
)  # fmt: skip

softplus = pointwise(
    "softplus", special.softplus, result=real_floating_result,
    latex=r"\ln (1 + e^{{{x:0}}})", text="ln(1 + e^{x:4})", partials=lambda _y, x: sigmoid(x),
)  # fmt: skip
