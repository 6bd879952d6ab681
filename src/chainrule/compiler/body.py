"""Bodies of branches and loops: a part of a traced function as a graph of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..core.errors import TransformError, located
from ..core.node import ShapeDtype, leaf, mode
from ..core.tensor import Tensor, Variable, new_tensor
from .arguments import results
from .graph import Graph, Value
from .passes import optimise
from .trace import Trace


class Body:
    """A traced part.

    Attributes:
        graph: from operands, Variables and captured tensors to results and the Variables' new values.
        captured: the tensors from outside that the part uses, for the last inputs of the graph.
        written: the Variables that it changes.
        tree: what the function returned.
    """

    def __init__(self, graph: Graph, captured: list[Tensor], written: list[Variable], tree: Any) -> None:
        self.graph = graph
        self.captured = captured
        self.written = written
        self.tree = tree
        self.structure = _structure(tree)

    def specs(self) -> list[ShapeDtype]:
        """Shapes and data types of the outputs."""
        return [ShapeDtype(v.shape, v.dtype) for v in self.graph.outputs]

    def spare(self) -> list[Value]:
        """Inputs for what this part captures, in a graph that has no use for it."""
        return [Value(t.shape, t.dtype) for t in self.captured]


def _structure(tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return "tensor"
    if isinstance(tree, tuple | list):
        return (type(tree), *map(_structure, tree))
    if isinstance(tree, dict):
        return (dict, *((key, _structure(part)) for key, part in tree.items()))
    return tree


class _BodyTrace(Trace):
    """A trace inside another one: tensors from there become inputs when they are used."""

    def __init__(self, outer: Trace) -> None:
        super().__init__(outer)
        self.entered, self.constants, self._alive = outer.entered, outer.constants, outer._alive
        self.captured: dict[tuple[int, int], tuple[Tensor, Value]] = {}

    def adopt(self, tensor: Tensor) -> Value:
        held = tensor._value
        outer = self.outer
        while outer is not held.trace:
            if outer is None:
                raise TransformError(located(held.leaked()))
            outer = outer.outer
        # The same value with and without a graph (x and x.detach()) are different operands.
        key = (id(held), id(tensor._node))
        if key not in self.captured:
            made = self.input(held.shape, held.dtype, held.value.name)
            self.captured[key] = (tensor, made._value.value)
        return self.captured[key][1]

    def settings(self, owner: Any, read: Any, split: Any) -> Any:
        assert self.outer is not None
        return self.outer.settings(owner, read, split)


class _BodyCells:
    """Variables in a body: read from the enclosing trace, written here."""

    def __init__(self, trace: Trace, outer: Any, states: dict[Variable, Tensor]) -> None:
        self._trace = trace
        self._outer = outer
        self.slots: dict[Variable, dict[str, Any]] = {}
        self.written: dict[Variable, None] = {}
        for variable, tensor in states.items():
            node = outer.read(variable, "_node")
            flows = node is not None and node.requires_grad
            self.slots[variable] = {
                "_value": tensor._value,
                "_node": leaf(tensor._value, True, owner=variable) if flows else tensor._node,
            }

    def read(self, variable: Variable, name: str) -> Any:
        slots = self.slots.get(variable, {})
        return slots[name] if name in slots else self._outer.read(variable, name)

    def write(self, variable: Variable, name: str, content: Any) -> None:
        if name in ("_grad", "_graph"):
            raise TransformError(
                located(
                    "backward() inside cond or scan would add to .grad once for all steps; compute the gradients "
                    "there with cr.grad(loss, inputs) and return them"
                )
            )
        if name == "_value" and variable not in self.written:
            self._outer.read(variable, name)  # a Variable made inside has no outer value
            self.written[variable] = None
        self.slots.setdefault(variable, {})[name] = content


def trace_body(
    function: Callable[..., Any], operands: Sequence[Any], name: str, states: Sequence[Variable] = ()
) -> Body:
    """Trace `function` on inputs like the operands; the values of `states` are inputs and outputs, too."""
    outer = mode.trace
    trace = _BodyTrace(outer)
    inside = [trace.input(t.shape, t.dtype, f"operand {i}") for i, t in enumerate(operands)]
    before = {v: trace.input(v.shape, v.dtype, v.name or "state") for v in states}
    trace.cells = cells = _BodyCells(trace, outer.cells, before)
    mode.trace = trace
    try:
        returned = function(*inside)
        outputs = [trace.value_of(t) for t in results(returned, name)]
        outputs += [trace.value_of(new_tensor(cells.read(v, "_value"), None)) for v in states]
    finally:
        mode.trace = outer
    trace.graph.outputs = outputs
    trace.forget()
    captured = [tensor for tensor, _ in trace.captured.values()]
    return Body(optimise(trace.graph), captured, list(cells.written), returned)


def replay(graph: Graph, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The outputs of a graph, computed on tensors: recorded, differentiated, traced like any computation."""
    found: dict[Value, Tensor] = dict(zip(graph.inputs, inputs, strict=True))
    found.update((value, new_tensor(array, None)) for value, array in graph.constants.items())
    place = mode.place
    try:
        for op in graph.ops:
            mode.place = op.place or place
            result = op.primitive(*(found[v] for v in op.inputs), **op.params)
            found.update(zip(op.outputs, result if isinstance(result, tuple) else (result,), strict=True))
    finally:
        mode.place = place
    return [found[v] for v in graph.outputs]
