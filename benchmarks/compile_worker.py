"""One candidate of `bench_compile` in a process of its own: it builds a step, then runs it when told to.

Commands come line by line on standard input, answers as JSON on standard output: a clock (wall or cpu) and
a number of calls are answered with the seconds of one call, `facts` with what else is known.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any


def _memory() -> int:
    """Bytes in memory now."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _step(task: str, candidate: str) -> tuple[Callable[..., Any], tuple[Any, ...], Callable[[Any], Any]]:
    """The step, its arguments, and what waits for its result."""
    if candidate == "jax":
        from . import networks_jax

        step, batch = getattr(networks_jax, task)()
        return step, batch, lambda result: result.block_until_ready()
    from .networks import TASKS

    if candidate.startswith("torch"):
        import torch

        step, batch = TASKS[task](torch)
        if candidate == "torch.compile":
            step = torch.compile(step)
        return step, batch, lambda result: result
    import chainrule

    step, batch = TASKS[task](chainrule)
    return chainrule.compile(step) if candidate == "chainrule" else step, batch, lambda result: result


def _threads() -> int:
    return int(os.environ["BENCH_THREADS"])


def _warm(candidate: str) -> None:
    """Load the library and what it compiles with, so that its memory is not counted as the step's."""
    if candidate == "jax":
        import jax

        jax.jit(lambda x: x @ x)(jax.numpy.ones((2, 2))).block_until_ready()
    elif candidate.startswith("torch"):
        import torch

        torch.set_num_threads(_threads())
        (torch.ones(2, 2, requires_grad=True) @ torch.ones(2, 2)).sum().backward()
    else:
        import chainrule

        square = chainrule.compile(lambda x: x @ x) if candidate == "chainrule" else lambda x: x @ x
        square(chainrule.ones((2, 2)))


def main() -> None:
    """Build the step that the arguments name, then answer commands."""
    task, candidate = sys.argv[1:]
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, range(_threads()))
    os.environ["CHAINRULE_NUM_THREADS"] = str(_threads())
    _warm(candidate)
    before = _memory()
    step, batch, wait = _step(task, candidate)
    started = time.perf_counter()
    value = wait(step(*batch)).item()
    first = time.perf_counter() - started
    facts: dict[str, Any] = {"first": first, "loss": value}
    print(json.dumps(facts), flush=True)
    for line in sys.stdin:
        if line.strip() == "facts":
            facts["memory"] = _peak() - before
            if candidate == "chainrule":
                facts |= _report(step)
            print(json.dumps(facts), flush=True)
            continue
        clock, calls = line.split()
        now = time.process_time if clock == "cpu" else time.perf_counter
        started = now()
        for _ in range(int(calls)):
            wait(step(*batch))
        print(json.dumps((now() - started) / int(calls)), flush=True)


def _report(step: Any) -> dict[str, Any]:
    from chainrule.compiler.cost import flops

    ops = step.graph.ops
    dense = ("matmul", "affine", "conv", "conv_transpose", "conv_weight", "attention", "attention_gradient")
    return {"flops": sum(flops(op) for op in ops if op.primitive.name in dense)}


if __name__ == "__main__":
    main()
