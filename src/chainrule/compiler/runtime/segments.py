"""Kernels in a row as one native function, run by all threads: who does what, and where they meet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..code.ir import I8, I64, PTR, VOID, Function, Module, Value
from ..code.pool import BARRIER
from ..graph import Value as Buffer
from ..schedule.kernels import Kernel
from ..schedule.signature import Pointer
from .layout import Layout
from .work import is_shared

Call = tuple[str, Sequence[Pointer], Sequence[int]]  # a function, the pointers and the numbers that it takes


class _Meeting:
    """What kernels have touched since all threads last met."""

    def __init__(self, planned: Layout) -> None:
        self._planned = planned
        self._touched: list[tuple[bool, list[tuple[int, int, int]], list[tuple[int, int, int]]]] = []

    def needed(self, kernel: Kernel, shared: bool) -> bool:
        """Whether threads must meet before a kernel; it counts as run from now on."""
        reads, writes = self._ranges(kernel.reads), self._ranges(kernel.writes)
        scratch = getattr(kernel, "scratch", None)
        if scratch is not None:
            writes += self._ranges([scratch])
        needed = any(
            (shared or other) and (_overlap(writes, r) or _overlap(writes, w) or _overlap(reads, w))
            for other, r, w in self._touched
        )
        if needed:
            self._touched.clear()
        self._touched.append((shared, reads, writes))
        return needed

    def _ranges(self, buffers: Sequence[Buffer]) -> list[tuple[int, int, int]]:
        found = []
        for buffer in buffers:
            slot, first = self._planned.slots[buffer]
            found.append((self._planned.aliases.get(slot, slot), first, first + buffer.nbytes))
        return found


def _overlap(a: list[tuple[int, int, int]], b: list[tuple[int, int, int]]) -> bool:
    return any(s == t and x < v and u < y for s, x, y in a for t, u, v in b)


def emit_segment(
    module: Module, name: str, kernels: Sequence[Kernel], planned: Layout, threads: int,
    function_of: Callable[[Kernel], Call],
) -> None:  # fmt: skip
    """The function `name(table, thread, threads)`."""
    calls = [function_of(kernel) for kernel in kernels]
    f = module.function(name, [PTR, I64, I64])
    code = _Segment(f, planned)
    # A step with an index out of range ends before it overwrites any state.
    fault = planned.prepared.fault
    first = next((k for k in kernels if planned.overwrites_state(k)), None)
    if threads == 1:
        for kernel, call in zip(kernels, calls, strict=True):
            if kernel is first and fault is not None:
                code.leave_if(fault)
            code.call(call, f.index(0), f.index(1))
        f.ret()
        return
    _, thread, count = f.arguments
    meeting = _Meeting(planned)
    alone: list[Any] = []

    def run_alone() -> None:
        if alone:
            with f.when(f.equal(thread, 0)):
                for call in alone:
                    code.call(call, f.index(0), f.index(1))
            alone.clear()

    for kernel, call in zip(kernels, calls, strict=True):
        if kernel is first and fault is not None:
            run_alone()
            if meeting.needed(Kernel([], reads=[fault]), True):
                f.call(BARRIER, VOID, count)
            code.leave_if(fault)
        shared = is_shared(kernel)
        if meeting.needed(kernel, shared):
            run_alone()
            f.call(BARRIER, VOID, count)
        if shared:
            run_alone()
            code.call(call, thread, count)
        else:
            alone.append(call)
    run_alone()
    f.ret()


class _Segment:
    def __init__(self, f: Function, planned: Layout) -> None:
        self.f, self.planned = f, planned
        slots = {slot for slot, _ in planned.slots.values()}
        self.bases = {slot: f.load(PTR, f.arguments[0], slot) for slot in sorted(slots)}

    def leave_if(self, flag: Buffer) -> None:
        """Return if the flag is set."""
        f = self.f
        slot, first = self.planned.slots[flag]
        leave, go = f.label("leave"), f.label("go")
        f.branch(f.compare("ne", f.load(I8, f.offset(self.bases[slot], first)), 0), leave, go)
        f.start_block(leave)
        f.ret()
        f.start_block(go)

    def call(self, call: Call, thread: Value, threads: Value) -> None:
        f = self.f
        function, pointers, numbers = call
        arguments = []
        for buffer, element in pointers:
            slot, first = self.planned.slots[buffer]
            arguments.append(f.offset(self.bases[slot], first + element * buffer.dtype.itemsize))
        f.call(function, VOID, *arguments, *(f.index(n) for n in numbers), thread, threads)
