"""The exercises of the guide: what the engine (or the machine itself) answers, and how answers are compared.

The questions stand on the pages of `docs/guide`. Nothing is written down here that can be
computed.
"""

from __future__ import annotations

import ast
import itertools
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import nn
from ..array import asarray
from ..core.autodiff import grad
from ..core.node import collect
from ..core.tensor import Tensor
from ..nn import functional as F
from ..nn import init

TOLERANCE = 0.01  # relative: answers by hand are rounded

_OPERATORS: dict[type, Callable[..., float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow, ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip


@dataclass(frozen=True)
class Exercise:
    """How a question is answered: `solve` computes it; `hint` follows a wrong answer, `reason` a right one."""

    solve: Callable[[], float]
    hint: str
    reason: str

    def check(self, given: str) -> bool:
        """Whether an answer is right: within 1 %, and exactly where a whole number is right."""
        value = number(given)
        if value is None:
            return False
        wanted = self.solve()
        whole = abs(wanted - round(wanted)) < 1e-9
        return abs(value - wanted) < 1e-9 if whole else math.isclose(value, wanted, rel_tol=TOLERANCE)


def number(text: str) -> float | None:
    """A number as people write it: 0.5, -3, 1/3, 0.7**20, 2e-3, −1; None if it is none."""
    try:
        tree = ast.parse(text.strip().replace("−", "-").replace("^", "**").replace(",", ""), mode="eval")
        value = float(_evaluated(tree.body))
    except (SyntaxError, ValueError, ArithmeticError, TypeError, RecursionError):
        return None
    return value if math.isfinite(value) else None


def _evaluated(node: ast.AST) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.UnaryOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_evaluated(node.operand))
    if isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
        return _OPERATORS[type(node.op)](_evaluated(node.left), _evaluated(node.right))
    raise ValueError("not a number")


def variable(value: Any) -> Tensor:
    return Tensor(np.asarray(value, np.float64), requires_grad=True)


def derivative(f: Callable[[Tensor], Tensor], at: Any, entry: tuple[int, ...] = ()) -> float:
    """∂f/∂x at a point, one entry of it."""
    x = variable(at)
    return float(grad(f(x), x).numpy()[entry])


def operations(y: Tensor) -> float:
    """How many operations lead to y."""
    assert y._node is not None
    return float(sum(node.primitive is not None for node in collect([y._node])))


def power(x: Tensor, n: int) -> Tensor:
    y = x
    for _ in range(n - 1):
        y = y * x
    return y


def _neuron(f: Callable[[Tensor], Tensor], w: float, by: int) -> float:
    x, w_, b = variable(1.5), variable(w), variable(0.2)
    return float(grad((f(w_ * x + b) - 0.5) ** 2 / 2, [x, w_, b])[by])


def _weights(sizes: list[int]) -> float:
    layers = [nn.Linear(a, b) for a, b in itertools.pairwise(sizes)]
    return float(sum(p.size for layer in layers for p in layer.parameters()))


def _windows() -> float:
    kernel = variable(np.ones((1, 1, 3, 3)))
    return float(grad(F.conv2d(asarray(np.ones((1, 1, 8, 8))), kernel).sum(), kernel).numpy()[0, 0, 0, 0])


def _kaiming() -> float:
    return init.calculate_gain("relu") / math.sqrt(256)


_MATRIX = asarray(np.array([[1.0, 2.0], [3.0, 4.0]]))

EXERCISES = {
    "network": [
        Exercise(
            lambda: float(F.tanh(variable(2.0 * 1 - 1.0 * 3 + 0.5))),
            "First z = w·x + b, then a = tanh(z).", "z = 2·1 − 1·3 + 0.5 = −0.5, and a = tanh(z).",
        ),
        Exercise(
            lambda: _weights([10, 20, 5]),
            "A layer from n to m has n·m weights and m biases.", "10·20 + 20 and 20·5 + 5.",
        ),
    ],
    "loss": [
        Exercise(lambda: -math.log(0.2), "It is −ln p.", "−ln 0.2."),
        Exercise(
            lambda: derivative(lambda w: (3 * w - 6) ** 2, 1.0),
            "The outer derivative is 2·(3w − 6), the inner one 3.", "2·(3 − 6)·3.",
        ),
    ],
    "graph": [
        Exercise(
            lambda: operations((lambda x, w: x * x + x * w)(variable(1.0), variable(2.0))),
            "Count each multiplication and the addition.", "Two products and their sum.",
        ),
        Exercise(lambda: operations(power(variable(1.5), 8)), "The loop runs n − 1 times.", "One each time round."),
    ],
    "chain-rule": [
        Exercise(
            lambda: derivative(lambda x: (2 * x + 1) ** 3, 0.5),
            "3·(2x + 1)² times the inner derivative 2.", "3·2²·2.",
        ),
        Exercise(lambda: 1000 * 3e-3, "One pass for each weight; 3 ms are 0.003 s.", "1,000 passes of 3 ms."),
    ],
    "neuron": [
        Exercise(
            lambda: _neuron(F.relu, -0.8, 1), "z is −1. What is the slope of relu there?",
            "relu's slope at z = −1 is 0, so nothing comes back.",
        ),
        Exercise(
            lambda: _neuron(F.tanh, 0.8, 2), "z = 0.8·1.5 + 0.2; then (a − 0.5)·(1 − a²).",
            "∂L/∂b = ∂L/∂z = (a − 0.5)(1 − a²) at z = 1.4.",
        ),
    ],
    "layer": [
        Exercise(
            lambda: float(np.outer([2, -1], [3, 0, 1])[1, 0]), "Entry (i, j) of δ xᵀ is δᵢ · xⱼ.", "δ₁ · x₀ = −1 · 3.",
        ),
        Exercise(
            lambda: derivative(lambda x: ((_MATRIX @ x) * asarray([1.0, -1.0])).sum(), [0.0, 0.0], (0,)),
            "∂L/∂x = Wᵀ δ: the first column of W times δ.", "1·1 + 3·(−1).",
        ),
    ],
    "deep": [
        Exercise(lambda: 0.7**20, "Multiply 0.7 by itself 20 times.", "Less than a thousandth is left."),
        Exercise(lambda: 0.25**10, "0.25 to the power of 10.", "Less than a millionth: sigmoids vanish fast."),
    ],
    "sums": [
        Exercise(lambda: derivative(lambda w: w * 2.0 + w * 5.0, 0.3), "Each use contributes its x.", "2 + 5."),
        Exercise(
            lambda: derivative(lambda w: w * (w * 1.0), 3.0),
            "One contribution is h₁, the other is w.", "h₁ + w = 3 + 3.",
        ),
    ],
    "optimisers": [
        Exercise(lambda: 2 - 0.1 * 0.5, "w − η g.", "2 − 0.1·0.5."),
        Exercise(lambda: 2 / 8, "It diverges above 2/c.", "With c = 8: |1 − 8 η| > 1 beyond it."),
    ],
    "gradients": [
        Exercise(_kaiming, "The variance is 2/n.", "√(2/256)."),
        Exercise(
            lambda: derivative(lambda a: a + F.relu(a), -1.0), "relu contributes 0; what does the skip contribute?",
            "The skip alone: 1. The gradient gets through where the block is dead.",
        ),
    ],
    "architectures": [
        Exercise(_windows, "How many positions has a 3×3 window in 8×8 pixels?", "6 × 6 positions."),
        Exercise(
            lambda: derivative(lambda s: F.softmax(s, -1)[0], [1.0, 1.0, 1.0], (0,)),
            "p₀ (1 − p₀) with p₀ = 1/3.", "1/3 · 2/3.",
        ),
    ],
    "debugging": [
        Exercise(lambda: derivative(F.relu, -3.0), "Left of 0 the function is flat.", "It is flat there."),
        Exercise(
            lambda: ((1 + 0.01) ** 2 - 1) / 0.01 - 2, "The exact derivative is 2. Work out the quotient.",
            "The quotient is 2 + h: the error is h itself.",
        ),
    ],
}  # fmt: skip
