"""Kernels in lanes: blocks of rows that threads go through without meeting."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.compiler.code.target import host
from chainrule.compiler.graph import Graph, Value, evaluate
from chainrule.compiler.runtime import build
from chainrule.compiler.runtime.lanes import Lanes
from chainrule.compiler.runtime.layout import layout
from chainrule.compiler.schedule.build import schedule

from .programs import TARGETS, Builder, random_arrays


def recurrent(b: Builder, rows: int = 32, units: int = 64, steps: int = 5, mix: Any = None) -> list[Value]:
    """The states of h = tanh(h W + x V) · gate, over some steps; `mix` changes h between two steps."""
    x, h = b.input(steps, rows, 24), b.input(rows, units)
    w, v = b.input(units, units), b.input(24, units)
    states = []
    for t in range(steps):
        now = b.index(x, pattern=(("i", t), ("s", 0, rows, 1), ("s", 0, 24, 1)))
        inside = b.add(b.matmul(h, w, transpose_a=False, transpose_b=False),
                       b.matmul(now, v, transpose_a=False, transpose_b=False))  # fmt: skip
        h = b.multiply(b.tanh(inside), b.sigmoid(b.softmax(inside, axis=1)))
        states.append(h)
        if mix is not None:
            h = mix(b, h)
    return states


def in_lanes(graph: Graph, threads: int = 2) -> int:
    """How many kernels of the longest row run in lanes."""
    planned = layout(schedule(graph), host(), threads)
    longest, lanes = 0, None
    for kernel in planned.kernels:
        if lanes is None or not lanes.take(kernel):
            lanes = Lanes(threads, planned.slots, planned.aliases)
            lanes.take(kernel)
        longest = max(longest, len(lanes.parts))
    return longest


def check(graph: Graph, threads: int, wanted: Any = None) -> None:
    """With several threads, and with one that does a whole lane before the next: what a lane lacks is then missing."""
    # Small weights: with larger ones a difference in rounding grows from step to step.
    arrays = [a * np.float32(0.1) for a in random_arrays(graph)]
    expected = evaluate(graph, arrays)
    for alone in (True, False):
        program = build(graph, wanted, threads)
        if alone:
            program.threads = 1
        outputs = [np.empty(v.shape, v.dtype) for v in graph.outputs]
        call = program.bind(arrays, outputs)
        for _ in range(3):
            for o in outputs:
                o.fill(np.nan if o.dtype.kind == "f" else 99)
            call()
            for got, value in zip(outputs, expected, strict=True):
                np.testing.assert_allclose(got, value, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("wanted", TARGETS, ids=lambda t: t.name)
@pytest.mark.parametrize("threads", [2, 3, 4])
def test_steps_of_a_recurrent_network_run_in_lanes(threads: int, wanted: Any) -> None:
    b = Builder()
    rows = 12 * threads
    graph = b.graph(*recurrent(b, rows, 40), b.concat(*recurrent(b, rows), axis=0))
    assert in_lanes(graph, threads) >= 6
    check(graph, threads, wanted)


def rows_of(pattern: Any) -> Any:
    return lambda b, h: b.index(h, pattern=(pattern, ("s", 0, h.shape[1], 1)))


def rolled(b: Builder, h: Value) -> Value:
    n = h.shape[0]
    return b.concat(rows_of(("s", n // 2, n, 1))(b, h), rows_of(("s", 0, n // 2, 1))(b, h), axis=0)


def chosen(b: Builder, h: Value) -> Value:
    order = b.constant(np.random.default_rng(0).permutation(h.shape[0]), "int64")
    return b.index(h, order, pattern=(("a", 0), ("s", 0, h.shape[1], 1)))


def transposed(b: Builder, h: Value) -> Value:
    square = b.matmul(h, b.input(h.shape[1], h.shape[0]), transpose_a=False, transpose_b=False)
    return b.matmul(square, h, transpose_a=True, transpose_b=False)


def shifted(b: Builder, h: Value) -> Value:
    n, m = h.shape
    upper = b.index(h, pattern=(("s", 0, n - 1, 1), ("s", 0, m, 1)))
    return b.add(h, b.index_add(upper, pattern=(("s", 1, n, 1), ("s", 0, m, 1)), shape=(n, m)))


MIXES = {
    "flipped": lambda b, h: b.flip(h, axis=(0,)),
    "rolled": rolled,
    "added up": lambda b, h: b.subtract(h, b.broadcast_to(b.sum(h, axis=(0,), keepdims=True), shape=h.shape)),
    "chosen": chosen,
    "transposed": transposed,
    "shifted": shifted,
    "running sum": lambda b, h: b.cumulative_sum(h, axis=0),
    "kept": lambda b, h: b.add(h, h),
    "columns": lambda b, h: b.flip(h, axis=(1,)),
}


@pytest.mark.parametrize("name", MIXES)
def test_a_lane_never_lacks_another_ones_rows(name: str) -> None:
    b = Builder()
    graph = b.graph(*recurrent(b, mix=MIXES[name]))
    own = name in ("kept", "columns")
    assert (in_lanes(graph) >= 6) == own
    check(graph, 2)


@settings(max_examples=30)
@given(
    rows=st.sampled_from([8, 9, 16, 24, 32, 36]),
    units=st.integers(17, 70),
    steps=st.integers(1, 6),
    threads=st.integers(2, 4),
    mixes=st.lists(st.sampled_from([*MIXES]), min_size=1, max_size=3),
)
def test_random_networks_compute_what_their_graph_says(
    rows: int, units: int, steps: int, threads: int, mixes: list[str]
) -> None:
    b = Builder()
    turn = iter(mixes * steps)
    states = recurrent(b, rows, units, steps, lambda b, h: b.tanh(MIXES[next(turn)](b, h)))
    check(b.graph(*states[-2:], b.concat(*states, axis=0)), threads)


def test_training_through_time_with_several_threads() -> None:
    script = """
        import numpy as np
        import chainrule as cr
        from chainrule import nn, optim
        def losses(compiled):
            cr.manual_seed(0)
            model, out = nn.LSTM(20, 48, batch_first=True), nn.Linear(48, 3)
            optimizer = optim.Adam([*model.parameters(), *out.parameters()], lr=0.01)
            def step(x, y):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(out(model(x)[0][:, -1]), y)
                loss.backward()
                optimizer.step()
                return loss
            rng = np.random.default_rng(0)
            x = cr.asarray(rng.normal(size=(32, 12, 20)).astype(np.float32))
            y = cr.asarray(rng.integers(0, 3, 32))
            run = cr.compile(step) if compiled else step
            return [run(x, y).item() for _ in range(20)]
        np.testing.assert_allclose(losses(True), losses(False), rtol=2e-4)
    """
    for threads in ("2", "4"):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)], env=os.environ | {"CHAINRULE_NUM_THREADS": threads},
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
