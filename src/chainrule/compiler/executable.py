"""An executable: a captured function with its program, bound to the arrays of the state it changes.

A call reads state where it is and, where the program is one native call, writes new state over old.
Tensors are immutable, so that is done only where nobody else can see the array: state is moved to an
array of the executable's own first, and again whenever somebody else has taken hold of that.

All of this is seen to by Python once (`__call__`). What it came to is then a list of facts, each a word in
memory and what it has to be, and as long as they hold calls go through a native function (`enter`), which compares
them and runs the program.
"""

from __future__ import annotations

import operator
import sys
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import source
from ..core.memory import return_freed_memory
from ..core.tensor import Tensor, Variable, new_tensor
from .capture import Captured
from .places import (
    GradientPlace,
    StatePlace,
    aligned,
    allocator,
    compact,
    copy,
    grouped,
    placeholder,
    publish,
)
from .program import Program
from .runtime.entry import CONSTANTS, Entry, Fact, is_simple, places
from .state import grad_slot

_value_of = operator.attrgetter("_value")
_node_of = operator.attrgetter("_node")
_grad_of = operator.attrgetter("_grad")
_is = operator.is_
_count = sys.getrefcount
_MUCH = 16 << 20  # bytes of old state that are given back to the system at once


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
        self._last: Sequence[Any] = ()
        self._entry: Entry | None = None
        self._facts: list[Fact] | None = None
        graph = captured.graph
        self._specs = [(v.shape, v.dtype) for v in graph.outputs]
        self._inputs = [placeholder(v.shape, v.dtype) for v in graph.inputs]
        self._call = program.bind(self._inputs, [placeholder(*spec) for spec in self._specs])
        self._results = [self._destination(r.output, r.argument) for r in captured.results]
        self._results += [self._destination(a.output, None) for a in captured.argument_gradients]
        self._arguments = captured.arguments
        self._snapshots: list[Any] = [None] * len(captured.sources)
        self._states = grouped(captured.states)
        self._variables = [v for place in self._states for v in place.variables]
        self._values: list[Any] = [None] * len(self._variables)
        # Where gradients may be switched on or off: not for an optimiser's states.
        self._switched = {v: None for v in self._variables if type(v) is not Variable}
        self._nodes: list[Any] = [None] * len(self._switched)
        self._read_gradients = [g for g in captured.gradients if g.was_there is not None]
        self._gradients = [GradientPlace(g) for g in captured.gradients if g.output is not None or g.input is not None]
        self._accumulated = [place for place in self._gradients if place.input is not None]
        self._graded = [place.variable for place in self._gradients if place.output is not None]
        self._handles: list[Any] = []
        self._given = [(g.variable, g.argument) for g in captured.gradients if g.argument is not None]
        self._cleared = [g.variable for g in captured.gradients if g.writes and g.output is None and g.argument is None]
        places: list[Any] = [*self._states, *self._gradients]
        self._written = [place for place in places if place.output is not None]
        self._watched: list[Any] = []
        self._alone: list[int] = []  # the counts of what is watched while nobody else refers to it
        self._is_watching = False
        self._is_under_way = False
        self.place = source.capture(2)  # where the first call was written

    def _destination(self, output: int, argument: int | None) -> tuple[Any, ...]:
        """Where a result goes: position, shape, data type and maker of its array, or the argument that it is."""
        if argument is not None:
            return -1, (), None, None, argument
        return output, *self._specs[output], allocator(*self._specs[output]), None

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
        return not self._read_gradients or all(
            (g.variable.grad is not None) == g.was_there for g in self._read_gradients
        )

    def __call__(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Run on the arguments' arrays: the results, then what is added to the arguments' gradients.

        Raises:
            Stale: the state has another form than the graph was made for; nothing has been done.
        """
        with self._lock:
            if self._entry is not None:
                self._entry.disarm()
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
                if not self._is_watching or list(map(_count, self._watched)) != self._alone:
                    self._move()
                    self._watch()
            else:
                fresh = [aligned(*self._specs[place.output]) for place in self._written]
                for place, array in zip(self._written, fresh, strict=True):
                    self._call.set_output(place.output, array)
            set_input, set_output = self._call.set_input, self._call.set_output
            for position, array in zip(self._arguments, arrays, strict=True):
                if position is not None:
                    set_input(position, array if array.flags.c_contiguous else copy(array))
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
                publish([w for place, array in zip(self._written, fresh, strict=True) for w in place.hold(array)])
                for place in self._written:
                    self._set_input(place.input, place.array)
                self._note()
            if self._given:
                publish([(grad_slot, v, new_tensor(arrays[i], None)) for v, i in self._given])
            if self._cleared:
                publish([(grad_slot, v, None) for v in self._cleared])
            self._is_under_way = False
            if self._entry is not None:
                self._arm(self._entry)
            return results

    def open(self, args: Sequence[Any]) -> bool:
        """Whether calls with arguments like these, whose call has just returned, may go through `enter`."""
        if self._entry is not None:
            return True
        found, native = places(), self._call.native()
        results = [position for position, *_, argument in self._results if argument is None]
        if (
            found is None
            or native is None
            or not self._overwrites
            or not all(map(is_simple, args))
            or len(results) < len(self._results)
            or self.captured.argument_gradients
            or self._given
            or any(place.output is None for place in self._accumulated)
        ):
            return False
        slots = iter(self._arguments)
        given = [(a, None if isinstance(a, CONSTANTS) else next(slots)) for a in args]
        self._makers = [(new, shape, dtype) for _, shape, dtype, new, _ in self._results]
        with self._lock:
            self._entry = Entry(found, given, [len(self._inputs) + position for position in results], native)
            self._facts = None
            if not self._is_under_way:
                self._arm(self._entry)
        return True

    def _arm(self, entry: Entry) -> None:
        if self._facts is None:
            self._facts = self._known()
            entry.know(self._facts)
        entry.arm()

    def _known(self) -> list[Fact]:
        """What a call may take for granted of the state as it is now."""
        found = places()
        assert found is not None
        return [
            *map(found.holds_value, self._variables, self._values),
            *map(found.holds_node, self._switched, self._nodes),
            *map(found.holds_grad, self._graded, self._handles),
            *(found.holds_grad(variable, None) for variable in self._cleared),
            *map(found.is_counted, self._watched, self._alone),
        ]

    def enter(self, args: Sequence[Any]) -> list[np.ndarray] | None:
        """Run on arguments of the form that was opened: the results; None if something has changed.

        Raises:
            IndexingError: an index was out of range.
        """
        entry = self._entry
        assert entry is not None
        with self._lock:
            made = [new(shape, dtype) for new, shape, dtype in self._makers]
            outcome = entry.enter(*args, *made)
            if not outcome:
                return None
            self._last = args
            if outcome > 1:
                raise self._call.fault()
            return made

    def _forget(self) -> None:
        """Take up everything anew: the last call did not end, and what is noted here may be what it was about to do."""
        for place in self._states:
            place.array, place.nodes = None, []
        for gradient in self._gradients:
            gradient.array, gradient.handle = None, None
        self._values = [None] * len(self._variables)
        self._nodes = [None] * len(self._switched)
        self._handles, self._watched, self._alone, self._is_watching = [], [], [], False

    def inputs(self) -> list[np.ndarray]:
        """What the next call would read with the arguments of the last one, as copies."""
        made = [a.copy() for a in self._inputs]
        arrays = [a._value if isinstance(a, Tensor) else a for a in self._last if not isinstance(a, CONSTANTS)]
        for position, array in zip(self._arguments, arrays, strict=True):
            if position is not None:
                made[position] = copy(array)
        return made

    def _has_gradients(self) -> bool:
        """Whether the Variables hold the arrays that the call is about to write."""
        try:
            return all(map(_is, map(_grad_of, self._graded), self._handles))
        except AttributeError:
            return False

    def _publish_gradients(self) -> None:
        publish([(grad_slot, p.variable, p.handle) for p in self._gradients if p.output is not None])

    def _claim(self) -> None:
        """Take up the values that the Variables have now."""
        values = deque(place.current(*self._spec(place)) for place in self._states)
        left = 0
        for place in self._states:
            value = values.popleft()  # the old array goes before the next is copied
            if place.is_current():
                continue
            if self._overwrites and place.output is not None:
                self._settle(place, copy(value))
                left += value.nbytes
            else:
                place.note(value)
                self._set_input(place.input, value)
            del value
            if left > _MUCH:
                return_freed_memory()
                left = 0
        self._note()

    def _spec(self, place: StatePlace) -> tuple[Any, Any]:
        if place.input is None:
            assert place.output is not None
            return self._specs[place.output]
        value = self.captured.graph.inputs[place.input]
        return value.shape, value.dtype

    def _take_gradient(self, place: GradientPlace) -> None:
        """Read what `.grad` holds now."""
        grad = place.variable.grad
        assert grad is not None
        if grad is not place.handle:
            array = grad._array("a gradient")
            if self._overwrites and place.output is not None:
                self._settle(place, copy(array))
            else:
                self._set_input(place.input, array)

    def _settle(self, place: Any, array: np.ndarray) -> None:
        """Give a place an array of its own, which calls overwrite."""
        publish(place.hold(array))
        self._call.set_output(place.output, array)
        self._set_input(place.input, array)
        self._is_watching, self._facts = False, None

    def _set_input(self, position: int | None, array: np.ndarray) -> None:
        if position is not None:
            self._inputs[position] = compact(array)
            self._call.set_input(position, self._inputs[position])

    def _note(self) -> None:
        self._facts = None
        self._values = [place.array for place in self._states for _ in place.variables]
        self._nodes = [
            n for p in self._states for v, n in zip(p.variables, p.nodes, strict=True) if v in self._switched
        ]

    def _move(self) -> None:
        """Move what somebody else can see to arrays that nobody can."""
        counts = list(map(_count, self._watched))
        seen = {id(w) for w, now, alone in zip(self._watched, counts, self._alone, strict=True) if now != alone}
        for place in self._written:
            if place.array is None:
                self._settle(place, aligned(*self._specs[place.output]))
            elif any(id(watched) in seen for watched in place.watched()):
                self._settle(place, copy(place.array))
        self._note()

    def _watch(self) -> None:
        self._handles = [place.handle for place in self._gradients if place.output is not None]
        self._watched = [watched for place in self._written for watched in place.watched()]
        self._alone = list(map(_count, self._watched))
        self._is_watching, self._facts = True, None
