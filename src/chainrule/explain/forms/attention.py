"""Attention and softmax."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..formulas import literal
from ..layers import Symbol
from ..trace import Value
from .call import Call, Candidate, Gradients, equation, form, numbers, numbers_of, plain


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


@form("log_softmax", "LogSoftmax")
def log_softmax(call: Call) -> Iterator[Candidate]:
    """y = ln softmax(x)."""
    if not call.data():
        return
    x = call.data()[0]
    p, delta = np.exp(numbers(call.output)).reshape(x.shape), call.delta.reshape(x.shape)
    for axis in range(len(x.shape)):
        equations = [
            plain("y = ln p, p = softmax(x)", r"y = \ln p, \; p = \mathrm{softmax}(x)", ""),
            equation("x", "δ - p · Σ δ", r"\delta - p \sum \delta",
                     "each score gets its own gradient, less its probability's part of all of them"),
        ]  # fmt: skip
        g = delta - p * delta.sum(axis=axis, keepdims=True)
        yield Candidate(equations, call.legend(("x", "x", "the scores", x), call.delta_row()), {x: g})


@form("scaled_dot_product_attention", "MultiheadAttention", several=True)
def attention(call: Call) -> Iterator[Candidate]:
    """o = A v with A = softmax(q kᵀ / √d)."""
    weights = call.node("softmax")
    if weights is None:
        return
    mixed, way = _mixed(call, weights)
    added = call.source(weights.inputs[0])
    product = added
    while product in call.group and product.primitive and product.primitive.name == "add":
        product = next((i for i in map(call.source, product.inputs) if i.requires_grad), product.inputs[0])
    if mixed is None or product.primitive is None or product.primitive.name != "matmul" or product.gradient is None:
        return
    if mixed.gradient is None:
        return
    used, v = numbers(mixed.inputs[0]), mixed.inputs[1]
    if used.shape[:-1] + v.shape[-1:] != mixed.shape or used.size != weights.size:
        return
    delta = call.gradient(mixed)
    to_used = delta @ np.swapaxes(numbers(v), -1, -2)
    a = numbers(weights)
    # With dropout, what was used is A · m / (1 - p).
    kept = np.where(a > 0, used.reshape(a.shape) / np.where(a > 0, a, 1), 0)
    to_a = to_used.reshape(a.shape) * kept
    # The weights themselves may be read, too.
    read = [numbers_of(p.array) for p in weights.products if p.consumer not in way and p.array is not None]
    to_a = sum(map(np.abs, read) if call.sized else read, to_a)
    to_s = a * (to_a - (to_a * a).sum(axis=-1, keepdims=True))
    q, k = product.inputs
    gradients = Gradients()
    gradients.add(v, np.swapaxes(used, -1, -2) @ delta)
    gradients.add(added, to_s.reshape(added.shape))
    to_s = to_s.reshape(product.shape)
    to_q = to_s @ numbers(k)
    gradients.add(q, to_q)
    scaled = call.source(q)
    if scaled in call.group and scaled.primitive and scaled.primitive.name == "multiply":
        gradients.add(scaled.inputs[0], to_q.reshape(scaled.shape) * numbers(scaled.inputs[1]))
    gradients.add(k, np.swapaxes(to_s, -1, -2) @ numbers(q))
    found = gradients.found
    heads, shared = (weights.shape[-3], v.shape[-3]) if len(weights.shape) > 2 else (1, 1)
    group = f"; {heads} heads of queries share {shared} heads of k and v, whose gradients are added up" * (
        heads != shared
    )
    dropped = "; A is used with a random part set to 0" * bool(np.any(np.abs(kept - 1) > 0.01, where=a > 0))
    d = q.shape[-1]
    equations = [
        plain("o = A v, A = softmax(S), S = q kᵀ / √d",
              r"o = A v, \; A = \mathrm{softmax}(S), \; S = \frac{q \, k^{\top}}{\sqrt{d}}",
              f"for each head; width d = {d}{group}{dropped}"),
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


def _mixed(call: Call, weights: Value) -> tuple[Value | None, set[Value]]:
    """The product A v, the first matmul that reads what was computed from A; and what lies on the way to it."""
    way = {weights}
    for value in call.group.values:
        if any(i in way for i in value.inputs):
            if value.primitive and value.primitive.name == "matmul":
                return (value, {*way, value}) if value.inputs[0] in way else (None, way)
            if value.primitive and value.primitive.name in ("mean", "sum"):
                continue
            way.add(value)
    return None, way
