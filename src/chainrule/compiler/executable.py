"""An executable: a captured function with its program, bound to the arrays of the state it changes.

A call reads state where it is and, where the program is one native call, writes new state over old.
Tensors are immutable, so that is done only where nobody else can see the array: state is moved to an
array of the executable's own first, and again whenever somebody else has taken hold of that.
"""

from __future__ import annotations

import math
import operator
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core import source
from ..core.memory import return_freed_memory
from ..core.node import leaf
from ..core.tensor import Tensor, Variable, new_tensor
from .capture import Captured, Gradient, State
from .program import Program
from .state import grad_slot, node_slot, value_slot

_value_of = operator.attrgetter("_value")
_node_of = operator.attrgetter("_node")
_grad_of = operator.attrgetter("_grad")
_is = operator.is_
_count = sys.getrefcount
_LINE = 64  # bytes of a cache line
_MUCH = 16 << 20  # bytes of old state that are given back to the system at once

Writes = list[tuple[Any, Variable, Any]]


class Stale(Exception):
    """The state no longer has the form that the graph was made for."""


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A new array without content; large ones begin at a cache line."""
    if _allocator(shape, dtype) is np.empty:
        return np.empty(shape, dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + size].view(dtype).reshape(shape)


def _allocator(shape: tuple[int, ...], dtype: np.dtype) -> Callable[..., np.ndarray]:
    return np.empty if math.prod(shape) * dtype.itemsize < 16 * _LINE else aligned


def _placeholder(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array for what is set before the first call: numbers have memory of their own, the rest has none."""
    return np.zeros(shape, dtype) if math.prod(shape) <= 1 else np.broadcast_to(np.zeros((), dtype), shape)


def _copy(array: np.ndarray) -> np.ndarray:
    made = aligned(array.shape, array.dtype)
    made[...] = array
    return made


def _compact(array: np.ndarray) -> np.ndarray:
    return array if array.flags.c_contiguous else _copy(array)


def _publish(writes: Writes) -> None:
    """Set slots of Variables all at once: no Python code runs in between, so no interrupt can come in between."""
    if writes:
        slots, variables, contents = zip(*writes, strict=True)
        deque(map(operator.call, [slot.__set__ for slot in slots], variables, contents), maxlen=0)


class _StatePlace:
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


class _GradientPlace:
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


class Executable:
    """See the module. Calls of one executable exclude each other.

    Attributes:
        captured: what runs.
        program: what runs it.
        place: where in the user's code the first call is.
        seconds: how long the stages took that made it.
    """

    def __init__(self, captured: Captured, program: Program, seconds: dict[str, float] | None = None) -> None:
        self.captured = captured
        self.seconds = seconds or {}
        self.program = program
        self._overwrites = program.is_atomic
        self._lock = threading.Lock()
        self._last: Sequence[np.ndarray] = ()
        graph = captured.graph
        self._specs = [(v.shape, v.dtype) for v in graph.outputs]
        self._inputs = [_placeholder(v.shape, v.dtype) for v in graph.inputs]
        self._call = program.bind(self._inputs, [_placeholder(*spec) for spec in self._specs])
        self._results = [self._destination(r.output, r.argument) for r in captured.results]
        self._results += [self._destination(a.output, None) for a in captured.argument_gradients]
        self._arguments = captured.arguments
        self._snapshots: list[Any] = [None] * len(captured.sources)
        self._states = _grouped(captured.states)
        self._variables = [v for place in self._states for v in place.variables]
        self._values: list[Any] = [None] * len(self._variables)
        # Where gradients may be switched on or off: not for an optimiser's states.
        self._switched = {v: None for v in self._variables if type(v) is not Variable}
        self._nodes: list[Any] = [None] * len(self._switched)
        self._read_gradients = [g for g in captured.gradients if g.was_there is not None]
        self._gradients = [_GradientPlace(g) for g in captured.gradients if g.output is not None or g.input is not None]
        self._accumulated = [place for place in self._gradients if place.input is not None]
        self._graded = [place.variable for place in self._gradients if place.output is not None]
        self._handles: list[Any] = []
        self._given = [(g.variable, g.argument) for g in captured.gradients if g.argument is not None]
        self._cleared = [g.variable for g in captured.gradients if g.writes and g.output is None and g.argument is None]
        places: list[Any] = [*self._states, *self._gradients]
        self._written = [place for place in places if place.output is not None]
        self._watched: list[Any] = []
        self._alone: list[int] | None = None
        self._is_under_way = False
        self.place = source.capture(2)  # where the first call was written

    def _destination(self, output: int, argument: int | None) -> tuple[Any, ...]:
        """Where a result goes: position, shape, data type and maker of its array, or the argument that it is."""
        if argument is not None:
            return -1, (), None, None, argument
        return output, *self._specs[output], _allocator(*self._specs[output]), None

    def fits(self) -> bool:
        """Whether modules, optimisers and gradients still are what the graph was made for."""
        if not self.captured.guards.hold():
            return False
        for index, (origin, positions) in enumerate(self.captured.sources):
            now = origin.read()
            before = self._snapshots[index]
            if before is None or not all(map(_is, now, before)):
                structure, numbers = origin.split(now)
                if structure != origin.structure:
                    return False
                for position, number in zip(positions, numbers, strict=True):
                    if position is not None:
                        self._inputs[position][...] = number
                self._snapshots[index] = now
        return all((g.variable.grad is not None) == g.was_there for g in self._read_gradients)

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run on the arguments' arrays: the results, then what is added to the arguments' gradients.

        Raises:
            Stale: the state has another form than the graph was made for; nothing has been done.
        """
        with self._lock:
            if self._is_under_way:
                self._forget()
            self._is_under_way = True
            self._last = arrays
            if not (
                all(map(_is, map(_value_of, self._variables), self._values))
                and all(map(_is, map(_node_of, self._switched), self._nodes))
            ):
                self._claim()
            for place in self._accumulated:
                self._take_gradient(place)
            if self._overwrites:
                # In this order: a count tells only while the Variables still refer to the arrays.
                if self._handles and not self._has_gradients():
                    self._publish_gradients()
                if list(map(_count, self._watched)) != self._alone:
                    self._move()
                    self._watch()
            else:
                fresh = [aligned(*self._specs[place.output]) for place in self._written]
                for place, array in zip(self._written, fresh, strict=True):
                    self._call.set_output(place.output, array)
            set_input, set_output = self._call.set_input, self._call.set_output
            for position, array in zip(self._arguments, arrays, strict=True):
                if position is not None:
                    set_input(position, array if array.flags.c_contiguous else _copy(array))
            results = []
            for position, shape, dtype, new, argument in self._results:
                if argument is not None:
                    results.append(arrays[argument])
                    continue
                made = new(shape, dtype)
                results.append(made)
                set_output(position, made)
            self._call()
            if not self._overwrites:
                _publish([w for place, array in zip(self._written, fresh, strict=True) for w in place.hold(array)])
                for place in self._written:
                    self._set_input(place.input, place.array)
                self._note()
            if self._given:
                _publish([(grad_slot, v, new_tensor(arrays[i], None)) for v, i in self._given])
            if self._cleared:
                _publish([(grad_slot, v, None) for v in self._cleared])
            self._is_under_way = False
            return results

    def _forget(self) -> None:
        """Take up everything anew: the last call did not end, and what is noted here may be what it was about to do."""
        for place in self._states:
            place.array, place.nodes = None, []
        for gradient in self._gradients:
            gradient.array, gradient.handle = None, None
        self._values = [None] * len(self._variables)
        self._nodes = [None] * len(self._switched)
        self._handles, self._watched, self._alone = [], [], None

    def inputs(self) -> list[np.ndarray]:
        """What the next call would read with the arguments of the last one, as copies."""
        made = [a.copy() for a in self._inputs]
        for position, array in zip(self._arguments, self._last, strict=True):
            if position is not None:
                made[position] = _copy(array)
        return made

    def _has_gradients(self) -> bool:
        """Whether the Variables hold the arrays that the call is about to write."""
        try:
            return all(map(_is, map(_grad_of, self._graded), self._handles))
        except AttributeError:
            return False

    def _publish_gradients(self) -> None:
        _publish([(grad_slot, p.variable, p.handle) for p in self._gradients if p.output is not None])

    def _claim(self) -> None:
        """Take up the values that the Variables have now."""
        values = deque(place.current(*self._spec(place)) for place in self._states)
        left = 0
        for place in self._states:
            value = values.popleft()  # the old array goes before the next is copied
            if place.is_current():
                continue
            if self._overwrites and place.output is not None:
                self._settle(place, _copy(value))
                left += value.nbytes
            else:
                place.note(value)
                self._set_input(place.input, value)
            del value
            if left > _MUCH:
                return_freed_memory()
                left = 0
        self._note()

    def _spec(self, place: _StatePlace) -> tuple[Any, Any]:
        if place.input is None:
            assert place.output is not None
            return self._specs[place.output]
        value = self.captured.graph.inputs[place.input]
        return value.shape, value.dtype

    def _take_gradient(self, place: _GradientPlace) -> None:
        """Read what `.grad` holds now."""
        grad = place.variable.grad
        assert grad is not None
        if grad is not place.handle:
            array = grad._array("a gradient")
            if self._overwrites and place.output is not None:
                self._settle(place, _copy(array))
            else:
                self._set_input(place.input, array)

    def _settle(self, place: Any, array: np.ndarray) -> None:
        """Give a place an array of its own, which calls overwrite."""
        _publish(place.hold(array))
        self._call.set_output(place.output, array)
        self._set_input(place.input, array)
        self._alone = None

    def _set_input(self, position: int | None, array: np.ndarray) -> None:
        if position is not None:
            self._inputs[position] = _compact(array)
            self._call.set_input(position, self._inputs[position])

    def _note(self) -> None:
        self._values = [place.array for place in self._states for _ in place.variables]
        self._nodes = [
            n for p in self._states for v, n in zip(p.variables, p.nodes, strict=True) if v in self._switched
        ]

    def _move(self) -> None:
        """Move what somebody else can see to arrays that nobody can."""
        counts = list(map(_count, self._watched))
        seen = {id(w) for w, now, alone in zip(self._watched, counts, self._alone or (), strict=False) if now != alone}
        for place in self._written:
            if place.array is None:
                self._settle(place, aligned(*self._specs[place.output]))
            elif any(id(watched) in seen for watched in place.watched()):
                self._settle(place, _copy(place.array))
        self._note()

    def _watch(self) -> None:
        self._handles = [place.handle for place in self._gradients if place.output is not None]
        self._watched = [watched for place in self._written for watched in place.watched()]
        self._alone = list(map(_count, self._watched))


def _grouped(states: Sequence[State]) -> list[_StatePlace]:
    places: dict[Any, _StatePlace] = {}
    for state in states:
        if state.input is not None or state.output is not None:
            place = places.setdefault((state.input, state.output), _StatePlace(state))
            place.variables.append(state.variable)
    return list(places.values())
