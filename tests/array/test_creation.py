"""Making tensors, data types, and exchange with other libraries."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from tests.array.strategies import DTYPES, arrays


@given(x=arrays(DTYPES))
def test_tensors_keep_numpys_values_and_types_and_share_no_memory(x: np.ndarray) -> None:
    t = cr.tensor(x)
    assert t.dtype == x.dtype and t.shape == x.shape
    np.testing.assert_array_equal(t.numpy(), x)
    assert not np.shares_memory(t.numpy(), x)
    np.testing.assert_array_equal(cr.tensor(t.tolist(), dtype=x.dtype).numpy().reshape(x.shape), x)


def test_python_numbers_take_the_default_types() -> None:
    kinds = [(1, cr.int64), (1.0, cr.float32), (True, cr.bool), (1j, cr.complex64), ([[1, 2.5]], cr.float32)]
    for data, dtype in kinds:
        assert cr.tensor(data).dtype == cr.asarray(data).dtype == dtype
        if not isinstance(data, list):
            assert cr.full((2,), data).dtype == dtype


def test_whole_numbers_of_64_bits_beside_smaller_ones_are_exact() -> None:
    numbers = [2**64 - 1, 0, 2**63 + 1]
    assert cr.tensor(numbers, dtype=cr.uint64).tolist() == numbers
    assert cr.asarray([2**63 - 1, -(2**63)]).tolist() == [2**63 - 1, -(2**63)]
    with pytest.raises(cr.DTypeError, match="uint64 holds"):
        cr.tensor([2**64 - 1, -1], dtype=cr.uint64)


def test_the_default_floating_type_reaches_every_function_that_makes_floats() -> None:
    cr.set_default_dtype(cr.float64)
    try:
        made = [cr.zeros(2), cr.ones(2), cr.full(2, 1.5), cr.eye(2), cr.linspace(0, 1, 3), cr.arange(0.0, 2.0),
                cr.tensor(1.5), cr.exp(cr.arange(3)), cr.mean(cr.arange(3)), cr.arange(3) / 2]  # fmt: skip
    finally:
        cr.set_default_dtype(cr.float32)
    assert {t.dtype for t in made} == {cr.float64}


@given(start=st.integers(-9, 9), stop=st.integers(-9, 9), step=st.sampled_from([-3, -1, 1, 2, 0.5, 0.25, -0.75]))
def test_ranges_are_numpys(start: int, stop: int, step: Any) -> None:
    found, expected = cr.arange(start, stop, step), np.arange(start, stop, step)
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found.numpy(), expected)


@given(start=st.floats(-9, 9), stop=st.floats(-9, 9), num=st.integers(0, 9), endpoint=st.booleans())
def test_equal_distances_are_numpys(start: float, stop: float, num: int, endpoint: bool) -> None:
    found = cr.linspace(start, stop, num, dtype=cr.float64, endpoint=endpoint)
    np.testing.assert_array_equal(found.numpy(), np.linspace(start, stop, num, endpoint=endpoint))


@given(rows=st.integers(0, 5), columns=st.integers(0, 5), k=st.integers(-7, 7))
def test_identity_matrices_are_numpys(rows: int, columns: int, k: int) -> None:
    np.testing.assert_array_equal(cr.eye(rows, columns, k=k).numpy(), np.eye(rows, columns, k=k))


def test_made_tensors_can_be_leaves_that_take_gradients() -> None:
    for x in (cr.zeros(3, requires_grad=True), cr.full((3,), 2.0, requires_grad=True),
              cr.linspace(0, 1, 3, requires_grad=True), cr.tensor([1.0, 2, 3], requires_grad=True)):  # fmt: skip
        cr.sum(x * x).backward()
        assert x.grad is not None
        np.testing.assert_array_equal(x.grad.numpy(), 2 * x.numpy())
    with pytest.raises(cr.DTypeError, match="only floating and complex"):
        cr.zeros((2,), dtype=cr.int64, requires_grad=True)


def test_full_keeps_negative_zero_and_takes_a_tensor_that_needs_a_gradient() -> None:
    assert math.copysign(1, cr.full((), -0.0).item()) == -1
    x = cr.tensor(2.0, requires_grad=True)
    assert cr.grad(cr.sum(cr.full((2, 3), x)), x).item() == 6.0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: cr.tensor([[1, 2], [3]]), cr.ShapeError, "ragged"),
        (lambda: cr.tensor("abc"), cr.DTypeError, "expected numbers"),
        (lambda: cr.tensor([1, None]), cr.DTypeError, "expected numbers"),
        (lambda: cr.tensor([300], dtype=cr.int8), cr.DTypeError, "int8 holds -128 to 127"),
        (lambda: cr.tensor(1.0, dtype="float16"), cr.DTypeError, "tensor: data type float16 is not supported"),
        (lambda: cr.zeros((2, -1)), cr.ShapeError, r"zeros: a length cannot be negative, got shape \(2, -1\)"),
        (lambda: cr.zeros(2.5), cr.ArgumentError, "zeros: a length is an integer, got 2.5"),
        (lambda: cr.zeros(2, 3), cr.ArgumentError, "zeros: too many positional arguments; a shape is one tuple"),
        (lambda: cr.ones((2,), device="cuda"), cr.OperationError, 'ones: the only device is "cpu"'),
        (lambda: cr.full((2,), "a"), cr.DTypeError, "full: the value is a number, got str"),
        (lambda: cr.full((2,), 300, dtype=cr.int8), cr.DTypeError, "full: 300 does not fit into int8"),
        (lambda: cr.arange(0, 1, 0), cr.OperationError, "arange: no such range"),
        (lambda: cr.arange(0, math.inf), cr.OperationError, "arange: no such range"),
        (lambda: cr.arange("a"), cr.ArgumentError, "arange: start, stop and step are real numbers"),
        (lambda: cr.linspace(0, 1, -1), cr.OperationError, "linspace: num is negative"),
        (lambda: cr.eye(-1), cr.ShapeError, "eye: a length cannot be negative"),
        (lambda: cr.tril(cr.zeros(3)), cr.ShapeError, r"tril: needs at least 2 axes, got shape \(3,\)"),
        (lambda: cr.meshgrid(cr.zeros((2, 2))), cr.ShapeError, "meshgrid: coordinates are 1-d"),
        (lambda: cr.meshgrid(cr.zeros(2), indexing="yx"), cr.ArgumentError, 'indexing is "xy" or "ij"'),
        (lambda: cr.asarray([1, 2], copy=False), cr.OperationError, "asarray: list has no memory to share"),
        (lambda: cr.asarray(np.ones(2), dtype=cr.float32, copy=False), cr.OperationError, "a copy is needed"),
        (lambda: cr.from_dlpack([1.0]), cr.ArgumentError, "from_dlpack: list has no __dlpack__"),
        (lambda: cr.astype(cr.ones(2), "nonsense"), cr.DTypeError, "astype: not a data type"),
        (lambda: cr.astype(cr.ones(2, dtype=cr.complex64), cr.float32), cr.DTypeError, "take real"),
        (lambda: cr.isdtype(cr.float32, "floating"), cr.ArgumentError, "isdtype: no kind 'floating'"),
        (lambda: cr.result_type(1, 2.0), cr.ArgumentError, "result_type: give at least one tensor"),
        (lambda: cr.finfo(cr.int32), cr.DTypeError, "finfo: int32 is no floating type; see iinfo"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_explained_with_the_users_line(call: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert "test_creation.py" in str(caught.value)


def test_memory_is_shared_only_when_asked_for() -> None:
    array = np.ones(3)
    shared, copied = cr.asarray(array, copy=False), cr.asarray(array)
    array[0] = 5
    assert shared.tolist() == [5, 1, 1] and copied.tolist() == [1, 1, 1]


@given(x=arrays([d for d in DTYPES if d.kind != "b"]))
def test_dlpack_goes_both_ways(x: np.ndarray) -> None:
    t = cr.tensor(x)
    np.testing.assert_array_equal(np.from_dlpack(t), x)
    back = cr.from_dlpack(t)
    assert back.dtype == t.dtype
    np.testing.assert_array_equal(back.numpy(), x)
    np.testing.assert_array_equal(cr.from_dlpack(cr.broadcast_to(t, (2, *x.shape)), copy=True).numpy()[1], x)


@pytest.mark.parametrize("kind", ["bool", "integral", "real floating", "complex floating", "numeric"])
def test_kinds_of_types_agree_with_numpy_and_with_the_inspection_interface(kind: str) -> None:
    listed = cr.__array_namespace_info__().dtypes(kind=kind)
    for dtype in DTYPES:
        assert cr.isdtype(dtype, kind) == np.isdtype(dtype, kind) == (str(dtype) in listed)


def test_limits_of_types_are_numpys() -> None:
    for dtype in DTYPES:
        if dtype.kind in "fc":
            assert cr.finfo(dtype).eps == float(np.finfo(dtype).eps)
            assert cr.finfo(cr.zeros((), dtype=dtype)).bits == np.finfo(dtype).bits
        elif dtype.kind in "iu":
            assert (cr.iinfo(dtype).min, cr.iinfo(dtype).max) == (np.iinfo(dtype).min, np.iinfo(dtype).max)
        for other in DTYPES:
            assert cr.can_cast(dtype, other) == np.can_cast(dtype, other)


@given(x=arrays([d for d in DTYPES if d.kind != "c"]), to=st.sampled_from(DTYPES))
def test_conversion_is_numpys(x: np.ndarray, to: np.dtype) -> None:
    with np.errstate(invalid="ignore"):
        expected = x.astype(to)
        found = cr.astype(cr.tensor(x), to)
    assert found.dtype == to
    if not (x.dtype.kind in "fi" and to.kind == "u"):  # negative numbers have no unsigned value
        np.testing.assert_array_equal(found.numpy(), expected)


def test_conversion_between_floating_types_passes_gradients_in_the_operands_type() -> None:
    x = cr.tensor([1.0, 2.0], requires_grad=True)
    g = cr.grad(cr.sum(cr.astype(x, cr.float64) ** 2), x)
    assert g.dtype == cr.float32 and g.tolist() == [2.0, 4.0]
    assert not cr.astype(x, cr.int32).requires_grad
