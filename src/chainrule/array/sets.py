"""The distinct elements of a tensor. Their number depends on the values."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..core.tensor import Tensor, new_tensor
from ..primitives.index import index
from ..primitives.shape import reshape
from .arguments import public, tensor_of

__all__ = ["unique_all", "unique_counts", "unique_inverse", "unique_values"]


class UniqueAll(NamedTuple):
    """Distinct values, where each occurs first, which of them every element is, how often each occurs."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """Distinct values and how often each occurs."""

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """Distinct values and which of them every element is."""

    values: Tensor
    inverse_indices: Tensor


def _unique(x: Any, name: str) -> UniqueAll:
    x = tensor_of(x, name)
    array = x._array(name)
    _, first, inverse, counts = np.unique(
        array, return_index=True, return_inverse=True, return_counts=True, equal_nan=False
    )
    indices = new_tensor(first, None)
    # The values are taken from x, so that gradients find their way back.
    values = index(reshape(x, shape=(x.size,)), indices, pattern=(("a", 0),))
    return UniqueAll(values, indices, new_tensor(inverse.reshape(x.shape), None), new_tensor(counts, None))


@public
def unique_all(x: Tensor, /) -> UniqueAll:
    """The distinct elements in ascending order, with all that is known of them; every NaN counts as distinct.

    Returns:
        `values`, 1-d; `indices` (int64) of their first occurrence in the flattened x;
        `inverse_indices`, x's shape, so that `take(values, inverse_indices)` is x; `counts`.
    """
    return _unique(x, "unique_all")


@public
def unique_counts(x: Tensor, /) -> UniqueCounts:
    """`values` and `counts` of `unique_all`."""
    found = _unique(x, "unique_counts")
    return UniqueCounts(found.values, found.counts)


@public
def unique_inverse(x: Tensor, /) -> UniqueInverse:
    """`values` and `inverse_indices` of `unique_all`."""
    found = _unique(x, "unique_inverse")
    return UniqueInverse(found.values, found.inverse_indices)


@public
def unique_values(x: Tensor, /) -> Tensor:
    """`values` of `unique_all`."""
    return _unique(x, "unique_values").values
