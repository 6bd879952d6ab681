"""Adding rows at positions that repeat, which embeddings do in every backward pass, is `np.add.at`."""

from __future__ import annotations

import numpy as np
import pytest

from chainrule.primitives import table


@pytest.mark.parametrize("positions", [(7,), (2, 6), (0,), (1,), (300,)])
@pytest.mark.parametrize("shape", [(5, 3), (4, 2, 3), (6,), (3, 0), (1, 2), (400, 3), (70_000, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "int8"])
def test_rows_are_added_where_they_repeat(shape: tuple[int, ...], positions: tuple[int, ...], dtype: str) -> None:
    rng = np.random.default_rng(0)
    pattern = (("a", 0), *(("s", 0, n, 1) for n in shape[1:]))
    for kind, least in (("int64", -shape[0]), ("int32", -shape[0]), ("uint8", 0)):
        rows = rng.integers(least, shape[0], positions).astype(kind)
        g = (rng.normal(size=(*positions, *shape[1:])) * 3).astype(dtype)
        expected = np.zeros(shape, dtype)
        np.add.at(expected, rows, g)
        got = table["index_add"].value(g, rows, pattern=pattern, shape=shape)
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_rows_that_agree_in_their_last_16_bits_are_kept_apart() -> None:
    g = np.array([[1.0], [2.0], [4.0]])
    rows = np.array([5, 65541, 5])
    got = table["index_add"].value(g, rows, pattern=(("a", 0), ("s", 0, 1, 1)), shape=(70_000, 1))
    assert got[5] == 5 and got[65541] == 2 and got.sum() == 7
