"""What an operation costs: floating-point operations, counted as people count them by hand.

A matrix product of m×k and k×n is 2mkn, a convolution 2 for each product of a weight and a pixel; a pointwise
operation is 1 for each element of its result, whatever the function, and a reduction 1 for each element
that it reads. Moving elements costs none. A loop costs its steps, a branch the dearer of its two.
"""

from __future__ import annotations

import math

from .graph import Op
from .nested import Loop, Nested
from .passes.simplify import is_pointwise

_REDUCTIONS = frozenset(("sum", "prod", "max", "min", "mean", "logsumexp", "var"))
_CONVOLUTIONS = frozenset(("conv", "conv_transpose", "conv_weight"))
_FREE = frozenset(("astype", "where", "identity", "real", "imag", "conj"))


def flops(op: Op) -> int:
    """Floating-point operations of one operation."""
    name = op.primitive.name
    if isinstance(op.primitive, Nested):
        turns = op.primitive.length if isinstance(op.primitive, Loop) else 1
        return turns * max(sum(map(flops, graph.ops)) for graph in op.primitive.graphs)
    if op.outputs[0].dtype.kind not in "fc":
        return 0
    if name in ("matmul", "affine"):
        inner = op.inputs[0].shape[-2 if op.params.get("transpose_a") else -1]
        return 2 * op.output.size * inner + (op.output.size if name == "affine" else 0)
    if name in _CONVOLUTIONS:
        return _convolution(op)
    if name in ("attention", "attention_gradient"):
        return _attention(op)
    if name in _REDUCTIONS:
        return op.inputs[0].size
    if name in ("softmax", "log_softmax"):
        return 4 * op.output.size
    if is_pointwise(op) and name not in _FREE:
        return op.output.size
    return 0


def _attention(op: Op) -> int:
    """Two products for each pair of a query and a key that it sees; five for the gradients, which make one again."""
    q, k, v = op.inputs[:3]
    queries, keys = q.shape[-2], k.shape[-2]
    seen = sum(min(i + 1, keys) for i in range(queries)) if op.params["is_causal"] else queries * keys
    widths = (1, 1) if op.primitive.name == "attention" else (3, 2)
    each = 2 * (widths[0] * q.shape[-1] + widths[1] * v.shape[-1]) + 4
    return math.prod(q.shape[:-2]) * seen * each


def _convolution(op: Op) -> int:
    """Two for each pair of a weight and a position, for each sample."""
    name = op.primitive.name
    if name == "conv":
        w = op.inputs[1]
        return 2 * op.output.size * math.prod(w.shape[1:])
    if name == "conv_transpose":  # the transpose of `conv`: as many products, seen from the other side
        g, w = op.inputs[:2]
        return 2 * g.size * math.prod(w.shape[1:])
    g = op.inputs[1]
    return 2 * g.size * math.prod(op.output.shape[1:])
