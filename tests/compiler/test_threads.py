"""Several threads: shared work, programs used at once, fork."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.compiler.code.target import target
from chainrule.compiler.graph import Graph, evaluate
from chainrule.compiler.runtime import build
from chainrule.compiler.runtime.layout import layout
from chainrule.compiler.runtime.work import parts
from chainrule.compiler.schedule.build import schedule

from .programs import Builder, random_arrays


def large() -> Graph:
    """Work of every kind, enough to be shared."""
    b = Builder()
    x, w, bias, t = b.input(300, 257), b.input(257, 400), b.input(400), b.input(300, dtype="int64")
    y = b.relu(b.add(b.matmul(x, w, transpose_a=False, transpose_b=False), bias))
    s = b.softmax(y, axis=1)
    rows = b.index(w, t, pattern=(("a", 0), ("s", 0, 400, 1)))
    added = b.index_add(s, t, pattern=(("a", 0), ("s", 0, 400, 1)), shape=(257, 400))
    return b.graph(
        s, b.sum(s, axis=(0,), keepdims=False), b.add(rows, s), added, b.tanh(b.permute_dims(y, axes=(1, 0)))
    )


@pytest.mark.parametrize("threads", [2, 3, 8])
@pytest.mark.parametrize(("rows", "depth"), [(256, 2048), (1024, 384), (2048, 256)])
def test_no_thread_has_much_more_of_a_product_to_do_than_another(rows: int, depth: int, threads: int) -> None:
    b = Builder()
    graph = b.graph(b.matmul(b.input(rows, depth), b.input(2048, depth), transpose_a=False, transpose_b=True))
    (kernel,) = layout(schedule(graph), target("avx512"), threads).kernels
    count, units = parts(kernel, threads), kernel.plan.units
    done = [0] * threads
    for part in range(count):  # whoever is ready takes the next
        done[done.index(min(done))] += (part + 1) * units // count - part * units // count
    assert max(done) <= 1.08 * units / threads


@pytest.mark.parametrize("threads", [1, 2, 3, 5])
def test_any_number_of_threads_computes_the_same(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"""
        import numpy as np
        from tests.compiler.programs import random_arrays
        from tests.compiler.test_threads import large
        from chainrule.compiler.graph import evaluate
        from chainrule.compiler.runtime import build
        graph = large()
        arrays = random_arrays(graph)
        program = build(graph)
        assert program.threads == {threads}
        outputs = [np.empty(v.shape, v.dtype) for v in graph.outputs]
        call = program.bind(arrays, outputs)
        expected = evaluate(graph, arrays)
        for _ in range(50):
            for o in outputs:
                o.fill(np.nan)
            call()
            for got, value in zip(outputs, expected, strict=True):
                np.testing.assert_allclose(got, value, rtol=1e-4, atol=1e-5)
    """
    _in_process(script, threads)


def test_a_pool_that_is_lent_makes_others_work_alone() -> None:
    graph = large()
    arrays = random_arrays(graph)
    expected = evaluate(graph, arrays)
    program = build(graph)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            outputs = [np.empty(v.shape, v.dtype) for v in graph.outputs]
            call = program.bind(arrays, outputs)
            for _ in range(30):
                call()
                for got, value in zip(outputs, expected, strict=True):
                    np.testing.assert_allclose(got, value, rtol=1e-4, atol=1e-5)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not failures


def test_calls_of_one_function_from_several_threads_follow_each_other() -> None:
    count = nn.Buffer(cr.zeros(100_000))

    @cr.compile
    def step() -> cr.Tensor:
        count.assign(count + 1)
        return count[:1]

    step()
    seen: list[float] = []

    def work() -> None:
        seen.extend(step().item() for _ in range(200))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(seen) == list(range(2, 602))
    np.testing.assert_array_equal(count.numpy(), 601)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_its_own_pool() -> None:
    script = """
        import os, warnings
        import numpy as np
        warnings.simplefilter("ignore", DeprecationWarning)
        from tests.compiler.programs import random_arrays
        from tests.compiler.test_threads import large
        from chainrule.compiler.graph import evaluate
        from chainrule.compiler.runtime import build
        graph = large()
        arrays = random_arrays(graph)
        outputs = [np.empty(v.shape, v.dtype) for v in graph.outputs]
        call = build(graph).bind(arrays, outputs)
        call()
        expected = evaluate(graph, arrays)
        child = os.fork()
        for o in outputs:
            o.fill(np.nan)
        call()
        for got, value in zip(outputs, expected):
            np.testing.assert_allclose(got, value, rtol=1e-4, atol=1e-5)
        if not child:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    """
    _in_process(script, 2)


def test_a_small_program_wakes_nobody() -> None:
    b = Builder()
    x = b.input(32, 64)
    assert build(b.graph(b.exp(x)), threads=4).threads == 1


def _in_process(script: str, threads: int) -> None:
    environment = os.environ | {"CHAINRULE_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
