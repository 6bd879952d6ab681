"""From a graph to a program that runs."""

from __future__ import annotations

import contextlib
from collections.abc import Hashable

from ..code.attention_forward import emit_attention
from ..code.attention_gradient import emit_attention_gradient
from ..code.branch import emit_nested
from ..code.dense import emit_dense
from ..code.gather import emit_scatter
from ..code.ir import Module
from ..code.loop_axes import elements, is_flat
from ..code.loops import emit_loops
from ..code.pool import pool, thread_count
from ..code.random import emit_random_bits
from ..code.rows import emit_cumulative, emit_extremum_position
from ..code.sort import emit_argsort, emit_searchsorted
from ..code.target import Target, host, load, object_code
from ..code.window import emit_windows
from ..graph import Graph
from ..schedule.build import schedule
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
    WindowKernel,
)
from ..schedule.pooling import window_work
from ..schedule.rows import CUMULATIVE, EXTREMA
from ..schedule.signature import pointers, signature
from . import cache
from .image import Image, image
from .layout import Layout, layout
from .program import Program
from .segments import Call, emit_segment
from .work import is_worth_threads


def build(graph: Graph, target: Target | None = None, threads: int | None = None) -> Program:
    """Native code for a graph, from the disk cache where it is there.

    Args:
        target: what machine to use; this one by default.
        threads: how many threads share the work; the machine's number by default.
    """
    target = target or host()
    threads = threads or thread_count()
    name = cache.key(graph, target, threads)
    entry = cache.read(name) if name is not None else None
    if entry is not None:
        with contextlib.suppress(RuntimeError):
            return _loaded(graph, *entry, cached=True)
    planned = layout(schedule(graph), target, threads)
    if not is_worth_threads(planned.kernels):
        threads = 1
    module, steps, names = code_of(planned, target, threads)
    made = image(graph, planned, steps, names, threads)
    code = object_code(module, target)
    if name is not None:
        cache.write(name, made, code)
    return _loaded(graph, made, code, cached=False)


def _loaded(graph: Graph, made: Image, code: bytes, *, cached: bool) -> Program:
    library = load(code, made.segments, pool().imports if made.threads > 1 else None)
    return Program(graph, made, library, len(code), cached=cached)


def code_of(
    planned: Layout, target: Target, threads: int, *, apart: bool = False
) -> tuple[Module, list[str | HostKernel], list[str]]:
    """The functions of all segments; the order of segments and host operations; each kernel's function.

    With `apart` every kernel is a segment of its own.
    """
    module = Module()
    functions = _Functions(module, target)
    steps: list[str | HostKernel] = []
    run: list[Kernel] = []

    def close() -> None:
        if run:
            name = f"segment{len(steps)}"
            emit_segment(module, name, run, planned, threads, functions.of)
            steps.append(name)
            run.clear()

    for kernel in planned.kernels:
        if isinstance(kernel, HostKernel):
            close()
            steps.append(kernel)
        else:
            run.append(kernel)
            if apart:
                close()
    close()
    return module, steps, [functions.names.get(kernel, "") for kernel in planned.kernels]


class _Functions:
    """The functions of kernels: one for all kernels of the same code."""

    def __init__(self, module: Module, target: Target) -> None:
        self.module, self.target = module, target
        self.names: dict[Kernel, str] = {}
        self._names: dict[Hashable, str] = {}

    def of(self, kernel: Kernel) -> Call:
        """The name of the kernel's function, the pointers that it takes (buffers and elements), and numbers."""
        call = self._of(kernel)
        self.names[kernel.whole or kernel] = call[0]
        return call

    def _of(self, kernel: Kernel) -> Call:
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
        if isinstance(kernel, AttentionKernel):
            name, new = self._name(kernel.work.key)
            if new:
                emit = emit_attention_gradient if kernel.work.gradients else emit_attention
                emit(self.module, name, kernel.plan)
            return name, [*((o.buffer, o.offset) for o in kernel.work.operands), (kernel.scratch, 0)], []
        if isinstance(kernel, WindowKernel):
            work = window_work(kernel.op)
            name, new = self._name(work)
            if new:
                emit_windows(self.module, name, *work, self.target)
            return name, [(b, 0) for b in (*kernel.reads, *kernel.writes)], []
        name, _ = self._name(kernel)
        if isinstance(kernel, NestedKernel):
            return self._nested(name, kernel)
        if isinstance(kernel, RowKernel):
            return self._rows(name, kernel)
        if isinstance(kernel, ScatterKernel):
            emit_scatter(self.module, name, kernel, self.target)
        else:
            assert isinstance(kernel, RandomKernel)
            emit_random_bits(self.module, name, kernel)
        return name, [(b, 0) for b in (*kernel.reads, *kernel.writes)], []

    def _nested(self, name: str, kernel: NestedKernel) -> Call:
        bodies = []
        for i, plan in enumerate(kernel.plans):
            bodies.append(f"{name}_{i}")
            emit_segment(self.module, bodies[-1], plan.kernels, plan, kernel.threads, self.of)
        emit_nested(self.module, name, kernel, bodies)
        return name, [(b, 0) for b in (*kernel.reads, *kernel.writes, kernel.scratch)], []

    def _rows(self, name: str, kernel: RowKernel) -> Call:
        emit = {
            **dict.fromkeys(EXTREMA, emit_extremum_position),
            **dict.fromkeys(CUMULATIVE, emit_cumulative),
            "argsort": emit_argsort,
            "searchsorted": emit_searchsorted,
        }[kernel.op.primitive.name]
        emit(self.module, name, kernel.op, self.target)
        scratch = [] if kernel.scratch is None else [kernel.scratch]
        return name, [(b, 0) for b in (*kernel.reads, *kernel.writes, *scratch)], []

    def _name(self, key: Hashable) -> tuple[str, bool]:
        new = key not in self._names
        return self._names.setdefault(key, f"k{len(self._names)}"), new
