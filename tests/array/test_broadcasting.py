"""Broadcasting and promotion of types between operands: NumPy's rules, and gradients of the operands' own shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import chainrule as cr
from tests.array.strategies import DTYPES, REAL, arrays

FUNCTIONS = ["add", "subtract", "multiply", "maximum", "minimum", "equal", "less", "divide"]
pairs = hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4, min_side=0)


@given(shapes=pairs, data=st.data(), name=st.sampled_from(FUNCTIONS))
def test_operands_broadcast_and_promote_as_in_numpy(shapes: Any, data: Any, name: str) -> None:
    kinds = REAL if name in ("maximum", "minimum", "less") else [d for d in DTYPES if d.kind != "b"]
    a, b = (data.draw(arrays(kinds, shape)) for shape in shapes.input_shapes)
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(a, b)
    found = getattr(cr, name)(cr.tensor(a), cr.tensor(b))
    assert found.shape == shapes.result_shape
    if name == "divide" and a.dtype.kind in "iu" and b.dtype.kind in "iu":
        assert found.dtype == cr.default_dtype()
    else:
        assert found.dtype == expected.dtype
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


@given(shapes=pairs, weight=st.floats(0.5, 2))
def test_gradients_have_the_operands_shapes_and_sum_over_what_was_repeated(shapes: Any, weight: float) -> None:
    a, b = (np.ones(s) for s in shapes.input_shapes)
    x, y = (cr.tensor(v, requires_grad=True) for v in (a, b))
    gx, gy = cr.grad(cr.sum(x + weight * y), (x, y))
    size = np.prod(shapes.result_shape)
    assert gx.shape == a.shape and gy.shape == b.shape
    np.testing.assert_allclose(gx.numpy(), size / a.size if a.size else 0)
    np.testing.assert_allclose(gy.numpy(), weight * size / b.size if b.size else 0)


@given(shapes=hnp.mutually_broadcastable_shapes(num_shapes=3, max_dims=3, max_side=3, min_side=0))
def test_broadcast_arrays_gives_all_the_common_shape(shapes: Any) -> None:
    given_ = [cr.zeros(s) for s in shapes.input_shapes]
    assert [t.shape for t in cr.broadcast_arrays(*given_)] == [shapes.result_shape] * 3


def test_shapes_that_do_not_broadcast_are_named() -> None:
    with pytest.raises(cr.ShapeError, match=r"add\(float32\[2, 3\], float32\[4\]\).*\(2, 3\) and \(4,\)"):
        cr.add(cr.zeros((2, 3)), cr.zeros((4,)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_python_number_takes_the_tensors_type_where_its_kind_fits(dtype: np.dtype) -> None:
    x = cr.zeros((2,), dtype=dtype)
    if dtype.kind != "b":
        assert (x + 1).dtype == cr.add(1, x).dtype == dtype
    assert (x + 1.5).dtype == cr.add(1.5, x).dtype == (dtype if dtype.kind in "fc" else cr.float32)
    wide = dtype in (cr.float64, cr.complex128)
    assert (x * 1j).dtype == cr.multiply(x, 1j).dtype == (cr.complex128 if wide else cr.complex64)


def test_integers_beside_a_fraction_become_the_default_floating_type() -> None:
    n = cr.arange(3)
    for y in (n * 0.5, 0.5 * n, n / 2, n**0.5, 2.0**n, cr.pow(n, 0.5), cr.exp(n), cr.mean(n)):
        assert y.dtype == cr.float32


@given(kinds=st.lists(st.sampled_from(DTYPES), min_size=1, max_size=4))
def test_result_type_is_numpys(kinds: list[np.dtype]) -> None:
    assert cr.result_type(*kinds) == np.result_type(*kinds)
    assert cr.result_type(*(cr.zeros((), dtype=k) for k in kinds)) == np.result_type(*kinds)


@pytest.mark.parametrize("other", [[1, 2], "a", None, {}])
def test_operands_that_are_no_numbers_are_refused(other: Any) -> None:
    with pytest.raises(cr.DTypeError, match="add: expected tensors or numbers"):
        cr.add(cr.zeros((2,)), other)
    with pytest.raises(cr.DTypeError, match="sum: expected a tensor"):
        cr.sum(other)
