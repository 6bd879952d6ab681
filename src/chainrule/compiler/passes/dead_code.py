"""Dead code: operations and constants that no output depends on."""

from __future__ import annotations

from ..graph import Graph, Value


def remove_dead_code(graph: Graph) -> Graph:
    """Keep what the outputs need. Inputs stay, used or not."""
    needed: set[Value] = set(graph.outputs)
    ops = []
    for op in reversed(graph.ops):
        if any(value in needed for value in op.outputs):
            ops.append(op)
            needed.update(op.inputs)
    constants = {value: array for value, array in graph.constants.items() if value in needed}
    return Graph(list(graph.inputs), ops[::-1], list(graph.outputs), constants)
