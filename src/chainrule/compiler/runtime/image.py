"""What a program is, apart from its machine code: plain data that a file can hold.

An image refers to the graph by positions: the operations that a kernel covers, those that NumPy
computes, the constants that are read from memory. With the same graph it can be made a program again.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...core.primitive import table
from ..graph import Graph, Op, Value
from ..nested import Nested
from ..schedule.kernels import (
    AttentionKernel,
    GemmKernel,
    HostKernel,
    Kernel,
    LoopKernel,
    NestedKernel,
    RandomKernel,
    RowKernel,
    ScatterKernel,
    View,
    WindowKernel,
)
from .layout import Layout
from .work import is_shared, microseconds


@dataclass(frozen=True)
class Place:
    """An array in a slot of the pointer table: its first byte, shape, strides in bytes and data type."""

    slot: int
    first: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: str

    def on(self, arrays: list[np.ndarray]) -> np.ndarray:
        """The array, in the memory of the slots."""
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)
        return np.ndarray(self.shape, self.dtype, arrays[self.slot], self.first, self.strides)


@dataclass(frozen=True)
class KernelRecord:
    """A kernel as the report shows it.

    Attributes:
        kind: loops, product, window, rows, scatter, random, scan, cond or host.
        ops: positions of the operations it covers in the graph that was built.
        function: its function in the machine code; several kernels may share one.
        nbytes: bytes that it reads and writes.
        shared: whether threads share its work.
    """

    kind: str
    ops: tuple[int, ...]
    function: str
    nbytes: int
    shared: bool


@dataclass(frozen=True)
class HostCall:
    """An operation of the graph that NumPy computes, by position, with its arrays."""

    op: int
    operands: tuple[Place, ...]
    results: tuple[Place, ...]


@dataclass
class Image:
    """A program's plan.

    Attributes:
        steps: names of native functions, and host calls.
        kernels: what the native functions consist of.
        constants: for each constant in memory its position among the graph's, or the array itself.
        arena: bytes of working memory.
        threads: how many threads the work is cut up for; 1 where it is too little to share.
        microseconds: roughly what a call takes on one thread.
        faults: for each check of indices the position of the operation, for one inside of another that of the
            outer one, the graph's and its own; and the length of the axis.
        host_ops: operations of host calls that the graph itself does not have, numbered from its end.
    """

    steps: list[str | HostCall]
    kernels: list[KernelRecord]
    constants: list[int | np.ndarray]
    arena: int
    threads: int
    microseconds: float
    faults: list[tuple[tuple[int, ...], int]] = field(default_factory=list)
    host_ops: list[Op] = field(default_factory=list)

    @property
    def segments(self) -> list[str]:
        return [s for s in self.steps if isinstance(s, str)]

    def document(self) -> dict[str, Any] | None:
        """The image as what JSON can express; None if only this process can run it."""
        if self.host_ops:
            return None
        return {
            "steps": [s if isinstance(s, str) else _host_document(s) for s in self.steps],
            "kernels": [[k.kind, list(k.ops), k.function, k.nbytes, k.shared] for k in self.kernels],
            "constants": [c if isinstance(c, int) else _array_document(c) for c in self.constants],
            "arena": self.arena,
            "threads": self.threads,
            "microseconds": self.microseconds,
            "faults": self.faults,
        }

    @staticmethod
    def of(document: dict[str, Any]) -> Image:
        """The image that `document` describes."""
        return Image(
            [s if isinstance(s, str) else _host_call(s) for s in document["steps"]],
            [KernelRecord(kind, tuple(ops), name, n, shared) for kind, ops, name, n, shared in document["kernels"]],
            [c if isinstance(c, int) else _array(c) for c in document["constants"]],
            int(document["arena"]),
            int(document["threads"]),
            float(document["microseconds"]),
            [(tuple(map(int, path)), int(length)) for path, length in document["faults"]],
        )


def image(graph: Graph, planned: Layout, steps: list[str | HostKernel], names: list[str], threads: int) -> Image:
    """The image of a program for `graph`; `names` are the functions of the kernels."""
    positions = {op: i for i, op in enumerate(graph.ops)}
    constants = {v: i for i, v in enumerate(graph.constants)}
    made = Image([], [], [], planned.arena, threads, sum(map(microseconds, planned.kernels)))
    made.faults = [(_path(graph, fault.ops), fault.length) for fault in planned.prepared.faults]
    for step in steps:
        if isinstance(step, str):
            made.steps.append(step)
            continue
        op = step.op
        origin = planned.prepared.origins.get(op, op)
        same = origin in positions and origin.primitive is op.primitive and origin.params == op.params
        if same and table.get(op.primitive.name) is op.primitive:
            position = positions[origin]
        else:
            position = len(graph.ops) + len(made.host_ops)
            made.host_ops.append(op)
        operands = tuple(_place(planned, v) for v in step.operands)
        results = tuple(_place(planned, _whole(v)) for v in op.outputs)
        made.steps.append(HostCall(position, operands, results))
    for kernel, name in zip(planned.kernels, names, strict=True):
        ops = dict.fromkeys(
            positions[o] for op in kernel.ops if (o := planned.prepared.origins.get(op, op)) in positions
        )
        nbytes = sum(v.nbytes for v in (*kernel.reads, *kernel.writes))
        made.kernels.append(KernelRecord(_kind(kernel), tuple(ops), name, nbytes, threads > 1 and is_shared(kernel)))
    for value in planned.constants:
        position = constants.get(value, -1)
        made.constants.append(planned.prepared.graph.constants[value] if position < 0 else position)
    return made


def _path(graph: Graph, ops: Sequence[Op]) -> tuple[int, ...]:
    """Where an operation is: the last of `ops`, in graphs of those before it."""
    outer, *inner = ops
    position = next(i for i, op in enumerate(graph.ops) if op is outer)
    if not inner:
        return (position,)
    assert isinstance(outer.primitive, Nested)
    which, inside = next((i, g) for i, g in enumerate(outer.primitive.graphs) if inner[0] in g.ops)
    return (position, which, *_path(inside, inner))


def op_at(graph: Graph, path: Sequence[int]) -> Op:
    """The operation at a path of `Image.faults`."""
    op = graph.ops[path[0]]
    if len(path) == 1:
        return op
    assert isinstance(op.primitive, Nested)
    return op_at(op.primitive.graphs[path[1]], path[2:])


_KINDS: dict[type[Kernel], str] = {
    AttentionKernel: "attention",
    LoopKernel: "loops",
    GemmKernel: "product",
    WindowKernel: "window",
    ScatterKernel: "scatter",
    RandomKernel: "random",
    RowKernel: "rows",
    HostKernel: "host",
}


def _kind(kernel: Kernel) -> str:
    return kernel.op.primitive.name if isinstance(kernel, NestedKernel) else _KINDS[type(kernel)]


def _whole(value: Value) -> View:
    steps, step = [], 1
    for n in reversed(value.shape):
        steps.append(step)
        step *= n
    return View(value, 0, tuple(reversed(steps)), value.shape, value.dtype)


def _place(planned: Layout, view: View) -> Place:
    slot, first = planned.slots[view.base]
    dtype = np.dtype(view.dtype)
    strides = tuple(s * dtype.itemsize for s in view.strides)
    return Place(slot, first + view.offset * dtype.itemsize, view.shape, strides, dtype.str)


def _host_document(call: HostCall) -> list[Any]:
    places = [[[p.slot, p.first, list(p.shape), list(p.strides), p.dtype] for p in part]
              for part in (call.operands, call.results)]  # fmt: skip
    return [call.op, *places]


def _host_call(document: list[Any]) -> HostCall:
    op, *parts = document
    operands, results = (
        tuple(Place(slot, first, tuple(shape), tuple(strides), dtype) for slot, first, shape, strides, dtype in part)
        for part in parts
    )
    return HostCall(int(op), operands, results)


def _array_document(array: np.ndarray) -> list[Any]:
    return [array.dtype.str, list(array.shape), np.ascontiguousarray(array).tobytes().hex()]


def _array(document: list[Any]) -> np.ndarray:
    dtype, shape, content = document
    array = np.frombuffer(bytes.fromhex(content), np.dtype(dtype))
    if array.size != math.prod(shape):
        raise ValueError("a constant does not have the length of its shape")
    return array.reshape(shape)
