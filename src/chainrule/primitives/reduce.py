"""Reductions and scans. `axis` is a tuple of non-negative axes; `keepdims` keeps them as 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.errors import ShapeError
from ..core.node import ShapeDtype
from ..core.primitive import Primitive
from ..core.tensor import Tensor
from .families import linear
from .pointwise import equal, where
from .shape import broadcast_to, flip, reshape

_F = np.dtype("float32")


def reduced_shape(shape: tuple[int, ...], axis: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    """The shape that remains."""
    if keepdims:
        return tuple(1 if d in axis else n for d, n in enumerate(shape))
    return tuple(n for d, n in enumerate(shape) if d not in axis)


def _expand(g: Tensor, shape: tuple[int, ...], axis: tuple[int, ...]) -> Tensor:
    """A reduced tensor with its reduced axes back as 1."""
    kept = reduced_shape(shape, axis, True)
    return g if g.shape == kept else reshape(g, shape=kept)


def _rule(x: Any, axis: tuple[int, ...], keepdims: bool) -> ShapeDtype:
    return ShapeDtype(reduced_shape(x.shape, axis, keepdims), x.dtype)


def _batch(_size: int, _batched: Any, inputs: Sequence[Tensor], params: dict[str, Any], primitive: Primitive) -> Tensor:
    axis = tuple(a + 1 for a in params["axis"])
    return primitive(inputs[0], **{**params, "axis": axis})


def _batched(primitive: Primitive) -> Primitive:
    primitive.batch = lambda size, batched, inputs, params: _batch(size, batched, inputs, params, primitive)
    return primitive


_EXAMPLE: Any = ([((2, 3), _F)], {"axis": (1,), "keepdims": False})

sum = _batched(
    linear(
        "sum", lambda x, axis, keepdims: x.sum(axis=axis, keepdims=keepdims, dtype=x.dtype),
        latex=r"\sum {x}", abstract=_rule, example=_EXAMPLE,
        transpose=lambda g, _x, axis, keepdims: broadcast_to(_expand(g, _x.shape, axis), shape=_x.shape),
    )
)  # fmt: skip


def _extremum_vjp(g: Tensor, y: Tensor, x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    # Ties share the gradient evenly, as in PyTorch's amax and in JAX.
    chosen = where(equal(x, _expand(y, x.shape, axis)), 1.0, 0.0)
    share = chosen / sum(chosen, axis=axis, keepdims=True)
    return _expand(g, x.shape, axis) * _like(share, g)


def _extremum_jvp(tangents: Any, y: Tensor, x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    chosen = where(equal(x, _expand(y, x.shape, axis)), 1.0, 0.0)
    share = chosen / sum(chosen, axis=axis, keepdims=True)
    return sum(_like(share, tangents[0]) * tangents[0], axis=axis, keepdims=keepdims)


def _like(x: Tensor, other: Tensor) -> Tensor:
    from .pointwise import astype

    return x if x.dtype == other.dtype else astype(x, dtype=other.dtype)


def _extremum_rule(x: Any, axis: tuple[int, ...], keepdims: bool) -> ShapeDtype:
    if any(x.shape[a] == 0 for a in axis):
        raise ShapeError(f"shape {x.shape} is empty along axis {axis}: there is no extremum of nothing")
    return _rule(x, axis, keepdims)


def _extremum(name: str, method: str) -> Primitive:
    return _batched(
        Primitive(
            name, lambda x, axis, keepdims: getattr(x, method)(axis=axis, keepdims=keepdims),
            abstract=_extremum_rule, vjps=(_extremum_vjp,), jvp=_extremum_jvp,
            latex=rf"\{method} {{x}}", text=f"{method}({{x:0}})", example=_EXAMPLE,
        )
    )  # fmt: skip


max = _extremum("max", "max")
min = _extremum("min", "min")


def _cumulative_rule(x: Any, axis: int) -> ShapeDtype:
    return ShapeDtype(x.shape, x.dtype)


cumulative_sum = linear(
    "cumulative_sum", lambda x, axis: np.cumsum(x, axis=axis, dtype=x.dtype), abstract=_cumulative_rule,
    transpose=lambda g, _x, axis: flip(cumulative_sum(flip(g, axis=(axis,)), axis=axis), axis=(axis,)),
    batch=lambda _s, _b, inputs, p: cumulative_sum(inputs[0], axis=p["axis"] + 1),
    latex=r"\mathrm{{cumsum}}({x:0})", example=([((2, 3), _F)], {"axis": 1}),
)  # fmt: skip
