"""Where state is kept between calls of an executable: the arrays of Variables and of their gradients."""

from __future__ import annotations

import math
import operator
from collections import deque
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.node import leaf
from ..core.tensor import Tensor, Variable, new_tensor
from .capture import Gradient, State
from .state import grad_slot, node_slot, value_slot

_is = operator.is_
_LINE = 64  # bytes of a cache line

Writes = list[tuple[Any, Variable, Any]]


class Stale(Exception):
    """The state no longer has the form that the graph was made for."""


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A new array without content; large ones begin at a cache line."""
    if allocator(shape, dtype) is np.empty:
        return np.empty(shape, dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def allocator(shape: tuple[int, ...], dtype: np.dtype) -> Callable[..., np.ndarray]:
    return np.empty if math.prod(shape) * dtype.itemsize < 16 * _LINE else aligned


def placeholder(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array for what is set before the first call: numbers have memory of their own, the rest has none."""
    return np.zeros(shape, dtype) if math.prod(shape) <= 1 else np.broadcast_to(np.zeros((), dtype), shape)


def copy(array: np.ndarray) -> np.ndarray:
    made = aligned(array.shape, array.dtype)
    made[...] = array
    return made


def compact(array: np.ndarray) -> np.ndarray:
    return array if array.flags.c_contiguous else copy(array)


def publish(writes: Writes) -> None:
    """Set slots of Variables all at once: no Python code runs in between, so no interrupt can come in between."""
    if writes:
        slots, variables, contents = zip(*writes, strict=True)
        deque(map(operator.call, [slot.__set__ for slot in slots], variables, contents), maxlen=0)


class StatePlace:
    """Variables that share one input or output of the graph, and the array that holds their value."""

    __slots__ = ("array", "input", "nodes", "output", "requires_grad", "variables")

    def __init__(self, state: State) -> None:
        self.variables: list[Variable] = []
        self.input = state.input
        self.output = state.output
        self.requires_grad = state.requires_grad
        self.array: Any = None
        self.nodes: list[Any] = []

    def current(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """The value that the Variables have now.

        Raises:
            Stale: they have different ones, another shape or data type, or gradients were switched on or off.
        """
        first = value_slot.__get__(self.variables[0])
        if type(first) is not np.ndarray or first.shape != shape or first.dtype != dtype:
            raise Stale
        for variable in self.variables:
            node = node_slot.__get__(variable)
            if (node is not None and node.requires_grad) != self.requires_grad:
                raise Stale
            other = value_slot.__get__(variable)
            if other is not first and (other.dtype != dtype or other.tobytes() != first.tobytes()):
                raise Stale
        return first

    def is_current(self) -> bool:
        """Whether the Variables hold what they did when this was last noted."""
        return all(value_slot.__get__(v) is self.array for v in self.variables) and all(
            map(_is, map(node_slot.__get__, self.variables), self.nodes)
        )

    def note(self, array: np.ndarray) -> None:
        """Remember what the Variables hold."""
        self.array = array
        self.nodes = [node_slot.__get__(v) for v in self.variables]

    def hold(self, array: np.ndarray) -> Writes:
        """What to publish so that `array` is the value of the Variables."""
        self.array = array
        self.nodes = [leaf(array, True, owner=v) if self.requires_grad else None for v in self.variables]
        return [(value_slot, v, array) for v in self.variables] + [
            (node_slot, v, n) for v, n in zip(self.variables, self.nodes, strict=True)
        ]

    def watched(self) -> list[Any]:
        """The objects through which somebody else could see the array."""
        return [self.array, *_base(self.array), *(n for n in self.nodes if n is not None)]


class GradientPlace:
    """The gradient of a Variable, and the array that holds it."""

    __slots__ = ("array", "handle", "input", "output", "variable")

    def __init__(self, gradient: Gradient) -> None:
        self.variable = gradient.variable
        self.input = gradient.input
        self.output = gradient.output
        self.array: Any = None
        self.handle: Tensor | None = None

    def hold(self, array: np.ndarray) -> Writes:
        """What to publish so that `array` is the gradient."""
        self.array = array
        self.handle = new_tensor(array, None)
        return [(grad_slot, self.variable, self.handle)]

    def watched(self) -> list[Any]:
        """The objects through which somebody else could see the array."""
        return [self.handle, self.array, *_base(self.array)]


def _base(array: np.ndarray) -> list[Any]:
    return [] if array.base is None else [array.base]


def grouped(states: list[State]) -> list[StatePlace]:
    places: dict[Any, StatePlace] = {}
    for state in states:
        if state.input is not None or state.output is not None:
            place = places.setdefault((state.input, state.output), StatePlace(state))
            place.variables.append(state.variable)
    return list(places.values())
