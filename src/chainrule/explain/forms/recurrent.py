"""Recurrent layers and cells: backpropagation through time, for every layer and direction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..layers import Equation
from ..trace import Value
from .call import Call, Candidate, equation, form, numbers, plain
from .cells import CELLS, Cell


class _Swept(NamedTuple):
    """What a sweep back over time hands back: of the sums, of U and its bias, and of the first states."""

    sums: np.ndarray
    inner: np.ndarray
    weight: np.ndarray
    states: tuple[np.ndarray, ...]


class _Gradients:
    """Gradients by value; those of a value that is read several times are added up."""

    def __init__(self) -> None:
        self.found: dict[Value, np.ndarray] = {}

    def add(self, value: Value | None, gradient: np.ndarray) -> None:
        if value is not None and value.requires_grad:
            self.found[value] = self.found.get(value, 0) + gradient


@form("LSTM", "GRU", "RNN", several=True)
def recurrent(call: Call) -> Iterator[Candidate]:
    """A recurrent layer along whole sequences: each of its layers and directions, step by step back from the end."""
    layer = call.module
    sweeps = [v for v in call.group.values if v.several and hasattr(v.primitive, "steps")]
    if layer is None or len(sweeps) != layer.num_layers * (1 + layer.bidirectional):
        return  # unrolled: the graph itself shows the steps
    cell = CELLS[layer.mode]
    suffixes = [f"_l{k}{back}" for k in range(layer.num_layers) for back in ("", "_reverse")[: 1 + layer.bidirectional]]
    gradients = _Gradients()
    for suffix, sweep in zip(suffixes, sweeps, strict=True):
        sums = sweep.inputs[0]
        if sums not in call.group:
            return
        w, u = (call.parameter(name + suffix) for name in ("weight_ih", "weight_hh"))
        given = numbers(u) if u is not None else numbers(sweep.inputs[1 + cell.states])
        bias = numbers(sweep.inputs[2 + cell.states]) if len(sweep.inputs) > 2 + cell.states else None
        swept = _swept(cell, call, sweep, given, bias)
        x = sums.inputs[0]
        rows = numbers(x)
        gradients.add(w, swept.sums.T @ rows)
        gradients.add(u, swept.weight)
        gradients.add(call.parameter("bias_ih" + suffix), swept.sums.sum(0))
        gradients.add(call.parameter("bias_hh" + suffix), swept.inner.sum(0))
        outer, to_x = _to_input(call, x, swept.sums @ numbers(sums.inputs[1]), layer.batch_first)
        gradients.add(outer, to_x)
        for state, gradient in zip(sweep.inputs[1 : 1 + cell.states], swept.states, strict=True):
            gradients.add(state, gradient)
    first = call.parameter("weight_ih_l0"), call.parameter("weight_hh_l0")
    several = len(sweeps) > 1
    legend = call.legend(
        ("x", "x", "the input", call.source(sweeps[0].inputs[0].inputs[0])),
        ("W", "W", "of the first layer, " if several else "", first[0]),
        ("U", "U", "of the first layer, " if several else "", first[1]),
    )  # fmt: skip
    equations = [*cell.equations(), *_shared("[t]"), *_arrangement(layer)]
    yield Candidate(equations, legend, gradients.found)


def _swept(cell: Cell, call: Call, sweep: Value, u: np.ndarray, bias: np.ndarray | None) -> _Swept:
    """The sweep of one layer in one direction. Rows lie step by step below each other; fewer sequences may be left."""
    spans: Any = sweep.primitive.steps  # type: ignore[union-attr]
    sums = numbers(sweep.inputs[0])
    state = [numbers(v) for v in sweep.inputs[1 : 1 + cell.states]]
    kept = []
    for start, stop in spans:
        now = [s[: stop - start] for s in state]
        inner = now[0] @ u.T + (0.0 if bias is None else bias)
        after, keep = cell.forward(sums[start:stop], inner, tuple(now))
        kept.append((now[0], keep))
        state = [np.concatenate([a, s[stop - start :]]) for a, s in zip(after, state, strict=True)]
    arriving = [None if g is None else g.astype(np.float64) for g in sweep.gradient]
    arriving = [g if g is None or not call.sized else np.abs(g) for g in arriving]
    carry = [np.zeros_like(s) if g is None else g.copy() for g, s in zip(arriving[1:], state, strict=True)]
    to_sums, to_inner, to_u = np.zeros_like(sums), np.zeros_like(sums), np.zeros_like(u)
    for (start, stop), (before, keep) in zip(reversed(spans), reversed(kept), strict=True):
        now = [c[: stop - start] for c in carry]
        if arriving[0] is not None:
            now[0] = now[0] + arriving[0][start:stop]
        da, du, back = cell.backward(tuple(now), keep)
        to_sums[start:stop], to_inner[start:stop] = da, du
        to_u += du.T @ before
        back = (back[0] + du @ u, *back[1:])
        carry = [np.concatenate([b, c[stop - start :]]) for b, c in zip(back, carry, strict=True)]
    return _Swept(to_sums, to_inner, to_u, tuple(carry))


def _to_input(call: Call, x: Value, gradient: np.ndarray, batch_first: bool) -> tuple[Value, np.ndarray]:
    """The input that rows were made of, and the gradient in its shape."""
    outer = call.source(x)
    if outer in call.group or outer.shape == x.shape:
        return (x if outer in call.group else outer), gradient
    if batch_first and len(outer.shape) == 3:
        batch, time, width = outer.shape
        return outer, gradient.reshape(time, batch, width).swapaxes(0, 1)
    return outer, gradient.reshape(outer.shape)


def _shared(at: str) -> list[Equation]:
    """The weights' equations, over time or for one step."""
    if not at:
        return [
            equation("W", "δᵀ x", r"\delta^{\top} x", ""), equation("U", "δᵀ h", r"\delta^{\top} h", ""),
            equation("b", "Σ δ", r"\sum \delta", "added up over the samples"),
            equation("x", "δ W", r"\delta \, W", ""),
        ]  # fmt: skip
    return [
        equation("W", "Σ δ[t]ᵀ x[t]", r"\sum_{t} \delta_{t}^{\top} x_{t}", "added up over time"),
        equation("U", "Σ δ[t]ᵀ h[t-1]", r"\sum_{t} \delta_{t}^{\top} h_{t-1}", "added up over time"),
        equation("b", "Σ δ[t]", r"\sum_{t} \delta_{t}", "added up over time"),
        equation("x[t]", "δ[t] W", r"\delta_{t} W", "", "x_{t}"),
    ]


def _arrangement(layer: Any) -> list[Equation]:
    """How several layers and directions are put together."""
    found = []
    if layer.num_layers > 1:
        found.append(
            plain("x⁽ᵏ⁾[t] = h⁽ᵏ⁻¹⁾[t]", r"x^{(k)}_{t} = h^{(k-1)}_{t}",
                  "each layer has its own W, U and b and reads what the one below gives; what it hands back to x "
                  "is what arrives there at h")
        )  # fmt: skip
    if layer.bidirectional:
        found.append(
            plain("h[t] = (h→[t], h←[t])", r"h_{t} = (\overrightarrow{h}_{t}, \overleftarrow{h}_{t})",
                  "a second set of weights reads from the end: for it t + 1 comes before t; the two gradients "
                  "of x[t] are added up")
        )  # fmt: skip
    return found


@form("RNNCell", "LSTMCell", "GRUCell", several=True)
def single_step(call: Call) -> Iterator[Candidate]:
    """A cell alone: one step of time."""
    layer = call.module
    affine = [v for v in call.group.values if v.primitive and v.primitive.name in ("affine", "matmul")]
    if layer is None or len(affine) < 2:
        return
    kind = type(layer).__name__.removesuffix("Cell")
    cell = CELLS[f"RNN_{layer.nonlinearity}".upper() if kind == "RNN" else kind]
    x, h = (call.source(v.inputs[0]) for v in affine[:2])
    w, u = (numbers(v.inputs[1]) for v in affine[:2])
    sums, inner = (numbers(_with_bias(call, v, b)) for v, b in zip(affine, ("bias_ih", "bias_hh"), strict=False))
    states, arriving = [h], [call.arriving(call.group.values[-1])]
    if cell.states == 2:
        memory = next((v for v in call.group.values if _forgets(v)), None)
        if memory is None:
            return
        new = next(v for v in call.group.values if memory in v.inputs)
        if new is call.group.values[-1]:
            arriving = [np.zeros(new.shape)]  # the loss depends on the memory only
        states.append(memory.inputs[1])
        arriving.append(call.arriving(new))
    rows = [np.atleast_2d(a) for a in (sums, inner, numbers(x), *map(numbers, states), *arriving)]
    a, b, inputs, *rest = rows
    _, keep = cell.forward(a, b, tuple(rest[: cell.states]))
    da, du, back = cell.backward(tuple(rest[cell.states :]), keep)
    gradients = _Gradients()
    gradients.add(call.parameter("weight_ih"), da.T @ inputs)
    gradients.add(call.parameter("weight_hh"), du.T @ rest[0])
    gradients.add(call.parameter("bias_ih"), da.sum(0))
    gradients.add(call.parameter("bias_hh"), du.sum(0))
    gradients.add(x, (da @ w).reshape(x.shape))
    to_states = back[0] + du @ u, *back[1:]
    for state, gradient in zip(states, to_states, strict=True):
        gradients.add(state, gradient.reshape(state.shape))
    legend = call.legend(
        ("x", "x", "the input", x), ("h", "h", "the state before", h), ("W", "W", "", call.parameter("weight_ih")),
        ("U", "U", "", call.parameter("weight_hh")),
    )  # fmt: skip
    yield Candidate([*cell.equations(), *_shared("")], legend, gradients.found)


def _with_bias(call: Call, product: Value, name: str) -> Value:
    """The product with its bias, which of a single sample is added in an operation of its own."""
    bias = call.parameter(name)
    return next((v for v in call.group.values if bias in v.inputs and product in map(call.source, v.inputs)), product)


def _forgets(value: Value) -> bool:
    """Whether a value is f · c, the forget gate times the memory before."""
    name = value.primitive.name if value.primitive else ""
    first = value.inputs[0].primitive if value.inputs else None
    return name == "multiply" and first is not None and first.name == "sigmoid"
