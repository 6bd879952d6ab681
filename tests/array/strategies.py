"""Hypothesis strategies for arrays, shapes and indices, shared by the tests of the array functions."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

DTYPES = [
    np.dtype(n)
    for n in (
        "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
        "float32", "float64", "complex64", "complex128",
    )
]  # fmt: skip
REAL = [d for d in DTYPES if d.kind in "iuf"]

shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def small_numbers(dtype: np.dtype) -> st.SearchStrategy[Any]:
    """Numbers whose sums and products are exact or nearly so."""
    if dtype.kind == "b":
        return st.booleans()
    if dtype.kind in "iu":
        return st.integers(0 if dtype.kind == "u" else -4, 4)
    exact = st.integers(-16, 16).map(lambda n: n / 4)
    return exact if dtype.kind == "f" else st.builds(complex, exact, exact)


def arrays(dtypes: list[np.dtype], shape: Any = shapes) -> st.SearchStrategy[np.ndarray]:
    """Arrays of any of the types."""
    return st.sampled_from(dtypes).flatmap(lambda d: hnp.arrays(d, shape, elements=small_numbers(d)))


def axes_of(ndim: int) -> st.SearchStrategy[Any]:
    """None, one axis, or several different ones, each counted from either end."""
    if ndim == 0:
        return st.one_of(st.none(), st.just(()))
    one = st.integers(-ndim, ndim - 1)
    several = st.lists(one, unique_by=lambda a: a % ndim, max_size=ndim).map(tuple)
    return st.one_of(st.none(), one, several)
