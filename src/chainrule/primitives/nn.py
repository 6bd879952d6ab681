"""Primitives of networks that would otherwise be several passes over the data: softmax and its kin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.errors import DTypeError, ShapeError
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
    return x - np.maximum.reduce(x, axis, keepdims=True) if x.size else x.copy()


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


def _cross_entropy_value(x: np.ndarray, classes: np.ndarray) -> Any:
    z = _shifted(x, 1)
    losses = np.log(np.add.reduce(np.exp(z), 1))
    losses -= z[np.arange(len(z)), classes]
    return np.add.reduce(losses) * _share(x)


def _share(x: Any) -> float:
    """One row's share of a mean over all rows; there is no mean of none."""
    rows = x.shape[0]
    return 1.0 / rows if rows else math.nan


def _rows_rule(x: Any, classes: Any) -> ShapeDtype:
    if len(x.shape) != 2 or classes.shape != x.shape[:1] or classes.dtype.kind not in "iu":
        raise ShapeError(f"scores (N, C) and N integer classes, got {x!r} and {classes!r}")
    if x.shape[0] and not x.shape[1]:
        raise ShapeError(f"there are no classes among which the {x.shape[0]} could be")
    return _rule(x, 1)


def _cross_entropy_jvp(tangents: Sequence[Tensor | None], _y: Any, x: Tensor, classes: Tensor) -> Tensor | None:
    if tangents[0] is None:
        return None
    return sum(excess(x, classes) * tangents[0], axis=(0, 1), keepdims=False) * _share(x)


_ROWS: Any = ([((2, 3), np.dtype("float32")), ((2,), np.dtype("int64"))], {})

cross_entropy = Primitive(
    "cross_entropy", _cross_entropy_value,
    abstract=lambda x, classes: ShapeDtype((), _rows_rule(x, classes).dtype),
    vjps=(lambda g, _y, x, classes: excess(x, classes) * (g * _share(x)), None),
    jvp=_cross_entropy_jvp,
    latex=r"-\mathrm{{mean}}(\ln \mathrm{{softmax}}({a:0})_{{{b}}})", text="−mean(ln softmax({a:0})[{b}])",
    example=_ROWS, doc="The mean of -ln softmax(row)[class] over the rows of scores (N, C) and classes (N,).",
)  # fmt: skip


def _excess_value(x: np.ndarray, classes: np.ndarray) -> np.ndarray:
    p = _softmax_value(x, 1)
    p[np.arange(len(p)), classes] -= 1
    return p


excess = Primitive(
    "excess", _excess_value, abstract=_rows_rule,
    vjps=(lambda g, _y, x, _classes: _softmax_product(g, softmax(x, axis=1), 1), None),
    jvp=lambda tangents, _y, x, _classes: (
        None if tangents[0] is None else _softmax_product(tangents[0], softmax(x, axis=1), 1)
    ),
    latex=r"\mathrm{{softmax}}({a:0}) - \mathrm{{onehot}}({b:0})", text="softmax({a:0}) − onehot({b:0})", precedence=1,
    example=_ROWS, doc="softmax(row) - onehot(class): the probability that is too much.",
)  # fmt: skip

softplus = pointwise(
    "softplus", special.softplus, result=real_floating_result,
    latex=r"\ln (1 + e^{{{x:0}}})", text="ln(1 + e^{x:4})", partials=lambda _y, x: sigmoid(x),
)  # fmt: skip
