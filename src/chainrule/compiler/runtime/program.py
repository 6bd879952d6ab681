"""A compiled graph: native segments, host hand-overs between them, and the arrays of one caller."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..code.pool import pool
from ..code.target import Library
from ..memory import ALIGNMENT
from ..schedule.kernels import HostKernel, View

_SEGMENT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


@dataclass(frozen=True)
class Step:
    """Part of a program: a native function by name, or an operation that NumPy computes."""

    segment: str = ""
    host: HostKernel | None = None


class Program:
    """Native code with what it needs to run; several callers may use one program at once.

    Attributes:
        steps: what runs in which order.
        slots: slot and first byte of every buffer.
        shapes: shape and data type of what the slots of inputs, outputs and constants hold.
        arena: bytes of working memory for each caller.
        threads: how many threads the work is cut up for; 1 where it is too little to share.
        is_atomic: a call is one native call.
    """

    def __init__(
        self,
        library: Library,
        steps: Sequence[Step],
        slots: dict[Any, tuple[int, int]],
        constants: Sequence[np.ndarray],
        counts: tuple[int, int],
        arena: int,
        threads: int,
    ) -> None:
        self.library = library
        self.steps = list(steps)
        self.slots = slots
        self.constants = [np.ascontiguousarray(c).reshape(c.shape) for c in constants]
        self.inputs, self.outputs = counts
        self.arena = arena
        self.threads = threads
        self.is_atomic = len(self.steps) <= 1 and not any(s.host for s in self.steps)
        self.functions = {s.segment: _SEGMENT(library[s.segment]) for s in self.steps if s.segment}

    def bind(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> BoundProgram:
        """The program on these arrays (C-contiguous, of the graph's shapes and data types)."""
        return BoundProgram(self, inputs, outputs)


class BoundProgram:
    """A program with its arrays; they are kept alive here."""

    def __init__(self, program: Program, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
        self._program = program
        room = np.empty(program.arena + ALIGNMENT, np.uint8)
        start = -room.ctypes.data % ALIGNMENT
        self._arrays: list[np.ndarray] = [*inputs, *outputs, *program.constants, room[start : start + program.arena]]
        self._offset = program.inputs
        self._table = (ctypes.c_uint64 * len(self._arrays))(*(a.ctypes.data for a in self._arrays))
        address = ctypes.addressof(self._table)
        calls: list[Callable[[], None]] = []
        for step in program.steps:
            if step.host is None:
                if program.threads == 1:
                    calls.append(_alone(program.functions[step.segment], address))
                else:
                    calls.append(_shared(program.library[step.segment], address, program.threads))
            else:
                calls.append(_Host(self, step.host))
        self._calls = calls

    def set_input(self, position: int, array: np.ndarray) -> None:
        """Read another array as this input from now on."""
        self._arrays[position] = array
        self._table[position] = array.ctypes.data

    def set_output(self, position: int, array: np.ndarray) -> None:
        """Write another array as this output from now on."""
        self.set_input(self._offset + position, array)

    def __call__(self) -> None:
        """Compute the outputs from what the inputs hold now."""
        for call in self._calls:
            call()

    def view(self, wanted: View) -> np.ndarray:
        """A buffer as an array."""
        slot, first = self._program.slots[wanted.base]
        size = np.dtype(wanted.dtype).itemsize
        base = self._arrays[slot]
        if 0 in wanted.shape:
            return np.empty(wanted.shape, wanted.dtype)
        # A view may start behind its first element (a reversed axis): address the whole buffer.
        return np.ndarray(
            wanted.shape, wanted.dtype, base, first + wanted.offset * size, tuple(s * size for s in wanted.strides)
        )


def _alone(function: Any, table: int) -> Callable[[], None]:
    def call() -> None:
        function(table, 0, 1)

    return call


def _shared(function: int, table: int, threads: int) -> Callable[[], None]:
    workers = pool()

    def call() -> None:
        workers.run(function, table, threads)

    return call


class _Host:
    """An operation computed by NumPy on views of the buffers."""

    def __init__(self, bound: BoundProgram, kernel: HostKernel) -> None:
        self._bound, self._kernel = bound, kernel

    def __call__(self) -> None:
        op = self._kernel.op
        values = [self._bound.view(v) for v in self._kernel.operands]
        result = op.primitive.evaluate(values, op.params)
        for value, array in zip(op.outputs, result if isinstance(result, tuple) else (result,), strict=True):
            slot, first = self._bound._program.slots[value]
            base = self._bound._arrays[slot]
            if value.size:
                np.ndarray(value.shape, value.dtype, base, first)[...] = array
