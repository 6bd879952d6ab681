"""Peak memory of the recipes' training steps beside PyTorch's, each measured in a process of its own.

Run with `python -m benchmarks.bench_memory --json results.json` (Linux: /proc is read). What a
process holds after its imports and its batch is taken off: the rest is weights, gradients, the
optimiser's state, and what the step keeps and makes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from .harness import machine
from .recipe_steps import TASKS, library, step

LIBRARIES = ("chainrule", "PyTorch")


def inside(task: str, name: str, steps: int) -> dict[str, int]:
    """Bytes of this process before the network is made, and at most until some steps are done."""
    library(name)
    work = TASKS[task](name)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    run = step(name, work)
    for _ in range(steps):
        run()
    return {"before": before, "peak": _status("VmHWM")}


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {key}")


def measure(tasks: list[str], steps: int) -> list[dict[str, object]]:
    """Every task in both libraries, one process after the other."""
    results: list[dict[str, object]] = []
    for task in tasks:
        row: dict[str, object] = {"task": task}
        for name in LIBRARIES:
            command = [sys.executable, "-m", "benchmarks.bench_memory", "--inside", task, name, "--steps", str(steps)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            row[name] = json.loads(done.stdout.splitlines()[-1])
        results.append(row)
        print(table([row]).splitlines()[-1], file=sys.stderr, flush=True)
    return results


def table(results: list[dict[str, object]]) -> str:
    """The results as Markdown: megabytes of the step, their ratio, and of the whole process."""
    lines = [
        "| task | chainrule | PyTorch | ratio | whole process | of PyTorch |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in results:
        peaks = [row[name]["peak"] for name in LIBRARIES]  # type: ignore[index]
        used = [row[name]["peak"] - row[name]["before"] for name in LIBRARIES]  # type: ignore[index]
        sizes = [f"{n / 1e6:,.0f} MB" for n in (*used, *peaks)]
        lines.append(f"| {row['task']} | {sizes[0]} | {sizes[1]} | {used[0] / used[1]:.2f} | {sizes[2]} | {sizes[3]} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--task", choices=TASKS, action="append", help="only this one; may be given several times")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.inside:
        print(json.dumps(inside(*args.inside, args.steps)))
        return
    facts = machine("numpy", "torch", "transformers") | {"threads": os.environ.get("OPENBLAS_NUM_THREADS", "all")}
    results = measure(args.task or list(TASKS), args.steps)
    print(", ".join(f"{k} {v}" for k, v in facts.items()) + "\n\n" + table(results))
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps({"machine": facts, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
