"""What the studio can be set to: five small problems with their data, networks, losses and choices."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import nn, optim
from ..core.errors import ChainruleError
from ..core.tensor import Tensor
from ..nn import functional as F
from ..nn import init
from ..recipes.small import CNN, MLP, Neuron, squared_error
from .digits import digits

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "relu": nn.ReLU,
    "leaky relu": nn.LeakyReLU,
    "gelu": nn.GELU,
    "identity": nn.Identity,
}

INITIALISATIONS: dict[str, Callable[[Tensor], Any] | None] = {
    "default": None,
    "Xavier, uniform": init.xavier_uniform_,
    "Kaiming, normal": init.kaiming_normal_,
    "normal, σ = 2": lambda w: init.normal_(w, std=2.0),
    "normal, σ = 0.01": lambda w: init.normal_(w, std=0.01),
    "zeros": init.zeros_,
}

OPTIMISERS: dict[str, Callable[[Any, float], Any]] = {
    "SGD": lambda parameters, lr: optim.SGD(parameters, lr=lr),
    "SGD, momentum 0.9": lambda parameters, lr: optim.SGD(parameters, lr=lr, momentum=0.9),
    "Adam": lambda parameters, lr: optim.Adam(parameters, lr=lr),
}


def _logits_error(output: Tensor, target: Tensor) -> Tensor:
    return squared_error(F.sigmoid(output), target)


def _class_error(output: Tensor, target: Tensor) -> Tensor:
    return squared_error(F.softmax(output, -1), F.one_hot(target, 10).astype(output.dtype))


Criterion = Callable[[Tensor, Tensor], Tensor]
NUMBERS: dict[str, Criterion] = {"squared error": squared_error, "absolute error": F.l1_loss}
BINARY: dict[str, Criterion] = {"cross entropy": F.binary_cross_entropy_with_logits, "squared error": _logits_error}
CLASSES: dict[str, Criterion] = {"cross entropy": F.cross_entropy, "squared error": _class_error}


@dataclass(frozen=True)
class Problem:
    """One thing to learn.

    Attributes:
        kind: "number" (one input, one target), "plane" (two inputs, two classes), "image".
        data: inputs and targets as arrays.
        network: makes the model from an activation, the number of hidden layers and their width.
        losses: by name; the first one is the default.
        batch: samples a step; None takes all of them.
        noisy: the data with a chosen amount of noise, where there is one to choose.
        defaults: of the settings that differ from the studio's own.
    """

    title: str
    kind: str
    data: Callable[[], tuple[np.ndarray, np.ndarray]]
    network: Callable[[Callable[[], nn.Module], int, int], nn.Module]
    losses: dict[str, Criterion]
    defaults: dict[str, Any]
    batch: int | None = None
    sizes: bool = True  # whether depth and width can be chosen
    noisy: Callable[[float], tuple[np.ndarray, np.ndarray]] | None = None

    @property
    def tested(self) -> bool:
        """Whether a part of the data is held back to test with: where there is enough of them to draw batches."""
        return self.batch is not None


def _neuron() -> tuple[np.ndarray, np.ndarray]:
    return np.array([1.5], np.float32), np.array([0.5], np.float32)


def _xor() -> tuple[np.ndarray, np.ndarray]:
    x = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], np.float32)
    return x, np.array([[0], [1], [1], [0]], np.float32)


def two_moons(count: int = 200, noise: float = 0.12) -> tuple[np.ndarray, np.ndarray]:
    """Two half circles that reach into each other: points (count, 2), classes 0 and 1 as (count, 1)."""
    rng = np.random.default_rng(0)
    half = count // 2
    angle = np.linspace(0, math.pi, half)
    upper = np.stack([np.cos(angle) - 0.5, np.sin(angle) - 0.25], 1)
    lower = np.stack([0.5 - np.cos(angle), 0.25 - np.sin(angle)], 1)
    x = np.concatenate([upper, lower]) + rng.normal(scale=noise, size=(2 * half, 2))
    return x.astype(np.float32), np.repeat([[0.0], [1.0]], half, axis=0).astype(np.float32)


PROBLEMS = {
    "neuron": Problem(
        "A single neuron", "number", _neuron, lambda f, _depth, _width: Neuron(f), NUMBERS, {"lr": 0.5}, sizes=False
    ),
    "xor": Problem(
        "XOR", "plane", _xor, lambda f, depth, width: MLP(2, [width] * depth, 1, f), BINARY,
        {"lr": 0.5, "width": 3, "depth": 1},
    ),
    "moons": Problem(
        "Two moons", "plane", two_moons, lambda f, depth, width: MLP(2, [width] * depth, 1, f), BINARY,
        {"lr": 0.3, "width": 6, "depth": 2}, batch=64, noisy=lambda noise: two_moons(noise=noise),
    ),
    "digits": Problem(
        "Digits, MLP", "image", digits, lambda f, depth, width: MLP(64, [width] * depth, 10, f), CLASSES,
        {"lr": 0.01, "width": 24, "depth": 1, "optimiser": "Adam"}, batch=32,
    ),
    "cnn": Problem(
        "Digits, CNN", "image", digits, lambda f, _depth, width: CNN(width, 10, f), CLASSES,
        {"lr": 0.01, "width": 4, "optimiser": "Adam", "activation": "relu"}, batch=32, sizes=False,
    ),
}  # fmt: skip


class SettingError(ChainruleError, ValueError):
    """The studio was asked for something it has not."""


def chosen(table: dict[str, Any], name: Any, what: str) -> Any:
    """The entry of a table of choices.

    Raises:
        SettingError: it has none of that name.
    """
    if not isinstance(name, str) or name not in table:
        raise SettingError(f"{what} is one of {', '.join(table)}, got {name!r}")
    return table[name]
