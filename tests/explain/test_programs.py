"""Explanations of what other parts of the library put into a graph: each is whole, prints, and is right."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import func, nn
from chainrule.core.tensor import Tensor
from chainrule.nn import functional as F

RNG = np.random.default_rng(0)
X = Tensor(RNG.standard_normal((3, 4)))


def weight() -> Tensor:
    return Tensor(np.random.default_rng(1).standard_normal((4, 4)), requires_grad=True)


def assigned(w: Tensor) -> Tensor:
    u = w * 1.0
    u[1:3] = u[2:4] * 2
    return cr.sum(u**2)


PROGRAMS: dict[str, Callable[[Tensor], Tensor]] = {
    "vmap": lambda w: cr.sum(func.vmap(lambda row: cr.sum(cr.tanh(row @ w) ** 2))(X)),
    "scan": lambda w: cr.sum(
        cr.scan(lambda h, row: (cr.tanh(h @ w + row), None), cr.zeros((4,), dtype=cr.float64), X)[0]
    ),
    "cond": lambda w: cr.cond(cr.sum(w) > 0, lambda: cr.sum(w * w), lambda: cr.sum(w**3)),
    "assignment": assigned,
    "sort": lambda w: cr.sum(cr.sort(w, axis=1)[:, 1:] * w[:, :3]),
    "einsum": lambda w: cr.sum(cr.einsum("ij,jk->ik", X, w) ** 2),
    "determinant": lambda w: cr.linalg.slogdet(w @ w.mT + 4)[1],
    "convolution by fft": lambda w: cr.sum(cr.abs(cr.fft.fft(w)) ** 2),
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_is_explained_and_right(name: str) -> None:
    w = weight()
    loss = PROGRAMS[name](w)
    e = cr.explain(loss, wrt=w)
    assert e.gradient.numpy().tobytes() == cr.grad(loss, w).numpy().tobytes()
    check = e.check()
    assert check.ok, check
    assert check.whole < 1e-6
    assert str(e) and e.text(steps=True) and e.to_latex() and e.why().text
    assert json.loads(e.to_json())["check"]["ok"]
    assert str(cr.explain(loss, wrt=w, at=(2, 1)))


def test_checkpointed_parts_are_opened_and_every_step_inside_is_compared() -> None:
    cr.manual_seed(5)
    w = weight()
    layer = nn.Linear(4, 4).double()

    def block(h: Any) -> Any:
        return cr.tanh(h @ w) + h @ w + F.dropout(layer(h), 0.5)

    def nested(h: Any) -> tuple[Any, Any]:
        return func.checkpoint(block, h), h @ w

    kept = func.checkpoint(block, X)
    a, b = func.checkpoint(nested, kept @ w)
    loss = cr.sum(a * b) + cr.sum(kept @ w)
    e = cr.explain(loss, wrt=[w, layer.weight])
    for found, wanted in zip(e.gradient, cr.grad(loss, [w, layer.weight]), strict=True):
        assert found.numpy().tobytes() == wanted.numpy().tobytes()
    assert {s.primitive for s in e.steps} >= {"tanh", "affine", "matmul"}
    assert "checkpoint" not in {s.primitive for s in e.steps}
    check = e.check()
    assert check.ok and not check.skipped and check.whole < 1e-6
    assert e.step(kept).gradient is not None  # tensors that the user holds are found in the opened graph
    assert any(x.title.endswith("Linear(in_features=4, out_features=4, bias=True)") for x in e.layers)
    assert e.gradient[0].numpy().tobytes() == cr.grad(loss, w).numpy().tobytes()  # and it is as it was


def test_nothing_to_add_up_is_explained_too() -> None:
    w, nothing = weight(), Tensor(np.zeros((0, 4)), requires_grad=True)
    e = cr.explain(cr.sum(cr.tanh(nothing @ w)), wrt=[nothing, w])
    assert e.gradient[0].shape == (0, 4)
    assert not e.gradient[1].numpy().any()
    assert e.check().ok
    assert str(e)


def test_the_gradient_of_the_loss_itself_can_be_given() -> None:
    w = weight()
    y = cr.tanh(X @ w)
    g = np.linspace(-1, 1, y.size).reshape(y.shape)
    e = cr.explain(y, wrt=w, gradient=g)
    assert e.gradient.numpy().tobytes() == cr.grad(y, w, Tensor(g)).numpy().tobytes()
    assert e.check().ok


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_graph_full_of_numbers_that_are_not_finite_prints_and_is_written_without_warnings(bad: float) -> None:
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.ReLU(), nn.Linear(6, 3))
    inputs = Tensor(np.full((5, 4), bad, np.float32))
    loss = F.cross_entropy(model(inputs), cr.zeros((5,), dtype=cr.int64))
    e = cr.explain(loss, wrt=model[0].weight)
    assert str(e) and e.text(steps=True) and json.loads(e.to_json())["nodes"]
    assert "already holds" in e.why().text
    assert e.why_size().text and e.why_zero().text and e.paths().text
    assert e.check().skipped
    assert str(cr.explain(loss, wrt=model[0].weight, at=(0, 0)))


def test_of_several_gradients_those_that_are_zero_are_named_with_what_silenced_them() -> None:
    cr.manual_seed(0)
    experts = nn.ModuleList([nn.Linear(3, 2) for _ in range(3)])
    x, chosen = cr.randn(4, 3), cr.tensor([[1.0, 0.0, 0.5]] * 4)
    both = cr.stack([expert(x) for expert in experts], axis=1) * chosen[:, :, None]
    answer = cr.explain((both**2).sum()).answers[-1]
    assert answer.question == "Why is the gradient zero?"
    assert "Of 6 gradients 2 are zero in every entry: experts.1.weight, experts.1.bias." in answer.text
    assert "the other factor, c1, at 0 for 33 % of the entries" in str(answer)
    assert "nothing through" not in str(cr.explain((both**2).sum()).paths())


def test_a_derivative_that_the_program_takes_is_one_layer_that_says_so() -> None:
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))
    x = cr.randn(5, 1, requires_grad=True)
    u = model(x)
    du = cr.grad(u.sum(), x)
    ddu = cr.grad(du.sum(), x)
    e = cr.explain((ddu**2).mean(), wrt=model[0].weight)
    layers = {layer.title: layer for layer in e.layers}
    (equation,) = layers["ddu = grad"].equations
    assert equation.formula.text == "cr.grad(du.sum(), x)" and "a derivative that the program took" in equation.meaning
    assert "ddu ** 2 (square)" in layers
    assert not any(name.text.startswith("du") for name in e.names.values())
    assert e.check().ok
    assert "cr.grad" in str(e) and e.to_latex()


def test_gathers_are_called_as_they_are_written_and_what_pulls_against_is_told() -> None:
    h = cr.tensor([[1.0], [2.0]], requires_grad=True)
    source, target = cr.tensor([0, 1, 1]), cr.tensor([1, 0, 0])
    state = h * 1.0
    loss = (3.0 * state[source] - state[target]).sum()
    titles = [layer.title for layer in cr.explain(loss, wrt=h).layers]
    assert {"state[source] (index)", "state[target] (index)"} <= set(titles)
    assert "state[target] at" in str(cr.explain(loss, wrt=h).paths())
    assert "which pulls against it" in str(cr.explain(loss, wrt=h).paths())
