"""`Probe`: one row a layer, in the order they first ran."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.train import Probe


class Twice(nn.Module):
    def __init__(self) -> None:
        self.fc1, self.fc2, self.act = nn.Linear(3, 4), nn.Linear(4, 4), nn.ReLU()

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        self.first = self.act(self.fc1(x))
        self.second = self.act(self.fc2(self.first))
        return self.second


def test_a_layer_that_runs_twice_has_one_row_of_both_outputs() -> None:
    cr.manual_seed(0)
    model = Twice()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with Probe(model) as probe:
        (model(cr.randn(5, 3)) ** 2).sum().backward()
        optimizer.step()
    assert [row["name"] for row in probe.rows] == ["fc1", "act", "fc2"]
    row = probe.rows[1]
    outputs = np.concatenate([model.first.numpy(), model.second.numpy()], axis=None)
    assert row["mean"] == pytest.approx(outputs.mean()) and row["zeros"] == np.mean(outputs == 0)
    gradients = np.concatenate([model.first.grad.numpy(), model.second.grad.numpy()], axis=None)
    assert row["grad"] == pytest.approx(np.sqrt(np.mean(gradients**2)))
    assert probe.rows[0]["update_ratio"] > 0 and "update_ratio" not in row
