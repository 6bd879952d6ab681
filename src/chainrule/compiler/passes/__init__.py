"""Passes: each maps a graph to another one that computes the same, with the same inputs and outputs in order."""

from ..graph import Graph
from .dead_code import remove_dead_code
from .sharing import share


def optimise(graph: Graph) -> Graph:
    """All passes, in order. The given graph stays as it is."""
    return remove_dead_code(share(remove_dead_code(graph)))
