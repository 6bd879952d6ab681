"""Parameters that one call of an update rule moves together, and how the rule is run on them."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from itertools import chain, repeat
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.tensor import Tensor
from .storage import BLOCK, Flat, joined, value_of

if TYPE_CHECKING:
    from .optimizer import Optimizer


class Bundle:
    """Parameters of one group that one call of the rule updates, with their states.

    Small parameters form one vector; a large one is a bundle of its own, updated in blocks.
    """

    __slots__ = ("_cells", "_names", "_params", "_scalars", "_shared", "_states", "_variables")

    def __init__(self, optimiser: Optimizer, params: Sequence[Tensor], names: Sequence[str]) -> None:
        states = self._states = [optimiser.state[p] for p in params]
        self._variables = [variable for state in states for variable in state.values()]
        self._params = params
        self._names = tuple(names)
        self._scalars = {n: [s[n] for s in states] for n in names if n in optimiser.scalars}
        self._cells = [Flat(params)] + [Flat([s[n] for s in states]) for n in names if n not in self._scalars]
        self._shared: dict[str, np.ndarray] = {}
        for name, variables in self._scalars.items():
            self._share(name, variables[0]._array("an optimiser's step"))

    def _share(self, name: str, value: np.ndarray) -> None:
        # An array is never written to, so the variables of all parameters may hold the same one.
        self._shared[name] = value
        for variable in self._scalars[name]:
            variable._value = value

    def fits(self, optimiser: Optimizer, names: tuple[str, ...]) -> bool:
        """Whether these are still the parameters' states, and all of them at the same step."""
        same = operator.is_
        return (
            names == self._names
            and all(map(same, map(optimiser.state.get, self._params), self._states))
            and all(map(same, chain.from_iterable(map(dict.values, self._states)), self._variables))
            and all(
                all(map(same, map(value_of, cells), repeat(self._shared[name])))
                for name, cells in self._scalars.items()
            )
        )

    def update(self, optimiser: Optimizer, options: dict[str, Any]) -> None:
        """Apply the optimiser's rule once."""
        numbers = {name: value.item() for name, value in self._shared.items()}
        if "step" in numbers:
            numbers["step"] += 1.0
            options = options | {"step": numbers["step"]}
        extra = [name for name in numbers if name != "step"]
        given = [numbers[name] for name in extra]
        found: list[Any] = []
        for p, g, *states in self._operands(optimiser.elementwise):
            new_p, *found = type(optimiser).rule(p, g, *given, *states, **options)
            for old, new in zip((p, *states), (new_p, *found[len(extra) :]), strict=True):
                if new is not old:
                    old[...] = new
        for name, value in zip(extra, found, strict=False):
            numbers[name] = value
        for name, value in numbers.items():
            self._share(name, np.array(value, self._shared[name].dtype))

    def _operands(self, elementwise: bool) -> Iterator[list[np.ndarray]]:
        """Parameter, gradient and states: whole, or block by block."""
        gradients = [p._grad._value for p in self._params]  # type: ignore[union-attr]
        p, *states = [cell.writable() for cell in self._cells]
        if not elementwise:
            shape = gradients[0].shape
            yield [p.reshape(shape), gradients[0], *(s.reshape(shape) for s in states)]
            return
        vectors = [p, joined(gradients), *states]
        if p.size <= BLOCK:
            yield vectors
            return
        for start in range(0, p.size, BLOCK):
            yield [v[start : start + BLOCK] for v in vectors]
