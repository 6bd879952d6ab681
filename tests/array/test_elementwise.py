"""Elementwise functions: NumPy's values and types, the standard's special cases, derivatives at delicate points."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from tests.array.strategies import REAL, arrays

NAN, INF = math.nan, math.inf


def _names(text: str) -> list[str]:
    return text.split()


SAME = _names(
    "abs acos acosh asin asinh atan atanh ceil conj cos cosh exp exp2 expm1 floor isfinite isinf isnan log log10 log1p "
    "log2 negative positive real reciprocal round sign signbit sin sinh sqrt square tan tanh trunc"
)
COMPLEX = [n for n in SAME if n not in ("ceil", "floor", "trunc", "signbit", "exp2")]


@pytest.mark.parametrize("name", SAME)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_functions_of_one_real_number_are_numpys(name: str, dtype: Any) -> None:
    x = np.array([-INF, -2.5, -1.0, -0.5, -0.0, 0.0, 0.25, 1.0, 1.5, 7.0, INF, NAN], dtype)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(x)
    found = getattr(cr, name)(cr.tensor(x))
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("name", COMPLEX)
def test_functions_of_one_complex_number_are_numpys(name: str) -> None:
    x = np.array([0.5 + 1j, -1.2 - 0.3j, 2j, -1.5])
    found = getattr(cr, name)(cr.tensor(x))
    np.testing.assert_allclose(found.numpy(), getattr(np, name)(x), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "sin", "tanh", "reciprocal", "sigmoid", "erf"])
@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint8, np.bool_])
def test_integers_become_the_default_floating_type_where_a_function_needs_it(name: str, dtype: Any) -> None:
    x = np.array([0, 1], dtype)
    found = getattr(cr, name)(cr.tensor(x))
    assert found.dtype == cr.float32
    np.testing.assert_allclose(found.numpy(), getattr(cr, name)(cr.tensor(x.astype(np.float32))).numpy())


@pytest.mark.parametrize("name", ["ceil", "floor", "round", "trunc", "abs", "square", "sign", "positive"])
def test_integers_stay_integers_where_the_result_is_one(name: str) -> None:
    assert getattr(cr, name)(cr.tensor([-2, 3], dtype=cr.int16)).dtype == cr.int16


@given(x=arrays(REAL), low=st.integers(-3, 300), width=st.integers(-2, 5))
def test_clip_is_numpys_with_integer_bounds_of_any_size(x: np.ndarray, low: int, width: int) -> None:
    found = cr.clip(cr.tensor(x), low, low + width)
    if x.dtype.kind in "iu":
        limits = np.iinfo(x.dtype)
        bounds = (max(min(b, limits.max), limits.min) for b in (low, low + width))
    else:
        bounds = iter((low, low + width))
    assert found.dtype == x.dtype
    np.testing.assert_array_equal(found.numpy(), np.clip(x, *bounds))


def test_clip_treats_nan_and_missing_bounds_as_the_standard_says() -> None:
    x = cr.tensor([-1.0, 0.5, NAN])
    np.testing.assert_array_equal(cr.clip(x, 0.0, 0.25).numpy(), [0, 0.25, NAN])
    np.testing.assert_array_equal(cr.clip(x, NAN).numpy(), [NAN] * 3)
    np.testing.assert_array_equal(cr.clip(x, max=cr.tensor([NAN, 0.0, 0.0])).numpy(), [NAN, 0, NAN])
    np.testing.assert_array_equal(cr.clip(x, 3.0, 2.0).numpy(), [2, 2, NAN])
    y = cr.clip(x)
    y[0] = 9.0
    assert x.tolist()[0] == -1.0


def test_clip_passes_the_gradient_inside_and_on_the_ends() -> None:
    x = cr.tensor([-1.0, 0.0, 0.5, 1.0, 2.0], requires_grad=True)
    low = cr.tensor(0.0, requires_grad=True)
    gx, glow = cr.grad(cr.sum(cr.clip(x, low, 1.0)), (x, low))
    np.testing.assert_array_equal(gx.numpy(), [0, 1, 1, 1, 0])
    assert glow.item() == 1.0


def test_where_ignores_nan_in_the_branch_not_taken() -> None:
    x = cr.tensor([-1.0, 4.0], requires_grad=True)
    y = cr.where(x > 0, cr.sqrt(cr.where(x > 0, x, 1.0)), 0.0)
    np.testing.assert_array_equal(cr.grad(cr.sum(y), x).numpy(), [0, 0.25])
    a, b = cr.tensor([NAN, 1.0], requires_grad=True), cr.tensor([2.0, NAN], requires_grad=True)
    chosen = cr.where(cr.tensor([False, True]), a, b)
    np.testing.assert_array_equal(chosen.numpy(), [2, 1])
    ga, gb = cr.grad(cr.sum(chosen * INF), (a, b))
    np.testing.assert_array_equal(ga.numpy(), [0, INF])
    np.testing.assert_array_equal(gb.numpy(), [INF, 0])


@pytest.mark.parametrize(
    ("name", "point", "slope"),
    [("sqrt", 0.0, INF), ("abs", 0.0, 0.0), ("relu", 0.0, 0.0), ("sign", 2.0, 0.0), ("floor", 0.5, 0.0),
     ("round", 0.5, 0.0), ("log", 0.0, INF), ("exp", -INF, 0.0), ("sigmoid", INF, 0.0), ("sigmoid", -INF, 0.0),
     ("tanh", INF, 0.0), ("erf", INF, 0.0), ("log1p", -1.0, INF), ("atan", INF, 0.0), ("square", 0.0, 0.0)],
)  # fmt: skip
def test_slopes_at_delicate_points(name: str, point: float, slope: float) -> None:
    x = cr.tensor(point, requires_grad=True)
    y = getattr(cr, name)(x)
    assert (cr.grad(y, x).item() if y.requires_grad else 0.0) == slope


@pytest.mark.parametrize(("a", "b"), [(0.0, 2.0), (0.0, 0.0), (2.0, 0.0), (-1.5, 2.0), (0.0, 1.0), (0.0, 3.0)])
def test_powers_have_finite_slopes_at_zero_where_they_exist(a: float, b: float) -> None:
    x, y = cr.tensor(a, requires_grad=True), cr.tensor(b, requires_grad=True)
    gx, gy = cr.grad(cr.pow(x, y), (x, y))
    assert gx.item() == pytest.approx(b * a ** (b - 1) if b else 0.0)
    assert gy.item() == pytest.approx(0.0) if a == 0 else True
    assert cr.grad(cr.pow(x, b), x).item() == gx.item()


def test_tied_operands_share_the_gradient_of_maximum_and_minimum() -> None:
    a, b = cr.tensor([1.0, 2.0], requires_grad=True), cr.tensor([1.0, 1.0], requires_grad=True)
    for function in (cr.maximum, cr.minimum):
        ga, gb = cr.grad(cr.sum(function(a, b)), (a, b))
        assert ga.tolist()[0] == gb.tolist()[0] == 0.5
        np.testing.assert_array_equal((ga + gb).numpy(), [1, 1])


def test_division_with_infinities_follows_the_standard() -> None:
    a, b = cr.tensor([INF, -INF, 1.0, -1.0, 1.0, INF]), cr.tensor([2.0, 2.0, -INF, INF, INF, INF])
    found = cr.floor_divide(a, b)
    np.testing.assert_array_equal(found.numpy(), [INF, -INF, -0.0, -0.0, 0.0, NAN])
    np.testing.assert_array_equal(cr.signbit(found).numpy()[:5], [False, True, True, True, False])


@pytest.mark.parametrize("name", ["less", "maximum", "floor", "signbit", "floor_divide", "atan2", "clip", "sigmoid"])
def test_functions_of_real_numbers_refuse_complex_ones(name: str) -> None:
    z = cr.ones((2,), dtype=cr.complex64)
    with pytest.raises(cr.DTypeError, match=f"{name}.*complex"):
        getattr(cr, name)(*(z, z) if name in ("less", "maximum", "floor_divide", "atan2") else (z,))


@pytest.mark.parametrize("name", ["bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_invert"])
def test_functions_of_bits_refuse_fractions(name: str) -> None:
    x = cr.ones((2,))
    with pytest.raises(cr.DTypeError, match=name):
        getattr(cr, name)(*(x,) if name == "bitwise_invert" else (x, x))


SMOOTH = _names("cos cosh erf exp exp2 expm1 sigmoid sin sinh square tan tanh asinh atan")
POSITIVE = _names("log log10 log1p log2 reciprocal sqrt")


@pytest.mark.parametrize("name", SMOOTH + POSITIVE)
def test_functions_of_one_number_have_both_derivatives(name: str) -> None:
    x = np.array([0.3, 0.9, 1.2]) * (1 if name in POSITIVE else np.array([1, -1, 1]))
    cr.check_grad(getattr(cr, name), x, order=2, rtol=1e-4)


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide", "pow", "atan2", "hypot", "logaddexp"])
def test_functions_of_two_numbers_have_both_derivatives(name: str) -> None:
    cr.check_grad(getattr(cr, name), np.array([[0.4], [1.3]]), np.array([0.7, 1.9, 0.2]), order=2, rtol=1e-4)


def test_closeness_is_numpys() -> None:
    a = np.array([1.0, 1.0, INF, INF, NAN, 0.0])
    b = np.array([1.0 + 1e-6, 1.1, INF, -INF, NAN, 1e-9])
    for equal_nan in (False, True):
        found = cr.isclose(cr.tensor(a), cr.tensor(b), equal_nan=equal_nan)
        np.testing.assert_array_equal(found.numpy(), np.isclose(a, b, equal_nan=equal_nan))
    assert cr.allclose(cr.tensor([1.0]), 1.0)
    assert not cr.allclose(cr.tensor([1.0]), 2.0)
