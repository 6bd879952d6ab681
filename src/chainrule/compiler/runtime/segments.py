"""Kernels in a row as one native function, run by all threads: what they share, and where they wait for each other."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from ..code.ir import I8, I64, PTR, VOID, Function, Module, Value
from ..code.pool import BARRIER, phase
from ..graph import Value as Buffer
from ..schedule.kernels import AttentionKernel, GemmKernel, Kernel, NestedKernel
from ..schedule.signature import Pointer
from .lanes import Lanes, Part, overlap
from .layout import Layout
from .work import is_shared, parts

Call = tuple[str, Sequence[Pointer], Sequence[int]]  # a function, the pointers and the numbers that it takes


class _Meeting:
    """What the kernels of a phase touch."""

    def __init__(self, planned: Layout) -> None:
        self._planned = planned
        self._touched: list[tuple[bool, list[tuple[int, int, int]], list[tuple[int, int, int]]]] = []

    def needed(self, kernel: Kernel, shared: bool) -> bool:
        """Whether a kernel must wait for the phase to end; it belongs to the phase that is then the current one."""
        reads, writes = self._ranges(kernel.reads), self._ranges(kernel.writes)
        scratch = getattr(kernel, "scratch", None)
        if scratch is not None:
            writes += self._ranges([scratch])
        needed = any(
            (shared or other) and (overlap(writes, r) or overlap(writes, w) or overlap(reads, w))
            for other, r, w in self._touched
        )
        if needed:
            self._touched.clear()
        self._touched.append((shared, reads, writes))
        return needed

    def end(self) -> None:
        """The phase has ended."""
        self._touched.clear()

    def _ranges(self, buffers: Sequence[Buffer]) -> list[tuple[int, int, int]]:
        found = []
        for buffer in buffers:
            slot, first = self._planned.slots[buffer]
            found.append((self._planned.aliases.get(slot, slot), first, first + buffer.nbytes))
        return found


def emit_segment(
    module: Module, name: str, kernels: Sequence[Kernel], planned: Layout, threads: int,
    function_of: Callable[[Kernel], Call],
) -> None:  # fmt: skip
    """The function `name(table, thread, threads)`."""
    f = module.function(name, [PTR, I64, I64])
    code = _Segment(f, planned)
    # A step with an index out of range ends before it overwrites any state.
    fault = planned.prepared.fault
    first = next((k for k in kernels if planned.overwrites_state(k)), None)
    if threads == 1:
        for kernel in kernels:
            if kernel is first and fault is not None:
                code.leave_if(fault)
            code.call(kernel, function_of(kernel), f.index(0), f.index(1))
        f.ret()
        return
    meeting = _Meeting(planned)
    together = _Phase(threads)
    left = deque(kernels)
    while left:
        if left[0] is first and fault is not None:
            code.run(together)
            code.leave_if(fault, together=True)
            together = _Phase(threads)
        row = _in_lanes(left, planned, threads, None if fault is None else first)
        if row:
            code.run(together)
            code.run_lanes([(part, function_of(part.kernel)) for part in row], threads)
            together = _Phase(threads)
            meeting.end()
            continue
        kernel = left.popleft()
        call = function_of(kernel)
        shared = is_shared(kernel)
        nested = shared and isinstance(kernel, NestedKernel)
        if meeting.needed(kernel, shared) or nested:
            code.run(together)
            together = _Phase(threads)
        if nested:
            # Its bodies have phases of their own.
            code.call(kernel, call, f.arguments[1], f.arguments[2])
        else:
            together.add(kernel, call, shared)
    code.run(together)
    f.ret()


def _in_lanes(left: deque[Kernel], planned: Layout, threads: int, stop: Kernel | None) -> list[Part]:
    """The next kernels that run in lanes, taken from `left`, if that pays; `stop` may be the first of them only."""
    lanes = Lanes(threads, planned.slots, planned.aliases)
    for number, kernel in enumerate(left):
        if (kernel is stop and number) or not lanes.take(kernel):
            break
    if not lanes.pays:
        return []
    for _ in lanes.parts:
        left.popleft()
    return lanes.parts


class _Phase:
    """Kernels that need not wait for each other, as items: all that are too small to share first, then parts."""

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self.alone: list[tuple[Kernel, Call]] = []
        self.shared: list[tuple[Kernel, Call, int]] = []

    def add(self, kernel: Kernel, call: Call, shared: bool) -> None:
        if shared:
            self.shared.append((kernel, call, parts(kernel, self._threads)))
        else:
            self.alone.append((kernel, call))

    @property
    def items(self) -> int:
        return bool(self.alone) + sum(count for *_, count in self.shared)


class _Segment:
    def __init__(self, f: Function, planned: Layout) -> None:
        self.f, self.planned = f, planned
        slots = {slot for slot, _ in planned.slots.values()}
        self.bases = {slot: f.load(PTR, f.arguments[0], slot) for slot in sorted(slots)}

    def run(self, together: _Phase) -> None:
        """Do what falls to this thread."""
        f = self.f
        if not together.items:
            return
        _, thread, threads = f.arguments
        with phase(f, thread, threads, together.items) as item:
            first = 0
            if together.alone:
                with f.when(f.equal(item, 0)):
                    for kernel, call in together.alone:
                        self.call(kernel, call, f.index(0), f.index(1))
                first = 1
            for kernel, call, count in together.shared:
                with f.when((item >= first) & (item < first + count)):
                    self.call(kernel, call, item - first, f.index(count))
                first += count

    def run_lanes(self, row: list[tuple[Part, Call]], lanes: int) -> None:
        """Do the lanes that fall to this thread."""
        f = self.f
        _, thread, threads = f.arguments
        with phase(f, thread, threads, lanes) as lane:
            for part, call in row:
                self.call(part.kernel, call, f.index(0), f.index(1), lane, part.steps)

    def leave_if(self, flag: Buffer, *, together: bool = False) -> None:
        """Return if the flag is set; `together`: all threads have read it before any goes on and may set it."""
        f = self.f
        slot, first = self.planned.slots[flag]
        leave, go = f.label("leave"), f.label("go")
        is_set = f.compare("ne", f.load(I8, f.offset(self.bases[slot], first)), 0)
        if together:
            f.call(BARRIER, VOID, f.arguments[2])
        f.branch(is_set, leave, go)
        f.start_block(leave)
        f.ret()
        f.start_block(go)

    def call(
        self, kernel: Kernel, call: Call, part: Value, count: Value, lane: Value | None = None,
        steps: Mapping[Pointer, int] | None = None,
    ) -> None:  # fmt: skip
        """Calls a kernel's function for a part of its work; in a lane, on addresses that have moved so many steps."""
        f = self.f
        function, pointers, numbers = call
        arguments = []
        for buffer, element in pointers:
            slot, first = self.planned.slots[buffer]
            address = f.offset(self.bases[slot], first + element * buffer.dtype.itemsize)
            if isinstance(kernel, GemmKernel | AttentionKernel) and buffer is kernel.scratch:
                # The function goes to its part's working memory, of which there is as much as there are threads.
                address = f.offset(address, (f.arguments[1] - part) * kernel.room)
            elif lane is not None and steps is not None:
                address = f.offset(address, lane * (steps[buffer, element] * buffer.dtype.itemsize))
            arguments.append(address)
        f.call(function, VOID, *arguments, *(f.index(n) for n in numbers), part, count)
