"""The thread pool: calls on several threads, barriers, several callers, fork and exit."""

import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from chainrule.compiler.code.ir import I32, I64, PTR, VOID, Module
from chainrule.compiler.code.pool import BARRIER, Pool, phase, pool, pool_code, thread_count
from chainrule.compiler.code.target import host, load, object_code, target


def counting():
    """job(table, thread, threads): table[0] rounds, in each of which every thread adds what it finds.

    In a round thread t writes round + t to its cell, and after a barrier adds up all cells. Without
    barriers the sums would be different; table[1] collects them.
    """
    module = Module()
    f = module.function("job", [PTR, I64, I64])
    table, thread, threads = f.arguments
    with f.loop(0, f.load(I64, table)) as rounds:
        f.store(rounds.index + thread, table, thread + 8)
        f.call(BARRIER, VOID, threads)
        with f.loop(0, threads, carry=[f.index(0)]) as cells:
            cells.carry(cells.carried[0] + f.load(I64, table, cells.index + 8))
        f.atomic("add", f.element(table, 1, I64), cells.results[0])
        f.call(BARRIER, VOID, threads)
    f.atomic("add", f.element(table, 2, I64), f.index(1))
    f.ret()
    return load(object_code(module, host()), ["job"], pool().imports)


@pytest.fixture(scope="module")
def job():
    return counting()


def expected(rounds, threads):
    return sum(threads * (threads * r + threads * (threads - 1) // 2) for r in range(rounds))


@pytest.mark.parametrize("threads", [5, 2, 3, 1])
@pytest.mark.parametrize("rounds", [0, 1, 50])
def test_threads_meet_at_barriers(job, threads, rounds):
    table = np.zeros(64, np.int64)
    table[0] = rounds
    for call in range(1, 11):
        pool().run(job["job"], table.ctypes.data, threads)
        assert table[2] == call * threads
    assert table[1] == 10 * expected(rounds, threads)


def phases(late_by=0, last_takes=0):
    """job(table, thread, threads): table[0] phases of five items; item i of a phase makes cell i the sum of all cells
    plus i, one phase's cells read from the other's (table[8:13] and table[16:21]).

    table[1 + thread] counts a thread's items, table[24 + i] how often item i was done, and table[6] how often a
    thread left a phase before each item was. Thread 1 comes late by so many microseconds; a phase's last item takes
    so many.
    """
    module = Module()
    f = module.function("job", [PTR, I64, I64])
    table, thread, threads = f.arguments
    with f.when(f.equal(thread, 1)):
        f.call("usleep", I32, f.constant(I32, late_by))
    with f.loop(0, f.load(I64, table)) as turn:
        even, odd, done = (f.element(table, i, I64) for i in (8, 16, 24))
        is_even = f.equal(turn.index & 1, 0)
        old, new = f.select(is_even, even, odd), f.select(is_even, odd, even)
        with phase(f, thread, threads, 5) as item:
            if last_takes:
                with f.when(f.equal(item, 4)):
                    f.call("usleep", I32, f.constant(I32, last_takes))
            with f.loop(0, 5, carry=[item]) as cells:
                cells.carry(cells.carried[0] + f.load(I64, old, cells.index))
            f.store(cells.results[0] % 1009, new, item)
            f.atomic("add", f.element(table, thread + 1, I64), f.index(1))
            f.atomic("add", f.element(done, item, I64), f.index(1))
        with f.loop(0, 5) as i, f.when(f.atomic_load(I64, f.element(done, i.index, I64)) <= turn.index):
            f.atomic("add", f.element(table, 6, I64), f.index(1))
    f.ret()
    return load(object_code(module, host()), ["job"], pool().imports)


def run_phases(job, rounds, threads):
    """How many items each thread did, after all that must hold of phases has been looked at."""
    table = np.zeros(32, np.int64)
    table[0] = rounds
    pool().run(job["job"], table.ctypes.data, threads)
    cells = [0] * 5
    for _ in range(rounds):
        cells = [(sum(cells) + i) % 1009 for i in range(5)]
    assert table[16 if rounds % 2 else 8 :][:5].tolist() == cells
    assert table[24:29].tolist() == [rounds] * 5
    assert table[6] == 0
    return table[1 : threads + 1].tolist()


@pytest.mark.parametrize("threads", [5, 2, 3, 1])
@pytest.mark.parametrize("rounds", [0, 1, 200])
def test_every_item_of_a_phase_is_done_once_before_the_next(threads, rounds):
    job = phases()
    for _ in range(20):
        assert sum(run_phases(job, rounds, threads)) == 5 * rounds


def test_nobody_leaves_a_phase_while_an_item_is_worked_on():
    assert sum(run_phases(phases(last_takes=200), 50, 3)) == 250


def test_no_item_is_taken_twice_however_threads_meet():
    module, items = Module(), 1_000_000
    f = module.function("job", [PTR, I64, I64])
    table, thread, threads = f.arguments
    f.call(BARRIER, VOID, threads)
    with phase(f, thread, threads, items) as item:
        f.store(f.load(I64, table, item) + 1, table, item)
    f.ret()
    job, table = load(object_code(module, host()), ["job"], pool().imports), np.zeros(items, np.int64)
    pool().run(job["job"], table.ctypes.data, 2)
    assert (table == 1).all()


def test_a_thread_that_is_held_up_holds_up_nobody():
    assert run_phases(phases(late_by=300_000), 100, 2) == [500, 0]


def test_a_call_finds_workers_that_sleep(job):
    table = np.zeros(64, np.int64)
    table[0] = 1
    for _ in range(5):
        time.sleep(0.01)
        pool().run(job["job"], table.ctypes.data, 2)
    assert table[1] == 5 * expected(1, 2)


def test_a_pool_with_nothing_to_do_uses_no_time(job):
    table = np.zeros(64, np.int64)
    pool().run(job["job"], table.ctypes.data, 3)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - before < 0.1


def test_python_threads_may_call_at_the_same_time(job):
    """Each result is that of the threads that took part: two, or the caller alone where the pool was busy."""
    results = []

    def caller():
        for _ in range(200):
            table = np.zeros(64, np.int64)
            table[0] = 3
            pool().run(job["job"], table.ctypes.data, 2)
            results.append((int(table[2]), int(table[1])))

    callers = [threading.Thread(target=caller) for _ in range(4)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join()
    assert len(results) == 800
    assert set(results) <= {(n, expected(3, n)) for n in (1, 2)}


def in_a_process(code, **environment):
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )


PREPARE = """
import numpy as np, os
from chainrule.compiler.code.ir import *
from chainrule.compiler.code.pool import pool
from chainrule.compiler.code.target import host, load, object_code
module = Module()
f = module.function("job", [PTR, I64, I64])
f.call("chainrule_barrier", VOID, f.arguments[2])
f.atomic("add", f.arguments[0], f.index(1))
f.ret()
library = load(object_code(module, host()), ["job"], pool().imports)
table = np.zeros(1, np.int64)
def go(n):
    pool().run(library["job"], table.ctypes.data, n)
go(3)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_has_a_pool_of_its_own():
    code = PREPARE + (
        "import warnings; warnings.simplefilter('ignore')\n"
        "pid = os.fork()\ngo(3)\n"
        "if pid == 0: os._exit(int(table[0]))\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), table[0])"
    )
    done = in_a_process(code)
    assert done.stdout.split() == ["6", "6"], done.stderr


def test_a_process_ends_with_workers_asleep_or_just_done():
    for wait in ("", "import time; time.sleep(0.05)"):
        done = in_a_process(PREPARE + wait + "\nprint(table[0])")
        assert (done.returncode, done.stdout.strip()) == (0, "3"), done.stderr


def test_the_environment_says_how_many_threads(monkeypatch):
    monkeypatch.setenv("CHAINRULE_NUM_THREADS", "3")
    assert thread_count() == 3
    monkeypatch.setenv("CHAINRULE_NUM_THREADS", "two")
    with pytest.raises(ValueError, match=r"CHAINRULE_NUM_THREADS='two'.*positive"):
        thread_count()
    monkeypatch.delenv("CHAINRULE_NUM_THREADS")
    assert 1 <= thread_count() <= (os.cpu_count() or 1)


def test_the_pool_assembles_for_another_architecture():
    assert pool_code(target("neon"))[:4] == b"\x7fELF"
    assert isinstance(pool(), Pool)
