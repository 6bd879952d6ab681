"""From a graph to a program that runs."""

from __future__ import annotations

from collections.abc import Sequence

from ..code.gather import emit_scatter
from ..code.ir import I64, PTR, VOID, Module, Value
from ..code.loops import elements, emit_loops, pointers
from ..code.random import emit_random_bits
from ..code.target import Target, host, load, object_code
from ..graph import Graph
from ..graph import Value as GraphValue
from ..schedule import HostKernel, Kernel, LoopKernel, RandomKernel, ScatterKernel, schedule
from .layout import Layout, layout
from .program import Program, Step


def build(graph: Graph, target: Target | None = None) -> Program:
    """Native code for a graph.

    Args:
        target: what machine to use; this one by default.
    """
    target = target or host()
    planned = layout(schedule(graph))
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
    """The functions of kernels: one for all kernels of the same text."""

    def __init__(self, module: Module, target: Target) -> None:
        self.module, self.target = module, target
        self._names: dict[str, str] = {}

    def of(self, kernel: Kernel) -> tuple[str, list[tuple[GraphValue, int]], list[int]]:
        """The name of the kernel's function, the pointers that it takes (buffers and elements), and numbers."""
        numbers = []
        name = f"k{len(self._names)}"
        if isinstance(kernel, LoopKernel):
            taken = pointers(kernel)
            numbers = [elements(kernel)]
            made = emit_loops(self.module, name, kernel, self.target)
        elif isinstance(kernel, ScatterKernel):
            taken = [(b, 0) for b in (*kernel.reads, *kernel.writes)]
            made = emit_scatter(self.module, name, kernel, self.target)
        else:
            assert isinstance(kernel, RandomKernel)
            taken = [(b, 0) for b in (*kernel.reads, *kernel.writes)]
            made = emit_random_bits(self.module, name, kernel)
        text = str(made).replace(f"@{name}(", "@(", 1)
        known = self._names.setdefault(text, name)
        if known != name:
            del self.module.functions[name]
        return known, taken, numbers


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
