"""What a graph becomes: a `Program`, to be bound to arrays and run. And the slow one that needs no compiler.

Binding is separate from running because almost all arrays (parameters, optimiser state, outputs that are
state) stay where they are from call to call: their addresses are looked up once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from .graph import Graph, evaluate

if TYPE_CHECKING:
    from .runtime.program import NativeCall


class Call(Protocol):
    """A program with its arrays. All are C-contiguous, of the graph's shapes and data types, and kept alive here."""

    def set_input(self, position: int, array: np.ndarray) -> None:
        """Read another array as this input from now on."""

    def set_output(self, position: int, array: np.ndarray) -> None:
        """Write another array as this output from now on."""

    def __call__(self) -> None:
        """Compute the outputs from what the inputs hold now."""

    def native(self) -> NativeCall | None:
        """The one native function that a call is; None if there is more to it."""

    def fault(self) -> Exception:
        """The error for what that function has flagged."""


class Program(Protocol):
    """A graph, ready to run.

    Attributes:
        is_atomic: a call is one native call: nothing can interrupt it, and it fails, if at all, before it
            has overwritten anything. Only then may the output of an update be the array of the
            input that it replaces (`Graph.updates`); no other arrays of a call overlap.
    """

    is_atomic: bool

    def bind(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> Call:
        """The program on these arrays."""
        ...


class Evaluation:
    """The reference program: the primitives' own NumPy values, one after the other."""

    is_atomic = False

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def bind(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> _EvaluationCall:
        """See `Program`."""
        return _EvaluationCall(self.graph, list(inputs), list(outputs))


class _EvaluationCall:
    def __init__(self, graph: Graph, inputs: list[Any], outputs: list[Any]) -> None:
        self._graph, self._inputs, self._outputs = graph, inputs, outputs

    def set_input(self, position: int, array: np.ndarray) -> None:
        self._inputs[position] = array

    def set_output(self, position: int, array: np.ndarray) -> None:
        self._outputs[position] = array

    def native(self) -> None:
        return None

    def fault(self) -> Exception:
        raise NotImplementedError

    def __call__(self) -> None:
        for array, result in zip(self._outputs, evaluate(self._graph, self._inputs), strict=True):
            array[...] = result
