"""Reductions and scans: NumPy's values for every shape, axis and type; derivatives where they are delicate."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import chainrule as cr
from tests.array.strategies import DTYPES, REAL, arrays, axes_of

ACCUMULATED = ["sum", "prod"]


def _check(ours: cr.Tensor, expected: Any, rtol: float = 1e-5) -> None:
    expected = np.asarray(expected)
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours.numpy(), expected, rtol=rtol, atol=1e-5)


@given(x=arrays(DTYPES), data=st.data(), keepdims=st.booleans(), name=st.sampled_from(ACCUMULATED))
def test_sum_and_product_are_numpys_and_integers_accumulate_in_64_bits(
    x: np.ndarray, data: Any, keepdims: bool, name: str
) -> None:
    axis = data.draw(axes_of(x.ndim))
    found = getattr(cr, name)(cr.tensor(x), axis=axis, keepdims=keepdims)
    wide = {"b": np.int64, "i": np.int64, "u": np.uint64}.get(x.dtype.kind, x.dtype)
    _check(found, getattr(np, name)(x.astype(wide), axis=axis, keepdims=keepdims))
    assert found.dtype == wide


@given(x=arrays([d for d in REAL if d.kind == "f"] + DTYPES[-2:]), data=st.data(), keepdims=st.booleans())
def test_mean_and_variance_are_numpys_and_keep_the_precision(x: np.ndarray, data: Any, keepdims: bool) -> None:
    axis = data.draw(axes_of(x.ndim))
    correction = data.draw(st.sampled_from([0, 1, 0.5]))
    t = cr.tensor(x)
    mean = cr.mean(t, axis=axis, keepdims=keepdims)
    assert mean.dtype == x.dtype
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # NumPy warns of means of nothing
        _check(mean, np.mean(x, axis=axis, keepdims=keepdims))
        for name in ("var", "std"):
            found = getattr(cr, name)(t, axis=axis, correction=correction, keepdims=keepdims)
            expected = getattr(np, name)(x, axis=axis, ddof=correction, keepdims=keepdims)
            assert found.dtype == expected.dtype
            _check(found, expected, 1e-4)


@given(x=arrays(REAL), data=st.data(), keepdims=st.booleans(), name=st.sampled_from(["max", "min"]))
def test_extrema_are_numpys(x: np.ndarray, data: Any, keepdims: bool, name: str) -> None:
    axis = data.draw(axes_of(x.ndim))
    reduced = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    assume(all(x.shape[a] for a in reduced))
    _check(getattr(cr, name)(cr.tensor(x), axis=axis, keepdims=keepdims), getattr(np, name)(x, axis, keepdims=keepdims))


@given(x=arrays(REAL), data=st.data(), keepdims=st.booleans(), name=st.sampled_from(["argmax", "argmin"]))
def test_positions_of_extrema_are_numpys(x: np.ndarray, data: Any, keepdims: bool, name: str) -> None:
    axis = data.draw(st.one_of(st.none(), st.integers(-x.ndim, x.ndim - 1)) if x.ndim else st.none())
    assume(x.size if axis is None else x.shape[axis])
    found = getattr(cr, name)(cr.tensor(x), axis=axis, keepdims=keepdims)
    assert found.dtype == cr.int64
    _check(found, getattr(np, name)(x, axis, keepdims=keepdims))


@given(x=arrays(DTYPES), data=st.data(), keepdims=st.booleans())
def test_tests_over_axes_are_numpys(x: np.ndarray, data: Any, keepdims: bool) -> None:
    axis = data.draw(axes_of(x.ndim))
    t = cr.tensor(x)
    _check(cr.all(t, axis=axis, keepdims=keepdims), np.all(x, axis=axis, keepdims=keepdims))
    _check(cr.any(t, axis=axis, keepdims=keepdims), np.any(x, axis=axis, keepdims=keepdims))
    _check(cr.count_nonzero(t, axis=axis, keepdims=keepdims), np.count_nonzero(x, axis=axis, keepdims=keepdims))


@given(x=arrays(DTYPES), data=st.data(), initial=st.booleans())
def test_running_sums_and_products_are_numpys(x: np.ndarray, data: Any, initial: bool) -> None:
    assume(x.ndim)
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    wide = x.astype({"b": np.int64, "i": np.int64, "u": np.uint64}.get(x.dtype.kind, x.dtype))
    for name in ("cumulative_sum", "cumulative_prod"):
        found = getattr(cr, name)(cr.tensor(x), axis=axis, include_initial=initial)
        _check(found, getattr(np, name)(wide, axis=axis, include_initial=initial), 1e-4)


# Products: the derivative must not divide by an element.

ZEROS = [
    np.array([2.0, 3.0, 5.0]),
    np.array([2.0, 0.0, 5.0]),
    np.array([0.0, 3.0, 0.0]),
    np.zeros(3),
    np.array([4.0]),
    np.array([[1.0, 0.0, 2.0], [3.0, 4.0, 0.0]]),
]


@pytest.mark.parametrize("x", ZEROS, ids=str)
def test_product_has_both_derivatives_where_elements_are_zero(x: np.ndarray) -> None:
    cr.check_grad(cr.prod, x, order=2, rtol=1e-4)
    cr.check_grad(lambda t: cr.prod(t, axis=-1, keepdims=True), x, order=2, rtol=1e-4)


@pytest.mark.parametrize("x", ZEROS, ids=str)
def test_running_product_has_both_derivatives_where_elements_are_zero(x: np.ndarray) -> None:
    cr.check_grad(lambda t: cr.cumulative_prod(t, axis=-1), x, order=2, rtol=1e-4)


def test_product_of_complex_numbers_has_both_derivatives() -> None:
    z = np.array([1 + 2j, 0, 3 - 1j])
    cr.check_grad(cr.prod, z, order=2, rtol=1e-4)
    cr.check_grad(cr.cumulative_prod, z, order=2, rtol=1e-4)


@given(n=st.integers(0, 40))
def test_gradient_of_a_running_product_is_right_for_every_length(n: int) -> None:
    x = np.where(np.arange(n) % 5 == 3, 0.0, 1 + np.arange(n) / 10)
    t = cr.tensor(x, requires_grad=True)
    g = cr.grad(cr.sum(cr.cumulative_prod(t)), t)
    expected = [sum(np.prod(np.delete(x[: i + 1], k)) for i in range(k, n)) for k in range(n)]
    np.testing.assert_allclose(g.numpy(), np.array(expected, dtype=float), rtol=1e-12)


def test_ties_share_the_gradient_of_an_extremum() -> None:
    x = cr.tensor([[1.0, 3.0, 3.0], [2.0, 2.0, 2.0]], dtype=cr.float64, requires_grad=True)
    np.testing.assert_array_equal(cr.grad(cr.sum(x.max(axis=1)), x).numpy(), [[0, 0.5, 0.5], [1 / 3] * 3])
    np.testing.assert_array_equal(cr.grad(x.min(), x).numpy(), [[1, 0, 0], [0, 0, 0]])


def test_the_gradient_of_a_maximum_goes_to_nan_where_there_is_one() -> None:
    x = cr.tensor([1.0, np.nan, 3.0], requires_grad=True)
    np.testing.assert_array_equal(cr.grad(x.max(), x).numpy(), [0, 1, 0])


def test_standard_deviation_of_equal_elements_has_gradient_zero() -> None:
    x = cr.tensor([2.0, 2.0, 2.0], requires_grad=True)
    y = x.std()
    assert y.item() == 0
    np.testing.assert_array_equal(cr.grad(y, x).numpy(), [0, 0, 0])
    np.testing.assert_array_equal(cr.grad(x.var(), x).numpy(), [0, 0, 0])


@pytest.mark.parametrize("name", ["mean", "var", "std", "logsumexp", "max", "min", "sum"])
@pytest.mark.parametrize("axis", [None, 0, (0, 2)])
def test_reductions_have_both_derivatives(name: str, axis: Any) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 2))
    cr.check_grad(lambda t: getattr(cr, name)(t, axis=axis), x, order=2, rtol=1e-4)


def test_variance_of_complex_numbers_is_real_with_both_derivatives() -> None:
    rng = np.random.default_rng(1)
    z = rng.normal(size=(2, 3)) + 1j * rng.normal(size=(2, 3))
    assert cr.var(cr.tensor(z)).dtype == cr.float64
    cr.check_grad(lambda t: cr.var(t, axis=1, correction=1), z, order=2, rtol=1e-4)


def test_logsumexp_neither_overflows_nor_fails_on_infinities() -> None:
    inf = np.inf
    x = cr.tensor([[1e4, 1e4], [-inf, 0.0], [-inf, -inf], [inf, 1.0]], dtype=cr.float64, requires_grad=True)
    y = cr.logsumexp(x, axis=1)
    np.testing.assert_allclose(y.numpy(), [1e4 + np.log(2), 0, -inf, inf])
    g = cr.grad(cr.sum(y), x).numpy()
    np.testing.assert_allclose(g[:3], [[0.5, 0.5], [0, 1], [0, 0]])
    assert cr.logsumexp(cr.zeros((0,))).item() == -inf


@pytest.mark.parametrize(
    "name", ["sum", "prod", "mean", "var", "std", "logsumexp", "cumulative_sum", "cumulative_prod"]
)
def test_gradients_of_empty_tensors_are_empty(name: str) -> None:
    x = cr.zeros((0,), requires_grad=True)
    assert cr.grad(cr.sum(getattr(cr, name)(x)), x).shape == (0,)


@pytest.mark.parametrize("name", ["sum", "prod", "mean", "max", "min", "logsumexp"])
def test_the_reduction_of_a_number_is_the_number(name: str) -> None:
    x = cr.tensor(3.0, requires_grad=True)
    y = getattr(cr, name)(x)
    assert y.item() == 3.0
    assert cr.grad(y, x).item() == 1.0


@pytest.mark.parametrize("name", ["max", "min", "argmax", "argmin"])
def test_there_is_no_extremum_of_nothing(name: str) -> None:
    with pytest.raises(cr.ShapeError, match=r"empty along axis|no extremum"):
        getattr(cr, name)(cr.zeros((0, 3)), axis=0)
