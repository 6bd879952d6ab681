"""Training steps of the recipes at their own sizes beside PyTorch's eager mode, from the same source.

Run with `python -m benchmarks.bench_recipes --threads 1 --json results.json`. `--threads` is
PyTorch's number; chainrule's is that of NumPy's BLAS, which OPENBLAS_NUM_THREADS sets.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .harness import Comparison, compare, machine, markdown, save
from .recipe_steps import TASKS, step


def measure(rounds: int) -> list[Comparison]:
    """The recipes that train from nothing; PyTorch has its own network for `llm`, see `benchmarks.bench_memory`."""
    libraries = ("chainrule", "PyTorch")
    return [
        compare(task, {name: step(name, work(name)) for name in libraries}, rounds=rounds)
        for task, work in TASKS.items()
        if "llm" not in work.__name__
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="PyTorch's threads; as many as cores")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    facts = machine("numpy", "torch") | {"threads": str(args.threads)}
    results = measure(args.rounds)
    print(markdown(results, facts))
    if args.json:
        save(args.json, results, facts)


if __name__ == "__main__":
    main()
