"""Compiled training steps beside PyTorch (eager, `torch.compile`) and JAX (`jit`, donated state).

Run with `python -m benchmarks.bench_compile`; `--tasks`, `--candidates` and `--rounds` choose less, `--json FILE` keeps
the numbers. On a busy machine `--threads 1 --clock cpu` compares what each takes of one core.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from . import peak
from .harness import machine

CANDIDATES = ("chainrule", "chainrule eager", "torch", "torch.compile", "jax")
TASKS = (
    "tiny_mlp", "mlp", "wide_mlp", "cnn", "residual_cnn", "lstm", "small_gpt", "large_gpt", "unet", "dqn",
    "adam_update", "cross_entropy",
)  # fmt: skip


class Worker:
    """A candidate in a process of its own: between its turns it waits and takes no time from the others."""

    def __init__(self, task: str, candidate: str, cache: str, threads: int) -> None:
        environment = os.environ | {
            "BENCH_THREADS": str(threads),
            "CHAINRULE_CACHE": cache,
            "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.compile_worker", task, candidate],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
        )  # fmt: skip
        self.facts = self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker ended with {self._process.wait()}")
        return json.loads(line)

    def ask(self, command: str) -> Any:
        """Send a command, wait for the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(command + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()


@contextlib.contextmanager
def workers(task: str, candidates: tuple[str, ...], cache: str, threads: int) -> Iterator[dict[str, Worker]]:
    """A worker for each candidate that can run the task."""
    running: dict[str, Worker] = {}
    try:
        for candidate in candidates:
            try:
                running[candidate] = Worker(task, candidate, cache, threads)
            except RuntimeError as error:
                print(f"{task}, {candidate}: {error}", file=sys.stderr)
        yield running
    finally:
        for worker in running.values():
            worker.close()


def measure(
    task: str, candidates: tuple[str, ...], rounds: int, block: float, threads: int, clock: str
) -> dict[str, Any]:
    """Times of all candidates, taken in turns of at least `block` seconds, and what they say of themselves."""
    with tempfile.TemporaryDirectory() as cache, workers(task, candidates, cache, threads) as running:
        calls = {}
        for name, worker in running.items():
            worker.ask("wall 2")
            calls[name] = max(1, round(block / worker.ask("wall 3")))
        times: dict[str, list[float]] = {name: [] for name in running}
        names = list(running)
        for turn in range(rounds):
            for name in names if turn % 2 else reversed(names):
                times[name].append(running[name].ask(f"{clock} {calls[name]}"))
        facts = {name: worker.ask("facts") for name, worker in running.items()}
        if "chainrule" in running:
            again = Worker(task, "chainrule", cache, threads)
            facts["chainrule"]["cached"] = again.facts["first"]
            again.close()
    return {"task": task, "times": times, "facts": facts}


def row(result: dict[str, Any], rate: float) -> dict[str, Any]:
    """The figures of one task."""
    times, facts = result["times"], result["facts"]
    medians = {name: statistics.median(values) for name, values in times.items()}
    fastest = {name: statistics.quantiles(values, n=10, method="inclusive")[0] for name, values in times.items()}
    found: dict[str, Any] = {"task": result["task"], "ms": {n: 1e3 * t for n, t in medians.items()}}
    if "chainrule" not in times:
        return found
    mine = times["chainrule"]
    for label, group in (("torch", CANDIDATES[2:4]), ("jax", CANDIDATES[4:])):
        peers = [name for name in group if name in times]
        if peers:
            best = min(peers, key=medians.__getitem__)
            ratios = [b / a for a, b in zip(mine, times[best], strict=True)]
            found[f"over {label}"] = statistics.median(ratios)
            found[f"over {label}, undisturbed"] = fastest[best] / fastest["chainrule"]
    flops = facts["chainrule"].get("flops", 0)
    found["GF/s"] = flops / fastest["chainrule"] / 1e9
    found["of peak"] = flops / fastest["chainrule"] / rate
    found["memory"] = {name: fact["memory"] / 2**20 for name, fact in facts.items() if "memory" in fact}
    found["cold"], found["cached"] = facts["chainrule"]["first"], facts["chainrule"]["cached"]
    return found


def markdown(rows: list[dict[str, Any]], facts: dict[str, str]) -> str:
    """The table: times of a step in ms, ratios to the best of each peer, rates, memory, compile times."""
    names = [name for name in CANDIDATES if any(name in r["ms"] for r in rows)]
    head = [
        "task",
        *(f"{n} ms" for n in names),
        "over torch",
        "over jax",
        "GF/s",
        "of peak",
        "MiB (torch, jax)",
        "first call",
    ]
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    for r in rows:
        cells = [r["task"].replace("_", " ")]
        cells += [_ms(r["ms"].get(name)) for name in names]
        cells += [_ratio(r, "torch"), _ratio(r, "jax")]
        dense = r.get("of peak", 0) > 0
        cells += [f"{r['GF/s']:.0f}" if dense else "", f"{100 * r['of peak']:.0f} %" if dense else ""]
        memory = r.get("memory", {})
        cells.append(f"{memory.get('chainrule', 0):.0f} ({memory.get('torch', 0):.0f}, {memory.get('jax', 0):.0f})")
        cells.append(f"{r['cold']:.2f} s, cached {r['cached']:.2f} s" if "cold" in r else "")
        lines.append("| " + " | ".join(cells) + " |")
    return ", ".join(f"{k} {v}" for k, v in facts.items()) + "\n\n" + "\n".join(lines) + "\n"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if value < 1 else f"{value:.1f}"


def _ratio(r: dict[str, Any], peer: str) -> str:
    if f"over {peer}" not in r:
        return ""
    return f"{r[f'over {peer}']:.1f} ({r[f'over {peer}, undisturbed']:.1f})"


def main() -> None:
    """Measure, print a table, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS, metavar="TASK", help=", ".join(TASKS))
    parser.add_argument("--candidates", nargs="+", default=CANDIDATES, choices=CANDIDATES, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=30, help="turns of each candidate")
    parser.add_argument("--block", type=float, default=0.05, help="seconds that a turn takes at least")
    parser.add_argument(
        "--threads",
        type=int,
        default=os.cpu_count() or 1,
        help="cores that each candidate may use (it is bound to them)",
    )
    parser.add_argument(
        "--clock", choices=("wall", "cpu"), default="wall", help="cpu leaves out what other programs take of one core"
    )
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    rate = peak.measure(options.threads)
    facts = machine("numpy", *(p for p in ("torch", "jax") if any(c.startswith(p) for c in options.candidates)))
    facts["threads"] = f"{options.threads} ({options.clock} time)"
    facts["float32 peak"] = f"{rate / 1e9:.0f} GF/s"
    rows = []
    for task in options.tasks:
        started = time.perf_counter()
        rows.append(
            row(
                measure(task, tuple(options.candidates), options.rounds, options.block, options.threads, options.clock),
                rate,
            )
        )
        print(f"{task}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
        if options.json:
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps({"machine": facts, "rows": rows}, indent=2) + "\n")
    print(markdown(rows, facts))


if __name__ == "__main__":
    main()
