"""From a graph to a program that runs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from ..code.gather import emit_scatter
from ..code.gemm import emit_gemm
from ..code.ir import I64, PTR, VOID, Module, Value
from ..code.loops import elements, emit_loops, is_flat
from ..code.random import emit_random_bits
from ..code.target import Target, host, load, object_code
from ..graph import Graph
from ..schedule.build import schedule
from ..schedule.kernels import GemmKernel, HostKernel, Kernel, LoopKernel, RandomKernel, ScatterKernel
from ..schedule.signature import Pointer, pointers, signature
from .layout import Layout, layout
from .program import Program, Step


def build(graph: Graph, target: Target | None = None, threads: int | None = None) -> Program:
    """Native code for a graph.

    Args:
        target: what machine to use; this one by default.
        threads: how many threads share the work; the machine's number by default.
    """
    target = target or host()
    planned = layout(schedule(graph), target, threads or 1)
    module, steps = _code(planned, target)
    names = [s.segment for s in steps if s.segment]
    library = load(object_code(module, target), names)
    constants = [planned.graph.constants[v] for v in planned.constants]
    return Program(library, steps, planned.slots, constants, (len(graph.inputs), len(graph.outputs)), planned.arena)


def _code(planned: Layout, target: Target) -> tuple[Module, list[Step]]:
    module = Module()
    functions = _Functions(module, target)
    steps: list[Step] = []
    run: list[Kernel] = []

    def close() -> None:
        if run:
            name = f"segment{len(steps)}"
            _segment(module, name, run, planned, functions)
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

    def of(self, kernel: Kernel) -> tuple[str, list[Pointer], list[int]]:
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
                emit_gemm(self.module, name, kernel.plan, {pointer: i for i, pointer in enumerate(taken)})
            return name, [*taken, (kernel.scratch, 0)], []
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


def _segment(module: Module, name: str, kernels: Sequence[Kernel], planned: Layout, functions: _Functions) -> None:
    calls = []
    for kernel in kernels:
        calls.append(functions.of(kernel))
    f = module.function(name, [PTR, I64, I64])
    table, thread, threads = f.arguments
    bases: dict[int, Value] = {}
    for function, taken, numbers in calls:
        arguments = []
        for buffer, element in taken:
            slot, first = planned.slots[buffer]
            if slot not in bases:
                bases[slot] = f.load(PTR, table, slot)
            arguments.append(f.offset(bases[slot], first + element * buffer.dtype.itemsize))
        f.call(function, VOID, *arguments, *(f.index(n) for n in numbers), thread, threads)
    f.ret()
