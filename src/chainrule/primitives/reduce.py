"""Reductions and scans. `axis` is a tuple of non-negative axes (one number for scans); `keepdims` keeps them as 1."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.errors import DTypeError, ShapeError
from ..core.node import ShapeDtype
from ..core.primitive import Primitive
from ..core.tensor import Tensor, new_tensor
from .families import linear
from .index import index
from .pointwise import astype, conj, equal, exp, isnan, logical_or, where
from .shape import broadcast_to, concat, flip, permute_dims, reshape

_F = np.dtype("float32")
_INT = np.dtype("int64")
_BOOL = np.dtype("bool")


def reduced_shape(shape: tuple[int, ...], axis: tuple[int, ...], keepdims: bool) -> tuple[int, ...]:
    """The shape that remains."""
    if keepdims:
        return tuple(1 if d in axis else n for d, n in enumerate(shape))
    return tuple(n for d, n in enumerate(shape) if d not in axis)


def _expand(g: Tensor, shape: tuple[int, ...], axis: tuple[int, ...]) -> Tensor:
    """A reduced tensor with its reduced axes back as 1."""
    if not g.shape:
        return g  # one number broadcasts as it is
    kept = reduced_shape(shape, axis, True)
    return g if g.shape == kept else reshape(g, shape=kept)


def _rule(x: Any, axis: tuple[int, ...], keepdims: bool) -> ShapeDtype:
    return ShapeDtype(reduced_shape(x.shape, axis, keepdims), x.dtype)


def _batched(primitive: Primitive) -> Primitive:
    def batch(_size: int, _batched: Any, inputs: Sequence[Tensor], params: dict[str, Any]) -> Any:
        axis = params["axis"]
        moved = axis + 1 if isinstance(axis, int) else tuple(a + 1 for a in axis)
        return primitive(inputs[0], **{**params, "axis": moved})

    primitive.batch = batch
    return primitive


_EXAMPLE: Any = ([((2, 3), _F)], {"axis": (1,), "keepdims": False})

sum = _batched(
    linear(
        "sum", lambda x, axis, keepdims: np.add.reduce(x, axis=axis, keepdims=keepdims, dtype=x.dtype),
        latex=r"\sum {x}", text="Σ({x:0})", abstract=_rule, example=_EXAMPLE,
        transpose=lambda g, _x, axis, keepdims: broadcast_to(_expand(g, _x.shape, axis), shape=_x.shape),
    )
)  # fmt: skip


def _count(shape: tuple[int, ...], axis: tuple[int, ...]) -> int:
    return math.prod(shape[a] for a in axis)


def _mean(x: np.ndarray, axis: tuple[int, ...], keepdims: bool) -> Any:
    add: Any = np.add  # NumPy's stubs know literal values of keepdims only
    return np.true_divide(add.reduce(x, axis=axis, keepdims=keepdims, dtype=x.dtype), _count(x.shape, axis))


def _mean_rule(x: Any, axis: tuple[int, ...], keepdims: bool) -> ShapeDtype:
    if x.dtype.kind not in "fc":
        raise DTypeError(f"needs a floating or complex type, got {x.dtype}")
    return _rule(x, axis, keepdims)


def _mean_transpose(g: Tensor, _x: Any, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    return broadcast_to(_expand(g / float(_count(_x.shape, axis)), _x.shape, axis), shape=_x.shape)


mean = _batched(
    linear(
        "mean", _mean, abstract=_mean_rule, transpose=_mean_transpose, example=_EXAMPLE,
        latex=r"\frac{{1}}{{n}} \sum {x}", text="mean({x:0})",
    )
)  # fmt: skip


def _share(x: Tensor, y: Tensor, axis: tuple[int, ...]) -> Tensor:
    """1/k at each of the k elements that attain the extremum y, 0 elsewhere."""
    # Ties share the gradient evenly, as in PyTorch's amax and in JAX. A NaN is the extremum
    # wherever there is one, although it does not equal itself.
    attained = logical_or(equal(x, _expand(y, x.shape, axis)), isnan(x))
    chosen = astype(attained, dtype=x.dtype)
    return chosen / sum(chosen, axis=axis, keepdims=True)


def _extremum_vjp(g: Tensor, y: Tensor, x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    return _expand(g, x.shape, axis) * _share(x, y, axis)


def _extremum_jvp(tangents: Any, y: Tensor, x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    return sum(_share(x, y, axis) * tangents[0], axis=axis, keepdims=keepdims)


def _nonempty_rule(x: Any, axis: tuple[int, ...], keepdims: bool) -> ShapeDtype:
    if 0 in [x.shape[a] for a in axis]:
        raise ShapeError(f"shape {x.shape} is empty along axis {axis}: there is no extremum of nothing")
    return _rule(x, axis, keepdims)


def _extremum(name: str, method: str) -> Primitive:
    return _batched(
        Primitive(
            name, lambda x, axis, keepdims: getattr(x, method)(axis=axis, keepdims=keepdims),
            abstract=_nonempty_rule, vjps=(_extremum_vjp,), jvp=_extremum_jvp,
            latex=rf"\{method} {{x}}", text=f"{method}({{x:0}})", example=_EXAMPLE,
        )
    )  # fmt: skip


max = _extremum("max", "max")
min = _extremum("min", "min")


def _extremum_position(name: str, find: Any) -> Primitive:
    def rule(x: Any, axis: int, keepdims: bool) -> ShapeDtype:
        return ShapeDtype(_nonempty_rule(x, (axis,), keepdims).shape, _INT)

    return _batched(
        Primitive(
            name, lambda x, axis, keepdims: find(x, axis=axis, keepdims=keepdims), abstract=rule,
            latex=rf"\mathrm{{{{{name}}}}} \, {{x}}", example=([((2, 3), _F)], {"axis": 1, "keepdims": False}),
        )
    )  # fmt: skip


argmax = _extremum_position("argmax", np.argmax)
argmin = _extremum_position("argmin", np.argmin)


def _truth(name: str, reduction: Any, latex: str) -> Primitive:
    return _batched(
        Primitive(
            name, lambda x, axis, keepdims: reduction(x, axis=axis, keepdims=keepdims), latex=latex,
            abstract=lambda x, axis, keepdims: ShapeDtype(reduced_shape(x.shape, axis, keepdims), _BOOL),
            example=([((2, 3), _BOOL)], {"axis": (1,), "keepdims": False}),
        )
    )  # fmt: skip


all = _truth("all", np.all, r"\bigwedge {x}")
any = _truth("any", np.any, r"\bigvee {x}")


def _scan_rule(x: Any, axis: int) -> ShapeDtype:
    return ShapeDtype(x.shape, x.dtype)


cumulative_sum = _batched(
    linear(
        "cumulative_sum", lambda x, axis: np.add.accumulate(x, axis=axis, dtype=x.dtype), abstract=_scan_rule,
        transpose=lambda g, _x, axis: flip(cumulative_sum(flip(g, axis=(axis,)), axis=axis), axis=(axis,)),
        latex=r"\mathrm{{cumsum}}({x:0})", example=([((2, 3), _F)], {"axis": 1}),
    )
)  # fmt: skip


def _part(x: Tensor, axis: int, start: int, stop: int) -> Tensor:
    """x[start:stop] along one axis."""
    return index(
        x, pattern=tuple(("s", start, stop, 1) if d == axis else ("s", 0, n, 1) for d, n in enumerate(x.shape))
    )


def _shifted(x: Tensor, axis: int) -> Tensor:
    """1, x₀, x₁, … without the last element."""
    first = new_tensor(np.ones(reduced_shape(x.shape, (axis,), True), x.dtype), None)
    return concat(first, _part(x, axis, 0, x.shape[axis] - 1), axis=axis)


def _recurrence(a: Tensor, b: Tensor, axis: int) -> Tensor:
    """s with s₀ = b₀ and sᵢ = aᵢ sᵢ₋₁ + bᵢ, in log₂ n steps.

    Hillis and Steele (1986), "Data parallel algorithms": the maps s → a s + b compose, and
    each step doubles how many of them aᵢ and bᵢ stand for. Nothing is divided, so zeros do
    no harm, and the steps can be differentiated again.
    """
    n = a.shape[axis]
    step = 1
    while step < n:
        tail = _part(a, axis, step, n)
        b = concat(_part(b, axis, 0, step), _part(b, axis, step, n) + tail * _part(b, axis, 0, n - step), axis=axis)
        a = concat(_part(a, axis, 0, step), tail * _part(a, axis, 0, n - step), axis=axis)
        step *= 2
    return b


def _cumulative_prod_vjp(g: Tensor, _y: Any, x: Tensor, axis: int) -> Tensor:
    # ∂L/∂xₖ = (Π_{j<k} xⱼ) sₖ with sₖ = gₖ + xₖ₊₁ sₖ₊₁.
    if x.shape[axis] == 0:
        return g
    x = conj(x) if x.dtype.kind == "c" else x
    following = _shifted(flip(x, axis=(axis,)), axis)
    s = flip(_recurrence(following, flip(g, axis=(axis,)), axis), axis=(axis,))
    return cumulative_prod(_shifted(x, axis), axis=axis) * s


def _cumulative_prod_jvp(tangents: Any, _y: Any, x: Tensor, axis: int) -> Tensor:
    if x.shape[axis] == 0:
        return tangents[0]
    return _recurrence(x, tangents[0] * cumulative_prod(_shifted(x, axis), axis=axis), axis)


cumulative_prod = _batched(
    Primitive(
        "cumulative_prod", lambda x, axis: np.multiply.accumulate(x, axis=axis, dtype=x.dtype), abstract=_scan_rule,
        vjps=(_cumulative_prod_vjp,), jvp=_cumulative_prod_jvp,
        latex=r"\mathrm{{cumprod}}({x:0})", example=([((2, 3), _F)], {"axis": 1}),
    )
)  # fmt: skip


def _product_of_others(x: Tensor, axis: tuple[int, ...]) -> Tensor:
    """For each element the product of all others along `axis`: what is before times what is behind."""
    if x.size == 0:
        return x
    kept = tuple(d for d in range(x.ndim) if d not in axis)
    order = kept + axis
    moved = permute_dims(x, axes=order)
    rows = reshape(moved, shape=(*(x.shape[d] for d in kept), math.prod(x.shape[d] for d in axis)))
    last = rows.ndim - 1
    before = cumulative_prod(_shifted(rows, last), axis=last)
    behind = flip(cumulative_prod(_shifted(flip(rows, axis=(last,)), last), axis=last), axis=(last,))
    others = reshape(before * behind, shape=moved.shape)
    return permute_dims(others, axes=tuple(order.index(d) for d in range(x.ndim)))


def _prod_vjp(g: Tensor, _y: Any, x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    others = _product_of_others(x, axis)
    return _expand(g, x.shape, axis) * (conj(others) if x.dtype.kind == "c" else others)


def _prod_jvp(tangents: Any, _y: Any, x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    return sum(_product_of_others(x, axis) * tangents[0], axis=axis, keepdims=keepdims)


prod = _batched(
    Primitive(
        "prod", lambda x, axis, keepdims: np.multiply.reduce(x, axis=axis, keepdims=keepdims, dtype=x.dtype),
        abstract=_rule, vjps=(_prod_vjp,), jvp=_prod_jvp, latex=r"\prod {x}", text="prod({x:0})", example=_EXAMPLE,
    )
)  # fmt: skip


def _logsumexp(x: np.ndarray, axis: tuple[int, ...], keepdims: bool) -> np.ndarray:
    if x.dtype.kind == "c":
        raise DTypeError(f"needs a real floating type, got {x.dtype}")
    largest = x.max(axis=axis, keepdims=True, initial=-np.inf)
    shift = np.where(np.isfinite(largest), largest, 0)
    y = np.log(np.exp(x - shift).sum(axis=axis, keepdims=True)) + shift
    return y if keepdims else y.reshape(reduced_shape(x.shape, axis, False))


def _logsumexp_rule(x: Any, axis: tuple[int, ...], keepdims: bool) -> ShapeDtype:
    if x.dtype.kind != "f":
        raise DTypeError(f"needs a real floating type, got {x.dtype}")
    return _rule(x, axis, keepdims)


def _softmax(x: Tensor, y: Tensor, axis: tuple[int, ...]) -> Tensor:
    # Where all terms are 0 (y = -inf), -inf - -inf would be NaN; the derivative there is 0.
    y = where(equal(y, -math.inf), 0.0, y)
    return exp(x - _expand(y, x.shape, axis))


def _logsumexp_vjp(g: Tensor, y: Tensor, x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    return _expand(g, x.shape, axis) * _softmax(x, y, axis)


def _logsumexp_jvp(tangents: Any, y: Tensor, x: Tensor, axis: tuple[int, ...], keepdims: bool) -> Tensor:
    return sum(_softmax(x, y, axis) * tangents[0], axis=axis, keepdims=keepdims)


logsumexp = _batched(
    Primitive(
        "logsumexp", _logsumexp, abstract=_logsumexp_rule, vjps=(_logsumexp_vjp,), jvp=_logsumexp_jvp,
        latex=r"\ln \sum e^{{{x:0}}}", text="ln sum exp({x:0})", example=_EXAMPLE,
    )
)  # fmt: skip
