"""Branches and loops over segments: which body runs, how often, and where it finds its buffers.

A body is a function of a table of pointers, as a whole program is. Every thread has a table of its own on its
stack and changes the entries from step to step: a slice is an address that moves on, and what a step carries to
the next one is not copied, it is written where it belongs in the end, or into one of two buffers in turn.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from itertools import accumulate
from typing import Any

from ..graph import Value as Buffer
from ..memory import ALIGNMENT
from ..nested import Loop
from ..schedule.kernels import NestedKernel
from .ir import I8, I64, PTR, VOID, Function, Module, Value, vector
from .pool import BARRIER, phase

_COPIED = 64  # bytes that are copied at once


def _padded(nbytes: int) -> int:
    return -(-nbytes // ALIGNMENT) * ALIGNMENT


def _spare(kernel: NestedKernel) -> dict[int, int]:
    """For the carries without a history the first byte of their second buffer."""
    loop = kernel.op.primitive
    if not isinstance(loop, Loop) or loop.length < 2:
        return {}
    alone = [i for i in range(loop.carried) if i not in loop.keeps]
    sizes = [_padded(loop.graph.outputs[i].nbytes) for i in alone]
    return dict(zip(alone, accumulate(sizes, initial=0), strict=False))


def _arena(kernel: NestedKernel) -> int:
    """The first byte of the bodies' working memory."""
    loop = kernel.op.primitive
    return sum(_padded(loop.graph.outputs[i].nbytes) for i in _spare(kernel)) if isinstance(loop, Loop) else 0


def scratch_bytes(kernel: NestedKernel) -> int:
    """Working memory for all threads together."""
    return _arena(kernel) + max(plan.arena for plan in kernel.plans)


def emit_nested(module: Module, name: str, kernel: NestedKernel, bodies: Sequence[str]) -> None:
    """The function `name(reads…, writes…, scratch, thread, threads)`; `bodies` are functions of their tables."""
    arguments = [PTR] * (len(kernel.reads) + len(kernel.writes) + 1)
    f = module.function(name, [*arguments, I64, I64], internal=True)
    code = _Nested(f, kernel, bodies)
    loop = kernel.op.primitive
    if isinstance(loop, Loop):
        code.repeat(loop)
    else:
        code.choose()
    f.ret()


class _Nested:
    def __init__(self, f: Function, kernel: NestedKernel, bodies: Sequence[str]) -> None:
        self.f, self.kernel, self.bodies = f, kernel, bodies
        *pointers, self.scratch, self.thread, self.threads = f.arguments
        self.address: dict[Buffer, Value] = dict(zip((*kernel.reads, *kernel.writes), pointers, strict=True))
        self.operands = [self.address[v] for v in kernel.op.inputs]
        self.results = [self.address[v] for v in kernel.op.outputs]

    def _table(self, plan: Any, graph: Any) -> Value:
        """A table with the constants and the working memory of a body."""
        f = self.f
        first = len(graph.inputs) + len(graph.outputs)
        table = f.alloca(8 * (first + len(plan.constants) + 1))
        fixed = [*(self.address[v] for v in plan.constants), f.offset(self.scratch, _arena(self.kernel))]
        for slot, pointer in enumerate(fixed, first):
            f.store(pointer, table, slot)
        return table

    def choose(self) -> None:
        """A branch."""
        f = self.f
        chosen, *operands = self.operands

        def body(which: int) -> None:
            plan = self.kernel.plans[which]
            table = self._table(plan, self.kernel.bodies[which].graph)
            for slot, pointer in enumerate((*operands, *self.results)):
                f.store(pointer, table, slot)
            f.call(self.bodies[which], VOID, table, self.thread, self.threads)

        is_first = f.compare("ne", f.load(I8, chosen), 0)
        if self.kernel.threads > 1:
            # A thread that comes late must still find what the others went by.
            f.call(BARRIER, VOID, self.threads)
        f.either(is_first, lambda: body(0), lambda: body(1))

    def repeat(self, loop: Loop) -> None:
        """A loop."""
        f, length = self.f, loop.length
        graph = loop.graph
        table = self._table(self.kernel.plans[0], self.kernel.bodies[0].graph)
        fixed = loop.carried + loop.constants
        for slot, pointer in enumerate(self.operands[loop.carried : fixed], loop.carried):
            f.store(pointer, table, slot)
        outputs = len(graph.outputs)
        histories = dict(zip(loop.keeps, self.results[outputs:], strict=True))
        spare = {i: f.offset(self.scratch, first) for i, first in _spare(self.kernel).items()}
        begin = f.index(length - 1 if loop.reverse else 0)
        with phase(f, self.thread, self.threads, 1) if histories and self.kernel.threads > 1 else nullcontext():
            for i, history in histories.items():
                nbytes = graph.outputs[i].nbytes
                _copy(f, self.operands[i], f.offset(history, begin * nbytes), nbytes)
        with f.loop(0, length, carry=self.operands[: loop.carried]) as turn:
            step = f.index(length - 1) - turn.index if loop.reverse else turn.index
            following = step + (-1 if loop.reverse else 1)
            left = f.index(length - 1) - turn.index
            is_last = f.equal(left, 0)
            carried = []
            for i, now in enumerate(turn.carried):
                out = self.results[i]
                if i in histories:
                    out = f.select(is_last, out, f.offset(histories[i], following * graph.outputs[i].nbytes))
                elif i in spare:
                    out = f.select(f.equal(left & 1, 0), out, spare[i])
                f.store(now, table, i)
                f.store(out, table, len(graph.inputs) + i)
                carried.append(out)
            moving = [
                *zip(range(fixed, len(graph.inputs)), self.operands[fixed:], graph.inputs[fixed:], strict=True),
                *zip(
                    range(len(graph.inputs) + loop.carried, len(graph.inputs) + outputs),
                    self.results[loop.carried : outputs],
                    graph.outputs[loop.carried :],
                    strict=True,
                ),
            ]
            for slot, pointer, value in moving:
                f.store(f.offset(pointer, step * value.nbytes), table, slot)
            f.call(self.bodies[0], VOID, table, self.thread, self.threads)
            turn.carry(*carried)


def _copy(f: Function, source: Value, out: Value, nbytes: int) -> None:
    wide = vector(I8, _COPIED)
    whole = nbytes // _COPIED * _COPIED
    with f.loop(0, whole, _COPIED) as loop:
        f.store(f.load(wide, source, loop.index), out, loop.index)
    with f.loop(whole, nbytes) as loop:
        f.store(f.load(I8, source, loop.index), out, loop.index)
