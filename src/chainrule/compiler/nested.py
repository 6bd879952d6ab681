"""Primitives that carry graphs: `Branch` computes one of two, `Loop` one again and again.

`control` makes one for each call of `cond` and `scan`; passes and the schedule look inside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.node import ShapeDtype
from ..core.primitive import Primitive
from ..core.tensor import Tensor
from .graph import Graph, evaluate

Cotangents = Callable[[Any, Any, Sequence[Tensor]], list[Tensor | None]]
"""From the cotangents of the outputs, the outputs and the operands to the cotangents of the operands."""


class Nested(Primitive):
    """A primitive that computes graphs.

    Attributes:
        graphs: what it may compute.
        pull: its derivative, of the primitive and what `Cotangents` takes; None once passes have changed it.
    """

    __slots__ = ("_pending", "graphs", "pull")

    def __init__(
        self, name: str, graphs: Sequence[Graph], specs: Sequence[ShapeDtype], value: Callable[..., Any],
        pull: Callable[..., list[Tensor | None]] | None,
    ) -> None:  # fmt: skip
        self.graphs = tuple(graphs)
        self.pull = pull
        self._pending: tuple[Any, list[Tensor | None]] | None = None
        result: Any = specs[0] if len(specs) == 1 else tuple(specs)

        def cotangent(position: int, g: Any, y: Any, *inputs: Tensor) -> Tensor | None:
            # One computation gives the cotangents of all operands, which are asked for one by one.
            if self._pending is None or self._pending[0] is not g:
                assert self.pull is not None
                self._pending = (g, self.pull(self, g, y, inputs))
            return self._pending[1][position]

        super().__init__(
            name, value, abstract=lambda *_: result, vjps=cotangent if pull else None, outputs=len(specs),
            registered=False,
        )  # fmt: skip

    def forget(self) -> None:
        """Let go of the tensors of a trace that has ended."""
        self._pending = None

    def with_graphs(self, graphs: Sequence[Graph]) -> Nested:
        """The same with other graphs, whose inputs and outputs are as these graphs', or (a loop's carries) more."""
        raise NotImplementedError

    @property
    def key(self) -> tuple[Any, ...]:
        """What it is apart from its graphs, as plain data."""
        raise NotImplementedError


def _specs(graph: Graph) -> list[ShapeDtype]:
    return [ShapeDtype(v.shape, v.dtype) for v in graph.outputs]


def _packed(results: Sequence[Any]) -> Any:
    return tuple(results) if len(results) != 1 else results[0]


class Branch(Nested):
    """Two graphs with equal inputs and outputs; the first operand, a bool, chooses the first or the second."""

    __slots__ = ()

    def __init__(self, graphs: Sequence[Graph], pull: Callable[..., list[Tensor | None]] | None = None) -> None:
        super().__init__("cond", graphs, _specs(graphs[0]), self._run, pull)

    def _run(self, pred: np.ndarray, *operands: np.ndarray) -> Any:
        return _packed(evaluate(self.graphs[0 if pred else 1], operands))

    def with_graphs(self, graphs: Sequence[Graph]) -> Branch:
        """See `Nested`."""
        return Branch(graphs)

    @property
    def key(self) -> tuple[Any, ...]:
        """See `Nested`."""
        return ("cond",)


class Loop(Nested):
    """A graph run once for each step: (carry, constants, slices) to (carry, outputs).

    Operands are the first carry, the constants and the arrays to slice. Results are the last carry, the
    stacked outputs and the histories: the carries that the steps began with, which the derivative needs.

    Attributes:
        carried, constants: how many inputs of the graph are carried, and how many are the same at each step.
        length: how many steps there are, at least one.
        reverse: whether the last slices come first.
        keeps: the carries that have a history.
    """

    __slots__ = ("carried", "constants", "keeps", "length", "reverse")

    def __init__(
        self, graph: Graph, carried: int, constants: int, length: int, reverse: bool, keeps: Sequence[int],
        pull: Callable[..., list[Tensor | None]] | None = None,
    ) -> None:  # fmt: skip
        self.carried = carried
        self.constants = constants
        self.length = length
        self.reverse = reverse
        self.keeps = tuple(keeps)
        specs = _specs(graph)
        stacked = [*specs[carried:], *(specs[i] for i in self.keeps)]
        specs = [*specs[:carried], *(ShapeDtype((length, *s.shape), s.dtype) for s in stacked)]
        super().__init__("scan", (graph,), specs, self._run, pull)

    @property
    def graph(self) -> Graph:
        """What a step computes."""
        return self.graphs[0]

    def _run(self, *operands: np.ndarray) -> Any:
        fixed = self.carried + self.constants
        carry, constants, arrays = list(operands[: self.carried]), operands[self.carried : fixed], operands[fixed:]
        outputs = self.graph.outputs
        stacked = [np.empty((self.length, *v.shape), v.dtype) for v in outputs[self.carried :]]
        histories = [np.empty((self.length, *outputs[i].shape), outputs[i].dtype) for i in self.keeps]
        for step in range(self.length - 1, -1, -1) if self.reverse else range(self.length):
            for history, i in zip(histories, self.keeps, strict=True):
                history[step] = carry[i]
            out = evaluate(self.graph, [*carry, *constants, *(a[step] for a in arrays)])
            carry = out[: self.carried]
            for array, value in zip(stacked, out[self.carried :], strict=True):
                array[step] = value
        return _packed([*carry, *stacked, *histories])

    def with_graphs(self, graphs: Sequence[Graph]) -> Loop:
        """See `Nested`."""
        (graph,) = graphs
        more = len(graph.inputs) - len(self.graph.inputs)
        return Loop(graph, self.carried + more, self.constants, self.length, self.reverse, self.keeps)

    @property
    def key(self) -> tuple[Any, ...]:
        """See `Nested`."""
        return ("scan", self.carried, self.constants, self.length, self.reverse, self.keeps)
