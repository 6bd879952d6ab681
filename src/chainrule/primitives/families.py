"""Families of primitives: what can be said once for all of their members.

A pointwise primitive states its partial derivatives; a linear one its transpose. From that
follow the vjp, the jvp and the rule for a batch axis, here. Nothing here computes a value.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.dtypes import complex_dtype, default_dtype
from ..core.errors import DTypeError, ShapeError
from ..core.node import ShapeDtype
from ..core.primitive import Primitive, table
from ..core.tensor import Tensor


def broadcast_shapes(name: str, *shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The common shape under NumPy's broadcasting rules."""
    try:
        return _broadcast(shapes)
    except ValueError:
        listed = " and ".join(map(str, shapes))
        raise ShapeError(
            f"shapes {listed} do not broadcast: aligned from the right, two lengths of an axis "
            "must be equal or one of them 1"
        ) from None


@functools.lru_cache(maxsize=1024)
def _broadcast(shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    return np.broadcast_shapes(*shapes)


def unbroadcast(g: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Sum a cotangent over the axes along which an operand of `shape` was broadcast."""
    wide = g._value.shape
    if wide == shape:
        return g
    axes = _broadcast_axes(wide, shape)
    if axes:
        g = table["sum"](g, axis=axes, keepdims=False)
    return g if g._value.shape == shape else table["reshape"](g, shape=shape)


@functools.lru_cache(maxsize=1024)
def _broadcast_axes(wide: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The axes along which broadcasting an operand of `shape` to the shape `wide` repeats it."""
    extra = len(wide) - len(shape)
    return (*range(extra), *(axis for axis, n in enumerate(shape, extra) if n == 1 and wide[axis] != 1))


def match_realness(g: Tensor, x: Any) -> Tensor:
    """The cotangent of a real operand is real, even where the result was complex."""
    if g.dtype.kind == "c" and x.dtype.kind != "c":
        return table["real"](g)
    return g


def match(g: Tensor, x: Any) -> Tensor:
    """Fit a cotangent to the operand: its shape, its realness and its precision."""
    given, wanted = g._value, x._value
    shape, dtype = wanted.shape, wanted.dtype
    if given.dtype is not dtype and given.dtype != dtype:
        g = match_realness(g, x)
        if g.dtype != dtype:
            return table["astype"](unbroadcast(g, shape), dtype=dtype)
    return g if given.shape == shape else unbroadcast(g, shape)


def _scaled(g: Tensor, partial: Any, conjugate: bool) -> Tensor | None:
    # Partial derivatives of 1, -1 and 0 are stated as Python numbers: no product is computed.
    if isinstance(partial, Tensor):
        if conjugate and partial._value.dtype.kind == "c":
            partial = table["conj"](partial)
        return table["multiply"](g, partial)
    if partial == 1:
        return g
    if partial == 0:
        return None
    return -g if partial == -1 else g * partial


def _pointwise_vjp(position: int, partial: Any, arity: int) -> Any:
    if not callable(partial):
        # Sums and differences: the operands' values are not needed.
        if partial == 1:
            return lambda g, _y, *_inputs: match(g, _inputs[position])

        def constant_rule(g: Tensor, _y: Any, *_inputs: Any) -> Tensor | None:
            scaled = _scaled(g, partial, conjugate=False)
            return None if scaled is None else match(scaled, _inputs[position])

        return constant_rule

    def rule(g: Tensor, y: Any, *inputs: Any, **params: Any) -> Tensor | None:
        factor = partial(y, *inputs, **params) if params else partial(y, *inputs)
        scaled = _scaled(g, factor, conjugate=True)
        return None if scaled is None else match(scaled, inputs[position])

    names = partial.__code__.co_varnames[: partial.__code__.co_argcount]
    rule.reads = (  # type: ignore[attr-defined]
        not names[0].startswith("_"),
        tuple(i for i, name in enumerate(names[1 : arity + 1]) if not name.startswith("_")),
    )
    return rule


def _pointwise_jvp(partials: Sequence[Any]) -> Any:
    def jvp(tangents: Sequence[Tensor | None], y: Tensor, *inputs: Tensor, **params: Any) -> Tensor | None:
        total = None
        for tangent, partial in zip(tangents, partials, strict=True):
            if tangent is None or partial is None:
                continue
            factor = partial(y, *inputs, **params) if callable(partial) else partial
            term = _scaled(tangent, factor, conjugate=False)
            if term is not None:
                total = term if total is None else total + term
        return fit_tangent(total, y)

    return jvp


def fit_tangent(tangent: Tensor | None, y: Tensor) -> Tensor | None:
    """A tangent of the output's own shape and data type."""
    if tangent is None:
        return None
    if tangent.shape != y.shape:
        tangent = table["broadcast_to"](tangent, shape=y.shape)
    return tangent if tangent.dtype == y.dtype else table["astype"](tangent, dtype=y.dtype)


def align_batched(batched: Sequence[bool], inputs: Sequence[Tensor]) -> list[Tensor]:
    """Give all operands with a leading batch axis the same rank, so that they broadcast."""
    rank = max(t.ndim - b for t, b in zip(inputs, batched, strict=True))
    aligned = []
    for tensor, is_batched in zip(inputs, batched, strict=True):
        missing = rank - (tensor.ndim - is_batched)
        if is_batched and missing:
            shape = (tensor.shape[0], *(1,) * missing, *tensor.shape[1:])
            tensor = table["reshape"](tensor, shape=shape)
        aligned.append(tensor)
    return aligned


def pointwise(
    name: str,
    value: Callable[..., Any],
    *,
    partials: Any = None,
    latex: str | None = None,
    text: str | None = None,
    result: Callable[..., np.dtype] | None = None,
    arity: int | None = None,
    abstract: Callable[..., Any] | None = None,
    **more: Any,
) -> Primitive:
    """A primitive that acts on each element by itself, with broadcasting.

    Args:
        partials: the partial derivative of the output y by each input, as a function
            (y, x, …) written in primitives or as a number; a tuple for several inputs.
            None where nothing can be differentiated (comparisons, rounding).
        result: the data type of the output from those of the inputs; NumPy's own
            promotion for the ufunc `value` if left out.
        arity: number of inputs where it follows neither from `partials` nor from a ufunc.
    """
    if partials is not None and not isinstance(partials, tuple):
        partials = (partials,)
    if arity is None:
        arity = len(partials) if partials is not None else getattr(value, "nin", 1)

    def rule(*specs: Any, **params: Any) -> ShapeDtype:
        shape = broadcast_shapes(name, *(s.shape for s in specs))
        return ShapeDtype(shape, _result_dtype(value, result, [s.dtype for s in specs]))

    primitive: Primitive

    def batch(size: int, batched: Sequence[bool], inputs: Sequence[Tensor], params: dict[str, Any]) -> Tensor:
        return primitive(*align_batched(batched, inputs), **params)

    vjps = jvp = None
    if partials is not None:
        vjps = tuple(None if p is None else _pointwise_vjp(i, p, arity) for i, p in enumerate(partials))
        jvp = _pointwise_jvp(partials)
    more.setdefault("example", ([((3,), default_dtype())] * arity, {}))
    primitive = Primitive(
        name, value, abstract=abstract or rule, vjps=more.pop("vjps", vjps), jvp=more.pop("jvp", jvp),
        batch=batch, partials=partials, latex=latex, text=text, **more,
    )  # fmt: skip
    return primitive


def _result_dtype(value: Any, result: Any, kinds: list[np.dtype]) -> np.dtype:
    if result is not None:
        return result(*kinds)
    if isinstance(value, np.ufunc):
        try:
            return value.resolve_dtypes((*kinds, None))[-1]
        except TypeError as error:
            raise DTypeError(f"not defined for {', '.join(map(str, kinds))}") from error
    return np.result_type(*kinds)


def linear(
    name: str,
    value: Callable[..., Any],
    *,
    transpose: Callable[..., Any],
    abstract: Callable[..., Any],
    **more: Any,
) -> Primitive:
    """A primitive that is linear in its one input x.

    Args:
        transpose: `transpose(g, x, **params)`, the transposed map applied to the cotangent;
            of x it may use the shape and the data type only.
    """

    def vjp(g: Tensor, _y: Any, _x: Any, **params: Any) -> Tensor:
        return transpose(g, _x, **params)

    def jvp(tangents: Sequence[Tensor | None], y: Tensor, x: Tensor, **params: Any) -> Tensor | None:
        return None if tangents[0] is None else primitive(tangents[0], **params)

    primitive = Primitive(name, value, abstract=abstract, vjps=(vjp,), jvp=jvp, **more)
    return primitive


def result_of(ufunc: np.ufunc) -> Callable[..., np.dtype]:
    """The result type of a NumPy function, for a value that refines it."""
    return lambda *kinds: _result_dtype(ufunc, None, list(kinds))


def bool_result(*_: np.dtype) -> np.dtype:
    """The result type of comparisons and tests."""
    return np.dtype(bool)


def floating_result(*kinds: np.dtype) -> np.dtype:
    """The result type of functions that map integers to the default floating type."""
    dtype = np.result_type(*kinds)
    return dtype if dtype.kind in "fc" else default_dtype()


def real_floating_result(dtype: np.dtype) -> np.dtype:
    """The result type of functions of real numbers only; integers become the default floating type."""
    if dtype.kind == "c":
        raise DTypeError(f"not defined for {dtype}")
    return floating_result(dtype)


def complex_result(dtype: np.dtype) -> np.dtype:
    """The complex type of the operand's precision."""
    return complex_dtype(dtype)
