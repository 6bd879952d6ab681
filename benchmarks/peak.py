"""The most that the processor's multiply-add units can do, measured: registers only, no memory."""

from __future__ import annotations

import ctypes
import os
import threading
import time

import numpy as np

from chainrule.compiler.code.target import host, load, object_code

_CHAINS = 12  # independent sums: enough to hide the latency of two units
_ROUNDS = 1 << 19


def text(lanes: int) -> str:
    """A function that does 2 · lanes · _CHAINS operations in each of _ROUNDS rounds."""
    vector = f"<{lanes} x float>"
    names = range(_CHAINS)
    # Every sum begins differently: equal ones would be computed once.
    begin = "\n".join(
        f"  %p{i} = getelementptr {vector}, ptr %out, i64 {i}\n  %s{i} = load {vector}, ptr %p{i}, align 4"
        for i in names
    )
    phis = "\n".join(f"  %a{i} = phi {vector} [ %s{i}, %entry ], [ %b{i}, %loop ]" for i in names)
    sums = "\n".join(f"  %b{i} = call {vector} @fma({vector} %a{i}, {vector} %x, {vector} %x)" for i in names)
    total = "\n".join(f"  %t{i + 1} = fadd {vector} %t{i}, %b{i}" for i in names)
    sums = sums.replace("@fma", f"@llvm.fma.v{lanes}f32")
    return f"""
declare {vector} @llvm.fma.v{lanes}f32({vector}, {vector}, {vector})
define void @peak(ptr %out) {{
entry:
  %x = load {vector}, ptr %out, align 4
{begin}
  br label %loop
loop:
  %n = phi i64 [ 0, %entry ], [ %m, %loop ]
{phis}
{sums}
  %m = add i64 %n, 1
  %more = icmp ult i64 %m, {_ROUNDS}
  br i1 %more, label %loop, label %end
end:
  %t0 = fadd {vector} zeroinitializer, zeroinitializer
{total}
  store {vector} %t{_CHAINS}, ptr %out, align 4
  ret void
}}
"""


def measure(threads: int | None = None, seconds: float = 1.0) -> float:
    """The best rate seen, in float32 operations a second of all threads together (a multiply-add counts two)."""
    threads = threads or os.cpu_count() or 1
    target = host()
    lanes = target.vector_bytes // 4
    library = load(object_code(text(lanes), target), ["peak"])
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(library["peak"])
    best = 0.0
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        rates = [0.0] * threads
        workers = [threading.Thread(target=_run, args=(function, lanes, rates, i)) for i in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        best = max(best, sum(rates))
    return best


def _run(function: object, lanes: int, rates: list[float], place: int) -> None:
    memory = np.arange(lanes * _CHAINS, dtype=np.float32) * np.float32(1e-30)
    for _ in range(20):
        started = time.perf_counter()
        function(memory.ctypes.data)  # type: ignore[operator]
        rates[place] = max(rates[place], 2 * lanes * _CHAINS * _ROUNDS / (time.perf_counter() - started))
