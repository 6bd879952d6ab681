"""Activations without a primitive of their own, and dropout."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from ..trace import Value
from .call import Call, Candidate, equation, form, numbers, plain


@form("Dropout", "dropout", "Dropout1d", "Dropout2d", "Dropout3d", "dropout1d", "dropout2d", "dropout3d")
def dropout(call: Call) -> Iterator[Candidate]:
    """y = m x / (1 - p) with a random mask m."""
    if not call.data():
        return
    x = call.data()[0]
    for mask in (v for v in call.group.inputs if not v.several and v.dtype.kind == "b"):
        kept = np.broadcast_to(mask.array(), x.shape)
        rate = getattr(call.module, "p", None)
        share = 1 - rate if rate is not None else _kept_share(call, x, kept)
        equations = [
            equation("x", f"δ · m / {share:g}", rf"\frac{{\delta \, m}}{{{share:g}}}",
                     f"m is 1 where x was kept ({kept.mean():.0%} of the entries) and 0 where it was dropped"),
        ]  # fmt: skip
        legend = call.legend(("x", "x", "the input", x), ("m", "m", "the mask", mask), call.delta_row())
        yield Candidate(equations, legend, {x: call.delta * kept / share})


def _kept_share(call: Call, x: Value, kept: np.ndarray) -> float:
    inputs, outputs = numbers(x)[kept], numbers(call.output)[kept]
    live = inputs != 0
    return float(np.median(inputs[live] / outputs[live])) if live.any() else 1.0


def _normal(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distribution function and density of the standard normal distribution."""
    erf = np.vectorize(math.erf, otypes=[float])
    return 0.5 * (1 + erf(z / math.sqrt(2))), np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


_SLOPES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str, str, str]] = {
    "gelu": (lambda z: _normal(z)[0] + z * _normal(z)[1], "Φ(z) + z · φ(z)", r"\Phi(z) + z \, \phi(z)",
             "Φ and φ: the normal distribution and its density"),
    "silu": (lambda z: _sigmoid(z) * (1 + z * (1 - _sigmoid(z))), "σ(z) · (1 + z · (1 - σ(z)))",
             r"\sigma(z) \, (1 + z \, (1 - \sigma(z)))", "σ: the logistic function"),
    "softplus": (lambda z: np.where(z > 20, 1.0, _sigmoid(z)), "σ(z)", r"\sigma(z)", "σ: the logistic function"),
    "elu": (lambda z: np.where(z > 0, 1.0, np.exp(np.minimum(z, 0))), "1 if z > 0 else exp(z)",
            r"\begin{cases} 1 & z > 0 \\ e^{z} & \text{otherwise} \end{cases}", ""),
}  # fmt: skip


@form("GELU", "gelu", "SiLU", "silu", "ELU", "elu", "Softplus", "softplus")
def activation(call: Call) -> Iterator[Candidate]:
    """a = f(z): the gradient times f′(z)."""
    if not call.data():
        return
    z = call.data()[0]
    kind = call.group.kind.lower().replace("_", "")
    for name in [kind] if kind in _SLOPES else _SLOPES:
        slope, text, latex, meaning = _SLOPES[name]
        equations = [
            equation("z", "δ · f′(z)", r"\delta \, f'(z)", ""),
            plain(f"f′(z) = {text}", f"f'(z) = {latex}", meaning),
        ]
        gradients = {z: call.delta * slope(numbers(z))}
        legend = call.legend(("z", "z", "the input", z), call.delta_row())
        yield Candidate(equations, legend, gradients, "" if kind in _SLOPES else name)


@form("LeakyReLU", "leaky_relu", "PReLU", "prelu")
def leaky(call: Call) -> Iterator[Candidate]:
    """a = z where z > 0, s · z elsewhere."""
    product = call.node("multiply")
    if product is None or not call.data():
        return
    z = call.data()[0]
    slope = next((i for i in product.inputs if call.source(i) is not z), None)
    if slope is None:
        return
    value, values, source = numbers(slope), numbers(z), call.source(slope)
    told = f"the slope s is {value.item():g}" if value.size == 1 else ""
    latex = r"\begin{cases} \delta & z > 0 \\ s \, \delta & \text{otherwise} \end{cases}"
    equations = [equation("z", "δ where z > 0, s · δ elsewhere", latex, told)]
    gradients = {z: call.delta * np.where(values > 0, 1.0, value)}
    rows: list[tuple[str, str, str, Value | None]] = [("z", "z", "the input", z)]
    if source.requires_grad:
        part = call.delta * np.where(values > 0, 0.0, values)
        extra = tuple(
            d for d in range(part.ndim) if d < part.ndim - value.ndim or value.shape[value.ndim - part.ndim + d] == 1
        )
        equations.append(equation("s", "Σ δ · z over z ≤ 0", r"\sum_{z \le 0} \delta \, z", "", "s"))
        gradients[source] = part.sum(axis=extra).reshape(source.shape)
        rows.append(("s", "s", "the slope", source))
    yield Candidate(equations, call.legend(*rows, call.delta_row()), gradients)
