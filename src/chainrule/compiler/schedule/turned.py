"""Weights that many small products read transposed, such as those of the steps of a recurrent network.

A product turns the part of a transposed operand that it is about to read. For many rows that is little beside the
product itself; for a few it is a third of it, and for the same weight at every step it is the same every time.
"""

from __future__ import annotations

import math

from ..graph import Graph, Op, Value

_ROWS = 64  # from which on a product's own work outweighs turning
_PRODUCTS = 4  # that are worth a copy


def read_turned(graph: Graph) -> set[Value]:
    """The matrices that had better be turned once, for all products that read them so."""
    uses: dict[Value, int] = {}
    for op in graph.ops:
        if reads_turned(op):
            uses[op.inputs[1]] = uses.get(op.inputs[1], 0) + 1
    return {value for value, count in uses.items() if count >= _PRODUCTS}


def reads_turned(op: Op) -> bool:
    """Whether an operation is a product of a few rows with the transpose of a matrix."""
    if op.primitive.name == "matmul":
        if not op.params["transpose_b"] or op.params["transpose_a"]:
            return False
    elif op.primitive.name != "affine":
        return False
    return op.inputs[1].ndim == 2 and math.prod(op.inputs[0].shape[:-1]) <= _ROWS
