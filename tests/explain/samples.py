"""What the tests of explanations explain: a small residual network, and every primitive of the table."""

from __future__ import annotations

from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn
from chainrule.core.tensor import Tensor
from chainrule.nn import functional as F
from tests.primitives.samples import differentiable_cases, sample

CASES = differentiable_cases()


class Residual(nn.Module):
    """A dense layer, a residual connection around a layer norm, and a classifier."""

    def __init__(self) -> None:
        self.fc1 = nn.Linear(4, 8)
        self.norm = nn.LayerNorm(8)
        self.fc2 = nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        h = cr.tanh(self.fc1(x))
        h = h + self.norm(h)
        return self.fc2(h)


def network() -> tuple[Residual, Tensor]:
    """The model and its loss on five samples."""
    cr.manual_seed(3)
    model = Residual()
    inputs, labels = cr.randn(5, 4), cr.randint(0, 3, (5,))
    return model, F.cross_entropy(model(inputs), labels)


def primitive_loss(name: str, complex_: bool) -> tuple[list[Tensor], Tensor]:
    """The leaves that a real loss depends on, and the loss: a primitive's outputs, weighted and added up."""
    s = sample(name, complex_=complex_)
    leaves = [Tensor(a, requires_grad=True) for a in s.points]
    rng = np.random.default_rng(5)
    parts = []
    for y in s.call(*leaves):
        if y.requires_grad:
            w = rng.uniform(0.5, 1.5, y.shape)
            part = y * Tensor(w * (1 - 0.5j) if y.dtype.kind == "c" else w)
            parts.append(cr.sum(cr.real(part) if part.dtype.kind == "c" else part))
    loss = sum(parts[1:], parts[0])
    used = cr.grad(loss, leaves, allow_unused=True)
    return [x for x, g in zip(leaves, used, strict=True) if g is not None], loss
