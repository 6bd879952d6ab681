"""The steps of an explanation are the backward pass: same products, same sums, same bits."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.errors import DTypeError, GradientError, IndexingError
from chainrule.core.tensor import Tensor
from chainrule.explain.formulas import stretched
from chainrule.optim import SGD
from tests.explain.samples import CASES, network, primitive_loss
from tests.primitives.samples import case_id


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_the_gradient_is_autodiff_s_to_the_last_bit_for_every_primitive(case: tuple[str, bool]) -> None:
    leaves, loss = primitive_loss(*case)
    for got, g in zip(cr.explain(loss, wrt=leaves).gradient, cr.grad(loss, leaves), strict=True):
        assert got.dtype == g.dtype
        assert got.numpy().tobytes() == g.numpy().tobytes()


def test_the_gradient_of_a_network_is_autodiff_s_to_the_last_bit() -> None:
    model, loss = network()
    parameters = list(model.parameters())
    explained = cr.explain(loss, wrt=parameters).gradient
    for got, g in zip(explained, cr.grad(loss, parameters), strict=True):
        assert got.numpy().tobytes() == g.numpy().tobytes()


def test_every_step_is_the_sum_of_its_products_and_every_product_has_a_share() -> None:
    _, loss = network()
    steps = cr.explain(loss).steps
    assert any(len(s.terms) > 1 for s in steps)
    for step in steps[1:]:
        total = sum(t.product.astype(np.float64) for t in step.terms)
        np.testing.assert_allclose(total, step.gradient, rtol=1e-5, atol=1e-9)
        assert sum(t.share for t in step.terms) == pytest.approx(1, abs=1e-6)


def test_steps_go_backwards_and_only_along_the_way_to_what_was_asked() -> None:
    model, loss = network()
    steps = cr.explain(loss, wrt=model.fc2.weight).steps
    assert steps[0].name == "loss"
    assert steps[-1].name == "fc2.weight"
    assert [s.node.index for s in steps] == sorted((s.node.index for s in steps), reverse=True)
    assert "fc1" not in {s.module for s in steps}
    assert {s.module for s in steps} == {"", "fc2"}


def test_a_step_names_the_user_s_line_and_the_module() -> None:
    model, loss = network()
    step = next(s for s in cr.explain(loss, wrt=model.fc1.weight).steps if s.module == "norm")
    assert step.location is not None
    assert step.location.text == "h = h + self.norm(h)"


def test_a_pointwise_term_holds_its_local_derivative_in_numbers() -> None:
    x = cr.tensor([0.5, -1.0], requires_grad=True)
    a = cr.tanh(x)
    (term,) = cr.explain(cr.sum(a * 3), wrt=x).steps[-1].terms
    np.testing.assert_array_equal(term.local, 1 - a.numpy() ** 2)
    np.testing.assert_array_equal(term.upstream * term.local, term.product)
    assert term.local_formula is not None and term.local_formula.text == "∂a/∂x = 1 − a²"


def test_several_outputs_are_explained() -> None:
    matrix = cr.tensor([[2.0, 1.0], [1.0, 3.0]], requires_grad=True)
    values, vectors = cr.linalg.eigh(matrix)
    loss = cr.sum(values**2) + cr.sum(cr.abs(vectors[0]))
    e = cr.explain(loss, wrt=matrix)
    np.testing.assert_array_equal(e.gradient.numpy(), cr.grad(loss, matrix).numpy())
    assert {"values", "vectors"} <= {s.name for s in e.steps}


def test_names_are_those_of_the_source() -> None:
    x, w, b = (cr.tensor(v, requires_grad=True) for v in (1.5, -0.8, 0.2))
    z = w * x + b
    a = cr.tanh(z)
    loss = (a - 0.5) ** 2 / 2
    texts = [s.formula.text for s in cr.explain(loss, wrt=[w, b]).steps if not s.passed_on]
    assert "∂L/∂z = ∂L/∂a · (1 − a²)" in texts
    assert "∂L/∂w = ∂L/∂z · x" in texts
    assert "∂L/∂b = ∂L/∂z" in texts


def test_names_of_locals_that_are_gone_come_from_the_source_and_repeat_with_numbers() -> None:
    def recurrent(w: Tensor) -> Tensor:
        h = cr.tensor(0.1)
        for _ in range(3):
            h = cr.tanh(w * h)
        return h

    w = cr.tensor(0.7, requires_grad=True)
    names = [s.name for s in cr.explain(recurrent(w), wrt=w).steps]
    assert "h1" in names and "h2" in names


def test_at_gives_one_entry() -> None:
    model, loss = network()
    e = cr.explain(loss, wrt=model.fc1.weight, at=(2, -1))
    assert e.at == (2, 3)
    assert e.gradient.item() == cr.grad(loss, model.fc1.weight)[2, 3].item()


def test_the_graph_stays_explained_after_an_optimiser_s_step() -> None:
    model, loss = network()
    e = cr.explain(loss, wrt="fc1.weight")
    before = e.gradient.numpy().copy()
    loss.backward()
    SGD(model.parameters(), lr=0.1).step()
    assert len(e.steps) > 5
    assert next(s.value for s in e.steps if s.primitive == "affine").shape == (5, 3)
    np.testing.assert_array_equal(e.gradient.numpy(), before)
    with pytest.raises(GradientError, match="released"):
        cr.explain(loss, wrt=model.fc1.weight)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m, loss: cr.explain(3.0), DTypeError, "the loss is a tensor"),
        (lambda m, loss: cr.explain(m.fc1.weight * 2), GradientError, "only a scalar"),
        (lambda m, loss: cr.explain(loss, wrt="fc1.wight"), GradientError, "did you mean fc1.weight"),
        (lambda m, loss: cr.explain(loss, wrt=m.fc1.weight, at=(8, 0)), IndexingError, "no entry"),
        (lambda m, loss: cr.explain(loss, wrt=m.fc1.weight, at=1), IndexingError, "no entry"),
        (lambda m, loss: cr.explain(loss, at=1), IndexingError, "one tensor"),
        (lambda m, loss: cr.explain(loss, wrt=[3]), DTypeError, "a tensor or a name"),
    ],
)
def test_what_cannot_be_explained_says_why(call: Any, error: type[Exception], message: str) -> None:
    model, loss = network()
    with pytest.raises(error, match=message):
        call(model, loss)


def test_the_document_is_plain_json_and_its_references_lead_somewhere() -> None:
    model, loss = network()
    d = json.loads(cr.explain(loss, wrt=model.fc1.weight).to_json())
    count = len(d["nodes"])
    for position, node in enumerate(d["nodes"]):
        assert all(i < position for i in node["inputs"])
        assert node["module"] is None or node["module"] < len(d["modules"])
        assert node["source"] is None or node["source"] < len(d["sources"])
    for edge in d["edges"]:
        assert d["nodes"][edge["consumer"]]["inputs"][edge["position"]] == edge["operand"]
    for step in d["steps"]:
        assert all(d["edges"][i]["operand"] == step["node"] for i in step["edges"])
        template, *names = step["formula"]
        assert d["templates"][template]["mathml"].startswith("<m")
        assert all(n < len(d["names"]) for n in names)
    assert d["nodes"][d["loss"]]["label"] == "loss"
    assert d["wrt"] == [next(i for i in range(count) if d["nodes"][i]["label"] == "fc1.weight")]


def test_second_derivatives_in_the_loss_are_explained() -> None:
    t = Tensor(np.linspace(0, 1, 5).reshape(5, 1), requires_grad=True)
    w = Tensor(np.array([[0.7, -0.4, 1.1]]), requires_grad=True)
    u = cr.sum(cr.sin(t @ w), axis=1, keepdims=True)
    slope = cr.grad(cr.sum(u), t)
    e = cr.explain(cr.mean((slope - 1) ** 2), wrt=w)
    assert e.check().ok
    assert "slope" in {s.name for s in e.steps}
    assert e.layers


def test_names_that_repeat_are_told_apart_even_if_they_end_in_a_digit() -> None:
    w1 = cr.tensor(0.5, requires_grad=True)
    h1 = w1 * 2
    for _ in range(2):
        h1 = cr.tanh(h1)
    names = [s.name for s in cr.explain(h1, wrt=w1).steps]
    assert len(set(names)) == len(names)
    assert "h1_2" in names


def test_the_module_is_the_function() -> None:
    import inspect

    import chainrule.explain

    assert cr.explain is chainrule.explain
    assert list(inspect.signature(cr.explain).parameters)[:2] == ["loss", "wrt"]


def test_parentheses_are_as_high_as_the_fraction_in_them() -> None:
    layer, x = nn.Linear(3, 2), cr.ones((4, 3))
    formula = cr.explain((layer(x) ** 2).sum(), layer.weight).steps[-1].formula
    assert r"\left(\frac{\partial L}{\partial v_{1}}\right)^{\top}" in formula.latex
    assert '<mo stretchy="true">(</mo>' in formula.mathml
    assert stretched(r"f(x) + \left(\frac{1}{y}\right)") == r"f(x) + \left(\frac{1}{y}\right)"
    assert stretched(r"(a (\frac{1}{b}) c)") == r"\left(a \left(\frac{1}{b}\right) c\right)"
