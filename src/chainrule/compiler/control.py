"""`cond` and `scan`: branches and loops decided by values, for functions that are traced without them.

In eager mode they are Python's own if and for. In a trace a branch or a loop's body is traced into a graph of
its own, which a primitive made for that one call carries; the tensors that it uses from outside become
operands. The derivatives of these primitives are `cond` and `scan` again, of the bodies' derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import compress
from typing import Any

import numpy as np

from ..core.dtypes import is_differentiable
from ..core.errors import DTypeError, OperationError, ShapeError, describe, located
from ..core.node import ShapeDtype, mode
from ..core.tensor import Tensor, Variable, new_tensor
from ..core.tree import leaves, rebuild
from ..func import vjp
from ..func.batching import Batched
from ..primitives import pointwise
from ..primitives.index import index
from ..primitives.shape import concat, reshape
from .body import Body, replay, trace_body
from .graph import Graph
from .nested import Branch, Loop
from .state import intercepted
from .trace import Trace, Traced


def cond(pred: Any, true_fn: Callable[..., Any], false_fn: Callable[..., Any], *operands: Any) -> Any:
    """`true_fn(*operands)` if `pred` holds, `false_fn(*operands)` otherwise.

    In a compiled function, where `pred` has no value yet, both functions are traced and one of them runs at each
    call. Gradients flow through the one that ran.

    Args:
        pred: a bool, or a tensor with one element.
        true_fn, false_fn: return tensors (or containers of them) of equal structure, shapes and data types. They
            may use tensors from outside and change Variables.
        operands: tensors and containers of tensors.

    Returns:
        What the chosen function returned.

    Raises:
        ShapeError: `pred` has more than one element, or the functions return different shapes.
        DTypeError: they return different data types or structures, or something else than tensors.

    Under `vmap` with a predicate for each sample both functions run, and each sample takes its own; so they do in a
    compiled function under `vmap` and `jvp`.
    """
    if isinstance(pred, Tensor):
        if pred.size != 1:
            raise ShapeError(located(f"cond: the predicate has one element, got shape {pred.shape}"))
        if isinstance(pred._value, Batched) or (mode.level and isinstance(pred._value, Traced)):
            return _both(pred, true_fn(*operands), false_fn(*operands))
        if isinstance(pred._value, Traced):
            return _traced_cond(pred, true_fn, false_fn, operands)
    return true_fn(*operands) if pred else false_fn(*operands)


def _both(pred: Tensor, a: Any, b: Any) -> Any:
    if pred.ndim:
        pred = reshape(pred, shape=())
    chosen = [pointwise.where(pred, x, y) for x, y in zip(leaves(a), leaves(b), strict=True)]
    return rebuild(a, chosen)


def _traced_cond(pred: Tensor, true_fn: Callable[..., Any], false_fn: Callable[..., Any], operands: Any) -> Any:
    given = leaves(operands)

    def branch(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *values: function(*rebuild(operands, list(values)))

    first = trace_body(branch(true_fn), given, "cond: true_fn")
    second = trace_body(branch(false_fn), given, "cond: false_fn")
    written = list(dict.fromkeys([*first.written, *second.written]))
    if written:
        first = trace_body(branch(true_fn), given, "cond: true_fn", written)
        second = trace_body(branch(false_fn), given, "cond: false_fn", written)
    _require_equal(first, second)
    captured, graphs = _joined(first, second)
    primitive = Branch(graphs, _cond_cotangents)
    if pred.ndim:
        pred = reshape(pred, shape=())
    if pred.dtype.kind != "b":
        pred = pointwise.not_equal(pred, 0)
    out = primitive(pred, *given, *written, *captured)
    return _put_back(first, written, out)


def _put_back(body: Body, written: Sequence[Variable], out: Any) -> Any:
    """Set the Variables that a body wrote; the rest of the outputs in the body's container."""
    values = _listed(out) if body.graph.outputs else []
    states = len(values) - len(written)
    for variable, value in zip(written, values[states:], strict=True):
        variable.assign(value)
    return rebuild(body.tree, values[:states])


def _require_equal(a: Body, b: Body) -> None:
    left, right = a.specs(), b.specs()
    if a.structure != b.structure or len(left) != len(right):
        raise DTypeError(located("cond: true_fn and false_fn return containers of different structure"))
    for x, y in zip(left, right, strict=True):
        if x != y:
            kind = ShapeError if x.shape != y.shape else DTypeError
            raise kind(located(f"cond: true_fn returns {describe(x)} where false_fn returns {describe(y)}"))


def _joined(a: Body, b: Body) -> tuple[list[Tensor], list[Any]]:
    """The tensors that two bodies use from outside, and their graphs with inputs for all of them."""
    captured = [*a.captured, *b.captured]
    shared = len(a.graph.inputs) - len(a.captured)
    first, second = a.graph, b.graph
    first.inputs = [*first.inputs, *b.spare()]
    second.inputs = [*second.inputs[:shared], *a.spare(), *second.inputs[shared:]]
    return captured, [first, second]


def _replayed(graph: Graph) -> Callable[..., tuple[Tensor, ...]]:
    return lambda *values: tuple(replay(graph, values))


def _cond_cotangents(branch: Branch, g: Any, _y: Any, inputs: Sequence[Tensor]) -> list[Tensor | None]:
    """A `cond` of the derivatives of the two graphs."""
    pred, *operands = inputs
    on_true, on_false = branch.graphs
    seeds = [_or_zeros(s, v) for s, v in zip(_listed(g), on_true.outputs, strict=True)]
    flows = [i for i, t in enumerate(operands) if is_differentiable(t.dtype)]

    def back(graph: Graph) -> Callable[..., Any]:
        return lambda seeds, values: pulled(_replayed(graph), values, seeds, flows)

    found = iter(cond(pred, back(on_true), back(on_false), tuple(seeds), tuple(operands)))
    return [None, *(next(found) if i in flows else None for i in range(len(operands)))]


def _listed(results: Any) -> list[Any]:
    """What belongs to the outputs of a primitive, one or several, as a list."""
    return list(results) if isinstance(results, list | tuple) else [results]


def pulled(function: Callable[..., Any], values: Any, seeds: Any, flows: Sequence[int]) -> tuple[Tensor, ...]:
    """The cotangents of the values at `flows`, given those of the function's outputs."""

    def partial(*moving: Tensor) -> Any:
        full = list(values)
        for position, value in zip(flows, moving, strict=True):
            full[position] = value
        out = function(*full)
        differentiable[:] = [is_differentiable(t.dtype) for t in out]
        return tuple(compress(out, differentiable))

    if not flows:
        return ()
    differentiable: list[bool] = []
    _, pull = vjp(partial, *(values[i] for i in flows))
    back = pull(tuple(compress(seeds, differentiable)))
    return (back,) if len(flows) == 1 else tuple(back)


def _or_zeros(cotangent: Any, value: Any) -> Tensor:
    if cotangent is not None:
        return cotangent
    dtype = value.dtype if is_differentiable(value.dtype) else np.dtype(np.float32)
    return new_tensor(np.zeros(value.shape, dtype), None)


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    *,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """A loop that carries a value along the first axis of `xs`: `carry, ys[i] = f(carry, xs[i])`.

    In a compiled function the body is traced once, whatever the number of steps; a Python loop would be
    written out step by step, as this one is under `vmap` and `jvp`.

    Args:
        f: takes the carry and one slice of `xs`; returns the next carry, of the same structure, shapes and
            data types, and an output. It may use tensors from outside and change Variables.
        init: the carry before the first step: a tensor or a container of tensors.
        xs: tensors whose first axes are equally long; None for a loop over `length` steps without input.
        length: the number of steps, where `xs` does not say it.
        reverse: go from the last slice to the first.

    Returns:
        (carry after the last step, outputs stacked along a new first axis). Without steps the outputs have the
        shapes and types that `f` would give them; under `vmap` and `jvp` there are None then.

    Raises:
        ShapeError: the first axes differ, or a step changes the shape of the carry.
        DTypeError: a step changes the data types or the structure of the carry.
        OperationError: neither `xs` nor `length` says how many steps there are.
    """
    steps = _steps(xs, length)
    if not steps and not mode.level:
        return init, _no_outputs(f, init, xs)
    if mode.trace is not None and not mode.level:
        return _traced_scan(f, init, xs, steps, reverse)
    carry, outputs = init, []
    for step in range(steps - 1, -1, -1) if reverse else range(steps):
        made = f(carry, rebuild(xs, [_slice(t, step) for t in leaves(xs)]))
        carry, y = _pair(made)
        _require_carry(init, carry)
        outputs.append(y)
    if not outputs:
        return carry, None
    if reverse:
        outputs.reverse()
    columns = zip(*(leaves(y) for y in outputs), strict=True)
    return carry, rebuild(outputs[0], [concat(*(reshape(t, shape=(1, *t.shape)) for t in c), axis=0) for c in columns])


def _no_outputs(f: Callable[..., Any], init: Any, xs: Any) -> Any:
    """The outputs of a loop without steps: what they would be is found by tracing one, which is then forgotten."""
    with intercepted(Trace()) if mode.trace is None else nullcontext():
        specs, body = _step_of(f, init, xs)
        traced = trace_body(body, specs, "scan: f")
    y = traced.tree[1]
    return rebuild(y, [new_tensor(np.zeros((0, *t.shape), t.dtype), None) for t in leaves(y)])


def _pair(made: Any) -> tuple[Any, Any]:
    if not isinstance(made, tuple) or len(made) != 2:
        raise DTypeError(located(f"scan: f returns (carry, output), got {type(made).__name__}"))
    return made


def _steps(xs: Any, length: int | None) -> int:
    lengths = {t.shape[0] for t in leaves(xs) if t.ndim}
    if any(t.ndim == 0 for t in leaves(xs)):
        raise ShapeError(located("scan: xs must have a first axis to go along, got a 0-d tensor"))
    if length is not None:
        lengths.add(length)
    if len(lengths) != 1:
        if not lengths:
            raise OperationError(located("scan: give xs or length: how many steps are there?"))
        raise ShapeError(located(f"scan: the first axes of xs and length must agree, got {sorted(lengths)}"))
    return lengths.pop()


def _slice(t: Tensor, position: int) -> Tensor:
    return index(t, pattern=(("i", position), *(("s", 0, n, 1) for n in t.shape[1:])))


def _require_carry(before: Any, after: Any) -> None:
    old, new = leaves(before), leaves(after)
    if len(old) != len(new):
        raise DTypeError(located(f"scan: the carry has {len(old)} tensors before a step and {len(new)} after it"))
    for a, b in zip(old, new, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            kind = ShapeError if a.shape != b.shape else DTypeError
            raise kind(located(f"scan: a step changes the carry from {describe(a)} to {describe(b)}"))


def _step_of(f: Callable[..., Any], init: Any, xs: Any) -> tuple[list[Any], Callable[..., Any]]:
    """Shapes and types of the carry and the slices, and a step as a function of their tensors."""
    carry, slices = leaves(init), leaves(xs)

    def body(*values: Tensor) -> Any:
        made = f(rebuild(init, list(values[: len(carry)])), rebuild(xs, list(values[len(carry) :])))
        after, y = _pair(made)
        _require_carry(init, after)
        return after, y

    return [*carry, *(ShapeDtype(t.shape[1:], t.dtype) for t in slices)], body


def _traced_scan(f: Callable[..., Any], init: Any, xs: Any, steps: int, reverse: bool) -> tuple[Any, Any]:
    specs, body = _step_of(f, init, xs)
    carry, slices = leaves(init), leaves(xs)
    traced = trace_body(body, specs, "scan: f")
    written = traced.written
    if written:
        traced = trace_body(body, specs, "scan: f", written)
    # Inputs: carry, slices, states, captured; the primitive wants all that is carried first.
    graph = traced.graph
    n, m, k = len(carry), len(slices), len(written)
    graph.inputs = [
        *graph.inputs[:n],
        *graph.inputs[n + m : n + m + k],
        *graph.inputs[n + m + k :],
        *graph.inputs[n : n + m],
    ]
    states = graph.outputs[len(graph.outputs) - k :]
    graph.outputs = [*graph.outputs[:n], *states, *graph.outputs[n : len(graph.outputs) - k]]
    operands = [*carry, *written, *traced.captured, *slices]
    # In a body nobody knows yet whether it will be differentiated.
    keeps = mode.trace.outer is not None or (mode.grad and any(t.requires_grad for t in operands))
    loop = Loop(graph, n + k, len(traced.captured), steps, reverse, range(n + k) if keeps else (), _scan_cotangents)
    out = _listed(loop(*operands))
    for variable, value in zip(written, out[n : n + k], strict=True):
        variable.assign(value)
    ys = out[n + k : len(graph.outputs)]
    after, y = traced.tree
    return rebuild(after, out[:n]), rebuild(y, ys)


def _scan_cotangents(loop: Loop, g: Any, y: Any, inputs: Sequence[Tensor]) -> list[Tensor | None]:
    """A `scan` the other way of the derivative of a step: cotangents of the carry, sums for the constants."""
    ys, gs = _listed(y), _listed(g)
    fixed = loop.carried + loop.constants
    constants, arrays = list(inputs[loop.carried : fixed]), list(inputs[fixed:])
    outputs = len(loop.graph.outputs)
    flows = [i for i, t in enumerate(inputs) if is_differentiable(t.dtype)]
    carried = [i for i in flows if i < loop.carried]
    shared = [i for i in flows if loop.carried <= i < fixed]
    sliced = [i for i in flows if i >= fixed]
    begin = ([_or_zeros(gs[i], ys[i]) for i in carried], [_zeros_like(inputs[i]) for i in shared])

    def back(state: Any, at: Any) -> Any:
        ahead, sums = state
        values, slices, of_outputs, of_carry = at
        cotangents = [None] * loop.carried
        for i, c in zip(carried, ahead, strict=True):
            cotangents[i] = c
        given = [_or_zeros(c, v) for c, v in zip([*cotangents, *of_outputs], loop.graph.outputs, strict=True)]
        pulled_back = pulled(_replayed(loop.graph), [*values, *constants, *slices], given, flows)
        found = dict(zip(flows, pulled_back, strict=True))
        earlier = [found[i] if of_carry[i] is None else found[i] + of_carry[i] for i in carried]
        return (earlier, [s + found[i] for i, s in zip(shared, sums, strict=True)]), [found[i] for i in sliced]

    along = (ys[outputs:], arrays, gs[loop.carried : outputs], gs[outputs:])
    (first, sums), slices = scan(back, begin, along, loop.length, reverse=not loop.reverse)
    found = dict(zip([*carried, *shared, *sliced], [*first, *sums, *slices], strict=True))
    return [found.get(i) for i in range(len(inputs))]


def _zeros_like(t: Tensor) -> Tensor:
    return new_tensor(np.zeros(t.shape, t.dtype), None)
