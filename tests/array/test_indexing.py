"""Reading and assigning by index: NumPy's results for every kind of index, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import chainrule as cr
from tests.array.strategies import DTYPES, arrays, shapes


@st.composite
def keys(draw: Any, shape: tuple[int, ...]) -> Any:
    """An index that NumPy accepts for `shape`: basic, integer arrays, masks, mixtures."""
    kind = draw(st.sampled_from(["basic", "basic", "arrays", "mask", "mixed"]))
    if kind == "basic" or not shape:
        return draw(hnp.basic_indices(shape, allow_newaxis=True, max_dims=6))
    if kind == "arrays" and all(shape):
        return draw(hnp.integer_array_indices(shape, result_shape=hnp.array_shapes(max_dims=2, max_side=3)))
    if kind == "mask":
        count = draw(st.integers(1, len(shape)))
        return draw(hnp.arrays(bool, shape[:count]))
    entries: list[Any] = []
    for length in shape[: draw(st.integers(1, len(shape)))]:
        if draw(st.booleans()):
            entries.append(None)
        one = [st.slices(length)]
        if length:
            one += [
                st.integers(-length, length - 1),
                st.lists(st.integers(-length, length - 1), min_size=2, max_size=2),
            ]
        entries.append(draw(st.one_of(one)))
    return tuple(entries)


def _as_ours(key: Any) -> Any:
    if isinstance(key, tuple):
        return tuple(_as_ours(k) for k in key)
    return cr.tensor(key) if isinstance(key, np.ndarray) else key


@given(x=arrays(DTYPES), data=st.data())
def test_reading_is_numpys(x: np.ndarray, data: Any) -> None:
    key = data.draw(keys(x.shape))
    expected = np.asarray(x[key])
    for index in (key, _as_ours(key)):
        found = cr.tensor(x)[index]
        assert found.shape == expected.shape and found.dtype == expected.dtype
        np.testing.assert_array_equal(found.numpy(), expected)


@given(shape=shapes, data=st.data())
def test_assigning_is_numpys_and_leaves_the_old_value_alone(shape: tuple[int, ...], data: Any) -> None:
    x = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    key = data.draw(keys(shape))
    region = x[key].shape
    value = -1.0 - np.arange(np.prod(region)).reshape(region)
    expected = x.copy()
    expected[key] = value
    t = cr.tensor(x)
    old = t + 0
    t[_as_ours(key)] = cr.tensor(value)
    np.testing.assert_array_equal(t.numpy(), expected)
    np.testing.assert_array_equal(old.numpy(), x)


@given(shape=shapes, data=st.data())
def test_the_gradient_of_reading_counts_how_often_each_element_was_read(shape: tuple[int, ...], data: Any) -> None:
    x = np.zeros(shape)
    key = data.draw(keys(shape))
    count = np.zeros(shape)
    np.add.at(count, key, 1)
    t = cr.tensor(x, requires_grad=True)
    np.testing.assert_array_equal(cr.grad(cr.sum(t[key]), t).numpy(), count)


@given(shape=shapes, data=st.data())
def test_the_gradient_of_assigning_goes_to_the_value_inside_and_to_the_rest_outside(
    shape: tuple[int, ...], data: Any
) -> None:
    key = data.draw(keys(shape))
    inside = np.zeros(shape)
    inside[key] = 1
    x, v = cr.tensor(np.zeros(shape), requires_grad=True), cr.tensor(2.0, dtype=cr.float64, requires_grad=True)
    y = x.clone()
    y[key] = v
    gx, gv = cr.grad(cr.sum(y), (x, v))
    np.testing.assert_array_equal(gx.numpy(), 1 - inside)
    assert gv.item() == np.zeros(shape)[key].size


@pytest.mark.parametrize(
    ("key", "shape"), [(True, (1, 2)), (False, (0, 2)), ((0, True), (1,)), ((True, None), (1, 1, 2))]
)
def test_a_single_truth_value_is_a_mask_as_in_numpy(key: Any, shape: tuple[int, ...]) -> None:
    x = cr.tensor([1.0, 2.0])
    assert x[key].shape == shape == np.ones(2)[key].shape


def test_a_0d_tensor_takes_a_0d_mask() -> None:
    x = cr.tensor(3.0, requires_grad=True)
    y = x * 2
    y[y > 5] = -1.0
    assert y.item() == -1.0
    assert cr.grad(cr.sum((x * 2)[x > 0]), x).item() == 2.0


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (5, "index 5 is out of range"),
        ((0, -3), "index -3 is out of range for axis 1 of length 2"),
        ((0, 0, 0), "too many indices"),
        ((..., ...), "one ellipsis"),
        (1.5, "an index is an integer"),
        ([0, 7], "indices from 0 to 7 are out of range"),
        (np.array([True, False]), "a mask of shape"),
        (np.array([0.5]), "integers or bools, not float64"),
    ],
)
def test_wrong_indices_are_explained(key: Any, message: str) -> None:
    x = cr.zeros((3, 2))
    with pytest.raises(cr.IndexingError, match=message):
        x[key]
    with pytest.raises(cr.IndexingError, match=message):
        x[key] = 1.0


def test_a_value_that_does_not_fit_the_region_is_refused() -> None:
    x = cr.zeros((3, 2))
    with pytest.raises(cr.ShapeError, match=r"shape \(4,\) does not fit the region of shape \(2,\)"):
        x[0] = cr.ones((4,))
    with pytest.raises(cr.DTypeError, match="complex64"):
        x[0] = 1j


@given(x=arrays(DTYPES), data=st.data())
def test_take_is_numpys(x: np.ndarray, data: Any) -> None:
    lengths = [(d, n) for d, n in enumerate(x.shape) if n]
    if not lengths:
        return
    axis, length = data.draw(st.sampled_from(lengths))
    positions = data.draw(hnp.arrays(np.int64, hnp.array_shapes(max_dims=2), elements=st.integers(-length, length - 1)))
    found = cr.take(cr.tensor(x), cr.tensor(positions), axis=axis)
    np.testing.assert_array_equal(found.numpy(), np.take(x, positions, axis))


@given(x=arrays(DTYPES), data=st.data())
def test_take_along_axis_is_numpys(x: np.ndarray, data: Any) -> None:
    lengths = [(d, n) for d, n in enumerate(x.shape) if n]
    if not lengths:
        return
    axis, length = data.draw(st.sampled_from(lengths))
    shape = tuple(data.draw(st.integers(0, 3)) if d == axis else n for d, n in enumerate(x.shape))
    positions = data.draw(hnp.arrays(np.int64, shape, elements=st.integers(-length, length - 1)))
    found = cr.take_along_axis(cr.tensor(x), cr.tensor(positions), axis=axis)
    np.testing.assert_array_equal(found.numpy(), np.take_along_axis(x, positions, axis))


def test_chosen_elements_have_both_derivatives() -> None:
    x = np.random.default_rng(0).normal(size=(3, 4))
    cr.check_grad(lambda t: cr.take(t, cr.tensor([0, 2, 2]), axis=0) ** 3, x, order=2, rtol=1e-4)
    cr.check_grad(lambda t: cr.take_along_axis(t, cr.tensor([[1, 1], [0, 3], [2, 1]])) ** 3, x, order=2, rtol=1e-4)
