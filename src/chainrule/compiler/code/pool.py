"""Threads that run one function together, in generated code: no C extension and no Python between kernels.

`Pool.run(function, table, threads)` calls `function(table, thread, threads)` on that many threads at once, the
caller being thread 0. The function goes through phases, each a number of items that any thread may take. A
phase ends when all its items are done, by whom ever: a thread that has lost its core to another program holds
up no more than the item it is at, and finds the phases that went by without it used up when it comes back.
`barrier(threads)` returns when all threads have called it, for what each of them must have seen.

A thread that waits looks at a counter for a few microseconds, gives up its core to others for a few more,
and then sleeps until it is woken: a pool with nothing to do costs nothing.

Any Python thread may call `run`. If the pool is busy with another call, the function runs on the caller's
thread alone: what a program computes does not depend on the number of threads. A process that was
forked starts with a pool that has no threads yet. At exit the threads are joined.

Threads, mutex and condition variable are the POSIX ones (Linux, macOS), found in the process. On Windows
there is one thread: the caller's.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from ..disk import digest, kept
from .ir import I1, I8, I32, I64, PTR, VOID, Function, Module, Value
from .target import Target, host, load, object_code

BARRIER, TAKE, FINISH, NEXT = (f"chainrule_{name}" for name in ("barrier", "take", "finish", "next"))
MOST = 256  # threads
_LOOKS = 200  # at a counter before a thread lets others run
_YIELDS = 20  # before it sleeps
_STACK = 8 << 20

# Bytes of the pool's state; words that several threads write have lines of their own.
_GENERATION, _BARRIER, _END, _BUSY, _SLEEPERS = 0, 128, 384, 640, 768
_FUNCTION, _TABLE, _THREADS, _STARTED, _STOP = 896, 904, 912, 920, 928
_MUTEX, _CONDITION, _ATTRIBUTES, _SIGNALS, _OLD_SIGNALS = 1024, 1152, 1280, 1408, 1536
_TICKET, _FINISHED, _PHASE = 1664, 1792, 1920
_SEEN, _HANDLES, _PLACES, _SIZE = 2048, 2048 + 8 * MOST, 2048 + 16 * MOST, 2048 + 80 * MOST
_ARRIVED = 128  # from a barrier's phase to its count
_PLACE = 64  # from a thread's place to the next thread's


def thread_count() -> int:
    """CHAINRULE_NUM_THREADS, or the number of cores that this process may use.

    Raises:
        ValueError: the variable is not a positive whole number.
    """
    wanted = os.environ.get("CHAINRULE_NUM_THREADS", "").strip()
    if wanted:
        if not wanted.isdigit() or not int(wanted):
            raise ValueError(f"CHAINRULE_NUM_THREADS={wanted!r}: it must be a positive whole number")
        return min(int(wanted), MOST)
    return max(1, min(_cores(), _quota(), MOST))


def _cores() -> int:
    """Cores, not hyperthreads, among the CPUs that this process may run on."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    cpus = os.sched_getaffinity(0)
    cores = set()
    for cpu in cpus:
        folder = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            cores.add(tuple((folder / name).read_text() for name in ("physical_package_id", "core_id")))
        except OSError:
            return len(cpus)
    return len(cores)


def _quota() -> int:
    """CPUs that a container's limit allows, rounded up."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return -(-int(quota) // int(period))
    except (OSError, ValueError):
        return MOST


@contextmanager
def phase(f: Function, thread: Value, threads: Value, items: int) -> Iterator[Value]:
    """Runs the body for the items of a phase, 0 to `items` - 1, that fall to this thread, until all are done.

    Threads take items, see above; a thread that runs alone does all of them.
    """
    turn = f.alloca(8)
    f.store(f.index(0), turn)
    with f.repeat() as leave_if:
        item = f.call(TAKE, I64, thread, threads, f.index(items), turn)
        leave_if(item < 0)
        yield item
        f.call(FINISH, VOID, thread, threads, f.index(items))
    f.call(NEXT, VOID, thread, threads)


class Pool:
    """The threads of this process; `pool()` is the one.

    Attributes:
        threads: how many a program runs on unless it is small.
        imports: the functions that programs call, for `target.load`.
        address: of the native function behind `run`.
    """

    def __init__(self, code: bytes) -> None:
        self.threads = thread_count() if sys.platform != "win32" else 1
        self._library = library = load(code, (BARRIER, TAKE, FINISH, NEXT, "run", "stop", "reset"))
        self.imports = {name: library[name] for name in (BARRIER, TAKE, FINISH, NEXT)}
        self.address = library["run"]
        self._run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)(library["run"])
        self._stop = ctypes.CFUNCTYPE(None)(library["stop"])
        self._reset = ctypes.CFUNCTYPE(None)(library["reset"])
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset)
        atexit.register(self._stop)

    def run(self, function: int, table: int, threads: int) -> None:
        """Calls the native function at an address, `function(table, thread, threads)`, on so many threads.

        It may be called with (0, 1) instead, when the pool is busy. Other Python threads run meanwhile.
        """
        self._run(function, table, threads)


def pool_code(target: Target) -> bytes:
    """The pool's machine code, for `Pool`."""
    return object_code(_Code(target).module, target)


@cache
def pool() -> Pool:
    """The threads of this process."""
    target = host()
    return Pool(kept(digest(target, "pool"), lambda: pool_code(target)))


class _Code:
    """The functions of the pool."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.module = Module()
        self.state = self.module.zeros("pool", _SIZE, 128)
        self._wait()
        self._announce()
        self._barriers()
        self._phases()
        self._worker()
        self._start()
        self._run()
        self._reset()
        self._stop()

    def _at(self, f: Function, offset: int) -> Value:
        return f.offset(f.address_of(self.state), offset)

    def _pause(self, f: Function) -> None:
        if self.target.x86:
            f.call("llvm.x86.sse2.pause", VOID)
        else:
            f.call("llvm.aarch64.hint", VOID, f.constant(I32, 1))

    def _wait(self) -> None:
        """wait_for(word, old): returns when the word is no longer `old`."""
        f = self.module.function("wait_for", [PTR, I64], internal=True)
        word, old = f.arguments
        turns = f.alloca(8)
        f.store(f.index(0), turns)
        with f.repeat() as leave_if:
            leave_if(f.compare("ne", f.atomic_load(I64, word), old))
            turn = f.load(I64, turns)
            leave_if(turn >= _LOOKS + _YIELDS)
            f.store(turn + 1, turns)
            with f.when(turn < _LOOKS):
                self._pause(f)
            with f.when(turn >= _LOOKS):
                f.call("sched_yield", I32)
        with f.when(f.equal(f.atomic_load(I64, word), old)):
            f.call("pthread_mutex_lock", I32, self._at(f, _MUTEX))
            # Counted before the word is looked at again, as `announce` writes the word before it reads the
            # count: one of the two sees the other.
            f.atomic("add", self._at(f, _SLEEPERS), f.index(1), "seq_cst")
            with f.repeat() as leave_if:
                leave_if(f.compare("ne", f.atomic_load(I64, word, "seq_cst"), old))
                f.call("pthread_cond_wait", I32, self._at(f, _CONDITION), self._at(f, _MUTEX))
            f.atomic("sub", self._at(f, _SLEEPERS), f.index(1), "seq_cst")
            f.call("pthread_mutex_unlock", I32, self._at(f, _MUTEX))
        f.ret()

    def _announce(self) -> None:
        """announce(word): the word is one more; whoever sleeps looks at its own."""
        f = self.module.function("announce", [PTR], internal=True)
        f.atomic("add", f.arguments[0], f.index(1), "seq_cst")
        with f.when(f.atomic_load(I64, self._at(f, _SLEEPERS), "seq_cst") > 0):
            f.call("pthread_mutex_lock", I32, self._at(f, _MUTEX))
            f.call("pthread_cond_broadcast", I32, self._at(f, _CONDITION))
            f.call("pthread_mutex_unlock", I32, self._at(f, _MUTEX))
        f.ret()

    def _barriers(self) -> None:
        """meet(words, threads): returns when so many threads have called it."""
        f = self.module.function("meet", [PTR, I64], internal=True)
        words, threads = f.arguments
        phase = f.atomic_load(I64, words)
        before = f.atomic("add", f.offset(words, _ARRIVED), f.index(1))
        is_last = f.equal(before, threads - 1)
        with f.when(is_last):
            f.atomic_store(f.index(0), f.offset(words, _ARRIVED))
            f.call("announce", VOID, words)
        with f.when(~is_last):
            f.call("wait_for", VOID, words, phase)
        f.ret()
        f = self.module.function(BARRIER, [I64])
        with f.when(f.arguments[0] > 1):
            f.call("meet", VOID, self._at(f, _BARRIER), f.arguments[0])
        f.ret()

    def _phases(self) -> None:
        """The ticket is the phase's number times 2³² plus the items taken; a thread's place is the phase it is in."""

        def place(f: Function, thread: Value) -> Value:
            return f.offset(self._at(f, _PLACES), thread * _PLACE)

        f = self.module.function(TAKE, [I64, I64, I64, PTR], I64)
        thread, threads, items, turn = f.arguments
        alone, together, none = f.label("alone"), f.label("together"), f.label("none")
        f.branch(threads > 1, together, alone)
        f.start_block(together)
        ticket = self._at(f, _TICKET)
        first = f.load(I64, place(f, thread)) << 32
        with f.repeat() as leave_if:
            taken = f.atomic_load(I64, ticket)
            item = taken - first
            # Beyond the phase's items, too, if the ticket is of a later phase.
            leave_if(item >= items)
            with f.when(f.exchange(ticket, taken, taken + 1)):
                f.ret(item)
                f.start_block(f.label("unreachable"))
        f.jump(none)
        f.start_block(alone)
        item = f.load(I64, turn)
        f.store(item + 1, turn)
        with f.when(item < items):
            f.ret(item)
            f.start_block(f.label("unreachable"))
        f.jump(none)
        f.start_block(none)
        f.ret(f.index(-1))

        f = self.module.function(FINISH, [I64, I64, I64])
        thread, threads, items = f.arguments
        with f.when(threads > 1):
            before = f.atomic("add", self._at(f, _FINISHED), f.index(1))
            with f.when(f.equal(before, items - 1)):
                f.atomic_store(f.index(0), self._at(f, _FINISHED))
                f.atomic_store((f.load(I64, place(f, thread)) + 1) << 32, self._at(f, _TICKET))
                f.call("announce", VOID, self._at(f, _PHASE))
        f.ret()

        f = self.module.function(NEXT, [I64, I64])
        thread, threads = f.arguments
        with f.when(threads > 1):
            now = f.load(I64, place(f, thread))
            with f.when(f.equal(f.atomic_load(I64, self._at(f, _PHASE)), now)):
                f.call("wait_for", VOID, self._at(f, _PHASE), now)
            f.store(now + 1, place(f, thread))
        f.ret()

    def _worker(self) -> None:
        """worker(number): does its part of every call until the pool stops."""
        f = self.module.function("worker", [PTR], PTR, internal=True)
        number = f.cast("ptrtoint", f.arguments[0], I64)
        seen = f.element(self._at(f, _SEEN), number, I64)
        with f.repeat() as leave_if:
            old = f.load(I64, seen)
            f.call("wait_for", VOID, self._at(f, _GENERATION), old)
            f.store(old + 1, seen)
            leave_if(f.compare("ne", f.atomic_load(I64, self._at(f, _STOP)), 0))
            threads = f.load(I64, self._at(f, _THREADS))
            with f.when(number < threads):
                f.store(f.index(0), self._at(f, _PLACES), number * (_PLACE // 8))
                table = f.load(PTR, self._at(f, _TABLE))
                f.call_pointer(f.load(PTR, self._at(f, _FUNCTION)), VOID, table, number, threads)
            # Those that had nothing to do come too, so that nobody misses a call.
            f.call("meet", VOID, self._at(f, _END), f.load(I64, self._at(f, _STARTED)))
        f.ret(f.zero(PTR))

    def _start(self) -> None:
        """start(threads): as many workers as are missing from so many threads, the caller counted."""
        f = self.module.function("start", [I64], internal=True)
        (threads,) = f.arguments
        started = self._at(f, _STARTED)
        attributes, signals, before = (self._at(f, o) for o in (_ATTRIBUTES, _SIGNALS, _OLD_SIGNALS))
        block, restore = (0, 2) if sys.platform.startswith("linux") else (1, 3)
        with f.when(f.load(I64, started) < threads):
            # Signals are for the program's own threads.
            f.call("sigfillset", I32, signals)
            f.call("pthread_sigmask", I32, f.constant(I32, block), signals, before)
            f.call("pthread_attr_init", I32, attributes)
            f.call("pthread_attr_setstacksize", I32, attributes, f.index(_STACK))
            with f.repeat() as leave_if:
                number = f.load(I64, started)
                leave_if(number >= threads)
                f.store(f.atomic_load(I64, self._at(f, _GENERATION)), self._at(f, _SEEN), number)
                handle = f.element(self._at(f, _HANDLES), number, I64)
                worker = f.address_of("worker")
                failed = f.call("pthread_create", I32, handle, attributes, worker, f.cast("inttoptr", number, PTR))
                leave_if(f.compare("ne", failed, 0))
                f.store(number + 1, started)
            f.call("pthread_attr_destroy", I32, attributes)
            f.call("pthread_sigmask", I32, f.constant(I32, restore), before, f.zero(PTR))
        f.ret()

    def _run(self) -> None:
        """run(function, table, threads)."""
        f = self.module.function("run", [PTR, PTR, I64])
        function, table, threads = f.arguments
        free, alone = f.label("free"), f.label("alone")
        with f.when(threads > 1):
            busy = f.atomic("xchg", self._at(f, _BUSY), f.index(1), "acquire")
            f.branch(f.equal(busy, 0), free, alone)
            f.start_block(free)
            f.call("start", VOID, threads)
            started = f.load(I64, self._at(f, _STARTED))
            count = f.pairwise("smin", threads, started)
            f.store(function, self._at(f, _FUNCTION))
            f.store(table, self._at(f, _TABLE))
            f.store(count, self._at(f, _THREADS))
            for word in (_TICKET, _FINISHED, _PHASE, _PLACES):
                f.store(f.index(0), self._at(f, word))
            f.call("announce", VOID, self._at(f, _GENERATION))
            f.call_pointer(function, VOID, table, f.index(0), count)
            f.call("meet", VOID, self._at(f, _END), started)
            f.atomic_store(f.index(0), self._at(f, _BUSY))
            f.ret()
            f.start_block(f.label("unreachable"))
        f.jump(alone)
        f.start_block(alone)
        f.call_pointer(function, VOID, table, f.index(0), f.index(1))
        f.ret()

    def _reset(self) -> None:
        """reset(): a pool without workers, whatever it was before."""
        f = self.module.function("reset", [])
        state = f.address_of(self.state)
        f.call("llvm.memset.p0.i64", VOID, state, f.constant(I8, 0), f.index(_SIZE), f.constant(I1, 0))
        f.call("pthread_mutex_init", I32, self._at(f, _MUTEX), f.zero(PTR))
        f.call("pthread_cond_init", I32, self._at(f, _CONDITION), f.zero(PTR))
        f.store(f.index(1), self._at(f, _STARTED))
        f.ret()

    def _stop(self) -> None:
        """stop(): ends the workers and waits for them; does nothing while another thread runs something."""
        f = self.module.function("stop", [])
        with f.when(f.equal(f.atomic("xchg", self._at(f, _BUSY), f.index(1), "acquire"), 0)):
            started = f.load(I64, self._at(f, _STARTED))
            f.atomic_store(f.index(1), self._at(f, _STOP))
            f.call("announce", VOID, self._at(f, _GENERATION))
            with f.loop(1, started) as loop:
                f.call("pthread_join", I32, f.load(I64, self._at(f, _HANDLES), loop.index), f.zero(PTR))
            f.call("reset", VOID)
        f.ret()
