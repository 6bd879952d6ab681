"""Clipping of gradients by norm and by value."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule import optim
from chainrule.core.tensor import Variable


def with_gradients(*gradients: np.ndarray) -> list[Variable]:
    params = []
    for g in gradients:
        p = Variable(np.zeros_like(g), requires_grad=True)
        p.grad = cr.Tensor(g)
        params.append(p)
    return params


@given(st.lists(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=5), min_size=1, max_size=4), st.floats(0.01, 100))
def test_the_norm_after_clipping_is_at_most_the_bound(rows: list[list[float]], bound: float) -> None:
    params = with_gradients(*(np.array(row) for row in rows))
    joined = np.concatenate([p.grad.numpy() for p in params if p.grad is not None])
    before = optim.clip_grad_norm_(params, bound).item()
    after = np.concatenate([p.grad.numpy() for p in params if p.grad is not None])
    assert before == pytest.approx(np.linalg.norm(joined))
    assert np.linalg.norm(after) <= bound * (1 + 1e-12) or np.linalg.norm(after) == pytest.approx(before)
    if before <= bound - 1e-6:
        np.testing.assert_array_equal(after, joined)


@pytest.mark.parametrize("order", [1.0, 2.0, 3.0, math.inf])
def test_the_total_norm_is_that_of_one_vector(order: float) -> None:
    rng = np.random.default_rng(0)
    tensors = [cr.Tensor(rng.standard_normal(shape)) for shape in ((3, 4), (5,), ())]
    joined = np.concatenate([t.numpy().reshape(-1) for t in tensors])
    assert optim.get_total_norm(tensors, order).item() == pytest.approx(np.linalg.norm(joined, order))
    assert optim.get_total_norm(tensors[1], order).item() == pytest.approx(np.linalg.norm(tensors[1].numpy(), order))


def test_no_gradients_have_norm_zero() -> None:
    assert optim.clip_grad_norm_([], 1.0).item() == 0.0
    assert optim.clip_grad_norm_([Variable(np.ones(2), requires_grad=True)], 1.0).item() == 0.0


def test_a_generator_of_parameters_is_read_once() -> None:
    params = with_gradients(np.array([3.0, 4.0]))
    assert optim.clip_grad_norm_((p for p in params), 1.0).item() == 5.0
    assert params[0].grad is not None
    np.testing.assert_allclose(params[0].grad.numpy(), [0.6, 0.8], rtol=1e-6)


def test_clipping_keeps_the_type_and_the_old_gradient() -> None:
    (p,) = with_gradients(np.array([3.0, 4.0], np.float32))
    old = p.grad
    optim.clip_grad_norm_(p, 1.0)
    assert p.grad is not None and old is not None
    assert p.grad.dtype == np.float32
    np.testing.assert_array_equal(old.numpy(), [3.0, 4.0])


def test_values_are_limited_and_nan_stays() -> None:
    (p,) = with_gradients(np.array([-3.0, 0.5, np.nan, np.inf]))
    optim.clip_grad_value_([p], 1.0)
    assert p.grad is not None
    np.testing.assert_array_equal(p.grad.numpy(), [-1.0, 0.5, np.nan, 1.0])
