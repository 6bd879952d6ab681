"""Attention and softmax."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..formulas import literal
from ..layers import Symbol
from ..steps import flat
from ..trace import Value
from .call import Call, Candidate, equation, form, numbers, plain


@form("softmax", "Softmax")
def softmax(call: Call) -> Iterator[Candidate]:
    """p = exp(x) / Σ exp(x)."""
    if not call.data():
        return
    x = call.data()[0]
    p = numbers(call.output).reshape(x.shape)
    delta = call.delta.reshape(x.shape)
    for axis in range(len(x.shape)):
        g = p * (delta - (delta * p).sum(axis=axis, keepdims=True))
        equations = [
            plain("p = softmax(x)", r"p = \mathrm{softmax}(x)", ""),
            equation("x", "p · (δ - Σ δ · p)", r"p \, \left( \delta - \sum \delta \, p \right)",
                     "probabilities add up to 1: what raises one lowers the others"),
        ]  # fmt: skip
        yield Candidate(equations, call.legend(("x", "x", "the scores", x), call.delta_row()), {x: g})


@form("scaled_dot_product_attention", "MultiheadAttention")
def attention(call: Call) -> Iterator[Candidate]:
    """o = A v with A = softmax(q kᵀ / √d)."""
    weights = call.node("softmax")
    if weights is None:
        return
    mixed = _reader(call, weights, "matmul")
    scores = call.source(weights.inputs[0])
    added = scores
    while scores in call.group and scores.primitive and scores.primitive.name == "add":
        scores = next((i for i in map(call.source, scores.inputs) if i.requires_grad), scores.inputs[0])
    product = scores
    if mixed is None or product.primitive is None or product.primitive.name != "matmul" or product.gradient is None:
        return
    a, v = numbers(weights), mixed.inputs[1]
    if a.shape[:-1] + v.shape[-1:] != mixed.shape or mixed.gradient is None:
        return
    delta = flat(mixed.gradient).reshape(mixed.shape)
    q, k = product.inputs
    to_a = delta @ np.swapaxes(numbers(v), -1, -2)
    to_s = a * (to_a - (to_a * a).sum(axis=-1, keepdims=True))
    found = {
        v: np.swapaxes(a, -1, -2) @ delta, added: to_s.reshape(added.shape),
        q: to_s @ numbers(k), k: np.swapaxes(to_s, -1, -2) @ numbers(q),
    }  # fmt: skip
    d = q.shape[-1]
    equations = [
        plain("o = A v, A = softmax(S), S = q kᵀ / √d",
              r"o = A v, \; A = \mathrm{softmax}(S), \; S = \frac{q \, k^{\top}}{\sqrt{d}}",
              f"for each head; width d = {d}"),
        equation("v", "Aᵀ δ", r"A^{\top} \delta", "each value hears from the queries that looked at it"),
        equation("S", "A · (δ vᵀ - Σ δ vᵀ · A)", r"A \, \left( \delta v^{\top} - \sum \delta v^{\top} A \right)",
                 "row by row: attention raised somewhere is lowered elsewhere"),
        equation("q", "∂L/∂S k / √d", r"\frac{\partial L}{\partial S} \frac{k}{\sqrt{d}}", ""),
        equation("k", "(∂L/∂S)ᵀ q / √d", r"\left( \frac{\partial L}{\partial S} \right)^{\top} \frac{q}{\sqrt{d}}", ""),
    ]  # fmt: skip
    legend = call.legend(("A", "A", "the attention weights", weights), ("v", "v", "the values", v))
    yield Candidate(
        equations, [*legend, Symbol(literal("δ", r"\delta"), "∂L/∂o, what comes in", mixed.shape, None)], found
    )


def _reader(call: Call, value: Value, primitive: str) -> Value | None:
    """The value that a primitive computed from this one or a rearrangement of it."""
    for later in call.group.values:
        if later.primitive and later.primitive.name == primitive and call.source(later.inputs[0]) is call.source(value):
            return later
    return None
