"""How optimisers hold numbers in eager mode: variables one behind the other in one vector.

An update of many small parameters is then one array operation, and it may write in place
where nobody else can see the vector. That is what `Flat` keeps account of; the update
rules know nothing of it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.dtypes import real_dtype
from ..core.node import leaf
from ..core.tensor import Tensor, Variable

BLOCK = 1 << 17
"""Elements that a rule is applied to at once: its temporaries stay in the cache."""

_count = getattr(sys, "getrefcount", None)


class Flat:
    """Variables of one data type whose values are views of one vector.

    Values of tensors never change (a graph, a copy of the weights, a NumPy view may hold
    them). `writable` therefore moves the variables to a fresh vector unless this object and
    the variables themselves hold the only references to the old one.
    """

    __slots__ = ("_vector", "_views", "variables")

    def __init__(self, variables: Sequence[Tensor]) -> None:
        self.variables = tuple(variables)
        self._vector: np.ndarray = np.empty(0)
        self._views: list[np.ndarray] = []

    def writable(self) -> np.ndarray:
        """The values as one vector of real numbers to be updated in place.

        Complex numbers appear as pairs of real ones, which is how every update rule treats them.
        """
        if not self._is_current():
            self._move(np.concatenate([v._array("optimiser step").reshape(-1) for v in self.variables]))
        elif not self._is_exclusive():
            self._move(self._vector.copy())
        vector = self._vector
        return vector.view(real_dtype(vector.dtype)) if vector.dtype.kind == "c" else vector

    def _is_current(self) -> bool:
        """Whether the variables still have the values that were given to them here."""
        if not self._views:
            return False
        for variable, view in zip(self.variables, self._views, strict=True):
            node = variable._node
            if variable._value is not view or (node is not None and node.value is not view):
                return False
        return True

    def _move(self, vector: np.ndarray) -> None:
        """Make views of `vector`, which nobody else holds, the values of the variables."""
        self._vector, self._views = vector, []
        start = 0
        for variable in self.variables:
            stop = start + variable.size
            view = vector[start:stop].reshape(variable.shape)
            self._views.append(view)
            variable._value = view
            if variable._node is not None:
                variable._node = leaf(view, variable._node.requires_grad, owner=variable)
            start = stop

    def _is_exclusive(self) -> bool:
        return _count is not None and self._holders() == _ALONE

    def _holders(self) -> tuple[int, int, int]:
        """References to the vector, and the most to any view and to any leaf, less those that are always there."""
        assert _count is not None
        views = leaves = 0
        for variable, view in zip(self.variables, self._views, strict=True):
            node = variable._node
            if node is None:
                views = max(views, _count(view) + 1)
            else:
                views, leaves = max(views, _count(view)), max(leaves, _count(node))
        return _count(self._vector) - len(self._views), views, leaves or _LEAF


_LEAF = 0
_ALONE = (0, 0, 0)


def _measure() -> None:
    # What `_holders` counts for a vector that nobody else holds depends on the interpreter's version.
    global _LEAF, _ALONE
    if _count is not None:
        sample = Flat([Variable(np.zeros(1), requires_grad=True)])
        sample.writable()
        _ALONE = sample._holders()
        _LEAF = _ALONE[2]


_measure()


def flat_gradient(gradients: Sequence[Any]) -> np.ndarray:
    """Gradient arrays one behind the other, as one vector of real numbers; read only."""
    if len(gradients) == 1:
        vector = gradients[0].reshape(-1)
    else:
        vector = np.concatenate([g.reshape(-1) for g in gradients])
    return vector.view(real_dtype(vector.dtype)) if vector.dtype.kind == "c" else vector
