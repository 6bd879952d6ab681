"""A compiled graph: native segments, host hand-overs between them, and the arrays of one caller."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.errors import IndexingError
from ...core.source import resolve
from ..code.pool import pool
from ..code.target import Library
from ..graph import Graph, Op
from ..memory import ALIGNMENT
from .image import HostCall, Image, KernelRecord, op_at

_SEGMENT = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


_SHORT = 20.0  # microseconds in which other Python threads may as well wait


@dataclass(frozen=True)
class NativeCall:
    """A program bound to arrays, all of which is one native function, as addresses.

    Attributes:
        table: the arrays' addresses.
        function: takes the table, a thread's number and the number of threads.
        flag: a byte that is set when an index was out of range.
        threads: how many run it; 1: the caller alone.
        run: the pool's function that runs it on several.
        releases: whether other Python threads run meanwhile.
        owner: keeps all of it alive.
    """

    table: int
    function: int
    flag: int
    threads: int
    run: int
    releases: bool
    owner: Any


class Program:
    """Native code with what it needs to run; several callers may use one program at once.

    Attributes:
        graph: what it computes.
        kernels: what it consists of, in order.
        arena: bytes of working memory for each caller.
        threads: how many threads the work is cut up for; 1 where it is too little to share.
        code_bytes: size of the machine code.
        cached: whether the machine code comes from the disk cache.
        is_atomic: a call is one native call, which either does all of its work or overwrites no state.
    """

    def __init__(self, graph: Graph, image: Image, library: Library, code_bytes: int, *, cached: bool) -> None:
        self.graph = graph
        self.kernels: list[KernelRecord] = image.kernels
        self.arena = image.arena
        self.threads = image.threads
        self.code_bytes = code_bytes
        self.cached = cached
        self.is_atomic = all(isinstance(s, str) for s in image.steps) and len(image.steps) <= 1
        self._image, self._library = image, library
        self._ops = [*graph.ops, *image.host_ops]
        known = list(graph.constants.values())
        self._constants = [_contiguous(known[c] if isinstance(c, int) else c) for c in image.constants]
        self._functions = {name: _SEGMENT(library[name]) for name in image.segments}

    @property
    def host_ops(self) -> list[Op]:
        """The operations that NumPy computes."""
        return [self._ops[s.op] for s in self._image.steps if isinstance(s, HostCall)]

    def bind(self, inputs: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> BoundProgram:
        """The program on these arrays (C-contiguous, of the graph's shapes and data types)."""
        room = np.empty(self.arena + ALIGNMENT, np.uint8)
        start = -room.ctypes.data % ALIGNMENT
        count = len(self._image.faults)
        flags = np.zeros(count + 1 if count > 1 else count, np.bool_)
        arrays = [*inputs, *outputs, *(flags[i : i + 1] for i in range(flags.size)), *self._constants]
        return BoundProgram(self, [*arrays, room[start : start + self.arena]], len(inputs), flags)

    def fault(self, flags: np.ndarray) -> IndexingError:
        """The error for the checks of indices that failed."""
        op, length = next(
            (op_at(self.graph, path), length)
            for (path, length), failed in zip(self._image.faults, flags[1:] if flags.size > 1 else flags, strict=True)
            if failed
        )
        message = f"{op.primitive.name}: an index is out of range for an axis of length {length}"
        place = resolve(op.place)
        return IndexingError(f"{message}\n  at {place}" if place else message)

    def native(self, table: int, flag: int, owner: Any) -> NativeCall | None:
        """A call of a program that is one native function; None if it is not."""
        if not self.is_atomic or not self._image.segments:
            return None
        (name,) = self._image.segments
        run = pool().address if self.threads > 1 else 0
        releases = self.threads > 1 or self._image.microseconds > _SHORT
        return NativeCall(table, self._library[name], flag, self.threads, run, releases, owner)

    def calls(self, arrays: list[np.ndarray], table: int) -> list[Callable[[], None]]:
        """What a call runs in order, on these arrays and the table of their addresses."""
        calls: list[Callable[[], None]] = []
        for step in self._image.steps:
            if isinstance(step, HostCall):
                calls.append(_Host(self._ops[step.op], step, arrays))
            elif self.threads == 1:
                calls.append(_alone(self._functions[step], table))
            else:
                calls.append(_shared(self._library[step], table, self.threads))
        return calls


class BoundProgram:
    """A program with its arrays. Arrays and machine code live as long as this does.

    Attributes:
        parts: what a call runs, in order: native segments and NumPy's operations.
    """

    def __init__(self, program: Program, arrays: list[np.ndarray], inputs: int, flags: np.ndarray) -> None:
        self._program, self._arrays, self._inputs, self._flags = program, arrays, inputs, flags
        self._flag_bytes = flags.view(np.uint8) if flags.size else np.zeros(1, np.uint8)
        self._flag = self._flag_bytes.data
        self._table = (ctypes.c_uint64 * len(arrays))(*(a.ctypes.data for a in arrays))
        self.parts = program.calls(arrays, ctypes.addressof(self._table))

    def set_input(self, position: int, array: np.ndarray) -> None:
        """Read another array as this input from now on."""
        self._arrays[position] = array
        self._table[position] = address(array)

    def set_output(self, position: int, array: np.ndarray) -> None:
        """Write another array as this output from now on."""
        self.set_input(self._inputs + position, array)

    def native(self) -> NativeCall | None:
        """See `Call`."""
        return self._program.native(ctypes.addressof(self._table), self._flag_bytes.ctypes.data, self)

    def fault(self) -> IndexingError:
        """The error for an index that was out of range in the last call."""
        return self._program.fault(self._flags)

    def __call__(self) -> None:
        """Compute the outputs from what the inputs hold now.

        Raises:
            IndexingError: an index that is read from data is out of range. No state has been overwritten.
        """
        flag = self._flag
        for part in self.parts:
            part()
            if flag[0]:
                raise self.fault()


def _by_layout(array: np.ndarray) -> int:
    # The address follows the two words that begin every Python object; a third of the time of `array.ctypes.data`.
    return ctypes.c_size_t.from_address(id(array) + 2 * ctypes.sizeof(ctypes.c_void_p)).value


def _is_laid_out_so() -> bool:
    arrays: list[np.ndarray] = [np.zeros(3), np.zeros((2, 2), np.int8)[1:]]
    return sys.implementation.name == "cpython" and all(_by_layout(a) == a.ctypes.data for a in arrays)


address: Callable[[np.ndarray], int] = _by_layout if _is_laid_out_so() else lambda array: int(array.ctypes.data)
"""Where an array's memory begins."""


def _contiguous(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).reshape(array.shape)


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

    def __init__(self, op: Op, step: HostCall, arrays: list[np.ndarray]) -> None:
        self._op, self._step, self._arrays = op, step, arrays

    def __call__(self) -> None:
        values = [place.on(self._arrays) for place in self._step.operands]
        result = self._op.primitive.evaluate(values, self._op.params)
        results = result if isinstance(result, tuple) else (result,)
        for place, array in zip(self._step.results, results, strict=True):
            place.on(self._arrays)[...] = array
