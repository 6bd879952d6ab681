"""Shapes: NumPy's results for every axis and shape, gradients that find their way back, errors that name the shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import chainrule as cr
from tests.array.strategies import DTYPES, arrays, axes_of

any_array = arrays(DTYPES)


def _same(found: Any, expected: Any) -> None:
    expected = np.asarray(expected)
    assert found.shape == expected.shape and found.dtype == expected.dtype
    np.testing.assert_array_equal(found.numpy(), expected)


@given(x=any_array, data=st.data())
def test_permutations_are_numpys(x: np.ndarray, data: Any) -> None:
    order = tuple(data.draw(st.permutations(range(x.ndim))))
    _same(cr.permute_dims(cr.tensor(x), order), np.transpose(x, order))
    assume(x.ndim)
    a, b = data.draw(st.tuples(*[st.integers(-x.ndim, x.ndim - 1)] * 2))
    _same(cr.moveaxis(cr.tensor(x), a, b), np.moveaxis(x, a, b))
    _same(cr.swapaxes(cr.tensor(x), a, b), np.swapaxes(x, a, b))
    sources = tuple(data.draw(st.permutations(range(x.ndim))))
    _same(cr.moveaxis(cr.tensor(x), sources, order), np.moveaxis(x, sources, order))


@given(x=any_array, data=st.data())
def test_reshaping_is_numpys(x: np.ndarray, data: Any) -> None:
    shape = tuple(data.draw(st.permutations(x.shape))) + (1,) * data.draw(st.integers(0, 2))
    _same(cr.reshape(cr.tensor(x), shape), x.reshape(shape))
    if x.size and shape:
        place = data.draw(st.integers(0, len(shape) - 1))
        shape = tuple(-1 if d == place else n for d, n in enumerate(shape))
        _same(cr.reshape(cr.tensor(x), shape), x.reshape(shape))
    _same(cr.flatten(cr.tensor(x)), x.reshape(-1))


@given(x=any_array, data=st.data())
def test_axes_of_length_one_come_and_go_as_in_numpy(x: np.ndarray, data: Any) -> None:
    axis = data.draw(st.integers(-x.ndim - 1, x.ndim))
    wide = cr.expand_dims(cr.tensor(x), axis)
    _same(wide, np.expand_dims(x, axis))
    _same(cr.squeeze(wide, axis), x)
    _same(cr.squeeze(wide), np.squeeze(x))


@given(x=any_array, data=st.data())
def test_flip_and_roll_are_numpys(x: np.ndarray, data: Any) -> None:
    axis = data.draw(axes_of(x.ndim))
    _same(cr.flip(cr.tensor(x), axis=axis), np.flip(x, axis))
    shift = data.draw(st.integers(-7, 7))
    if axis == ():  # NumPy takes no empty tuple here
        _same(cr.roll(cr.tensor(x), shift, axis=axis), x)
        return
    if isinstance(axis, tuple):
        shift = tuple(shift + i for i in range(len(axis)))
    _same(cr.roll(cr.tensor(x), shift, axis=axis), np.roll(x, shift, axis))


@given(x=any_array, data=st.data())
def test_joining_is_numpys(x: np.ndarray, data: Any) -> None:
    other = x[..., ::-1] if x.ndim else x
    parts, ours = [x, other, x], [cr.tensor(x), cr.tensor(other.copy()), cr.tensor(x)]
    axis = data.draw(st.integers(-x.ndim - 1, x.ndim))
    _same(cr.stack(ours, axis=axis), np.stack(parts, axis))
    _same(cr.concat(ours, axis=None), np.concatenate(parts, axis=None))
    assume(x.ndim)
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    _same(cr.concat(ours, axis=axis), np.concatenate(parts, axis))
    for found, expected in zip(cr.unstack(ours[0], axis=axis), np.moveaxis(x, axis, 0), strict=True):
        _same(found, expected)
    cuts = tuple(data.draw(st.lists(st.integers(0, 5), max_size=3)))
    for found, expected in zip(cr.split(ours[0], cuts, axis=axis), np.split(x, cuts, axis), strict=True):
        _same(found, expected)


@given(x=any_array, data=st.data())
def test_repeating_is_numpys(x: np.ndarray, data: Any) -> None:
    times = tuple(data.draw(st.lists(st.integers(0, 3), max_size=4)))
    _same(cr.tile(cr.tensor(x), times), np.tile(x, times))
    count = data.draw(st.integers(0, 3))
    _same(cr.repeat(cr.tensor(x), count), np.repeat(x, count))
    assume(x.ndim)
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    _same(cr.repeat(cr.tensor(x), count, axis=axis), np.repeat(x, count, axis))
    counts = np.array(data.draw(st.lists(st.integers(0, 3), min_size=x.shape[axis], max_size=x.shape[axis])), np.int64)
    _same(cr.repeat(cr.tensor(x), cr.tensor(counts), axis=axis), np.repeat(x, counts, axis))


@given(x=any_array, data=st.data())
def test_padding_is_numpys(x: np.ndarray, data: Any) -> None:
    width = st.tuples(st.integers(0, 2), st.integers(0, 2))
    assume(x.ndim)
    for widths in (data.draw(st.integers(0, 2)), data.draw(width), data.draw(st.tuples(*[width] * x.ndim))):
        _same(cr.pad(cr.tensor(x), widths, constant_values=1), np.pad(x, widths, constant_values=1))


@given(x=arrays(DTYPES, (3, 4)), k=st.integers(-6, 6))
def test_triangles_are_numpys(x: np.ndarray, k: int) -> None:
    _same(cr.tril(cr.tensor(x), k=k), np.tril(x, k))
    _same(cr.triu(cr.tensor(x), k=k), np.triu(x, k))


@given(x=any_array, data=st.data(), descending=st.booleans())
def test_sorting_is_numpys_and_stable(x: np.ndarray, data: Any, descending: bool) -> None:
    assume(x.ndim and x.dtype.kind != "c")
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    found = cr.sort(cr.tensor(x), axis=axis, descending=descending)
    _same(found, np.flip(np.sort(x, axis), axis) if descending else np.sort(x, axis))
    order = cr.argsort(cr.tensor(x), axis=axis, descending=descending).numpy()
    steps = np.diff(order, axis=axis) > 0
    lines = np.take_along_axis(x, order, axis)
    upper = np.take(lines, np.arange(1, x.shape[axis]), axis)
    lower = np.take(lines, np.arange(x.shape[axis] - 1 if x.shape[axis] else 0), axis)
    assert np.all(steps | (upper != lower))


def test_sorting_puts_nan_at_the_end_that_is_largest() -> None:
    x = cr.tensor([2.0, np.nan, 1.0])
    np.testing.assert_array_equal(cr.sort(x).numpy(), [1, 2, np.nan])
    np.testing.assert_array_equal(cr.sort(x, descending=True).numpy(), [np.nan, 2, 1])


@given(x=any_array)
def test_distinct_elements_are_numpys(x: np.ndarray) -> None:
    found = cr.unique_all(cr.tensor(x))
    values, indices, inverse, counts = np.unique(x, return_index=True, return_inverse=True, return_counts=True)
    for ours, expected in zip(found, (values, indices, inverse.reshape(x.shape), counts), strict=True):
        _same(ours, expected)
    _same(cr.unique_values(cr.tensor(x)), values)
    _same(cr.unique_counts(cr.tensor(x)).counts, counts)
    _same(cr.unique_inverse(cr.tensor(x)).inverse_indices, inverse.reshape(x.shape))


@given(x=arrays([np.dtype("float64")], st.integers(0, 6).map(lambda n: (n,))), data=st.data())
def test_searchsorted_is_numpys(x: np.ndarray, data: Any) -> None:
    wanted = data.draw(arrays([np.dtype("float64")], (2, 3)))
    order = np.argsort(x)
    for side in ("left", "right"):
        found = cr.searchsorted(cr.tensor(x), cr.tensor(wanted), side=side, sorter=cr.tensor(order))
        _same(found, np.searchsorted(x[order], wanted, side=side))


@given(x=any_array, data=st.data(), n=st.integers(0, 3))
def test_differences_are_numpys(x: np.ndarray, data: Any, n: int) -> None:
    assume(x.ndim)
    axis = data.draw(st.integers(-x.ndim, x.ndim - 1))
    _same(cr.diff(cr.tensor(x), axis=axis, n=n), np.diff(x, n, axis))
    _same(cr.diff(cr.tensor(x), axis=axis, prepend=cr.tensor(x)), np.diff(x, axis=axis, prepend=x))


def test_grids_are_numpys() -> None:
    lines = [np.arange(2.0), np.arange(3.0), np.arange(4.0)]
    for count in range(4):
        for indexing in ("xy", "ij"):
            expected = np.meshgrid(*lines[:count], indexing=indexing)
            found = cr.meshgrid(*map(cr.tensor, lines[:count]), indexing=indexing)
            for ours, theirs in zip(found, expected, strict=True):
                _same(ours, theirs)


MOVES = {
    "reshape": lambda x: cr.reshape(x, (4, 3)),
    "permute_dims": lambda x: cr.permute_dims(x, (1, 0)),
    "flip": lambda x: cr.flip(x, axis=1),
    "roll": lambda x: cr.roll(x, (1, 2), axis=(0, 1)),
    "concat": lambda x: cr.concat([x, 2 * x], axis=1),
    "stack": lambda x: cr.stack([x, x * x], axis=-1),
    "unstack": lambda x: cr.unstack(x, axis=1)[2],
    "split": lambda x: cr.split(x, 2, axis=1)[1],
    "repeat": lambda x: cr.repeat(x, cr.tensor([0, 2, 1]), axis=0),
    "tile": lambda x: cr.tile(x, (2, 1, 2)),
    "pad": lambda x: cr.pad(x, 1, constant_values=3.0),
    "tril": cr.tril,
    "sort": lambda x: cr.sort(x, axis=0, descending=True),
    "diff": lambda x: cr.diff(x, n=2),
    "unique": cr.unique_values,
    "broadcast_to": lambda x: cr.broadcast_to(x, (2, 3, 4)),
    "meshgrid": lambda x: cr.meshgrid(x[0], x[1][:2])[0],
    "matmul": lambda x: x @ x.mT,
    "vecdot": lambda x: cr.vecdot(x, x * x, axis=-2),
    "tensordot": lambda x: cr.tensordot(x, x, axes=((0,), (0,))),
    "outer": lambda x: cr.outer(x[0], x[1]),
}


@pytest.mark.parametrize("name", MOVES)
def test_moved_elements_have_both_derivatives(name: str) -> None:
    x = np.random.default_rng(2).normal(size=(3, 4))
    cr.check_grad(lambda t: MOVES[name](t) ** 3, x, order=2, rtol=1e-4)


def test_assigning_into_a_result_leaves_the_operand_alone() -> None:
    x = cr.zeros((3,))
    same = [cr.positive(x), +x, x.clone(), cr.roll(x, 0), cr.diff(x, n=0), cr.reshape(x, (3,)), cr.astype(x, x.dtype),
            cr.broadcast_to(x, (3,)), *cr.broadcast_arrays(x), cr.asarray(x, copy=True), cr.clip(x),
            cr.real(x)]  # fmt: skip
    for y in same:
        y[0] = 1.0
        assert x.tolist() == [0.0, 0.0, 0.0]
    z = cr.asarray(x, copy=False)
    assert z is x


@given(a=arrays([np.dtype("int64"), np.dtype("float64")], (2, 3, 4)), b=arrays([np.dtype("float64")], (4, 3, 2)))
def test_tensordot_is_numpys(a: np.ndarray, b: np.ndarray) -> None:
    for axes in (0, 1, ((2, 1), (0, 1)), ((-1,), (-3,)), ((), ())):
        found = cr.tensordot(cr.tensor(a), cr.tensor(b), axes=axes)
        np.testing.assert_allclose(found.numpy(), np.tensordot(a, b, axes), rtol=1e-12)


def test_vecdot_conjugates_the_first_operand_and_broadcasts() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 1, 4)) + 1j, rng.normal(size=(5, 4)) - 2j
    np.testing.assert_allclose(cr.vecdot(cr.tensor(a), cr.tensor(b)).numpy(), np.vecdot(a, b))
