"""Attention: products and softmax become one operation without all scores in memory, and one for the gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ...core.primitive import table
from ..attention import ATTENTION, ATTENTION_GRADIENT, causal_bias
from ..graph import Graph, Op, Value
from .rewrite import Rewriting

LEAST = 128
"""Queries and keys from which it pays."""
_WIDEST = 256


@dataclass
class _Attention:
    """What makes up one attention.

    Attributes:
        scores: q kᵀ. bias: what is added to that, and the operation that adds. out: the product with v.
        into_values: the gradient of v. along: those between it and the gradients of q and k. into_queries, into_keys:
            these, None where nobody asks.
        results: once the operation stands in the new graph, what the one for the gradients reads.
    """

    scores: Op
    softmax: Op
    out: Op
    adds: Op | None = None
    bias: Value | None = None
    into_weights: Op | None = None
    into_values: Op | None = None
    along: tuple[Op, ...] = ()
    into_queries: Op | None = None
    into_keys: Op | None = None
    given: tuple[Value, ...] = ()
    results: tuple[Value, ...] = ()
    gradients: tuple[Value, ...] = ()

    @property
    def gone(self) -> list[Op]:
        """The operations whose results nobody needs any more."""
        return [op for op in (self.scores, self.softmax, self.adds, *self.along) if op is not None]


def fuse_attention(graph: Graph) -> Graph:
    """Attention and its gradients in the place of what they are made of; the graph is not differentiated any more."""
    found = _found(graph)
    return _Fusing(graph, found).fused() if found else graph


def _found(graph: Graph) -> list[_Attention]:
    uses, outputs = graph.uses(), set(graph.outputs)
    matches = (_match(graph, op, uses, outputs) for op in graph.ops if op.primitive.name == "softmax")
    return [match for match in matches if match is not None]


def _match(graph: Graph, softmax: Op, uses: dict[Value, list[Op]], outputs: set[Value]) -> _Attention | None:
    weights = softmax.output
    if softmax.params["axis"] != weights.ndim - 1 or weights.ndim < 3 or weights.dtype.str[1:] not in ("f4", "f8"):
        return None

    def only(value: Value, *readers: Op) -> bool:
        return value not in outputs and set(uses.get(value, ())) == set(readers)

    scores, adds, bias = softmax.inputs[0].op, None, None
    if scores is not None and scores.primitive.name == "add":
        adds = scores
        sides = [(a, b) for a, b in (adds.inputs, adds.inputs[::-1]) if _is_product(a.op, weights, False, True)]
        if not sides:
            return None
        scores, bias = sides[0][0].op, sides[0][1]
        if bias.dtype != weights.dtype or not only(sides[0][0], adds):
            return None
    if not _is_product(scores, weights, False, True) or not only(softmax.inputs[0], softmax):
        return None
    assert scores is not None
    readers = uses.get(weights, [])
    outs = [op for op in readers if _multiplies(op, weights, False)]
    if len(outs) != 1 or weights in outputs:
        return None
    q, k, v = *scores.inputs, outs[0].inputs[1]
    if not q.shape[:-2] == k.shape[:-2] == v.shape[:-2] or max(q.shape[-1], v.shape[-1]) > _WIDEST:
        return None
    if min(weights.shape[-2:]) < LEAST or 0 in (*q.shape, *v.shape):
        return None
    match = _Attention(scores, softmax, outs[0], adds, bias)
    if len(readers) == 1:
        return match
    return match if _match_gradient(match, uses, only) else None


def _match_gradient(match: _Attention, uses: dict[Value, list[Op]], only: Callable[..., bool]) -> bool:
    """Add the gradients: softmax's is weights · (d - Σ weights · d) for the cotangent d of the weights."""
    weights, (q, k), v = match.softmax.output, match.scores.inputs, match.out.inputs[1]
    rest = [op for op in uses[weights] if op is not match.out]
    into_values = [op for op in rest if _multiplies(op, weights, True)]
    products = [op for op in rest if op.primitive.name == "multiply"]
    if len(rest) != 3 or len(into_values) != 1 or len(products) != 2:
        return False
    g = into_values[0].inputs[1]
    for first, second in (products, products[::-1]):
        d, difference = _other(first, weights), _other(second, weights)
        sums = uses.get(first.output, [])
        if len(sums) != 1 or sums[0].primitive.name != "sum" or difference.op is None:
            continue
        total, subtract = sums[0], difference.op
        if total.params != {"axis": (weights.ndim - 1,), "keepdims": True} or subtract.primitive.name != "subtract":
            continue
        into_weights = d.op
        if subtract.inputs != (d, total.output) or not _is_product(into_weights, weights, False, True):
            continue
        assert into_weights is not None
        if into_weights.inputs != (g, v) or not only(d, first, subtract):
            continue
        if not (only(first.output, total) and only(total.output, subtract) and only(difference, second)):
            continue
        ends = uses.get(second.output, [])
        queries = [op for op in ends if _multiplies(op, second.output, False) and op.inputs[1] is k]
        keys = [op for op in ends if _multiplies(op, second.output, True) and op.inputs[1] is q]
        if len(queries) > 1 or len(keys) > 1 or not only(second.output, *queries, *keys):
            continue
        match.into_weights, match.into_values = into_weights, into_values[0]
        match.along = (into_weights, first, total, subtract, second)
        match.into_queries, match.into_keys = (*queries, None)[0], (*keys, None)[0]
        return True
    return False


def _is_product(op: Op | None, like: Value, transpose_a: bool, transpose_b: bool) -> bool:
    return (
        op is not None
        and op.primitive.name == "matmul"
        and op.params == {"transpose_a": transpose_a, "transpose_b": transpose_b}
        and op.output.shape == like.shape
        and op.output.dtype == like.dtype
    )


def _multiplies(op: Op, a: Value, transposed: bool) -> bool:
    """Whether an operation is aᵀ b, or a b."""
    return (
        op.primitive.name == "matmul"
        and op.params == {"transpose_a": transposed, "transpose_b": False}
        and op.inputs[0] is a
        and op.inputs[1] is not a
    )


def _other(op: Op, value: Value) -> Value:
    return op.inputs[1] if op.inputs[0] is value else op.inputs[0]


class _Fusing(Rewriting):
    def __init__(self, graph: Graph, found: list[_Attention]) -> None:
        super().__init__(graph)
        self._made = {match.out: match for match in found}
        self._gone = {op: match for match in found for op in match.gone}
        self._ends = {
            op: (match, which)
            for match in found
            for which, op in enumerate((match.into_queries, match.into_keys, match.into_values))
            if op is not None
        }

    def fused(self) -> Graph:
        graph = self.run(self._rule)
        graph.updates = dict(self._old.updates)
        return graph

    def _rule(self, op: Op, inputs: tuple[Value, ...]) -> list[Value] | None:
        if op in self._gone:
            match = self._gone[op]
            if op is match.scores:
                match.given = inputs
            elif op is match.adds:
                assert match.bias is not None
                match.bias = inputs[op.inputs.index(match.bias)]
            elif op is match.into_weights and not match.gradients:
                self._gradients(match, inputs[0])
            return list(op.outputs)
        if op in self._made:
            return [self._forward(self._made[op], inputs[1])]
        if op in self._ends:
            match, which = self._ends[op]
            if op is match.into_values and not match.gradients:
                self._gradients(match, inputs[1])
            return [self._swapped(match.gradients[which])]
        return None

    def _forward(self, match: _Attention, v: Value) -> Value:
        q, k = match.given
        q, scale = self._scaled(q)
        is_causal = match.bias is not None and self._is_causal(match.bias, q.shape[-2], k.shape[-2])
        bias = [] if match.bias is None or is_causal else [match.bias]
        params = {"scale": scale, "is_causal": is_causal}
        op = Op(ATTENTION, (q, k, v, *bias), params, place=self._place, path=self._path)
        self.graph.ops.append(op)
        match.given, match.results = (q, k, v), (*op.outputs, *bias)
        return self._swapped(op.outputs[0])

    def _gradients(self, match: _Attention, g: Value) -> None:
        made, largest, inverse, *bias = match.results
        assert made.op is not None
        inputs = (*match.given, made, largest, inverse, g, *bias)
        op = Op(ATTENTION_GRADIENT, inputs, made.op.params, place=self._place, path=self._path)
        self.graph.ops.append(op)
        match.gradients = op.outputs

    def _swapped(self, value: Value) -> Value:
        axes = (*range(value.ndim - 3), value.ndim - 2, value.ndim - 3, value.ndim - 1)
        return self.emit(table["permute_dims"], value, axes=axes)

    def _scaled(self, q: Value) -> tuple[Value, float]:
        """What the queries are a multiple of, and the factor."""
        if q.op is not None and q.op.primitive.name == "multiply":
            for x, factor in (q.op.inputs, q.op.inputs[::-1]):
                number = self.constant_of(factor)
                if number is not None and number.size == 1 and number.dtype == q.dtype and x.shape == q.shape:
                    return x, float(number.item())
        return q, 1.0

    def _is_causal(self, bias: Value, queries: int, keys: int) -> bool:
        known = self.constant_of(bias)
        return known is not None and np.array_equal(known, causal_bias(queries, keys, known.dtype))
