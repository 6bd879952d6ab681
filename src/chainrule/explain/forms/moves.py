"""What only moves numbers: shapes, orders, copies, borders; and rotations of pairs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..trace import Value
from .call import Call, Candidate, Gradients, equation, form, numbers, plain

MOVES = frozenset(
    [
        "broadcast_to",
        "concat",
        "flip",
        "identity",
        "index",
        "pad",
        "permute_dims",
        "repeat",
        "reshape",
        "take_along_axis",
    ]
)


def rearrangement(call: Call) -> Iterator[Candidate]:
    """Every entry of the result is one of the input, or none."""
    gradients, copies = moved_back(call, call.output, call.delta)
    text, latex = ("Σ δ", r"\sum \delta") if copies > 1 else ("δ", r"\delta")
    meaning = "each entry gets the gradients of the places that it went to" + (", added up" if copies > 1 else "")
    data = [v for v in gradients if v.requires_grad]
    one = "the input" if len(data) == 1 else f"each of the {len(data)} inputs, the first of them"
    legend = call.legend(*(("x", "x", one, v) for v in data[:1]), call.delta_row())
    yield Candidate([equation("x", text, latex, meaning)], legend, gradients)


def moved_back(call: Call, end: Value, delta: np.ndarray) -> tuple[dict[Value, np.ndarray], int]:
    """What arrives at `end`, which only moves made of the call's inputs, at each of these; and to how many places
    an entry went at most.

    Where an entry went is found by sending the entries' numbers through the operations.
    """
    places: dict[Value, Any] = {}
    moved: list[tuple[Value, int]] = []
    count = 1  # 0 stands for what comes from nowhere: the border of a padding
    for value in call.group.inputs:
        if value.several or value.dtype.kind != "f":
            places[value] = value.array()
            continue
        moved.append((value, count))
        places[value] = np.arange(count, count + value.size, dtype=np.float64).reshape(value.shape)
        count += value.size
    for value in call.group.values[: call.group.values.index(end) + 1]:
        assert value.primitive is not None
        params = {**value.params, "value": 0.0} if value.primitive.name == "pad" else value.params
        places[value] = value.primitive.evaluate([places[i] for i in value.inputs], params)
    where = places[end].astype(np.int64).ravel()
    total = np.bincount(where, delta.ravel(), minlength=count)
    reached = np.bincount(where, minlength=count)
    gradients = Gradients()
    for value, start in moved:
        if reached[start : start + value.size].any():
            gradients.add(value, total[start : start + value.size].reshape(value.shape))
    return gradients.found, int(reached[1:].max(initial=0))


@form("apply_rotary")
def rotation(call: Call) -> Iterator[Candidate]:
    """Pairs of numbers, each turned by the angle of its position."""
    turned, products = (
        call.node("flip"),
        [v for v in call.group.values if v.primitive and v.primitive.name == "multiply"],
    )
    if turned is None or len(products) != 2:
        return
    split = turned.inputs[0]
    by_cos, by_sin = (next((i for i in v.inputs if not i.requires_grad), None) for v in products)
    if by_cos is None or by_sin is None:
        return
    delta = call.delta.reshape(split.shape)
    back = delta * numbers(by_cos) + np.flip(delta * numbers(by_sin), turned.params["axis"])
    x = call.source(split)
    equations = [
        plain("(y₁, y₂) = (x₁ cos θ - x₂ sin θ, x₂ cos θ + x₁ sin θ)",
              r"(y_{1}, y_{2}) = (x_{1} \cos\theta - x_{2} \sin\theta, \; x_{2} \cos\theta + x_{1} \sin\theta)",
              "each pair is turned by an angle θ that grows with its position"),
        equation("(x₁, x₂)", "(δ₁ cos θ + δ₂ sin θ, δ₂ cos θ - δ₁ sin θ)",
                 r"(\delta_{1} \cos\theta + \delta_{2} \sin\theta, \; \delta_{2} \cos\theta - \delta_{1} \sin\theta)",
                 "the gradient is turned back; its length stays", "(x_{1}, x_{2})"),
    ]  # fmt: skip
    yield Candidate(equations, call.legend(("x", "x", "the input", x), call.delta_row()), {x: back.reshape(x.shape)})
