"""What happens to graphs after an optimiser's step."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.autodiff import release_graphs
from chainrule.core.node import collect
from chainrule.core.tensor import Tensor, Variable
from chainrule.primitives import pointwise as p
from chainrule.primitives import reduce, table


def total(x: Tensor) -> Tensor:
    return reduce.sum(x, axis=tuple(range(x.ndim)), keepdims=False)


def variable(*values: float) -> Variable:
    return Variable(np.array(values), requires_grad=True)


def step(*variables: Variable) -> None:
    """What an optimiser does in `step`."""
    release_graphs(variables)
    for v in variables:
        v.assign(v.numpy() - 0.1 * v.grad.numpy())


def test_activations_go_although_the_loss_is_kept() -> None:
    w = variable(1.0, 2.0)
    h = p.tanh(w * 2.0)
    activation = weakref.ref(h._value)
    loss = total(h * h)
    nodes = [weakref.ref(n) for n in collect([loss._node]) if n.inputs]
    loss.backward()
    del h
    assert activation() is not None
    step(w)
    assert activation() is None
    assert [r() for r in nodes if r() is not None] == [loss._node]
    assert loss.item() > 0  # the value stays


def test_backward_after_the_step_says_what_happened_and_where() -> None:
    w = variable(1.0)
    loss = total(w * w)
    loss.backward()
    step(w)
    with pytest.raises(
        cr.GradientError,
        match=r"graph was released when the weights .* changed, at .*test_release\.py:\d+: .*\n.*test_release\.py",
    ) as caught:
        loss.backward()
    assert "backward(retain_graph=True)" in str(caught.value)
    with pytest.raises(cr.GradientError, match="released"):
        cr.grad(total(loss * 2.0), w, allow_unused=True)


def test_retain_graph_keeps_it() -> None:
    w = variable(3.0)
    loss = total(w * w)
    loss.backward(retain_graph=True)
    step(w)
    loss.backward()
    assert w.grad.tolist() == [12.0]  # of the old value, twice


def test_graphs_of_other_losses_are_not_touched() -> None:
    w = variable(3.0)
    kept = total(w * w)
    loss = total(w * 2.0)
    loss.backward()
    step(w)
    kept.backward()
    assert w.grad.tolist() == [8.0]


def test_a_loss_that_is_gone_is_no_trouble() -> None:
    w, v = variable(1.0), variable(2.0)

    def closure() -> float:
        loss = total(w * v)
        loss.backward()
        return loss.item()

    closure()
    step(w, v)
    step(w, v)  # nothing to release the second time


def test_values_taken_from_the_graph_before_live_on() -> None:
    w = variable(1.0, 2.0)
    h = w * 2.0
    loss = total(h * h)
    loss.backward()
    step(w)
    assert h.tolist() == [2.0, 4.0]
    assert total(h * 3.0).item() == 18.0
    with pytest.raises(cr.GradientError, match="released"):
        total(h * 3.0).backward()


def test_graphs_of_several_outputs_are_released_too() -> None:
    a = Variable(np.array([[2.0, 0.5], [0.5, 1.0]]), requires_grad=True)
    w, v = table["eigh"](a)
    loss = total(w * w) + total(v[0] * v[0])
    loss.backward()
    nodes = [weakref.ref(n) for n in collect([loss._node]) if n.inputs]
    del w, v
    step(a)
    assert [r() for r in nodes if r() is not None] == [loss._node]
    with pytest.raises(cr.GradientError, match="released"):
        loss.backward()


def test_training_holds_one_graph_at_a_time() -> None:
    """Live nodes after each step do not grow, with losses kept in a list, and without the collector."""
    w = variable(1.0, 2.0)
    gc.collect()
    gc.disable()
    losses, counts = [], []
    try:
        for _ in range(5):
            w.grad = None
            loss = total(p.exp(w * 0.1))
            watched = [weakref.ref(n) for n in collect([loss._node])]
            loss.backward()
            losses.append(loss)
            step(w)
            counts.append(sum(r() is not None for r in watched))
    finally:
        gc.enable()
    assert counts == [1] * 5  # the loss itself
