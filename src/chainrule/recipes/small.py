"""The small networks of `chainrule studio`: one neuron, multilayer perceptrons, a convolutional network.

They stand among the recipes because their lines are shown where a gradient is explained.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .. import nn
from ..array import asarray, sin, stack
from ..core.tensor import Tensor

Activation = Callable[[], nn.Module]


class Neuron(nn.Module):
    """a = f(w x + b) with one input."""

    def __init__(self, f: Activation) -> None:
        self.w = nn.Parameter(asarray(-0.8))
        self.b = nn.Parameter(asarray(0.2))
        self.f = f()

    def forward(self, x: Any) -> Any:
        z = self.w * x + self.b
        a = self.f(z)
        return a  # noqa: RET504 (its name is shown)


class MLP(nn.Module):
    """Linear layers hidden1, hidden2, … with f between them, and a linear output."""

    def __init__(self, inputs: int, hidden: Sequence[int], outputs: int, f: Activation) -> None:
        self.depth = len(hidden)
        sizes = [inputs, *hidden]
        for i in range(self.depth):
            setattr(self, f"hidden{i + 1}", nn.Linear(sizes[i], sizes[i + 1]))
            setattr(self, f"f{i + 1}", f())
        self.output = nn.Linear(sizes[-1], outputs)

    def forward(self, x: Any) -> Any:
        a = x.reshape((len(x), -1))
        for i in range(self.depth):
            z = getattr(self, f"hidden{i + 1}")(a)
            a = getattr(self, f"f{i + 1}")(z)
        return self.output(a)


FEATURES: dict[str, Callable[[Any, Any], Any]] = {
    "x₁": lambda x1, _x2: x1,
    "x₂": lambda _x1, x2: x2,
    "x₁²": lambda x1, _x2: x1**2,
    "x₂²": lambda _x1, x2: x2**2,
    "x₁x₂": lambda x1, x2: x1 * x2,
    "sin 3x₁": lambda x1, _x2: sin(3 * x1),
    "sin 3x₂": lambda _x1, x2: sin(3 * x2),
}
PLAIN = ("x₁", "x₂")


class PointNetwork(MLP):
    """A multilayer perceptron that reads some `FEATURES` of a point."""

    def __init__(self, features: tuple[str, ...], hidden: list[int], f: Activation) -> None:
        super().__init__(len(features), hidden, 1, f)
        self.features = features

    def forward(self, x: Any) -> Any:
        return super().forward(x if self.features == PLAIN else featured(x, self.features))


def featured(x: Tensor, features: tuple[str, ...]) -> Tensor:
    """The chosen features of points (n, 2), as columns."""
    x1, x2 = x[:, 0], x[:, 1]
    return stack([FEATURES[name](x1, x2) for name in features], axis=1)


class CNN(nn.Module):
    """Two convolutions with pooling and a linear output, for images of 8×8 pixels."""

    def __init__(self, channels: int, outputs: int, f: Activation) -> None:
        self.conv1 = nn.Conv2d(1, channels, 3, padding=1)
        self.f1 = f()
        self.pool1 = nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(channels, 2 * channels, 3, padding=1)
        self.f2 = f()
        self.pool2 = nn.MaxPool2d(2)
        self.output = nn.Linear(8 * channels, outputs)

    def forward(self, x: Any) -> Any:
        x = self.pool1(self.f1(self.conv1(x)))
        x = self.pool2(self.f2(self.conv2(x)))
        return self.output(x.reshape((len(x), -1)))


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """½ (output − target)², the mean over all entries."""
    return ((output - target) ** 2).mean() / 2


def loss_of(model: nn.Module, x: Tensor, y: Tensor, criterion: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The loss of a model on inputs x with targets y."""
    output = model(x)
    return criterion(output, y)
