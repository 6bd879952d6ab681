"""Operations by what the schedule can do with them."""

from __future__ import annotations

from ..code.pointwise import supported
from ..graph import Graph, Op, Value
from .access import is_movement

DEAR = {
    "exp": 6, "exp2": 6, "expm1": 10, "log": 8, "log1p": 10, "log2": 8, "log10": 8, "tanh": 12, "sigmoid": 8,
    "erf": 14, "sin": 14, "cos": 14, "softplus": 18, "logaddexp": 18, "divide": 3, "reciprocal": 3, "sqrt": 4,
}  # fmt: skip
CONVOLUTIONS = ("conv", "conv_transpose", "conv_weight")
REDUCTIONS = frozenset(("sum", "prod", "max", "min", "all", "any"))


def is_pointwise(op: Op) -> bool:
    """Whether there is code for an operation that acts on each element by itself."""
    if len(op.outputs) != 1:
        return False
    return supported(op.primitive.name, [v.dtype for v in op.inputs], op.output.dtype)


def is_product(op: Op) -> bool:
    """Whether an operation is a matrix product, or a convolution, that there is code for."""
    if op.primitive.name not in ("matmul", *CONVOLUTIONS):
        return False
    a, b = op.inputs
    if op.primitive.name in CONVOLUTIONS and a.ndim not in (3, 4):
        return False
    return a.dtype == b.dtype and a.dtype.str[1:] in ("f4", "f8") and 0 not in (*a.shape, *b.shape, *op.output.shape)


def is_representable(op: Op) -> bool:
    return all(
        v.dtype.kind in "biuf" and v.dtype.itemsize <= 8 and not (v.dtype.kind == "f" and v.dtype.itemsize < 4)
        for v in (*op.inputs, *op.outputs)
    )


def needed_operations(graph: Graph) -> list[Op]:
    """The operations that lead to an output."""
    wanted = set(graph.outputs)
    found = []
    for op in reversed(graph.ops):
        if any(v in wanted for v in op.outputs):
            found.append(op)
            wanted.update(op.inputs)
    return found[::-1]


def late_values(graph: Graph) -> set[Value]:
    """What is computed for the new values of the state and for nothing else, element by element.

    Such work waits until the end: the old values can then be overwritten in place, and a kernel that
    produces a gradient need not carry an optimiser along.
    """
    readers = graph.uses()
    updates = {graph.outputs[position] for position in graph.updates}
    results = {v for position, v in enumerate(graph.outputs) if position not in graph.updates}
    late: set[Value] = set()
    for op in reversed(graph.ops):
        if len(op.outputs) != 1 or not (is_pointwise(op) or is_movement(op)):
            continue
        value = op.output
        uses = readers.get(value, [])
        if value in results or (not uses and value not in updates):
            continue
        if all(o.outputs[0] in late for o in uses):
            late.add(value)
    return late
