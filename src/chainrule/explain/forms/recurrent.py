"""Recurrent layers and cells: backpropagation through time, for every layer and direction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..layers import Equation
from ..trace import Value
from .call import Call, Candidate, Gradients, equation, form, is_value_of, numbers, numbers_of, plain
from .cells import CELLS, Cell


class Swept(NamedTuple):
    """What a sweep back over time hands back: of the sums, of U and its bias, and of the first states.

    `hidden` is h[t-1] of every row, `total` what the gates get: W x + U h + b.
    """

    sums: np.ndarray
    inner: np.ndarray
    weight: np.ndarray
    states: tuple[np.ndarray, ...]
    hidden: np.ndarray
    total: np.ndarray


@form("LSTM", "GRU", "RNN", several=True)
def recurrent(call: Call) -> Iterator[Candidate]:
    """A recurrent layer along whole sequences: each of its layers and directions, step by step back from the end."""
    layer = call.module
    if layer is None:
        return
    cell = CELLS[layer.mode]
    sweeps = [v for v in call.group.values if v.several and hasattr(v.primitive, "steps")]
    suffixes = [f"_l{k}{back}" for k in range(layer.num_layers) for back in ("", "_reverse")[: 1 + layer.bidirectional]]
    if not sweeps:
        yield from _unrolled(call, cell, suffixes)
    if len(sweeps) != len(suffixes):
        return
    gradients = Gradients()
    for suffix, sweep in zip(suffixes, sweeps, strict=True):
        sums = sweep.inputs[0]
        if sums not in call.group:
            return
        w, u = (call.parameter(name + suffix) for name in ("weight_ih", "weight_hh"))
        given = numbers(u) if u is not None else numbers(sweep.inputs[1 + cell.states])
        bias = numbers(sweep.inputs[2 + cell.states]) if len(sweep.inputs) > 2 + cell.states else None
        swept = sweep_back(cell, sweep, given, bias, sized=call.sized)
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
        ("W", "W", "of the first layer," if several else "", first[0]),
        ("U", "U", "of the first layer," if several else "", first[1]),
    )  # fmt: skip
    equations = [*cell.equations(), *_shared("[t]"), *_arrangement(layer)]
    yield Candidate(equations, legend, gradients.found)


def sweep_back(cell: Cell, sweep: Value, u: np.ndarray, bias: np.ndarray | None, *, sized: bool = False) -> Swept:
    """The sweep of one layer in one direction. Rows lie step by step below each other; fewer sequences may be left."""
    spans: Any = sweep.primitive.steps  # type: ignore[union-attr]
    sums = numbers(sweep.inputs[0])
    state = [numbers(v) for v in sweep.inputs[1 : 1 + cell.states]]
    kept = []
    hidden, total = np.zeros((len(sums), u.shape[1])), np.zeros_like(sums)
    for start, stop in spans:
        now = [s[: stop - start] for s in state]
        inner = now[0] @ u.T + (0.0 if bias is None else bias)
        after, keep = cell.forward(sums[start:stop], inner, tuple(now))
        hidden[start:stop], total[start:stop] = now[0], sums[start:stop] + inner
        kept.append((now[0], keep))
        state = [np.concatenate([a, s[stop - start :]]) for a, s in zip(after, state, strict=True)]
    arriving = [None if g is None else g.astype(np.float64) for g in sweep.gradient]
    arriving = [g if g is None or not sized else np.abs(g) for g in arriving]
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
    return Swept(to_sums, to_inner, to_u, tuple(carry), hidden, total)


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
            plain("h[t] = (h⁺[t], h⁻[t])", r"h_{t} = (h^{+}_{t}, h^{-}_{t})",
                  "a second set of weights reads from the end: for it t + 1 comes before t; the two gradients "
                  "of x[t] are added up")
        )  # fmt: skip
    return found


def _unrolled(call: Call, cell: Cell, suffixes: list[str]) -> Iterator[Candidate]:
    """Recurrent layers whose steps are nodes of their own: what arrives at each step's state is taken from there."""
    values = call.group.values
    sums = [_product_with(call, values, "weight_ih" + suffix) for suffix in suffixes]
    if any(v is None for v in sums):
        return
    starts = [values.index(v) for v in sums if v is not None]
    gradients = Gradients()
    first = None
    for suffix, start, end in zip(suffixes, starts, [*starts[1:], len(values)], strict=True):
        swept = values[start + 1 : end]
        if not _add_unrolled(gradients, call, cell, suffix, values[start], swept):
            return
        first = first or values[start].inputs[0]
    assert first is not None
    which = "of the first layer," if len(suffixes) > 1 else ""
    legend = call.legend(
        ("x", "x", "the input", call.source(first)), ("W", "W", which, call.parameter("weight_ih_l0")),
        ("U", "U", which, call.parameter("weight_hh_l0")),
    )  # fmt: skip
    equations = [*cell.equations(), *(_projected() if call.module.proj_size else []), *_shared("[t]")]
    yield Candidate([*equations, *_arrangement(call.module)], legend, gradients.found)


def _projected() -> list[Equation]:
    """The output of an LSTM made smaller."""
    return [
        plain("h′[t] = P h[t]", r"h'_{t} = P \, h_{t}",
              "projected to a smaller width: the output, and what U reads in place of h"),
        equation("h[t]", "∂L/∂h′[t] P", r"\frac{\partial L}{\partial h'_{t}} P", "", "h_{t}"),
        equation("P", "Σ (∂L/∂h′[t])ᵀ h[t]",
                 r"\sum_{t} \left( \frac{\partial L}{\partial h'_{t}} \right)^{\top} h_{t}", "added up over time"),
    ]  # fmt: skip


def _product_with(call: Call, values: list[Value], parameter: str) -> Value | None:
    """The first product with a parameter of the layer."""
    return next(iter(_products_with(call, values, parameter)), None)


def _products_with(call: Call, values: list[Value], parameter: str) -> list[Value]:
    owner = getattr(call.module, parameter, None)
    products = [v for v in values if v.primitive and v.primitive.name in ("affine", "matmul")]
    return [] if owner is None else [v for v in products if is_value_of(v.inputs[1], owner)]


def _add_unrolled(gradients: Gradients, call: Call, cell: Cell, suffix: str, sums: Value, swept: list[Value]) -> bool:
    """Add what one layer in one direction hands back; False if its steps are not those of the cell."""
    products = _products_with(call, swept, "weight_hh" + suffix)
    if not products:
        return False
    starts = [swept.index(v) for v in products]
    rows, to_sums = numbers(sums.inputs[0]), np.zeros(sums.shape)
    for start, end in zip(starts, [*starts[1:], len(swept)], strict=True):
        values = swept[start:end]
        read = (i for v in values for i in v.inputs)
        taken = next((i for i in read if sums in i.inputs and i.primitive and i.primitive.name == "index"), None)
        part = slice(None) if taken is None else slice(*taken.params["pattern"][0][1:3])
        inner = _with_bias(call, values[0], "bias_hh" + suffix) if cell is CELLS["GRU"] else values[0]
        projection = _product_with(call, values, "weight_hr" + suffix)
        step = _step_back(call, cell, values, numbers(sums)[part], inner, projection)
        if step is None:
            return False
        to_sums[part] += step.sums
        _add_recurrent(gradients, call, suffix, values, step, start == starts[0])
        if projection is not None:
            to_p = call.gradient(projection).T @ numbers(projection.inputs[0])
            gradients.add(call.parameter("weight_hr" + suffix), to_p)
    gradients.add(call.parameter("weight_ih" + suffix), to_sums.T @ rows)
    gradients.add(call.parameter("bias_ih" + suffix), to_sums.sum(0))
    gradients.add(*_to_input(call, sums.inputs[0], to_sums @ numbers(sums.inputs[1]), call.module.batch_first))
    return True


@form("RNNCell", "LSTMCell", "GRUCell", several=True)
def single_step(call: Call) -> Iterator[Candidate]:
    """A cell alone: one step of time."""
    layer = call.module
    affine = [v for v in call.group.values if v.primitive and v.primitive.name in ("affine", "matmul")]
    if layer is None or len(affine) < 2:
        return
    kind = type(layer).__name__.removesuffix("Cell")
    cell = CELLS[f"RNN_{layer.nonlinearity}".upper() if kind == "RNN" else kind]
    first, second = affine[:2]
    values = call.group.values[call.group.values.index(second) :]
    sums = _with_bias(call, first, "bias_ih")
    step = _step_back(call, cell, values, np.atleast_2d(numbers(sums)), _with_bias(call, second, "bias_hh"))
    if step is None:
        return
    x = call.source(first.inputs[0])
    gradients = Gradients()
    gradients.add(call.parameter("weight_ih"), step.sums.T @ np.atleast_2d(numbers(x)))
    gradients.add(call.parameter("bias_ih"), step.sums.sum(0))
    gradients.add(x, (step.sums @ numbers(first.inputs[1])).reshape(x.shape))
    _add_recurrent(gradients, call, "", values, step, True)
    legend = call.legend(
        ("x", "x", "the input", x), ("h", "h", "the state before", call.source(second.inputs[0])),
        ("W", "W", "", call.parameter("weight_ih")), ("U", "U", "", call.parameter("weight_hh")),
    )  # fmt: skip
    yield Candidate([*cell.equations(), *_shared("")], legend, gradients.found)


class _StepBack(NamedTuple):
    """One step back: of the two sums, and of the memory before (of an LSTM)."""

    sums: np.ndarray
    inner: np.ndarray
    hidden: np.ndarray
    memory: tuple[Value, np.ndarray] | None


def _step_back(
    call: Call, cell: Cell, values: list[Value], sums: np.ndarray, inner: Value, projection: Value | None = None
) -> _StepBack | None:
    """The step that begins with `values[0]`, the product of U and the state before, back to its operands.

    `projection` is the product that makes the step's output from o · tanh(c), where there is one.
    """
    product = values[0]
    before: list[Any] = [np.atleast_2d(numbers(product.inputs[0]))]
    memory = None
    if cell.states == 2:
        forgotten = next((v for v in values if _forgets(v)), None)
        if forgotten is None:
            return None
        memory = forgotten.inputs[1]
        before.append(np.atleast_2d(numbers(memory)))
        new = next(v for v in values if forgotten in v.inputs)
        squashed = next((v for v in values if new in v.inputs and v.primitive and v.primitive.name == "tanh"), None)
        hidden = next((v for v in values if squashed is not None and squashed in v.inputs), None)
        rest = sum((numbers_of(p.array) for p in new.products if p.consumer is not squashed and p.array is not None),
                   np.zeros(new.shape))  # fmt: skip
        if projection is not None:
            arriving = [call.gradient(projection) @ numbers(projection.inputs[1])]
        else:
            arriving = [np.zeros(new.shape) if hidden is None else call.gradient(hidden)]
        arriving.append(np.abs(rest) if call.sized else rest)
    else:
        kinds = ("add",) if cell is CELLS["GRU"] else ("tanh", "relu")
        found = [v for v in values if v.primitive and v.primitive.name in kinds and v.size == before[0].size]
        if not found:
            return None
        arriving = [call.gradient(found[-1 if cell is CELLS["GRU"] else 0])]
    rows = [np.atleast_2d(a) for a in arriving]
    _, keep = cell.forward(sums, np.atleast_2d(numbers(inner)), tuple(before))
    da, du, back = cell.backward(tuple(rows), keep)
    to_hidden = back[0] + du @ numbers(product.inputs[1])
    return _StepBack(da, du, to_hidden, None if memory is None else (memory, back[1].reshape(memory.shape)))


def _add_recurrent(
    gradients: Gradients, call: Call, suffix: str, values: list[Value], step: _StepBack, first: bool
) -> None:
    """Add what a step, which begins with `values[0]`, hands back to U, its bias and the states before."""
    h = values[0].inputs[0]
    gradients.add(call.parameter("weight_hh" + suffix), step.inner.T @ np.atleast_2d(numbers(h)))
    gradients.add(call.parameter("bias_hh" + suffix), step.inner.sum(0))
    for state, gradient in [(h, step.hidden), *([] if step.memory is None else [step.memory])]:
        # A state that the step before made is read by others, too, and gets more than this step's part.
        if state not in call.group or (first and all(p.consumer in values for p in state.products)):
            source = call.source(state)
            gradients.add(source, gradient.reshape(source.shape))


def _with_bias(call: Call, product: Value, name: str) -> Value:
    """The product with its bias, which of a single sample is added in an operation of its own."""
    bias = call.parameter(name)
    return next((v for v in call.group.values if bias in v.inputs and product in map(call.source, v.inputs)), product)


def _forgets(value: Value) -> bool:
    """Whether a value is f · c, the forget gate times the memory before."""
    name = value.primitive.name if value.primitive else ""
    first = value.inputs[0].primitive if value.inputs else None
    return name == "multiply" and first is not None and first.name == "sigmoid"
