"""A function given to `cr.compile` is explained by one eager run that leaves no trace in the state."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.core.errors import GradientError
from chainrule.core.tensor import Tensor
from chainrule.nn import functional as F


def training() -> tuple[Any, Any, Any, tuple[Tensor, Tensor]]:
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3))
    optimizer = optim.Adam(model.parameters(), lr=0.1)

    @cr.compile
    def step(x: Tensor, y: Tensor) -> Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return model, optimizer, step, (cr.randn(16, 4), cr.randint(0, 3, (16,)))


def state(model: Any, optimizer: Any) -> list[bytes]:
    found = [v.numpy().tobytes() for v in model.state_dict().values()]
    found += [b"" if p.grad is None else p.grad.numpy().tobytes() for p in model.parameters()]
    return [*found, cr.random.default_generator.state.numpy().tobytes()]


@pytest.mark.parametrize("calls", [0, 2])
def test_a_compiled_training_step_is_explained_without_training(calls: int) -> None:
    model, optimizer, step, batch = training()
    for _ in range(calls):
        step(*batch)
    before = state(model, optimizer)
    e = cr.explain(step, wrt=model[0].weight, args=batch)
    assert state(model, optimizer) == before
    assert e.check().ok
    assert "cross_entropy" in str(e)
    weight = model[0].weight.numpy().copy()
    loss = step(*batch)
    assert float(e.trace.loss.array()) == pytest.approx(loss.item(), rel=1e-6)
    assert not np.array_equal(model[0].weight.numpy(), weight)


def test_the_explained_gradient_is_the_one_that_the_step_would_use() -> None:
    model, _, step, batch = training()
    explained = cr.explain(step, wrt=model[3].weight, args=batch).gradient.numpy()
    step(*batch)
    np.testing.assert_allclose(model[3].weight.grad.numpy(), explained, rtol=1e-5, atol=1e-7)


def test_the_result_of_a_compiled_call_says_where_its_graph_is() -> None:
    model, _, step, batch = training()
    loss = step(*batch)
    assert "cr.compile()" in str(cr.explain(loss, wrt=model[0].weight).why())


def test_a_function_without_a_loss_is_refused() -> None:
    double = cr.compile(lambda x: x * 2)
    with pytest.raises(GradientError, match="returns no loss"):
        cr.explain(double, args=(cr.ones(3),))
