"""Why a gradient has its size, and by which ways it came."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ... import array, linalg
from ...core.program import expression_at
from ...nn import functional
from ..layers import Layer
from ..names import call_of, written_as
from ..sentences import brief, percent
from ..steps import flat, local_numbers, norm, share
from ..trace import Product, Value
from .answer import SHOWN, Answer, Evidence, values_on_way

if TYPE_CHECKING:
    from ..explanation import Explanation


TINY, HUGE = 1e-6, 1e3  # root mean square of the entries of a gradient


def why_size(e: Explanation) -> Answer:
    """Which layers shrink and which grow the gradient on its way."""
    question = "Why has the gradient this size?"
    target = e.targets[0]
    size = norm(target.gradient) if target.gradient is not None else 0.0
    label = e.names[target].label
    rms = size / np.sqrt(max(target.size, 1)) if not target.several else size
    word = "tiny" if rms < TINY else "huge" if rms > HUGE else "neither tiny nor huge"
    scaling = [x for x in e.layers if x.result is not None and x.upstream and not x.ends]
    shrinking = sorted((x for x in scaling if _factor(x) < 0.95), key=_factor)[:SHOWN]
    growing = sorted((x for x in scaling if _factor(x) > 1.05), key=lambda x: -_factor(x))[:SHOWN]
    start = norm(e.trace.loss.gradient)
    told = f"∂L/∂{label} has norm {brief(size)} (root mean square {brief(float(rms))}), {word}"
    text = (
        f"{told}: on its way from the loss, where it is {brief(start)}, {len(scaling)} layers and operations scaled it."
    )
    order = growing + shrinking if rms > HUGE else shrinking + growing
    return Answer(question, text, tuple(Evidence(_factor_text(e, x), x.group.values[-1]) for x in order))


def _factor(layer: Layer) -> float:
    return (layer.result or 0.0) / layer.upstream


def _factor_text(e: Explanation, layer: Layer) -> str:
    text = f"× {brief(_factor(layer))} through {layer.title}"
    if layer.location is not None:
        text += f" at {layer.location.where}"
    value = layer.group.values[-1]
    if len(layer.group.values) == 1 and value.inputs:
        product = next((p for p in value.inputs[0].products if p.consumer is value), None)
        local = None if product is None else local_numbers(product)
        if local is not None and local.size > 1 and local.min() != local.max():
            text += f": its derivative is {brief(float(np.median(np.abs(local))))} in the median"
    return text


def paths(e: Explanation) -> Answer:
    """By which ways the gradient came: where consumers meet, each one's share."""
    question = "By which ways did the gradient come?"
    junctions: list[tuple[Value, dict[str, float]]] = []
    for value in reversed(values_on_way(e, e.targets[0])):
        live = [p for p in value.products if p.array is not None and p.consumer.gradient is not None]
        inner = call_of(value) is not None and e.names[value].numbered  # inside a layer: no way that the user laid
        if len(live) > 1 and not inner and not value.several and flat(value.gradient).any():
            shares = _shares(e, value, live)
            if len(shares) > 1:  # otherwise one layer reads it twice
                junctions.append((value, shares))
    evidence = [Evidence(_junction(e, value, shares), value) for value, shares in junctions]
    evidence += [x for layer in e.layers for x in _heads(layer)]
    if not evidence:
        return Answer(question, "By one way only: every value on it has one consumer.", ())
    nearest = junctions[-1] if junctions else None
    text = "" if nearest is None else _junction(e, *nearest) + "."
    more = f" There are {len(junctions)} such places on the way." if len(junctions) > 1 else ""
    return Answer(question, text + more, tuple(evidence[: 2 * SHOWN]))


def _shares(e: Explanation, value: Value, live: list[Product]) -> dict[str, float]:
    """The share of each way in a value's gradient."""
    shares: dict[str, float] = {}
    for product in live:
        way = _way_name(e, product, live)
        shares[way] = shares.get(way, 0.0) + share(product.array, value.gradient)
    return shares


def _junction(e: Explanation, value: Value, shares: dict[str, float]) -> str:
    """`73 % of the norm of ∂L/∂h1 comes through the skip connection, 27 % through norm`."""
    order = sorted(shares.items(), key=lambda item: -abs(item[1]))
    (first, most), *others = order
    silent = [way for way, s in others if s == 0]
    others = [(way, s) for way, s in others if s != 0]
    rest = "".join(
        f", {percent(s)} through {way}{', which pulls against it' if percent(s).startswith('−') else ''}"
        for way, s in others[: SHOWN - 1]
    )
    more = " and others" if len(others) >= SHOWN else ""
    nothing = f", nothing through {' and '.join(silent[:SHOWN])}" if silent else ""
    return f"{percent(most)} of the norm of ∂L/∂{e.names[value].label} comes through {first}{rest}{more}{nothing}"


def _way_name(e: Explanation, product: Product, live: list[Product]) -> str:
    consumer = product.consumer
    path = e.places.path(consumer)
    another = consumer.scope is not product.operand.scope  # a second call of the same layer is another way
    if consumer.primitive is not None and consumer.primitive.name == "add" and _is_skip(product, live):
        return "the skip connection"
    written = written_as(consumer)
    if path and another:
        return f"{path} ({written})" if written else path
    call = call_of(consumer)
    if call is not None and another and consumer.location is not None:
        return f"{type(call[0]).__name__} at {consumer.location.where}"  # a layer that belongs to no module
    expression = expression_at(consumer.place)
    if expression is not None and any(hasattr(m, expression.function) for m in (functional, array, linalg)):
        return expression.function  # several operations of one function are one way
    kind = consumer.primitive.name if consumer.primitive else ""
    name = e.names[consumer]
    if name.numbered and consumer.location is not None:
        return f"{written or kind} at {consumer.location.where}"
    return f"{name.label} ({kind})"


def _is_skip(product: Product, live: list[Product]) -> bool:
    """Whether the sum that the consumer is also holds what another consumer's block computed from the value."""
    other = [i for k, i in enumerate(product.consumer.inputs) if k != product.position]
    starts = {p.consumer for p in live if p is not product}
    stack, seen = list(other), set(other)
    while stack:
        value = stack.pop()
        if value in starts:
            return True
        for parent in value.inputs:
            if parent not in seen and parent.index > product.operand.index:
                seen.add(parent)
                stack.append(parent)
    return False


def _heads(layer: Layer) -> list[Evidence]:
    """The shares of the heads of an attention layer, of what it hands back to queries, keys and values."""
    weights = next((v for v in layer.group.values if v.primitive and v.primitive.name == "softmax"), None)
    if weights is None or len(weights.shape) != 4 or weights.shape[1] < 2:
        return []
    heads = weights.shape[1]
    squares = np.zeros(heads)
    for value in layer.group.values:
        if value.gradient is None or value.several or len(value.shape) != 4 or value.shape[1] != heads:
            continue
        multiplied = any(p.consumer.primitive and p.consumer.primitive.name == "matmul" for p in value.products)
        if multiplied and value is not weights:
            squares += (np.abs(value.gradient.astype(np.float64)) ** 2).sum(axis=(0, 2, 3))
    if not squares.any():
        return []
    order = np.argsort(-squares)
    shown = ", ".join(f"head {h} {percent(float(squares[h] / squares.sum()))}" for h in order[:SHOWN])
    name = layer.module or layer.group.kind
    return [
        Evidence(f"heads of {name}, by the squared norm of the gradients of queries, keys and values: {shown}", weights)
    ]
