"""Capture: one run of a function as a graph, with all that a later call has to supply, check and put back.

The function runs once, on traced arguments. What comes out is the graph from arguments, state and
settings to results and new state; which Variable each input and output belongs to; and the facts about
modules, tensors and optimisers that the graph was made for.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.dtypes import as_dtype
from ..core.errors import TransformError, located
from ..core.node import ShapeDtype, leaf
from ..core.tensor import Tensor, Variable, new_tensor
from ..nn.module import Module
from ..primitives.shape import identity
from . import arguments
from .graph import Graph, Op, Value
from .guards import Guards
from .passes import optimise_step
from .state import Cell, intercepted, node_slot
from .trace import Source, Trace


@dataclass
class Result:
    """A tensor among the results; `requires_grad` says whether it would, were the function not compiled.

    It is an output of the graph, or one of the arguments as it came.
    """

    requires_grad: bool
    output: int = -1
    argument: int | None = None


@dataclass
class State:
    """A Variable that is read, written or both: positions of its old value among the inputs, of its new one
    among the outputs."""

    variable: Variable
    requires_grad: bool
    before: Value | None
    input: int | None = None
    output: int | None = None


@dataclass
class Gradient:
    """The `.grad` of a Variable that is read, written or both.

    `was_there` is whether it was a tensor before, None if that makes no difference. Where it is written,
    it is an output of the graph after the call, one of the arguments as it came, or None.
    """

    variable: Variable
    writes: bool
    was_there: bool | None
    before: Value | None
    input: int | None = None
    output: int | None = None
    argument: int | None = None


@dataclass
class ArgumentGradient:
    """What a call adds to the `.grad` of one of its arguments."""

    argument: int
    output: int = -1


class Captured:
    """A function as a graph.

    Attributes:
        raw: the graph as it was recorded.
        graph: the graph after the passes; `updates` pairs new state with old.
        specs: shapes and data types of the tensors and arrays among the arguments.
        seconds: how long the trace and the passes took.
        arguments: for each tensor or array among the arguments its position among the inputs, None if unused.
        results: the tensors among the results.
        tree: the container that was returned, with tensors where the results go.
        states, gradients, argument_gradients: what is read and written besides.
        sources: numbers read from Python at every call, with the positions of their inputs.
        guards: what must still hold for the graph to be the function.
    """

    raw: Graph
    graph: Graph
    specs: list[ShapeDtype]
    seconds: dict[str, float]
    arguments: list[int | None]
    results: list[Result]
    tree: Any
    states: list[State]
    gradients: list[Gradient]
    argument_gradients: list[ArgumentGradient]
    sources: list[tuple[Source, list[int | None]]]
    guards: Guards


def capture(function: Callable[..., Any], args: Any, kwargs: dict[str, Any], name: str) -> Captured:
    """Trace one call of `function`.

    Args:
        args, kwargs: the arguments of the call; tensors and arrays in them become inputs.
        name: what errors call the function.

    Raises:
        TransformError: the function needs a value, keeps a traced one, or returns something else than tensors.
    """
    captured = _capture(function, args, kwargs, name, True) or _capture(function, args, kwargs, name, False)
    assert captured is not None
    return captured


def _capture(
    function: Callable[..., Any], args: Any, kwargs: dict[str, Any], name: str, shares: bool
) -> Captured | None:
    """One trace; None if states that share an input do not stay equal."""
    captured = Captured()
    trace = Trace(shares=shares)
    given: list[Any] = []
    arguments.flatten((args, kwargs), given)
    captured.specs = [ShapeDtype(g.shape, g.dtype) for g in given]
    captured.seconds = {}
    started = time.perf_counter()
    entries, wanted = _run(function, args, kwargs, given, name, trace, captured)
    captured.guards = Guards(trace)
    trace.close()
    captured.raw = trace.graph
    captured.raw.outputs = [value for value, _ in wanted]
    captured.seconds["trace"] = time.perf_counter() - started
    started = time.perf_counter()
    graph = optimise_step(captured.raw)
    captured.seconds["passes"] = time.perf_counter() - started
    _settle(graph, [holder for _, holder in wanted])
    if not _agree(captured.states):
        return None
    read = {value for op in graph.ops for value in op.inputs}
    graph.inputs = [value for value in graph.inputs if value in read]
    position = {value: index for index, value in enumerate(graph.inputs)}
    captured.graph = graph
    captured.arguments = [position.get(value) for value in entries]
    captured.sources = [(s, [position.get(v) for v in s.values]) for s in trace.sources.values()]
    holders: list[State | Gradient] = [*captured.states, *captured.gradients]
    for holder in holders:
        holder.input = None if holder.before is None else position.get(holder.before)
        if holder.input is not None and holder.output is not None:
            graph.updates[holder.output] = holder.input
    return captured


def _run(
    function: Callable[..., Any], args: Any, kwargs: Any, given: list[Any], name: str, trace: Trace, captured: Captured
) -> tuple[list[Value], list[tuple[Value, Any]]]:
    """Run the function in the trace; the values of its arguments, and those it computes with who wants them."""
    inside = [_argument(trace, number, outer) for number, outer in enumerate(given)]
    given_values = [t._value for t in inside]
    args, kwargs = arguments.rebuild((args, kwargs), iter(inside))
    for argument in arguments.objects((args, kwargs)):
        if isinstance(argument, Module):
            trace.enter(argument)
    with intercepted(trace):
        returned = function(*args, **kwargs)
        tensors = arguments.results(returned, name)
        captured.tree = arguments.replaced(returned, iter([_PLACE] * len(tensors)))
        captured.results = [Result(t.requires_grad) for t in tensors]
        # Tensors are immutable: one that comes out as it went in need not be copied. NumPy's arrays may change.
        came = {t._value.value: i for i, t in enumerate(inside) if isinstance(given[i], Tensor)}
        wanted: list[tuple[Value, Any]] = []
        for tensor, result in zip(tensors, captured.results, strict=True):
            _want(trace.value_of(tensor), result, came, wanted)
        captured.states, captured.gradients, captured.argument_gradients = [], [], []
        for cell in trace.cells:
            _state(trace, cell, captured.states, wanted)
            _gradient(trace, cell, captured.gradients, came, wanted)
        for number, (tensor, value) in enumerate(zip(inside, given_values, strict=True)):
            if tensor._value is not value:
                raise TransformError(_changed_argument(number, tensor, name))
            if tensor.grad is not None:
                _require_leaf(given[number], name)
                captured.argument_gradients.append(ArgumentGradient(number))
                wanted.append((trace.value_of(tensor.grad), captured.argument_gradients[-1]))
        trace.require_same_numbers(name)
    return [t._value.value for t in inside], wanted


_PLACE = new_tensor(np.zeros(()), None)


def _argument(trace: Trace, number: int, outer: Any) -> Tensor:
    tensor = trace.input(outer.shape, as_dtype(outer.dtype), f"argument {number}")
    if isinstance(outer, Tensor) and outer.requires_grad:
        tensor._node = leaf(tensor._value, True, owner=tensor)
    return tensor


def _changed_argument(number: int, tensor: Tensor, name: str) -> str:
    return (
        f"cr.compile: {name} changes its argument {number} in place (x[i] = v, {tensor._value.described()}), which the "
        "caller would not see; change a copy, x = cr.asarray(x, copy=True), and return it"
    )


def _require_leaf(outer: Tensor, name: str) -> None:
    if not outer.is_leaf:
        raise TransformError(
            located(
                f"cr.compile: {name} calls backward(), which leads on through an argument to what that was computed "
                "from, outside of the compiled function; compile the whole computation, or detach() the argument"
            )
        )


def _state(trace: Trace, cell: Cell, states: list[State], wanted: list[tuple[Value, Any]]) -> None:
    if cell.before is None:
        return  # a Variable that the function made from traced values: gone with the trace, or found by close()
    node = node_slot.__get__(cell.variable)
    state = State(cell.variable, node is not None and node.requires_grad, cell.before._value.value)
    states.append(state)
    after = new_tensor(cell.slots["_value"], None)
    if after._value is not cell.before._value:
        wanted.append((trace.value_of(after), state))


def _want(value: Value, holder: Any, came: dict[Value, int], wanted: list[tuple[Value, Any]]) -> None:
    holder.argument = came.get(value)
    if holder.argument is None:
        wanted.append((value, holder))


def _gradient(
    trace: Trace, cell: Cell, gradients: list[Gradient], came: dict[Value, int], wanted: list[tuple[Value, Any]]
) -> None:
    before = cell.grad_before
    after = cell.slots.get("_grad", before)
    writes = "_grad" in cell.slots and (after is not before or not cell.reads_grad)
    if not writes and not cell.reads_grad:
        return
    was_there = before is not None if cell.reads_grad else None
    gradient = Gradient(cell.variable, writes, was_there, None if before is None else before._value.value)
    gradients.append(gradient)
    if writes and after is not None:
        _want(trace.value_of(after), gradient, came, wanted)


def _settle(graph: Graph, holders: list[Any]) -> None:
    """Make every output a value of its own, computed by an operation, and tell its holder the position.

    States that share an input and get the same new value share the output, too.
    """
    taken: set[Value] = set(graph.inputs) | set(graph.constants)
    shared: dict[tuple[Value, Value | None], int] = {}
    outputs: list[Value] = []
    for value, holder in zip(graph.outputs, holders, strict=True):
        before = getattr(holder, "before", None)
        key = (value, before)
        if before is not None and key in shared:
            holder.output = shared[key]
            continue
        holder.output = len(outputs)
        if before is not None:
            shared[key] = holder.output
        if value in taken:
            copy = Op(identity, [value], {})
            graph.ops.append(copy)
            value = copy.output
        taken.add(value)
        outputs.append(value)
    graph.outputs = outputs


def _agree(states: list[State]) -> bool:
    """Whether states with one input in common have one output in common."""
    found: dict[Value, int | None] = {}
    return all(s.before is None or found.setdefault(s.before, s.output) == s.output for s in states)
