"""What is random in nn: dropout and noise, seeded, with the right frequencies, and off in evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dropout_zeroes_a_share_p_and_scales_the_rest(p: float, dtype: Any) -> None:
    cr.manual_seed(1)
    x = cr.tensor(np.ones((200, 100), dtype), requires_grad=True)
    y = F.dropout(x, p)
    y.sum().backward()
    share = (y.numpy() == 0).mean()
    assert abs(share - p) < 5 * np.sqrt(p * (1 - p) / x.size)
    np.testing.assert_allclose(np.unique(y.numpy()), [0, 1 / (1 - p)], rtol=1e-6)
    np.testing.assert_array_equal(x.grad.numpy(), y.numpy())


def test_dropout_is_the_same_for_the_same_seed_and_differs_from_call_to_call() -> None:
    x, layer = cr.ones((10, 10)), nn.Dropout()
    cr.manual_seed(5)
    first, second = layer(x).numpy(), layer(x).numpy()
    cr.manual_seed(5)
    np.testing.assert_array_equal(layer(x).numpy(), first)
    assert (first != second).any()


@pytest.mark.parametrize("name", ["Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout"])
def test_dropout_layers_are_the_identity_in_evaluation(name: str) -> None:
    shape = {"Dropout2d": (2, 3, 4, 4), "Dropout3d": (2, 3, 4, 4, 4)}.get(name, (2, 3, 4))
    layer, x = getattr(nn, name)(0.7), cr.randn(*shape)
    assert layer.eval()(x) is x
    assert (layer.train()(x).numpy() != x.numpy()).any()


def test_channel_dropout_drops_whole_channels() -> None:
    for function, shape in ((F.dropout1d, (8, 9, 5)), (F.dropout2d, (8, 9, 5, 4)), (F.dropout3d, (8, 9, 5, 4, 3))):
        y = function(cr.ones(shape), 0.5).numpy().reshape(8, 9, -1)
        assert (y == y[:, :, :1]).all() and len(np.unique(y)) == 2


def test_dropout_of_probability_1_gives_zeros_with_zero_gradient() -> None:
    x = cr.ones(4, dtype=np.float32)
    x.requires_grad_()
    y = F.dropout(x, 1.0)
    y.sum().backward()
    assert not y.numpy().any() and not x.grad.numpy().any()


def test_a_dropped_infinity_leaves_no_nan() -> None:
    x = cr.tensor(np.full(100, np.inf), requires_grad=True)
    y = F.dropout(x, 0.5)
    assert not np.isnan(y.numpy()).any()


def test_alpha_dropout_keeps_mean_and_variance() -> None:
    cr.manual_seed(2)
    y = F.alpha_dropout(cr.randn(400, 500), 0.2, training=True).numpy()
    assert abs(y.mean()) < 0.01 and abs(y.var() - 1) < 0.02


def test_random_leaky_relu_draws_slopes_within_bounds_in_training_only() -> None:
    x = -cr.ones(1000)
    y = -F.rrelu(x, 0.2, 0.4, training=True).numpy()
    assert y.min() >= 0.2 and y.max() <= 0.4 and y.std() > 0.05
    np.testing.assert_allclose(nn.RReLU(0.2, 0.4).eval()(x).numpy(), -0.3, rtol=1e-6)


def test_gumbel_softmax_samples_with_the_softmax_probabilities() -> None:
    cr.manual_seed(3)
    logits = cr.tensor(np.log([0.2, 0.5, 0.3]) * np.ones((4000, 1)), requires_grad=True)
    hard = F.gumbel_softmax(logits, hard=True)
    assert set(np.unique(hard.numpy().round(12))) == {0.0, 1.0}
    np.testing.assert_allclose(hard.numpy().mean(axis=0), [0.2, 0.5, 0.3], atol=0.03)
    soft = F.gumbel_softmax(logits, tau=0.5)
    np.testing.assert_allclose(soft.numpy().sum(axis=1), 1, rtol=1e-6)
    (hard * cr.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert np.isfinite(logits.grad.numpy()).all() and logits.grad.numpy().any()


def test_dropout_continues_exactly_where_a_saved_stream_stopped() -> None:
    x = cr.ones(50)
    cr.manual_seed(7)
    F.dropout(x)
    saved = cr.random.default_generator.state.numpy().copy()
    following = F.dropout(x).numpy()
    cr.random.default_generator.state.assign(saved)
    np.testing.assert_array_equal(F.dropout(x).numpy(), following)
