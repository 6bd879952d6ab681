"""One neuron's gradient with real numbers: the five steps of the textbook, checked twice.

The steps are computed by hand (NumPy, float64) for a neuron of the last hidden layer, and
compared with the gradient that the engine returns and with central differences of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from .. import nn
from ..core.autodiff import grad
from ..core.tensor import Tensor
from ..explain.check import Check as ChainCheck
from ..explain.explanation import explain
from ..explain.formulas import Formula
from ..nn import functional as F
from ..train.progress import text_table


class Activation(NamedTuple):
    """An activation function: its layer, its value and its derivative by hand."""

    module: type[nn.Module]
    value: Callable[[float], float]
    slope: Callable[[float, float], float]  # of z and a = f(z)


ACTIVATIONS = {
    "tanh": Activation(nn.Tanh, math.tanh, lambda _z, a: 1 - a * a),
    "relu": Activation(nn.ReLU, lambda z: max(z, 0.0), lambda z, _a: float(z > 0)),
    "sigmoid": Activation(nn.Sigmoid, lambda z: 1 / (1 + math.exp(-z)), lambda _z, a: a * (1 - a)),
}


@dataclass(frozen=True)
class Neuron:
    """One neuron z = w·x + b, a = f(z) inside a network with loss L, and L's derivatives by hand."""

    index: int
    x: np.ndarray
    w: np.ndarray
    b: float
    z: float
    a: float
    slope: float  # f′(z)
    v: np.ndarray  # the weights with which the output layer reads a
    scores: np.ndarray  # of the output layer
    p: np.ndarray  # softmax(scores)
    y: np.ndarray  # 1 for the right class, 0 elsewhere

    @property
    def dL_da(self) -> float:
        return float((self.p - self.y) @ self.v)

    @property
    def dL_dz(self) -> float:
        return self.dL_da * self.slope

    @property
    def dL_dW(self) -> np.ndarray:
        return self.dL_dz * self.x

    @property
    def dL_db(self) -> float:
        return self.dL_dz

    @property
    def dL_dx(self) -> np.ndarray:
        return self.dL_dz * self.w

    def loss(self, a: float) -> float:
        """L if this neuron's output were `a` and those of all other neurons stayed as they are."""
        s = self.scores + self.v * (a - self.a)
        return float(np.log(np.exp(s - s.max()).sum()) + s.max() - s @ self.y)


@dataclass(frozen=True)
class Check:
    """One derivative, computed three ways."""

    name: str
    by_hand: float
    engine: float
    difference: float


@dataclass(frozen=True)
class Walk:
    """The walk-through: its text, the derivatives shown, and the largest disagreements over all entries.

    `worst_engine` and `worst_difference` are relative to the largest entry of each gradient.
    """

    text: str
    checks: list[Check]
    worst_engine: float
    worst_difference: float

    def __str__(self) -> str:
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {k: v for k, v in asdict(self).items() if k != "text"}


def walk_through(
    model: Any, image: np.ndarray, label: int, number: int, *, classes: tuple[str, ...], activation: str
) -> Walk:
    """Explain the gradient of one neuron of `model.hidden2` for one image.

    The neuron is one whose numbers read well: the largest |∂L/∂z| where f′(z) is neither 0 nor 1.

    Args:
        model: an MLP with layers pixels, hidden1, f1, hidden2, f2, output.
        image, label, number: what goes in, its class, and what to call it.
        classes: names of the classes.
        activation: a key of ACTIVATIONS, the function of f1 and f2.
    """
    f = ACTIVATIONS[activation]
    network = through_network(model, image, label, f)
    neuron = by_hand(network, choose_neuron(network), label, f)
    hand: dict[str, Any] = {
        "a": neuron.dL_da,
        "z": neuron.dL_dz,
        "W": neuron.dL_dW,
        "b": neuron.dL_db,
        "x": neuron.dL_dx,
    }
    engine = by_engine(network, neuron, label, f)
    differences = by_differences(neuron, f)

    checks, worst = [], [0.0, 0.0]
    for name, values in hand.items():
        columns = [np.atleast_1d(c) for c in (values, engine[name], differences[name])]
        scale = np.abs(columns[0]).max() or 1.0
        worst = [max(w, float(np.abs(columns[0] - c).max() / scale)) for w, c in zip(worst, columns[1:], strict=True)]
        for i in largest(columns[0]):
            entry = f"∂L/∂{name}[{i}]" if len(columns[0]) > 1 else f"∂L/∂{name}"
            checks.append(Check(entry, *(float(c[i]) for c in columns)))
    table = text_table(
        ["", "by hand", "chainrule", "finite difference"],
        [[k.name, f"{k.by_hand:+.9f}", f"{k.engine:+.9f}", f"{k.difference:+.9f}"] for k in checks],
    )
    lines = [
        "One neuron's gradient, step by step",
        f"Test image {number} is: {classes[label]}. The network says: {likeliest(neuron.p, classes)}.",
        *tell(neuron, classes, label, activation, network.slope),
        table,
        f"Over all {2 * len(neuron.x) + 3} derivatives, by hand and chainrule {agreement(worst[0])},",
        f"by hand and finite differences {agreement(worst[1])} (relative to the largest entry of each gradient).",
        f"The {len(network.check.products)} products of the chain rule between the loss and hidden2, with all their "
        f"entries: the rules and finite differences {agreement(network.check.largest_error)}.",
    ]
    return Walk("\n".join(lines), checks, *worst)


class Pass(NamedTuple):
    """Forward and backward through the whole network, by the engine in float64."""

    weights: dict[str, np.ndarray]
    x: np.ndarray  # inputs of hidden2
    z: np.ndarray
    a: np.ndarray
    dL_da: np.ndarray
    dL_dz: np.ndarray
    dL_dW: np.ndarray
    dL_db: np.ndarray
    slope: Formula  # ∂a/∂z as chainrule explains it
    check: ChainCheck


def through_network(model: Any, image: np.ndarray, label: int, f: Activation) -> Pass:
    """Run the image through a float64 copy of the model and explain the gradient of hidden2."""
    double = type(model)(f.module).double()
    double.load_state_dict(model.state_dict())
    x = double.f1(double.hidden1(double.pixels(Tensor(image[None].astype(np.float64)))))
    z = double.hidden2(x)
    a = double.f2(z)
    loss = F.cross_entropy(double.output(a), Tensor([label]))
    explained = explain(loss, wrt=[double.hidden2.weight, double.hidden2.bias])
    dL_da, dL_dz, dL_dW, dL_db = (
        explained.step(of).gradient for of in (a, z, double.hidden2.weight, double.hidden2.bias)
    )
    slope = explained.step(z).terms[0].local_formula
    assert slope is not None
    weights = {name: value.numpy() for name, value in double.state_dict().items()}
    rows = [t[0] for t in (x.numpy(), z.numpy(), a.numpy(), dL_da, dL_dz)]
    return Pass(weights, rows[0], rows[1], rows[2], rows[3], rows[4], dL_dW, dL_db, slope, explained.check())


def choose_neuron(network: Pass) -> int:
    """The neuron with the largest |∂L/∂z|, if possible among those with 0.2 < f′(z) < 0.9."""
    slopes = network.dL_dz / np.where(network.dL_da == 0, 1, network.dL_da)
    telling = (slopes > 0.2) & (slopes < 0.9)
    return int(np.where(telling | ~telling.any(), np.abs(network.dL_dz), -1).argmax())


def by_hand(network: Pass, j: int, label: int, f: Activation) -> Neuron:
    """Neuron j of hidden2, its forward pass computed from the weights."""
    w, b = network.weights["hidden2.weight"][j], float(network.weights["hidden2.bias"][j])
    V, c = network.weights["output.weight"], network.weights["output.bias"]
    z = float(w @ network.x + b)
    a = f.value(z)
    scores = V @ network.a + c
    p = np.exp(scores - scores.max())
    return Neuron(j, network.x, w, b, z, a, f.slope(z, a), V[:, j], scores, p / p.sum(), np.eye(len(p))[label])


def by_engine(network: Pass, neuron: Neuron, label: int, f: Activation) -> dict[str, Any]:
    """The engine's derivatives: those of the whole network, and ∂L/∂x through this neuron alone.

    The inputs x reach all neurons of the layer; the share of one is what it hands back
    while the outputs of the others are held fixed.
    """
    j = neuron.index
    x = Tensor(neuron.x, requires_grad=True)
    a = f.module()(Tensor(neuron.w) @ x + neuron.b)
    others = neuron.scores - neuron.v * neuron.a
    loss = F.cross_entropy(Tensor(others) + Tensor(neuron.v) * a, Tensor(label))
    return {
        "a": network.dL_da[j],
        "z": network.dL_dz[j],
        "W": network.dL_dW[j],
        "b": network.dL_db[j],
        "x": grad(loss, x).numpy(),
    }


def by_differences(neuron: Neuron, f: Activation, h: float = 1e-5) -> dict[str, Any]:
    """Central differences (L(· + h) − L(· − h)) / 2h of the loss."""

    def by_a(change: float) -> float:
        return (neuron.loss(neuron.a + change * h) - neuron.loss(neuron.a - change * h)) / (2 * h)

    def by_z(factor: float) -> float:
        up, down = (f.value(neuron.z + sign * h * factor) for sign in (1, -1))
        return (neuron.loss(up) - neuron.loss(down)) / (2 * h)

    # A weight w_i enters z with the factor x_i, an input x_i with the factor w_i, the bias with 1.
    return {
        "a": by_a(1.0),
        "z": by_z(1.0),
        "W": np.array([by_z(x) for x in neuron.x]),
        "b": by_z(1.0),
        "x": np.array([by_z(w) for w in neuron.w]),
    }


def tell(n: Neuron, classes: tuple[str, ...], label: int, activation: str, formula: Formula) -> list[str]:
    """The steps in words and numbers; `formula` is ∂a/∂z."""
    terms = [int(k) for k in np.argsort(-np.abs((n.p - n.y) * n.v), kind="stable")]
    rest = sum((n.p - n.y)[k] * n.v[k] for k in terms[3:])
    slope = formula.with_numbers({"a": factor(n.a), "z": factor(n.z)}).partition(" = ")[2]
    slope = slope if slope.startswith("(") else f"({slope})"
    loss, dL_da = -math.log(n.p[label]), num(n.dL_da)
    return [
        f"Neuron {n.index} of hidden2 has {len(n.x)} inputs x (the outputs of hidden1), weights w, a bias b, and "
        f"f = {activation}.",
        "",
        "Forward",
        f"  z = w·x + b = {num(n.w @ n.x)} + {factor(n.b)} = {num(n.z)}",
        f"  a = f(z) = {activation}({num(n.z)}) = {num(n.a)}",
        "  The output layer computes scores s = V a + c from all neurons' a; p = softmax(s) and",
        f"  L = −ln p({classes[label]}) = −ln {num(n.p[label])} = {num(loss)}",
        "",
        "Backward",
        "  1. ∂L/∂a = Σ_k ∂L/∂s_k · V_k = Σ_k (p_k − y_k) · V_k, where y_k is 1 for the right class, 0 for others",
        *(
            f"       {'+' if i else '='} ({num(n.p[k])} − {int(n.y[k])}) · {factor(n.v[k])}   [{classes[k]}]"
            for i, k in enumerate(terms[:3])
        ),
        f"       + {factor(rest)}   [the other {len(classes) - 3} classes]",
        f"       = {dL_da}",
        f"  2. ∂L/∂z = ∂L/∂a · f′(z) = {dL_da} · {slope} = {dL_da} · {num(n.slope)} = {num(n.dL_dz)}",
        "  3. ∂L/∂W = ∂L/∂z · x, one number for each weight; the largest:",
        *(f"       ∂L/∂W[{i}] = {num(n.dL_dz)} · {factor(n.x[i])} = {num(n.dL_dW[i])}" for i in largest(n.dL_dW)),
        f"  4. ∂L/∂b = ∂L/∂z = {num(n.dL_db)}",
        "  5. ∂L/∂x = ∂L/∂z · W, what this neuron hands back to the layer before; the largest:",
        *(f"       ∂L/∂x[{i}] = {num(n.dL_dz)} · {factor(n.w[i])} = {num(n.dL_dx[i])}" for i in largest(n.dL_dx)),
        "",
    ]


def agreement(worst: float) -> str:
    """How far two columns are apart, in words."""
    return f"differ by {worst:.0e} at most" if worst else "agree to the last bit"


def likeliest(p: np.ndarray, classes: tuple[str, ...]) -> str:
    """The three classes with the largest probabilities."""
    return ", ".join(f"{classes[k]} {p[k]:.1%}" for k in np.argsort(-p, kind="stable")[:3])


def largest(values: np.ndarray, count: int = 3) -> list[int]:
    """Positions of the entries of the largest magnitude."""
    return [int(i) for i in np.argsort(-np.abs(values), kind="stable")[:count]]


def num(value: float) -> str:
    """A number for a line of arithmetic: four decimals and a true minus sign."""
    return f"{value:.4f}".replace("-", "−")


def factor(value: float) -> str:
    """A number after an operator: in parentheses where it is negative."""
    return f"({num(value)})" if value < 0 else num(value)
