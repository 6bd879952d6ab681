"""Passes: each maps a graph to another one that computes the same, with the same inputs and outputs in order."""

from ..graph import Graph
from .attention import fuse_attention
from .dead_code import remove_dead_code
from .loops import improve_loops
from .rematerialise import rematerialise
from .sharing import share
from .simplify import simplify
from .sums import join_sums
from .transposes import sink_transposes


def optimise(graph: Graph) -> Graph:
    """All passes, in order. The given graph stays as it is."""
    graph = join_sums(remove_dead_code(graph))
    for _ in range(2):  # what one pass leaves, another one can use
        graph = remove_dead_code(share(sink_transposes(simplify(graph))))
    return graph


def optimise_step(graph: Graph) -> Graph:
    """All passes, for a graph that is complete: no part of it will be differentiated any more."""
    graph = optimise(graph)
    improved = improve_loops(graph, optimise)
    graph = graph if improved is graph else optimise(improved)
    fused = fuse_attention(graph)
    return rematerialise(graph if fused is graph else remove_dead_code(simplify(fused)))
