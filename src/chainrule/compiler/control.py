"""`cond` and `scan`: branches and loops decided by values, for functions that are traced without them.

In eager mode they are Python's own if and for. In a trace a branch or a loop's body is traced into a graph of
its own, which a primitive made for that one call carries; the tensors that it uses from outside become
operands. The derivatives of these primitives are `cond` and `scan` again, of the bodies' derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any

import numpy as np

from ..core.dtypes import is_differentiable
from ..core.errors import DTypeError, OperationError, ShapeError, describe, located
from ..core.node import ShapeDtype, mode
from ..core.primitive import Primitive
from ..core.tensor import Tensor, Variable, new_tensor
from ..core.tree import leaves, rebuild
from ..func import vjp
from ..func.batching import Batched
from ..primitives import pointwise
from ..primitives.index import index
from ..primitives.shape import concat, reshape
from .body import Body, replay, trace_body
from .graph import evaluate
from .trace import Traced


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
    primitive = _Cond(*graphs)
    if pred.ndim:
        pred = reshape(pred, shape=())
    if pred.dtype.kind != "b":
        pred = pointwise.not_equal(pred, 0)
    out = primitive(pred, *given, *written, *captured)
    return _put_back(first, written, out)


def _put_back(body: Body, written: Sequence[Variable], out: Any) -> Any:
    """Set the Variables that a body wrote; the rest of the outputs in the body's container."""
    values = list(out) if isinstance(out, tuple) else [out] * (len(body.graph.outputs))
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


class _Cond(Primitive):
    """Two graphs with equal inputs and outputs; the first operand chooses."""

    __slots__ = ("graphs", "pending")

    def __init__(self, on_true: Any, on_false: Any) -> None:
        self.graphs = (on_true, on_false)
        self.pending: tuple[Any, list[Any]] | None = None
        specs = tuple(ShapeDtype(v.shape, v.dtype) for v in on_true.outputs)
        result: Any = specs[0] if len(specs) == 1 else specs
        super().__init__(
            "cond", self._run, abstract=lambda *_: result, vjps=_unused,
            outputs=len(specs), registered=False,
        )  # fmt: skip

    def _run(self, pred: np.ndarray, *operands: np.ndarray) -> Any:
        out = evaluate(self.graphs[0 if pred else 1], operands)
        return tuple(out) if len(out) != 1 else out[0]

    def forget(self) -> None:
        """Let go of the tensors of a trace that has ended."""
        self.pending = None

    def _functions(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        return tuple(lambda *values, graph=graph: tuple(replay(graph, values)) for graph in self.graphs)  # type: ignore[return-value]

    def vjp(self, position: int, g: Any, y: Any, inputs: Any, params: dict[str, Any]) -> Tensor | None:
        # One cond gives the cotangents of all operands, which are asked for one by one.
        if self.pending is None or self.pending[0] is not g:
            self.pending = (g, self._cotangents(g, inputs))
        return self.pending[1][position]

    def _cotangents(self, g: Any, inputs: Sequence[Tensor]) -> list[Tensor | None]:
        pred, *operands = inputs
        outputs = self.graphs[0].outputs
        seeds = [_or_zeros(s, v) for s, v in zip(g if isinstance(g, list | tuple) else [g], outputs, strict=True)]
        flows = [i for i, t in enumerate(operands) if is_differentiable(t.dtype)]

        def back(function: Callable[..., Any]) -> Callable[..., Any]:
            return lambda seeds, values: pulled(function, values, seeds, flows)

        on_true, on_false = self._functions()
        found = iter(cond(pred, back(on_true), back(on_false), tuple(seeds), tuple(operands)))
        return [None, *(next(found) if i in flows else None for i in range(len(operands)))]


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
        (carry after the last step, outputs stacked along a new first axis).

    Raises:
        ShapeError: the first axes differ, or a step changes the shape of the carry.
        DTypeError: a step changes the data types or the structure of the carry.
        OperationError: neither `xs` nor `length` says how many steps there are.
    """
    steps = _steps(xs, length)
    if mode.trace is not None and steps and not mode.level:
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


def _traced_scan(f: Callable[..., Any], init: Any, xs: Any, steps: int, reverse: bool) -> tuple[Any, Any]:
    carry, slices = leaves(init), leaves(xs)

    def body(*values: Tensor) -> Any:
        made = f(rebuild(init, list(values[: len(carry)])), rebuild(xs, list(values[len(carry) :])))
        after, y = _pair(made)
        _require_carry(init, after)
        return after, y

    specs = [*carry, *(ShapeDtype(t.shape[1:], t.dtype) for t in slices)]
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
    keeps = mode.grad and any(t.requires_grad for t in operands)
    loop = _Loop(graph, n + k, len(traced.captured), steps, reverse, keeps)
    out = loop(*operands)
    out = list(out) if isinstance(out, tuple) else [out]
    for variable, value in zip(written, out[n : n + k], strict=True):
        variable.assign(value)
    ys = out[n + k : len(graph.outputs)]
    after, y = traced.tree
    return rebuild(after, out[:n]), rebuild(y, ys)


class _Loop(Primitive):
    """A graph run again and again: (carry, constants, slices) to (carry, outputs).

    Operands are the first carry, the constants and the arrays to slice; outputs the last carry, the
    stacked outputs and, if `keeps`, the carries that the steps began with, which the derivative needs.
    """

    __slots__ = ("carried", "constants", "graph", "keeps", "length", "pending", "reverse")

    def __init__(self, graph: Any, carried: int, constants: int, length: int, reverse: bool, keeps: bool) -> None:
        self.graph = graph
        self.carried = carried
        self.constants = constants
        self.length = length
        self.reverse = reverse
        self.keeps = keeps
        self.pending: tuple[Any, list[Any]] | None = None
        specs = [ShapeDtype(v.shape, v.dtype) for v in graph.outputs[:carried]]
        specs += [ShapeDtype((length, *v.shape), v.dtype) for v in graph.outputs[carried:]]
        if keeps:
            specs += [ShapeDtype((length, *v.shape), v.dtype) for v in graph.outputs[:carried]]
        result: Any = specs[0] if len(specs) == 1 else tuple(specs)
        super().__init__(
            "scan", self._run, abstract=lambda *_: result, vjps=_unused,
            outputs=len(specs), registered=False,
        )  # fmt: skip

    def forget(self) -> None:
        """Let go of the tensors of a trace that has ended."""
        self.pending = None

    def _order(self) -> range:
        return range(self.length - 1, -1, -1) if self.reverse else range(self.length)

    def _run(self, *operands: np.ndarray) -> Any:
        fixed = self.carried + self.constants
        carry, constants, arrays = list(operands[: self.carried]), operands[self.carried : fixed], operands[fixed:]
        stacked = [np.empty((self.length, *v.shape), v.dtype) for v in self.graph.outputs[self.carried :]]
        kept = [
            np.empty((self.length, *v.shape), v.dtype) for v in self.graph.outputs[: self.carried if self.keeps else 0]
        ]
        for step in self._order():
            for history, value in zip(kept, carry, strict=False):
                history[step] = value
            out = evaluate(self.graph, [*carry, *constants, *(a[step] for a in arrays)])
            carry = out[: self.carried]
            for array, value in zip(stacked, out[self.carried :], strict=True):
                array[step] = value
        everything = (*carry, *stacked, *kept)
        return everything if len(everything) > 1 else everything[0]

    def _step(self, *values: Tensor) -> tuple[Tensor, ...]:
        return tuple(replay(self.graph, values))

    def vjp(self, position: int, g: Any, y: Any, inputs: Any, params: dict[str, Any]) -> Tensor | None:
        # One loop backwards gives the cotangents of all operands, which are asked for one by one.
        if self.pending is None or self.pending[0] is not g:
            self.pending = (g, self._cotangents(g, y, inputs))
        return self.pending[1][position]

    def _cotangents(self, g: Any, y: Any, inputs: Sequence[Tensor]) -> list[Tensor | None]:
        ys = list(y) if isinstance(y, tuple) else [y]
        gs = list(g) if isinstance(g, list | tuple) else [g]
        fixed = self.carried + self.constants
        constants, arrays = list(inputs[self.carried : fixed]), list(inputs[fixed:])
        seeds = [_or_zeros(s, t) for s, t in zip(gs, ys, strict=True)]
        outputs = len(self.graph.outputs)
        history, of_history = ys[outputs:], seeds[outputs:]
        flows = [i for i, t in enumerate(inputs) if is_differentiable(t.dtype)]
        carried = [i for i in flows if i < self.carried]
        shared = [i for i in flows if self.carried <= i < fixed]
        sliced = [i for i in flows if i >= fixed]
        begin = ([seeds[i] for i in carried], [_zeros_like(inputs[i]) for i in shared])

        def back(state: Any, at: Any) -> Any:
            ahead, sums = state
            values, slices, of_outputs, of_carry = at
            cotangents = [None] * self.carried
            for i, c in zip(carried, ahead, strict=True):
                cotangents[i] = c
            given = [_or_zeros(c, v) for c, v in zip([*cotangents, *of_outputs], self.graph.outputs, strict=True)]
            found = dict(zip(flows, pulled(self._step, [*values, *constants, *slices], given, flows), strict=True))
            earlier = [found[i] + of_carry[i] for i in carried]
            return (earlier, [s + found[i] for i, s in zip(shared, sums, strict=True)]), [found[i] for i in sliced]

        along = (history, arrays, seeds[self.carried : outputs], of_history)
        (first, sums), slices = scan(back, begin, along, self.length, reverse=not self.reverse)
        found = dict(zip([*carried, *shared, *sliced], [*first, *sums, *slices], strict=True))
        return [found.get(i) for i in range(len(inputs))]


def _zeros_like(t: Tensor) -> Tensor:
    return new_tensor(np.zeros(t.shape, t.dtype), None)


def _unused(*_: Any, **__: Any) -> Any:
    raise NotImplementedError("cond and scan override vjp")


_unused.reads = (True, True)  # type: ignore[attr-defined]
