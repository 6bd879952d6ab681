"""How a pass rewrites a graph: operation by operation, in order, into a new graph with the same inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ...core.primitive import Primitive
from ..graph import Graph, Op, Value


class Rewriting:
    """A graph under construction from another one.

    A rule gets each operation of the old graph with its inputs in the new one, and returns the
    values that stand for the operation's outputs from then on, made with `emit` and `constant`; or
    None to keep the operation. Operations whose inputs stay the same are shared by both graphs.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = Graph(list(graph.inputs), [], [], dict(graph.constants))
        self._old = graph
        self._place: Any = None
        self._path = ""

    def run(self, rule: Callable[[Op, tuple[Value, ...]], Sequence[Value] | None]) -> Graph:
        """Apply the rule to every operation; the new graph."""
        new: dict[Value, Value] = {}
        get = new.get
        for op in self._old.ops:
            inputs = tuple([get(value, value) for value in op.inputs])
            self._place, self._path = op.place, op.path
            outputs = rule(op, inputs)
            if outputs is None:
                outputs = self.keep(op, inputs)
            for old, value in zip(op.outputs, outputs, strict=True):
                if value is not old:
                    new[old] = value
        self.graph.outputs = [new.get(value, value) for value in self._old.outputs]
        return self.graph

    def keep(self, op: Op, inputs: tuple[Value, ...]) -> tuple[Value, ...]:
        """The operation on these inputs, of the same shapes and data types."""
        if inputs != op.inputs:
            op = op.on(inputs)
        self.graph.ops.append(op)
        return op.outputs

    def emit(self, primitive: Primitive, *inputs: Value, **params: Any) -> Value:
        """A new operation, at the place in the user's code of the one being rewritten."""
        op = Op(primitive, inputs, params, place=self._place, path=self._path)
        self.graph.ops.append(op)
        return op.output

    def constant(self, array: np.ndarray) -> Value:
        """A new constant."""
        value = Value(array.shape, array.dtype)
        self.graph.constants[value] = array
        return value

    def constant_of(self, value: Value) -> np.ndarray | None:
        """The array of a constant; None for any other value."""
        return self.graph.constants.get(value)
