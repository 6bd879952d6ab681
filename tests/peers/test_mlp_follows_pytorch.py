"""Networks trained side by side with PyTorch, from the same weights and batches, take the same path."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule import nn, optim

pytestmark = pytest.mark.peers
STEPS = 200


def classifier(library: Any, sizes: tuple[int, ...], activation: str) -> Any:
    """An MLP of chainrule or of PyTorch: the same code builds both."""
    layers: list[Any] = []
    for n_in, n_out in pairwise(sizes):
        layers += [library.nn.Linear(n_in, n_out), getattr(library.nn, activation)()]
    return library.nn.Sequential(*layers[:-1])


def blobs(features: int, classes: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Points about one centre per class, some of them on the wrong side."""
    rng = np.random.default_rng(5)
    labels = rng.integers(0, classes, count)
    centres = rng.standard_normal((classes, features))
    x = 0.5 * centres[labels] + rng.standard_normal((count, features))
    return x.astype(np.float32), labels.astype(np.int64)


@pytest.mark.parametrize(("sizes", "activation", "batch"), [((784, 128, 10), "ReLU", 64), ((4, 64, 64, 2), "Tanh", 32)])
@pytest.mark.parametrize(
    ("optimiser", "options"), [("SGD", {"lr": 0.05, "momentum": 0.9}), ("Adam", {"lr": 1e-3}), ("AdamW", {"lr": 1e-3})]
)
def test_losses_of_200_steps_agree(
    sizes: tuple[int, ...], activation: str, batch: int, optimiser: str, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    theirs = classifier(torch, sizes, activation)
    ours = classifier(cr, sizes, activation)
    ours.load_state_dict({name: cr.Tensor(value.numpy()) for name, value in theirs.state_dict().items()})
    a = getattr(optim, optimiser)(ours.parameters(), **options)
    b = getattr(torch.optim, optimiser)(theirs.parameters(), **options)
    x, labels = blobs(sizes[0], sizes[-1], 1024)
    rng = np.random.default_rng(1)
    mine, other = [], []
    for _ in range(STEPS):
        rows = rng.integers(0, len(x), batch)
        a.zero_grad()
        loss = nn.functional.cross_entropy(ours(cr.Tensor(x[rows])), cr.Tensor(labels[rows]))
        loss.backward()
        a.step()
        mine.append(loss.item())

        b.zero_grad()
        expected = torch.nn.functional.cross_entropy(theirs(torch.tensor(x[rows])), torch.tensor(labels[rows]))
        expected.backward()
        b.step()
        other.append(expected.item())
    assert other[-1] < other[0]
    np.testing.assert_allclose(mine, other, rtol=1e-5, atol=1e-7)
