"""The compiler's graph: primitives applied to values, in order, with no tensors and no gradients left.

A trace produces it, every pass maps one graph to another that computes the same, and the schedule
reads it. `evaluate` runs it with the primitives' own NumPy values: the meaning of a graph, and what
compiled code is tested against.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.node import Shaped, ShapeDtype
from ..core.primitive import Primitive


class Value(Shaped):
    """One array: an input of the graph, a constant, or an output of an operation.

    Attributes:
        shape, dtype: what is known before anything runs.
        op: the operation that computes it; None for an input or a constant.
        name: what a reader would call it (`fc1.weight`); may be empty.
    """

    __slots__ = ("dtype", "name", "op", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: Any, op: Op | None = None, name: str = "") -> None:
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self.op = op
        self.name = name

    def __repr__(self) -> str:
        return f"{self.name or 'value'}: {ShapeDtype(self.shape, self.dtype)}"


class Op:
    """One primitive applied to values.

    Attributes:
        primitive, inputs, params: as in a `Node`; `params` are static and hashable.
        outputs: one value, or several for a primitive with several outputs.
        place: the user's code that caused it (`core.source.resolve` gives file and line).
        path: the module it ran in (`encoder.2.attn`); empty outside of modules.
        postponed: whether it is to be computed where it is read, not as soon as it can be (`passes.rematerialise`).
    """

    __slots__ = ("inputs", "outputs", "params", "path", "place", "postponed", "primitive")

    def __init__(
        self,
        primitive: Primitive,
        inputs: Sequence[Value],
        params: dict[str, Any],
        *,
        place: Any = None,
        path: str = "",
    ) -> None:
        self.postponed = False
        self.primitive = primitive
        self.inputs = tuple(inputs)
        self.params = params
        self.place = place
        self.path = path
        result = primitive.abstract(*(ShapeDtype(v.shape, v.dtype) for v in self.inputs), **params)
        specs = result if isinstance(result, tuple) else (result,)
        self.outputs = tuple(Value(tuple(s.shape), s.dtype, self) for s in specs)

    def on(self, inputs: tuple[Value, ...]) -> Op:
        """The same operation on other values of the same shapes and data types."""
        made = object.__new__(Op)
        made.primitive, made.inputs, made.params = self.primitive, inputs, self.params
        made.place, made.path, made.postponed = self.place, self.path, self.postponed
        made.outputs = tuple([Value(v.shape, v.dtype, made, v.name) for v in self.outputs])
        return made

    @property
    def output(self) -> Value:
        """The output of an operation that has one."""
        (only,) = self.outputs
        return only

    def __repr__(self) -> str:
        return f"{self.primitive.name}({', '.join(str(ShapeDtype(v.shape, v.dtype)) for v in self.inputs)})"


@dataclass
class Graph:
    """A computation: inputs and constants, operations in an order in which they can run, outputs.

    Attributes:
        inputs: what a caller supplies: arguments, and the state as it is before the step.
        ops: the operations; each comes after those that compute its inputs.
        outputs: results, and the state as it is after the step.
        constants: values that are known; a trace puts in the arrays it met.
        updates: for the outputs that are new values of a state, the input each one replaces:
            `updates[output position] = input position`. Such an input may be overwritten once
            nothing reads it any more.
    """

    inputs: list[Value]
    ops: list[Op]
    outputs: list[Value]
    constants: dict[Value, np.ndarray] = field(default_factory=dict)
    updates: dict[int, int] = field(default_factory=dict)

    def uses(self) -> dict[Value, list[Op]]:
        """For every value the operations that read it, in order, once for each time they read it."""
        readers: dict[Value, list[Op]] = {}
        for op in self.ops:
            for value in op.inputs:
                readers.setdefault(value, []).append(op)
        return readers

    def __str__(self) -> str:
        names: dict[Value, str] = {}
        lines = []
        for kind, values in (("input", self.inputs), ("constant", self.constants)):
            for value in values:
                names[value] = f"%{len(names)}"
                shown = f" = {_shown(self.constants[value])}" if value in self.constants else ""
                lines.append(
                    f"{names[value]} {ShapeDtype(value.shape, value.dtype)} {kind}{shown} {value.name}".rstrip()
                )
        for op in self.ops:
            for value in op.outputs:
                names[value] = f"%{len(names)}"
            left = ", ".join(f"{names[v]} {ShapeDtype(v.shape, v.dtype)}" for v in op.outputs)
            params = "".join(f", {key}={value}" for key, value in op.params.items())
            lines.append(f"{left} = {op.primitive.name}({', '.join(names[v] for v in op.inputs)}{params})")
        lines.append(f"return {', '.join(names[v] for v in self.outputs)}")
        return "\n".join(lines)


def _shown(array: np.ndarray) -> str:
    return str(array.item()) if array.size == 1 else f"<{array.nbytes} bytes>"


def evaluate(graph: Graph, inputs: Iterable[np.ndarray]) -> list[np.ndarray]:
    """The outputs of a graph, computed by the primitives' NumPy values."""
    found: dict[Value, Any] = dict(zip(graph.inputs, inputs, strict=True))
    found.update(graph.constants)
    for op in graph.ops:
        result = op.primitive.evaluate([found[v] for v in op.inputs], op.params)
        results = result if isinstance(result, tuple) else (result,)
        found.update(zip(op.outputs, results, strict=True))
    return [found[v] for v in graph.outputs]
