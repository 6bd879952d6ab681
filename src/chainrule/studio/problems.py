"""What the studio can be set to: small problems with their data, networks, losses and choices."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import nn, optim
from ..core.tensor import Tensor
from ..nn import functional as F
from ..nn import init
from ..recipes.small import CNN, FEATURES, MLP, Neuron, PointNetwork, squared_error
from . import points
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


SPEEDS: dict[str, float | None] = {"10 steps a second": 10.0, "100 steps a second": 100.0, "as fast as it goes": None}

Criterion = Callable[[Tensor, Tensor], Tensor]
NUMBERS: dict[str, Criterion] = {"squared error": squared_error, "absolute error": F.l1_loss}
REGRESSION: dict[str, Criterion] = {**NUMBERS, "Huber": lambda output, target: F.huber_loss(output, target, delta=0.2)}
BINARY: dict[str, Criterion] = {"cross entropy": F.binary_cross_entropy_with_logits, "squared error": _logits_error}
CLASSES: dict[str, Criterion] = {"cross entropy": F.cross_entropy, "squared error": _class_error}


@dataclass(frozen=True)
class Problem:
    """One thing to learn.

    Attributes:
        group: under which heading the problem is offered.
        kind: "number" (one input, one target), "plane" (two inputs), "image".
        data: inputs and targets as arrays.
        network: makes the model from an activation, the number of hidden layers, their width, and the features read.
        losses: by name; the first one is the default.
        batch: samples a step; None takes all of them.
        noisy: the data with a chosen amount of noise, where there is one to choose.
        classes: whether the targets are classes, and no numbers.
        defaults: of the settings that differ from the studio's own.
    """

    title: str
    group: str
    kind: str
    data: Callable[[], tuple[np.ndarray, np.ndarray]]
    network: Callable[[Callable[[], nn.Module], int, int, tuple[str, ...]], nn.Module]
    losses: dict[str, Criterion]
    defaults: dict[str, Any]
    batch: int | None = None
    sizes: bool = True  # whether depth and width can be chosen
    noisy: Callable[[float], tuple[np.ndarray, np.ndarray]] | None = None
    classes: bool = True

    @property
    def tested(self) -> bool:
        """Whether a part of the data is held back to test with: where there is enough of them to draw batches."""
        return self.batch is not None


def _neuron() -> tuple[np.ndarray, np.ndarray]:
    return np.array([1.5], np.float32), np.array([0.5], np.float32)


def _xor() -> tuple[np.ndarray, np.ndarray]:
    x = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], np.float32)
    return x, np.array([[0], [1], [1], [0]], np.float32)


def _point_network(f: Callable[[], nn.Module], depth: int, width: int, features: tuple[str, ...]) -> nn.Module:
    return PointNetwork(features, [width] * depth, f)


def _classes(title: str, data: Callable[..., points.Points], noise: float, **defaults: Any) -> Problem:
    return Problem(
        title, "Two classes of points", "plane", data, _point_network, BINARY, {"noise": noise, **defaults}, batch=64,
        noisy=lambda noise: data(noise=noise),
    )  # fmt: skip


def _numbers(title: str, data: Callable[..., points.Points], noise: float, **defaults: Any) -> Problem:
    return Problem(
        title, "A number for every point", "plane", data, _point_network, REGRESSION, {"noise": noise, **defaults},
        batch=64, noisy=lambda noise: data(noise=noise), classes=False,
    )  # fmt: skip


PROBLEMS = {
    "neuron": Problem(
        "A single neuron", "One neuron", "number", _neuron, lambda f, _depth, _width, _features: Neuron(f), NUMBERS,
        {"lr": 0.5}, sizes=False, classes=False,
    ),
    "xor": Problem(
        "XOR, four points", "Two classes of points", "plane", _xor, _point_network, BINARY,
        {"lr": 0.5, "width": 3, "depth": 1},
    ),
    "moons": _classes("Two moons", points.two_moons, 0.12, lr=0.3, width=6, depth=2),
    "circle": _classes("Disc in a ring", points.circle, 0.1, lr=0.3),
    "quarters": _classes("XOR, four clouds", points.quarters, 0.05, lr=0.3),
    "clouds": _classes("Two clouds", points.clouds, 0.3, lr=0.1, depth=1, width=2),
    "spiral": _classes("Spiral", points.spiral, 0.03, lr=0.01, width=8, depth=2, optimiser="Adam",
                       features=list(FEATURES)),
    "slope": _numbers("Slope", points.slope, 0.1, lr=0.1, depth=1, width=2),
    "hills": _numbers("Hills and hollows", points.hills, 0.05, lr=0.02, width=8, depth=2, optimiser="Adam"),
    "digits": Problem(
        "Digits, MLP", "Images", "image", digits, lambda f, depth, width, _features: MLP(64, [width] * depth, 10, f),
        CLASSES, {"lr": 0.01, "width": 24, "depth": 1, "optimiser": "Adam"}, batch=32,
    ),
    "cnn": Problem(
        "Digits, CNN", "Images", "image", digits, lambda f, _depth, width, _features: CNN(width, 10, f), CLASSES,
        {"lr": 0.01, "width": 4, "optimiser": "Adam", "activation": "relu"}, batch=32, sizes=False,
    ),
}  # fmt: skip
