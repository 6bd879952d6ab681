"""What every normalisation layer does: subtract the mean, divide by the standard deviation, over some axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.errors import DTypeError, ShapeError
from ..core.node import ShapeDtype
from ..core.primitive import Primitive
from ..core.tensor import Tensor
from .pointwise import square
from .reduce import mean, reduced_shape, sum
from .shape import broadcast_to

_F = np.dtype("float32")
Axes = tuple[int, ...]


def _count(shape: tuple[int, ...], axis: Axes) -> int:
    return math.prod(shape[a] for a in axis)


def _mean(x: np.ndarray, axis: Axes, y: np.ndarray | None = None) -> np.ndarray:
    """The mean of x, or of x·y, with the axes kept; along the last axes by BLAS, which is several times as fast."""
    start = x.ndim
    while start and start - 1 in axis:
        start -= 1
    if start == x.ndim:
        total = np.add.reduce(x if y is None else x * y, axis=axis)
    else:
        rows = (*x.shape[:start], math.prod(x.shape[start:]))
        flat = x.reshape(rows)
        total = flat @ np.ones(rows[-1], x.dtype) if y is None else np.vecdot(flat, y.reshape(rows))
        front = tuple(a for a in axis if a < start)
        if front:
            total = np.add.reduce(total, axis=front)
    count = _count(x.shape, axis)
    return np.reshape(total, reduced_shape(x.shape, axis, True)) * (1.0 / count if count else math.nan)


def moments(x: np.ndarray, axis: Axes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x - mean(x), the mean, and the (biased) variance, the latter two with axes of length 1."""
    if x.dtype.kind != "f":
        raise DTypeError(f"needs a floating tensor, got {x.dtype}")
    centre = _mean(x, axis)
    centred = x - centre
    return centred, centre, _mean(centred, axis, centred)


def _value(x: np.ndarray, axis: Axes, eps: float) -> np.ndarray:
    y, _, variance = moments(x, axis)
    y *= 1 / np.sqrt(variance + eps)
    return y


def _scale_value(x: np.ndarray, axis: Axes, eps: float) -> np.ndarray:
    return 1 / np.sqrt(moments(x, axis)[2] + eps)


def _rule(x: Any, axis: Axes, eps: float) -> ShapeDtype:
    if x.dtype.kind != "f":
        raise DTypeError(f"needs a floating tensor, got {x.dtype}")
    return ShapeDtype(x.shape, x.dtype)


def _scale_rule(x: Any, axis: Axes, eps: float) -> ShapeDtype:
    return ShapeDtype(reduced_shape(x.shape, axis, True), _rule(x, axis, eps).dtype)


def _product(g: Tensor, y: Tensor, x: Tensor, axis: Axes, eps: float) -> Tensor:
    # The Jacobian is symmetric: the same product for vjp and jvp.
    return standardised_product(g, y, inverse_deviation(x, axis=axis, eps=eps), axis=axis)


def _behind_batch(primitive: Any) -> Any:
    def batch(_size: int, _batched: Any, inputs: Sequence[Tensor], params: dict[str, Any]) -> Tensor:
        return primitive()(inputs[0], **{**params, "axis": tuple(a + 1 for a in params["axis"])})

    return batch


_EXAMPLE: Any = ([((2, 3), _F)], {"axis": (1,), "eps": 1e-5})

standardise = Primitive(
    "standardise", _value, abstract=_rule,
    vjps=(_product,), jvp=lambda tangents, y, x, axis, eps: _product(tangents[0], y, x, axis, eps),
    batch=_behind_batch(lambda: standardise), example=_EXAMPLE,
    latex=r"\mathrm{{standardised}}({x:0})", text="standardised({x:0})",
    doc="(x - mean(x)) / √(var(x) + eps) over some axes.",
)  # fmt: skip


def _scale_vjp(g: Tensor, r: Tensor, x: Tensor, axis: Axes, eps: float) -> Tensor:
    share = 1.0 / max(_count(x.shape, axis), 1)
    return standardise(x, axis=axis, eps=eps) * (g * square(r) * -share)


def _scale_jvp(tangents: Sequence[Tensor], r: Tensor, x: Tensor, axis: Axes, eps: float) -> Tensor:
    y = standardise(x, axis=axis, eps=eps)
    return -square(r) * mean(y * tangents[0], axis=axis, keepdims=True)


inverse_deviation = Primitive(
    "inverse_deviation", _scale_value, abstract=_scale_rule, vjps=(_scale_vjp,), jvp=_scale_jvp,
    batch=_behind_batch(lambda: inverse_deviation), example=_EXAMPLE,
    latex=r"\frac{{1}}{{\sqrt{{\mathrm{{var}}({x:0}) + \epsilon}}}}", text="1/√(var({x:0}) + ε)", precedence=2,
    doc="1 / √(var(x) + eps) over some axes, which are kept with length 1.",
)  # fmt: skip


def _product_value(g: np.ndarray, y: np.ndarray, r: np.ndarray, axis: Axes) -> np.ndarray:
    if any(x.dtype.kind != "f" for x in (g, y, r)):
        raise DTypeError("needs floating tensors")
    out = y * _mean(g, axis, y)
    out += _mean(g, axis)
    np.subtract(g, out, out=out)
    out *= r
    return out


def _product_rule(g: Any, y: Any, r: Any, axis: Axes) -> ShapeDtype:
    if any(t.dtype.kind != "f" for t in (g, y, r)):
        raise DTypeError(f"needs floating tensors, got {g.dtype}, {y.dtype} and {r.dtype}")
    if g.shape != y.shape or r.shape != reduced_shape(y.shape, axis, True):
        raise ShapeError(f"two tensors of one shape and their scale, got shapes {g.shape}, {y.shape} and {r.shape}")
    return ShapeDtype(g.shape, np.result_type(g.dtype, y.dtype, r.dtype))


def _product_by_y(u: Tensor, g: Tensor, y: Tensor, r: Tensor, axis: Axes) -> Tensor:
    return -(u * mean(g * y, axis=axis, keepdims=True) + g * mean(u * y, axis=axis, keepdims=True)) * r


def _unscaled(g: Tensor, y: Tensor, axis: Axes) -> Tensor:
    return g - mean(g, axis=axis, keepdims=True) - y * mean(g * y, axis=axis, keepdims=True)


def _product_jvp(tangents: Sequence[Tensor | None], _out: Any, g: Tensor, y: Tensor, r: Tensor, axis: Axes) -> Any:
    dg, dy, dr = tangents
    parts = (
        None if dg is None else standardised_product(dg, y, r, axis=axis),
        None
        if dy is None
        else -(dy * mean(g * y, axis=axis, keepdims=True) + y * mean(g * dy, axis=axis, keepdims=True)) * r,
        None if dr is None else _unscaled(g, y, axis) * dr,
    )
    total = None
    for part in parts:
        if part is not None:
            total = part if total is None else total + part
    return total


def _product_batch(size: int, batched: Sequence[bool], inputs: Sequence[Tensor], params: dict[str, Any]) -> Tensor:
    whole = [x if given else broadcast_to(x, shape=(size, *x.shape)) for x, given in zip(inputs, batched, strict=True)]
    return standardised_product(*whole, axis=tuple(a + 1 for a in params["axis"]))


standardised_product = Primitive(
    "standardised_product", _product_value, abstract=_product_rule,
    vjps=(
        lambda u, _out, _g, y, r, axis: standardised_product(u, y, r, axis=axis),
        lambda u, _out, g, y, r, axis: _product_by_y(u, g, y, r, axis),
        lambda u, _out, g, y, _r, axis: sum(u * _unscaled(g, y, axis), axis=axis, keepdims=True),
    ),
    jvp=_product_jvp, batch=_product_batch,
    latex=r"({a:1} - \mathrm{{mean}}({a:0}) - {b:2} \, \mathrm{{mean}}({a:2} \, {b:2})) \, {c:2}",
    text="({a:1} − mean({a:0}) − {b:2} mean({a:2} {b:2})) {c:2}", precedence=2,
    example=([((2, 3), _F), ((2, 3), _F), ((2, 1), _F)], {"axis": (1,)}),
    doc="(g - mean(g) - y mean(g y)) r: the derivative of y = standardised(x), r = 1 / √(var + eps), applied to g.",
)  # fmt: skip
