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


def _gelu_by_tanh(z: np.ndarray) -> np.ndarray:
    t = np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))
    return 0.5 * (1 + t) + 0.5 * z * (1 - t * t) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * z * z)


def _mish(z: np.ndarray) -> np.ndarray:
    t = np.tanh(np.logaddexp(0, z))
    return t + z * (1 - t * t) * _sigmoid(z)


_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805  # Klambauer et al. 2017
_OTHERWISE = r"\begin{cases} %s \end{cases}"

# By the names of the functions and of the layers, in small letters: f′, as text and LaTeX, and what its symbols mean.
_SLOPES: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str, str, str]] = {
    "gelu": (lambda z: _normal(z)[0] + z * _normal(z)[1], "Φ(z) + z · φ(z)", r"\Phi(z) + z \, \phi(z)",
             "Φ and φ: the normal distribution and its density"),
    "gelu by tanh": (_gelu_by_tanh, "(1 + t) / 2 + z · t′ / 2", r"\frac{1 + t}{2} + \frac{z \, t'}{2}",
                     "t = tanh(√(2/π) (z + 0.044715 z³)): in place of the normal distribution"),
    "silu": (lambda z: _sigmoid(z) * (1 + z * (1 - _sigmoid(z))), "σ(z) · (1 + z · (1 - σ(z)))",
             r"\sigma(z) \, (1 + z \, (1 - \sigma(z)))", "σ: the logistic function"),
    "softplus": (lambda z: np.where(z > 20, 1.0, _sigmoid(z)), "σ(z)", r"\sigma(z)", "σ: the logistic function"),
    "logsigmoid": (lambda z: _sigmoid(-z), "1 - σ(z)", r"1 - \sigma(z)", "σ: the logistic function"),
    "elu": (lambda z: np.where(z > 0, 1.0, np.exp(np.minimum(z, 0))), "1 if z > 0 else exp(z)",
            _OTHERWISE % r"1 & z > 0 \\ e^{z} & \text{otherwise}", ""),
    "selu": (lambda z: _SELU_SCALE * np.where(z > 0, 1.0, _SELU_ALPHA * np.exp(np.minimum(z, 0))),
             "λ if z > 0 else λ · α · exp(z)",
             _OTHERWISE % r"\lambda & z > 0 \\ \lambda \alpha \, e^{z} & \text{otherwise}",
             f"λ = {_SELU_SCALE:.4f}, α = {_SELU_ALPHA:.4f}"),
    "mish": (_mish, "t + z · (1 - t²) · σ(z)", r"t + z \, (1 - t^2) \, \sigma(z)",
             "t = tanh(ln(1 + exp(z))); σ: the logistic function"),
    "hardswish": (lambda z: np.where(z <= -3, 0.0, np.where(z >= 3, 1.0, (2 * z + 3) / 6)),
                  "0 if z ≤ -3, 1 if z ≥ 3, else (2 z + 3) / 6",
                  _OTHERWISE % r"0 & z \le -3 \\ 1 & z \ge 3 \\ \frac{2 z + 3}{6} & \text{otherwise}",
                  "z times a ramp from 0 at -3 to 1 at 3"),
    "hardsigmoid": (lambda z: np.where(np.abs(z) < 3, 1 / 6, 0.0), "1 / 6 if |z| < 3 else 0",
                    _OTHERWISE % r"\frac{1}{6} & |z| < 3 \\ 0 & \text{otherwise}", "a ramp from 0 at -3 to 1 at 3"),
    "relu6": (lambda z: np.where((z > 0) & (z < 6), 1.0, 0.0), "1 if 0 < z < 6 else 0",
              _OTHERWISE % r"1 & 0 < z < 6 \\ 0 & \text{otherwise}", ""),
    "hardtanh": (lambda z: np.where(np.abs(z) < 1, 1.0, 0.0), "1 if |z| < 1 else 0",
                 _OTHERWISE % r"1 & |z| < 1 \\ 0 & \text{otherwise}", ""),
    "softsign": (lambda z: 1 / (1 + np.abs(z)) ** 2, "1 / (1 + |z|)²", r"\frac{1}{(1 + |z|)^2}", ""),
    "tanhshrink": (lambda z: np.tanh(z) ** 2, "tanh²(z)", r"\tanh^2 z", ""),
}  # fmt: skip


@form(
    "GELU", "gelu", "SiLU", "silu", "ELU", "elu", "SELU", "selu", "CELU", "celu", "Softplus", "softplus", "LogSigmoid",
    "logsigmoid", "Mish", "mish", "Hardswish", "hardswish", "Hardsigmoid", "hardsigmoid", "ReLU6", "relu6", "Hardtanh",
    "hardtanh", "Softsign", "softsign", "Tanhshrink", "tanhshrink",
)  # fmt: skip
def activation(call: Call) -> Iterator[Candidate]:
    """a = f(z): the gradient times f′(z)."""
    if not call.data():
        return
    z = call.data()[0]
    kind = call.group.kind.lower().replace("_", "")
    own = [name for name in _SLOPES if name.split()[0] == kind]
    values = numbers(z)
    for name in own or _SLOPES:
        function, text, latex, meaning = _SLOPES[name]
        slope = function(values)
        if not own and np.ptp(slope) == 0:
            continue  # a straight line: these numbers do not tell which function it is
        equations = [
            equation("z", "δ · f′(z)", r"\delta \, f'(z)", ""),
            plain(f"f′(z) = {text}", f"f'(z) = {latex}", meaning),
        ]
        gradients = {z: call.delta * slope}
        legend = call.legend(("z", "z", "the input", z), call.delta_row())
        yield Candidate(equations, legend, gradients, "" if own else name)


@form("GLU", "glu")
def gated(call: Call) -> Iterator[Candidate]:
    """y = a · σ(b): a and b are the halves of the input along one axis."""
    if not call.data():
        return
    x = call.data()[0]
    for axis, length in enumerate(x.shape):
        if call.output.shape[axis] * 2 != length:
            continue
        a, b = np.split(numbers(x), 2, axis)
        gate = _sigmoid(b)
        equations = [
            plain("y = a · σ(b) with x = (a, b)", r"y = a \, \sigma(b), \; x = (a, b)",
                  "one half of the input is the gate of the other"),
            equation("a", "δ · σ(b)", r"\delta \, \sigma(b)", "as far as the gate is open"),
            equation("b", "δ · a · σ(b) · (1 - σ(b))", r"\delta \, a \, \sigma(b) \, (1 - \sigma(b))",
                     "the gate learns from what it lets through"),
        ]  # fmt: skip
        gradient = np.concatenate([call.delta * gate, call.delta * a * gate * (1 - gate)], axis)
        yield Candidate(equations, call.legend(("x", "x", "the input", x), call.delta_row()), {x: gradient})


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
