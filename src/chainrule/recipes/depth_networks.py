"""The networks of the recipe `depth`: equal layers one behind the other, with and without what makes depth work.

Each network returns its scores and its states, one tensor for each layer or time step: the
gradient of the loss by them is how much of it arrives at that depth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import nn
from ..array import arange, stack, where
from ..core.autodiff import grad
from ..nn import functional as F
from ..nn import init

CLASSES = 10
ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "sigmoid": F.sigmoid,
    "tanh": F.tanh,
    "relu": F.relu,
    "leaky relu": F.leaky_relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "identity": lambda x: x,
}


@dataclass(frozen=True)
class Variant:
    """One way to build the network.

    Attributes:
        activation: a key of `ACTIVATIONS`; for a recurrent network its cell.
        init: the rule that draws the weights between the layers, or between the time steps.
        norm: LayerNorm "before" the layer's map, "after" it, or "none".
        residual: whether the layer adds its result to its input.
    """

    activation: str
    init: str
    norm: str = "none"
    residual: bool = False

    def __str__(self) -> str:
        parts = [self.activation, self.init]
        if self.norm != "none":
            parts.append(f"norm {self.norm}")
        if self.residual:
            parts.append("residual")
        return ", ".join(parts)


GAINS = {"Xavier": 1.0, "He": math.sqrt(2.0), "large": 2.0 * math.sqrt(2.0)}


def initialise(weight: nn.Parameter, rule: str) -> None:
    """Normal weights: of deviation 0.01 ("small"), or gain / √fan-in (Glorot and Bengio 2010; He et al. 2015)."""
    init.normal_(weight, std=0.01 if rule == "small" else GAINS[rule] / math.sqrt(weight.shape[1]))


class Layer(nn.Module):
    """h ← f(W h + b), if asked for with a norm before or after, and added to h."""

    def __init__(self, variant: Variant, width: int) -> None:
        self.linear = nn.Linear(width, width)
        initialise(self.linear.weight, variant.init)
        assert self.linear.bias is not None
        init.zeros_(self.linear.bias)
        self.norm = nn.LayerNorm(width) if variant.norm != "none" else nn.Identity()
        self.variant, self.f = variant, ACTIVATIONS[variant.activation]

    def forward(self, h: Any) -> Any:
        z = self.linear(self.norm(h) if self.variant.norm == "before" else h)
        a = self.f(self.norm(z) if self.variant.norm == "after" else z)
        return h + a if self.variant.residual else a


class MLP(nn.Module):
    """784 pixels → a first map → `depth` equal layers → 10 scores."""

    def __init__(self, variant: Variant, width: int, depth: int) -> None:
        self.first = nn.Linear(28 * 28, width)
        self.layers = nn.ModuleList(Layer(variant, width) for _ in range(depth))
        self.last = nn.LayerNorm(width) if variant.norm == "before" else nn.Identity()
        self.output = nn.Linear(width, CLASSES)

    def forward(self, images: Any) -> tuple[Any, list[Any]]:
        h = self.first(images.reshape(len(images), -1))
        states = []
        for layer in self.layers:
            states.append(h)
            h = layer(h)
        return self.output(self.last(h)), states


def predicted_factor(model: MLP, states: list[Any]) -> float:
    """What a plain layer multiplies the gradient's size by: √(n E[W²] E[f′(z)²]), n its width, over all layers.

    The formula holds for weights that are independent of the gradient (He et al. 2015, section 2.2).
    """
    logs = 0.0
    for layer, h in zip(model.layers, states, strict=True):
        z = layer.linear(h).detach().requires_grad_()
        slope = grad(layer.f(z).sum(), z).numpy()
        weight = layer.linear.weight.numpy()
        logs += 0.5 * math.log(max(len(weight) * np.mean(weight**2) * np.mean(slope**2), 1e-300))
    return math.exp(logs / len(states))


class Block(nn.Module):
    """A transformer's block: attention, then a small MLP, each with the variant's norm and residual."""

    def __init__(self, variant: Variant, width: int) -> None:
        self.attention = nn.MultiheadAttention(width, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width))
        for linear in (self.mlp[0], self.mlp[2]):
            initialise(linear.weight, variant.init)
        self.norms = nn.ModuleList(nn.LayerNorm(width) if variant.norm != "none" else nn.Identity() for _ in range(2))
        self.variant = variant

    def forward(self, h: Any) -> Any:
        parts: tuple[Callable[[Any], Any], ...] = (self._attend, self.mlp)
        for part, norm in zip(parts, self.norms, strict=True):
            y = part(norm(h) if self.variant.norm == "before" else h)
            y = h + y if self.variant.residual else y
            h = norm(y) if self.variant.norm == "after" else y
        return h

    def _attend(self, h: Any) -> Any:
        return self.attention(h, h, h, need_weights=False)[0]


class Transformer(nn.Module):
    """7 strips of an image as tokens with learned positions → `depth` blocks → their mean → 10 scores."""

    def __init__(self, variant: Variant, width: int, depth: int) -> None:
        self.tokens = nn.Linear(4 * 28, width)
        self.positions = nn.Parameter(init.normal_(nn.Parameter([[0.0] * width] * 7), std=0.02))
        self.layers = nn.ModuleList(Block(variant, width) for _ in range(depth))
        self.last = nn.LayerNorm(width) if variant.norm == "before" else nn.Identity()
        self.output = nn.Linear(width, CLASSES)

    def forward(self, images: Any) -> tuple[Any, list[Any]]:
        h = self.tokens(images.reshape(len(images), 7, 4 * 28)) + self.positions
        states = []
        for layer in self.layers:
            states.append(h)
            h = layer(h)
        return self.output(self.last(h).mean(axis=1)), states


class Recurrent(nn.Module):
    """An image as `depth` time steps of some pixels each → a recurrent layer → 10 scores from its last output.

    Its states are what it reads at each step: the gradient by x_t is Wᵀ times that by the gates at t.
    """

    def __init__(self, variant: Variant, width: int, depth: int) -> None:
        self.steps, self.pixels = depth, 28 * 28 // depth
        cells: dict[str, Any] = {"tanh": nn.RNN, "LSTM": nn.LSTM, "GRU": nn.GRU}
        self.rnn = cells[variant.activation](self.pixels, width, batch_first=True)
        recurrent, bias = self.rnn.weight_hh_l0, self.rnn.bias_hh_l0
        if variant.init == "orthogonal":  # Saxe et al. 2014
            init.orthogonal_(recurrent)
        elif variant.init == "open forget gate":  # Jozefowicz et al. 2015: σ(4) = 0.98 of the cell is kept
            bias.assign(with_gate(bias, 1, width, 4.0))
        elif variant.init != "as in PyTorch":
            initialise(recurrent, variant.init)
        self.output = nn.Linear(width, CLASSES)

    def forward(self, images: Any) -> tuple[Any, list[Any]]:
        pixels = images.reshape(len(images), -1)
        steps = [pixels[:, t * self.pixels : (t + 1) * self.pixels] for t in range(self.steps)]
        steps = [x.detach().requires_grad_() for x in steps]
        outputs, _ = self.rnn(stack(steps, axis=1))
        return self.output(outputs[:, -1]), steps


def with_gate(bias: Any, gate: int, width: int, value: float) -> Any:
    """A bias of all gates with the part of one gate replaced."""
    index = arange(bias.shape[0])
    return where((index >= gate * width) & (index < (gate + 1) * width), value, bias)


MLP_VARIANTS = (
    Variant("sigmoid", "small"),
    Variant("sigmoid", "Xavier"),
    Variant("tanh", "small"),
    Variant("tanh", "Xavier"),
    Variant("identity", "Xavier"),
    Variant("relu", "Xavier"),
    Variant("relu", "He"),
    Variant("relu", "large"),
    Variant("leaky relu", "He"),
    Variant("gelu", "He"),
    Variant("silu", "He"),
    Variant("relu", "He", norm="after"),
    Variant("relu", "He", residual=True),
    Variant("relu", "He", norm="before", residual=True),
)
TRANSFORMER_VARIANTS = (
    Variant("gelu", "Xavier"),
    Variant("gelu", "Xavier", norm="before"),
    Variant("gelu", "Xavier", residual=True),
    Variant("gelu", "Xavier", norm="after", residual=True),
    Variant("gelu", "Xavier", norm="before", residual=True),
)
RECURRENT_VARIANTS = (
    Variant("tanh", "small"),
    Variant("tanh", "Xavier"),
    Variant("tanh", "large"),
    Variant("tanh", "orthogonal"),
    Variant("GRU", "as in PyTorch"),
    Variant("LSTM", "as in PyTorch"),
    Variant("LSTM", "open forget gate"),
)
NETWORKS = {
    "mlp": (MLP, MLP_VARIANTS),
    "transformer": (Transformer, TRANSFORMER_VARIANTS),
    "rnn": (Recurrent, RECURRENT_VARIANTS),
}
