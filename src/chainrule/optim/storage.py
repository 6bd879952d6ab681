"""How optimisers hold numbers in eager mode: variables one behind the other in one vector.

An update of many small parameters is then one array operation, and it may write in place
where nobody else can see the vector. That is what `Flat` keeps account of; the update
rules know nothing of it.
"""

from __future__ import annotations

import operator
import sys
from collections.abc import Sequence

import numpy as np

from ..core.dtypes import real_dtype
from ..core.node import Node, leaf
from ..core.tensor import Tensor

BLOCK = 1 << 17
"""Elements that a rule is applied to at once: its temporaries stay in the cache."""

_count = getattr(sys, "getrefcount", None)
value_of = operator.attrgetter("_value")
_node_of = operator.attrgetter("_node")


class Flat:
    """Variables of one data type whose values are views of one vector.

    The value of a tensor never changes, because a graph, a copy of the weights or a NumPy view
    may hold it. `writable` therefore moves the variables to a fresh vector unless they alone
    refer to the old one: unless there are as many references to the vector, to its views and
    to the variables' leaves as there were when it was made.
    """

    __slots__ = ("_alone", "_leaves", "_vector", "_views", "variables")

    def __init__(self, variables: Sequence[Tensor]) -> None:
        self.variables = tuple(variables)
        self._vector = np.empty(0)
        self._views: list[np.ndarray] = []
        self._leaves: list[Node | None] = []
        self._alone: list[int] | None = None

    def writable(self) -> np.ndarray:
        """The values as one vector of real numbers to be updated in place.

        Complex numbers appear as pairs of real ones, which is how every update rule treats them.
        """
        if not self._is_current():
            self._vector = np.concatenate([v._array("an optimiser's step").reshape(-1) for v in self.variables])
            self._move()
        elif self._alone is None or self._holders() != self._alone:
            self._vector = self._vector.copy()
            self._move()
        return as_real(self._vector)

    def _is_current(self) -> bool:
        """Whether the variables still have the values that they were given here."""
        return (
            len(self._views) > 0
            and all(map(operator.is_, map(value_of, self.variables), self._views))
            and all(map(operator.is_, map(_node_of, self.variables), self._leaves))
        )

    def _move(self) -> None:
        """Make views of the vector, which nobody else holds, the values of the variables."""
        self._views, self._leaves = [], []
        start = 0
        for variable in self.variables:
            stop = start + variable.size
            self._views.append(self._vector[start:stop].reshape(variable.shape))
            variable._value = self._views[-1]
            if variable._node is not None:
                variable._node = leaf(variable._value, variable._node.requires_grad, owner=variable)
            self._leaves.append(variable._node)
            start = stop
        self._alone = self._holders()

    def _holders(self) -> list[int] | None:
        """How many references there are to the vector, to each view and to each leaf; None if nobody counts."""
        if _count is None:
            return None
        return [_count(self._vector), *map(_count, self._views), *map(_count, filter(None, self._leaves))]


def as_real(vector: np.ndarray) -> np.ndarray:
    """Complex numbers as pairs of real ones, sharing memory; real numbers as they are."""
    return vector.view(real_dtype(vector.dtype)) if vector.dtype.kind == "c" else vector


def joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays one behind the other as one vector of real numbers; read only, as it may share memory."""
    vector = arrays[0].reshape(-1) if len(arrays) == 1 else np.concatenate(arrays, axis=None)
    return as_real(vector)
