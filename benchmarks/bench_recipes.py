"""Training steps of the recipes at their own sizes beside PyTorch's eager mode, from the same source.

For `llm` PyTorch has a network of its own, that of `transformers`.

Run with `python -m benchmarks.bench_recipes --threads 1 --json results.json`. `--threads` is
PyTorch's number; chainrule's is that of NumPy's BLAS, which OPENBLAS_NUM_THREADS sets.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .harness import Comparison, compare, machine, markdown, save
from .recipe_steps import TASKS, step


def measure(rounds: int, compiled: bool, llm: bool) -> list[Comparison]:
    """All recipes' steps, or those of `llm` alone, which take seconds each."""
    mine = "chainrule, compiled" if compiled else "chainrule"
    return [
        compare(
            task,
            {mine: step("chainrule", work("chainrule"), compiled), "PyTorch": step("PyTorch", work("PyTorch"))},
            rounds=rounds,
        )
        for task, work in TASKS.items()
        if ("llm" in work.__name__) == llm
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="PyTorch's threads; as many as cores")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--compile", action="store_true", help="chainrule's updates are compiled")
    parser.add_argument("--llm", action="store_true", help="the steps of `llm`; needs transformers")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    facts = machine("numpy", "torch") | {"threads": str(args.threads)}
    results = measure(args.rounds, args.compile, args.llm)
    print(markdown(results, facts))
    if args.json:
        save(args.json, results, facts)


if __name__ == "__main__":
    main()
