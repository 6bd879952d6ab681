"""From a graph to a program that runs."""

from __future__ import annotations

from collections.abc import Hashable

from ..code.dense import emit_dense
from ..code.gather import emit_scatter
from ..code.ir import Module
from ..code.loops import elements, emit_loops, is_flat
from ..code.pool import pool, thread_count
from ..code.random import emit_random_bits
from ..code.target import Target, host, load, object_code
from ..code.window import emit_windows
from ..graph import Graph
from ..schedule.build import schedule
from ..schedule.kernels import GemmKernel, HostKernel, Kernel, LoopKernel, RandomKernel, ScatterKernel, WindowKernel
from ..schedule.pooling import window_work
from ..schedule.signature import pointers, signature
from .layout import Layout, layout
from .program import Program, Step
from .segments import Call, emit_segment, is_worth_threads


def build(graph: Graph, target: Target | None = None, threads: int | None = None) -> Program:
    """Native code for a graph.

    Args:
        target: what machine to use; this one by default.
        threads: how many threads share the work; the machine's number by default.
    """
    target = target or host()
    threads = threads or thread_count()
    planned = layout(schedule(graph), target, threads)
    if not is_worth_threads(planned.kernels):
        threads = 1
    module, steps = _code(planned, target, threads)
    names = [s.segment for s in steps if s.segment]
    library = load(object_code(module, target), names, pool().imports if threads > 1 else None)
    constants = [planned.graph.constants[v] for v in planned.constants]
    return Program(
        library, steps, planned.slots, constants, (len(graph.inputs), len(graph.outputs)), planned.arena, threads
    )


def _code(planned: Layout, target: Target, threads: int) -> tuple[Module, list[Step]]:
    module = Module()
    functions = _Functions(module, target)
    steps: list[Step] = []
    run: list[Kernel] = []

    def close() -> None:
        if run:
            name = f"segment{len(steps)}"
            emit_segment(module, name, run, planned, threads, functions.of)
            steps.append(Step(segment=name))
            run.clear()

    for kernel in planned.kernels:
        if isinstance(kernel, HostKernel):
            close()
            steps.append(Step(host=kernel))
        else:
            run.append(kernel)
    close()
    return module, steps


class _Functions:
    """The functions of kernels: one for all kernels of the same code."""

    def __init__(self, module: Module, target: Target) -> None:
        self.module, self.target = module, target
        self._names: dict[Hashable, str] = {}

    def of(self, kernel: Kernel) -> Call:
        """The name of the kernel's function, the pointers that it takes (buffers and elements), and numbers."""
        if isinstance(kernel, LoopKernel):
            key = signature(kernel, lengths=not is_flat(kernel))
            name, new = self._name(key)
            if new:
                emit_loops(self.module, name, kernel, self.target)
            return name, pointers(kernel), [elements(kernel)]
        if isinstance(kernel, GemmKernel):
            name, new = self._name(signature(kernel))
            taken = pointers(kernel)
            if new:
                emit_dense(self.module, name, kernel.plan, {pointer: i for i, pointer in enumerate(taken)})
            return name, [*taken, (kernel.scratch, 0)], []
        if isinstance(kernel, WindowKernel):
            work = window_work(kernel.op)
            name, new = self._name(work)
            if new:
                emit_windows(self.module, name, *work, self.target)
            return name, [(b, 0) for b in (*kernel.reads, *kernel.writes)], []
        name, _ = self._name(kernel)
        if isinstance(kernel, ScatterKernel):
            emit_scatter(self.module, name, kernel, self.target)
        else:
            assert isinstance(kernel, RandomKernel)
            emit_random_bits(self.module, name, kernel)
        return name, [(b, 0) for b in (*kernel.reads, *kernel.writes)], []

    def _name(self, key: Hashable) -> tuple[str, bool]:
        new = key not in self._names
        return self._names.setdefault(key, f"k{len(self._names)}"), new
