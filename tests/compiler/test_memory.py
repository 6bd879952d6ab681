"""The memory plan: what lives at the same time does not overlap; nothing accumulates over many calls."""

from __future__ import annotations

import gc
import tracemalloc
from itertools import combinations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainrule.compiler.code.target import host
from chainrule.compiler.graph import Graph, Value
from chainrule.compiler.memory import ALIGNMENT, Lifetime, plan
from chainrule.compiler.runtime import build
from chainrule.compiler.runtime.layout import layout
from chainrule.compiler.schedule.build import schedule
from chainrule.compiler.schedule.kernels import GemmKernel

from .programs import Builder
from .test_random_graphs import graphs


@st.composite
def lifetimes(draw: st.DrawFn) -> dict[int, Lifetime]:
    found = {}
    for key in range(draw(st.integers(0, 25))):
        first = draw(st.integers(0, 20))
        found[key] = Lifetime(draw(st.integers(0, 5000)), first, draw(st.integers(first, 22)))
    return found


@given(lifetimes())
def test_buffers_that_live_together_do_not_overlap(buffers: dict[int, Lifetime]) -> None:
    arena = plan(buffers)
    assert set(arena.offsets) == set(buffers)
    for key, offset in arena.offsets.items():
        assert offset % ALIGNMENT == 0 and 0 <= offset <= arena.nbytes - buffers[key].nbytes
    for a, b in combinations(buffers, 2):
        if buffers[a].first <= buffers[b].last and buffers[b].first <= buffers[a].last:
            x, y = arena.offsets[a], arena.offsets[b]
            assert x + buffers[a].nbytes <= y or y + buffers[b].nbytes <= x
    for step in range(23):
        assert arena.nbytes >= sum(b.nbytes for b in buffers.values() if b.first <= step <= b.last)


def test_a_chain_needs_the_memory_of_two_links() -> None:
    chain = {i: Lifetime(1 << 20, i, i + 1) for i in range(50)}
    assert plan(chain).nbytes == 2 << 20


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(graphs(), st.integers(1, 4))
def test_what_a_kernel_still_reads_is_not_written_by_another(graph: Graph, threads: int) -> None:
    """Followed kernel by kernel: every byte that is read is the one that was last written for that buffer."""
    planned = layout(schedule(graph), host(), threads)
    sources = set(planned.prepared.graph.inputs) | set(planned.constants)
    owner: dict[tuple[int, int], Value] = {}

    def lines(value: Value) -> list[tuple[int, int]]:
        slot, first = planned.slots[value]
        return [(slot, line) for line in range(first // ALIGNMENT, -(-(first + value.nbytes) // ALIGNMENT))]

    for kernel in planned.kernels:
        for value in kernel.reads:
            assert value in sources or all(owner[line] is value for line in lines(value))
        scratch = [kernel.scratch] if isinstance(kernel, GemmKernel) else []
        for value in (*scratch, *kernel.writes):
            owner.update((line, value) for line in lines(value))


def test_many_calls_keep_nothing() -> None:
    b = Builder()
    x, w = b.input(8, 5), b.input(5, 3)
    y = b.tanh(b.matmul(x, w, transpose_a=False, transpose_b=False))
    new = b.subtract(w, b.multiply(b.constant(1e-6), w))
    call_inputs = [np.zeros((8, 5), np.float32), np.ones((5, 3), np.float32)]
    program = build(b.graph(b.sum(y, axis=(0, 1), keepdims=False), new, updates={1: 1}))
    call = program.bind(call_inputs, [np.empty((), np.float32), call_inputs[1]])

    def steps(n: int) -> None:
        for _ in range(n):
            call.set_input(0, np.ones((8, 5), np.float32))
            call.set_output(0, np.empty((), np.float32))
            call()

    steps(100)
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    steps(20_000)
    gc.collect()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert after - before < 10_000
