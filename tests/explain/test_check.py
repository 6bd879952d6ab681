"""`Explanation.check` finds every right derivative right and wrong ones wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.primitive import table
from chainrule.core.tensor import Tensor
from chainrule.explain.whole import MANY, Doubled, grouped
from chainrule.nn import functional as F
from chainrule.primitives.families import pointwise
from tests.explain.samples import CASES, network, primitive_loss
from tests.primitives.samples import case_id


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_every_step_of_every_primitive_agrees_with_finite_differences(case: tuple[str, bool]) -> None:
    leaves, loss = primitive_loss(*case)
    check = cr.explain(loss, wrt=leaves).check()
    assert check.ok, check
    assert check.largest_error < 1e-7
    assert check.skipped == 0
    assert len(check.products) >= len(leaves)


def test_every_step_of_a_network_in_float32_agrees() -> None:
    _, loss = network()
    e = cr.explain(loss)
    check = e.check()
    assert check.ok, check
    assert {c.primitive for c in check.products} >= {"tanh", "add"}
    assert check.largest_error < 1e-7
    assert 0 < check.largest_rounding < 1e-5
    assert 0 < check.whole < 1e-5


def test_a_wrong_derivative_is_found_and_named() -> None:
    wrong = pointwise("wrong_square", np.square, partials=lambda _y, x: 3 * x)
    try:
        x = cr.tensor([0.5, -2.0], requires_grad=True)
        check = cr.explain(cr.sum(wrong(x) * 2), wrt=x).check()
    finally:
        del table["wrong_square"]
    assert not check.ok
    assert check.worst is not None and check.worst.primitive == "wrong_square"
    assert check.largest_error == pytest.approx(1 / 3, rel=1e-6)
    assert "NOT ALL AGREE" in str(check)


def test_a_wrong_derivative_of_a_large_operand_is_found() -> None:
    right = table["softmax"].vjps
    try:
        table["softmax"].vjps = (lambda g, y, _x, axis: y * g,)
        x = Tensor(np.random.default_rng(0).standard_normal((30, 7)), requires_grad=True)
        check = cr.explain(cr.sum(table["softmax"](x, axis=1) ** 2), wrt=x).check()
    finally:
        table["softmax"].vjps = right
    assert not check.ok
    assert check.worst is not None and check.worst.primitive == "softmax"


def test_at_a_kink_any_slope_between_the_sides_is_right() -> None:
    x = cr.tensor([0.0, 1.0, -1.0], requires_grad=True)
    loss = cr.sum(table["relu"](x)) + cr.max(cr.abs(x)) + cr.sum(cr.maximum(x, cr.tensor([0.0, 0.0, -1.0])))
    check = cr.explain(loss, wrt=x).check()
    assert check.ok, check
    assert sum(c.kinks for c in check.products) > 0
    assert "at a kink" in str(check)


def test_at_a_kink_a_slope_outside_is_wrong() -> None:
    steep = pointwise("steep_relu", lambda x: np.maximum(x, 0), partials=lambda _y, x: cr.where(x >= 0, x * 0 + 2, 0.0))
    try:
        x = cr.tensor([0.0], requires_grad=True)
        assert not cr.explain(cr.sum(steep(x)), wrt=x).check().ok
    finally:
        del table["steep_relu"]


def test_numbers_that_are_not_finite_are_left_out_and_counted() -> None:
    x = cr.tensor([0.0, 1.0], requires_grad=True)
    check = cr.explain(cr.sum(cr.log(x) * 2), wrt=x).check()
    assert check.skipped > 0
    assert "not checked" in str(check)


def test_scores_masked_with_infinity_are_checked_like_others() -> None:
    q, k, v = (Tensor(np.random.default_rng(i).standard_normal((2, 6, 4)), requires_grad=True) for i in range(3))
    check = cr.explain(cr.sum(F.scaled_dot_product_attention(q, k, v, is_causal=True) ** 2)).check()
    assert check.ok, check
    assert check.skipped == 0
    right = table["softmax"].vjps
    try:
        table["softmax"].vjps = (lambda g, y, _x, axis: y * g,)
        check = cr.explain(cr.sum(F.scaled_dot_product_attention(q, k, v, is_causal=True) ** 2)).check()
    finally:
        table["softmax"].vjps = right
    assert check.worst is not None and check.worst.primitive == "softmax" and not check.ok


def test_a_unit_that_rounding_puts_on_the_other_side_of_a_kink_is_counted_and_no_error() -> None:
    x = cr.tensor([2.0**24, 3.0], requires_grad=True)  # in float32, 2²⁴ + 1 is 2²⁴
    loss = cr.sum(table["relu"](x + 1 - 2.0**24)) + cr.sum(x * 0.5)
    check = cr.explain(loss, wrt=x).check()
    assert check.sides == 1 and "other side" in str(check)
    assert check.whole < 1e-6 and check.whole_rounding < 1e-6
    assert check.ok, check


def test_the_whole_chain_is_compared_with_the_gradient_that_was_handed_out() -> None:
    _, loss = network()
    e = cr.explain(loss)
    target = next(v for v in e.targets if len(v.shape) == 2)
    target.gradient = target.gradient * 1.01
    check = e.check()
    assert not check.ok and check.whole_rounding == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
def test_checking_leaves_the_graph_as_it_was(layer: Any) -> None:
    cr.manual_seed(0)
    recurrent = layer(3, 4)
    loss = (recurrent(cr.randn(5, 2, 3))[0] ** 2).sum()
    before = cr.grad(loss, recurrent.weight_hh_l0, create_graph=False).numpy()
    assert cr.explain(loss).check().ok
    loss.backward()
    assert (recurrent.weight_hh_l0.grad.numpy() == before).all()


def test_a_number_that_is_read_twice_is_checked() -> None:
    x, b = cr.tensor(0.5, requires_grad=True), cr.tensor(0.0, requires_grad=True)
    z = x * (b + 1)
    check = cr.explain(cr.abs(z) - z * 2).check()
    assert check.ok, check


def test_where_every_step_crosses_kinks_the_loss_s_own_piece_is_taken() -> None:
    near = np.geomspace(1e-13, 1e-4, 400) * np.where(np.arange(400) % 2, 1, -1)  # on both sides, at every distance
    x = Tensor(near, requires_grad=True)
    y = Tensor(np.linspace(0.5, 1.5, 400), requires_grad=True)
    check = cr.explain(cr.sum(table["relu"](x) * y * 3.0), wrt=[x]).check()
    assert check.pieces > 0 and "its own piece" in str(check)
    assert check.whole < 1e-9 and check.ok, check


@pytest.mark.parametrize("wrong", [None, 0, 17, 39])
def test_of_many_tensors_moved_in_groups_one_wrong_gradient_is_seen(wrong: int | None) -> None:
    rng = np.random.default_rng(0)
    sizes = 10.0 ** -np.arange(0, 4, 0.1)  # gradients of very different sizes
    tensors = [Tensor(rng.standard_normal(3), requires_grad=True) for _ in sizes]
    loss = sum((cr.sum(cr.tanh(t)) * float(s) for t, s in zip(tensors, sizes, strict=True)), cr.tensor(0.0, "float64"))
    e = cr.explain(loss, wrt=tensors)
    doubled = Doubled(e.trace, set(e.targets))
    gradients = doubled.gradients()
    if wrong is not None:
        gradients[e.targets[wrong]] = gradients[e.targets[wrong]] * 1.01
    errors = [doubled.error(group, gradients) for group in grouped(e.targets)]
    assert (max(errors) > 1e-4) == (wrong is not None)
    assert wrong is not None or max(errors) < 1e-7
    assert len(tensors) > MANY and e.check().ok


def test_gradients_that_vanish_do_not_blur_the_others() -> None:
    x, weights = cr.tensor(0.5), [cr.tensor(0.2, requires_grad=True) for _ in range(40)]
    for w in weights:
        x = cr.tanh(x * w) * 0.9
    check = cr.explain((x + 1) ** 2).check()  # the gradients are about 1e-30
    assert check.ok, check
