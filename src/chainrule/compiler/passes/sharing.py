"""Common subexpressions: what is computed twice from the same values is computed once."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from ..graph import Graph, Op, Value
from .rewrite import Rewriting

_SMALL = 64


def share(graph: Graph) -> Graph:
    """Operations with the same primitive, inputs and parameters become one; so do equal small constants."""
    rewriting = Rewriting(graph)
    constants: dict[Hashable, Value] = {}
    first: dict[Value, Value] = {}
    for value, array in graph.constants.items():
        if array.nbytes <= _SMALL:
            # The bytes tell 0.0 from -0.0 and compare NaN.
            first[value] = constants.setdefault((array.dtype, array.shape, array.tobytes()), value)
    known: dict[Hashable, tuple[Value, ...]] = {}
    get = first.get

    def rule(op: Op, inputs: tuple[Value, ...]) -> Any:
        inputs = tuple([get(value, value) for value in inputs])
        key = (op.primitive, inputs, tuple(op.params.items()))
        found = known.get(key)
        if found is None:
            found = known[key] = rewriting.keep(op, inputs)
        return found

    result = rewriting.run(rule)
    result.outputs = [first.get(value, value) for value in result.outputs]
    return result
