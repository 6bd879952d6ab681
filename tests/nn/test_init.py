"""Initial values: bounds, moments and structure follow from the formulas."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.errors import OperationError, ShapeError
from chainrule.nn import init


def parameter(*shape: int, dtype: Any = np.float32) -> nn.Parameter:
    cr.manual_seed(0)
    return nn.Parameter(cr.tensor(np.full(shape, 7.0), dtype))


def check_uniform(tensor: Any, low: float, high: float) -> None:
    values = tensor.numpy()
    assert values.min() >= low and values.max() <= high
    np.testing.assert_allclose(values.mean(), (low + high) / 2, atol=5 * (high - low) / math.sqrt(12 * values.size))
    np.testing.assert_allclose(values.var(), (high - low) ** 2 / 12, rtol=0.05)


def check_normal(tensor: Any, mean: float, std: float) -> None:
    values = tensor.numpy()
    np.testing.assert_allclose(values.mean(), mean, atol=5 * std / math.sqrt(values.size))
    np.testing.assert_allclose(values.std(), std, rtol=0.05)
    assert np.abs(values - mean).max() > 3 * std


def test_uniform_and_normal() -> None:
    check_uniform(init.uniform_(parameter(100, 100), -2, 5), -2, 5)
    check_normal(init.normal_(parameter(100, 100), 3, 0.5), 3, 0.5)


@pytest.mark.parametrize(("shape", "fan_in", "fan_out"), [((50, 200), 200, 50), ((20, 30, 3, 3), 270, 180)])
def test_the_fans_set_the_scale(shape: tuple[int, ...], fan_in: int, fan_out: int) -> None:
    bound = 2 * math.sqrt(6 / (fan_in + fan_out))
    check_uniform(init.xavier_uniform_(parameter(*shape), gain=2), -bound, bound)
    check_normal(init.xavier_normal_(parameter(*shape), gain=2), 0, 2 * math.sqrt(2 / (fan_in + fan_out)))
    bound = math.sqrt(2 / (1 + 0.25)) * math.sqrt(3 / fan_in)
    check_uniform(init.kaiming_uniform_(parameter(*shape), a=0.5), -bound, bound)
    check_normal(
        init.kaiming_normal_(parameter(*shape), mode="fan_out", nonlinearity="relu"), 0, math.sqrt(2 / fan_out)
    )


def test_truncated_normal_has_the_moments_of_the_truncated_distribution() -> None:
    values = init.trunc_normal_(parameter(300, 300), mean=1.0, std=2.0, a=-1.0, b=3.0).numpy()
    assert values.min() >= -1 and values.max() <= 3
    density = math.exp(-0.5) / math.sqrt(2 * math.pi)
    inside = math.erf(1 / math.sqrt(2))
    np.testing.assert_allclose(values.mean(), 1.0, atol=0.02)
    np.testing.assert_allclose(values.var(), 4 * (1 - 2 * density / inside), rtol=0.02)


def test_the_inverse_error_function_is_accurate() -> None:
    u = np.linspace(-0.99999, 0.99999, 2001)
    back = np.array([math.erf(z) for z in init._erfinv(u)])
    np.testing.assert_allclose(back, u, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("shape", [(5, 5), (3, 7), (7, 3), (4, 2, 3)])
def test_orthogonal_has_orthonormal_rows_or_columns(shape: tuple[int, ...]) -> None:
    w = init.orthogonal_(parameter(*shape, dtype=np.float64), gain=3).numpy().reshape(shape[0], -1) / 3
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-12)


def test_constants_and_structure() -> None:
    assert (init.zeros_(parameter(2, 3)).numpy() == 0).all() and (init.ones_(parameter(2, 3)).numpy() == 1).all()
    assert (init.constant_(parameter(2), 0.3).numpy() == np.float32(0.3)).all()
    np.testing.assert_array_equal(init.eye_(parameter(2, 3)).numpy(), np.eye(2, 3))
    kernel = init.dirac_(parameter(4, 2, 3), groups=2).numpy()
    assert kernel.sum() == 4 and all(kernel[i, i % 2, 1] == 1 for i in range(4))
    sparse = init.sparse_(parameter(10, 6), sparsity=0.25).numpy()
    assert ((sparse == 0).sum(axis=0) == 3).all()


def test_values_are_assigned_to_the_same_parameter_which_keeps_its_type_and_gradient_flag() -> None:
    p = parameter(3, 3, dtype=np.float64)
    assert init.kaiming_uniform_(p) is p and p.dtype == np.float64 and p.requires_grad and p.is_leaf
    (p * 2.0).sum().backward()
    assert p.grad is not None
    plain = cr.tensor(np.zeros((2, 2)), requires_grad=True)
    assert init.ones_(plain) is plain and plain.requires_grad and plain.is_leaf and plain.numpy().all()


def test_a_generator_of_its_own_leaves_the_default_stream_alone() -> None:
    cr.manual_seed(4)
    expected = cr.rand(3).numpy()
    cr.manual_seed(4)
    init.normal_(nn.Parameter(cr.zeros((3, 3))), generator=cr.Generator(1))
    np.testing.assert_array_equal(cr.rand(3).numpy(), expected)


def test_empty_tensors_stay_empty() -> None:
    for function in (init.kaiming_uniform_, init.xavier_normal_, init.orthogonal_, init.zeros_):
        assert function(parameter(0, 3)).shape == (0, 3)


@pytest.mark.parametrize(
    ("attempt", "kind"),
    [
        (lambda: init.xavier_uniform_(parameter(3)), ShapeError),
        (lambda: init.orthogonal_(parameter(3)), ShapeError),
        (lambda: init.eye_(parameter(3)), ShapeError),
        (lambda: init.dirac_(parameter(3, 3)), ShapeError),
        (lambda: init.dirac_(parameter(3, 3, 3), groups=2), ShapeError),
        (lambda: init.sparse_(parameter(3), 0.1), ShapeError),
        (lambda: init.kaiming_normal_(parameter(3, 3), mode="fan"), OperationError),
        (lambda: init.calculate_gain("swish"), OperationError),
        (lambda: init.calculate_gain("leaky_relu", "a"), OperationError),  # type: ignore[arg-type]
    ],
)
def test_impossible_requests_are_refused(attempt: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        attempt()


def test_skipped_initialisers_cost_nothing_and_draw_nothing():
    cr.manual_seed(3)
    with nn.init.skipped():
        layers = [nn.Linear(4, 3), nn.Embedding(5, 2), nn.LayerNorm(4), nn.Conv2d(1, 2, 3)]
    assert all((p.numpy() == 0).all() for layer in layers for p in layer.parameters())
    after = nn.Linear(4, 3).weight.numpy()
    cr.manual_seed(3)
    np.testing.assert_array_equal(nn.Linear(4, 3).weight.numpy(), after)
    assert np.abs(after).max() > 0
