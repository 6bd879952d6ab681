"""Transposes: a matrix product reads its operands transposed or not, so that no transpose is computed."""

from __future__ import annotations

from typing import Any

from ...core.primitive import table
from ..graph import Graph, Op, Value
from .rewrite import Rewriting


def sink_transposes(graph: Graph) -> Graph:
    """Turn transposes into flags of matrix products.

    A transposed operand of `matmul` turns its flag, and the transpose of a product that nothing else
    reads is the product of the transposes in the other order.
    """
    rewriting = Rewriting(graph)
    matmul = table["matmul"]
    readers: dict[Value, int] = {}
    for value in (*(v for op in graph.ops for v in op.inputs), *graph.outputs):
        readers[value] = readers.get(value, 0) + 1

    def rule(op: Op, inputs: tuple[Value, ...]) -> Any:
        if op.primitive is matmul:
            flags = dict(op.params)
            operands = []
            for value, flag in zip(inputs, ("transpose_a", "transpose_b"), strict=True):
                source = _transposed(value)
                if source is not None:
                    flags[flag] = not flags[flag]
                    value = source
                operands.append(value)
            if flags != op.params:
                return (rewriting.emit(matmul, *operands, **flags),)
        if op.primitive.name == "permute_dims" and _swaps_last(op) and readers[op.inputs[0]] == 1:
            product = inputs[0].op
            if product is not None and product.primitive is matmul and product.inputs[0].ndim == product.inputs[1].ndim:
                a, b = product.inputs
                swapped = {
                    "transpose_a": not product.params["transpose_b"], "transpose_b": not product.params["transpose_a"]
                }  # fmt: skip
                return (rewriting.emit(matmul, b, a, **swapped),)
        return None

    return rewriting.run(rule)


def _transposed(value: Value) -> Value | None:
    """What `value` is the matrix transpose of."""
    op = value.op
    if op is None or op.primitive.name != "permute_dims" or not _swaps_last(op):
        return None
    return op.inputs[0]


def _swaps_last(op: Op) -> bool:
    axes = op.params["axes"]
    n = len(axes)
    return n >= 2 and axes == (*range(n - 2), n - 1, n - 2)
