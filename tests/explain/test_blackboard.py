"""One entry's derivative as a sum of products of numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

import chainrule as cr
from tests.explain.samples import CASES, network, primitive_loss
from tests.primitives.samples import case_id


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_the_products_of_every_step_add_up_to_the_derivative(case: tuple[str, bool]) -> None:
    leaves, loss = primitive_loss(*case)
    for x in leaves:
        e = cr.explain(loss, wrt=x, at=tuple(n // 2 for n in x.shape))
        followed = [s for s in e.steps if s.scalars is not None]
        for step in followed:
            assert step.scalars is not None
            if step.name == "loss" or not step.terms:
                continue
            total = sum(t.product for t in step.scalars.terms) + step.scalars.rest[1]
            assert total == pytest.approx(step.scalars.value, rel=1e-9, abs=1e-9)
        if any(s.scalars and s.scalars.terms for s in followed):
            assert followed[-1].scalars is not None
            assert followed[-1].scalars.value == e.gradient.item()


def test_a_neuron_reads_as_in_the_textbook() -> None:
    x, w, b = (cr.tensor(v, requires_grad=True) for v in (1.5, -0.8, 0.2))
    z = w * x + b
    a = cr.tanh(z)
    loss = (a - 0.5) ** 2 / 2
    f = math.tanh(1.5 * -0.8 + 0.2)
    wanted = {"a": f - 0.5, "z": (f - 0.5) * (1 - f * f), "w": (f - 0.5) * (1 - f * f) * 1.5}
    steps = {s.name: s for s in cr.explain(loss, wrt=w).steps}
    for name, number in wanted.items():
        scalars = steps[name].scalars
        assert scalars is not None
        assert scalars.value == pytest.approx(number, rel=1e-5)
    (term,) = steps["z"].scalars.terms
    assert term.local == pytest.approx(1 - f * f, rel=1e-5)
    assert term.upstream == pytest.approx(wanted["a"], rel=1e-5)


def test_the_path_follows_the_largest_product_from_step_to_step() -> None:
    model, loss = network()
    e = cr.explain(loss, wrt=model.fc1.weight, at=(2, 1))
    steps = {s.name: s for s in e.steps}
    assert steps["fc1.weight"].scalars is not None and steps["fc1"].scalars is not None
    largest = steps["fc1.weight"].scalars.terms[0]
    assert abs(largest.product) == max(abs(t.product) for t in steps["fc1.weight"].scalars.terms)
    assert steps["fc1"].scalars.entry == largest.entry
    upstream = steps["fc1"].gradient[largest.entry]
    np.testing.assert_allclose(largest.upstream, upstream)
