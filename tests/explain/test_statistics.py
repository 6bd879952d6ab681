"""Statistics and heat maps are of bounded size, and right at the edges."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from chainrule.explain.statistics import heat_map, statistics

FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(deadline=None)
@given(hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9), elements=FLOATS))
def test_statistics_are_numpys_of_the_finite_entries(array: np.ndarray) -> None:
    found = statistics(array, 4)
    assert found is not None
    finite = array[np.isfinite(array)].astype(np.float64)
    assert found["size"] == array.size
    assert found["nan"] == np.isnan(array).sum()
    assert found["inf"] == np.isinf(array).sum()
    if finite.size:
        assert found["mean"] == pytest.approx(finite.mean(), rel=1e-3, abs=1e-3 * np.abs(finite).max())
        assert found["std"] == pytest.approx(finite.std(), rel=1e-3, abs=1e-3 * np.abs(finite).max())
        assert (found["min"], found["max"]) == pytest.approx((finite.min(), finite.max()), rel=1e-3)
    else:
        assert found["mean"] == "NaN"
    if found["heat"] is not None:
        assert found["heat"]["rows"] <= 4 and found["heat"]["columns"] <= 4
        assert len(base64.b64decode(found["heat"]["data"])) == found["heat"]["rows"] * found["heat"]["columns"]


def test_opposite_infinities_are_counted_without_a_warning() -> None:
    found = statistics(np.array([np.inf, -np.inf], np.float32), 4)
    assert found is not None
    assert (found["inf"], found["mean"], found["norm"]) == (2, "NaN", "NaN")


def test_complex_numbers_count_by_magnitude_and_several_outputs_have_none() -> None:
    found = statistics(np.array([3 + 4j, 0]), 0)
    assert found is not None
    assert (found["max"], found["norm"], found["zeros"]) == (5.0, 5.0, 0.5)
    assert statistics((np.ones(2), np.ones(3)), 4) is None


def test_large_numbers_do_not_overflow() -> None:
    found = statistics(np.full(100, 1e300), 0)
    assert found is not None
    assert found["norm"] == pytest.approx(1e301, rel=1e-3)
    assert found["std"] == 0


def test_a_heat_map_is_the_mean_of_what_its_cells_stand_for() -> None:
    found = heat_map(np.repeat([[1.0, -1.0]], 10, axis=0).repeat(50, axis=1), 2)
    levels = np.frombuffer(base64.b64decode(found["data"]), np.int8).reshape(found["rows"], found["columns"])
    np.testing.assert_array_equal(levels, [[127, -127], [127, -127]])
    assert found["scale"] == 1.0
    marked = heat_map(np.array([[np.nan, 1.0]]), 2)
    assert np.frombuffer(base64.b64decode(marked["data"]), np.int8)[0] == -128
