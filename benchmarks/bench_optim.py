"""Optimiser steps beside PyTorch's: the update alone, with gradients that are already there.

Run with `python -m benchmarks.bench_optim --json results.json`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .harness import Comparison, compare, machine, markdown, save

SIZES = {
    "4-64-64-2": [(64, 4), (64,), (64, 64), (64,), (2, 64), (2,)],
    "784-512-512-10": [(512, 784), (512,), (512, 512), (512,), (10, 512), (10,)],
}
OPTIMISERS: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9}),
    ("Adam", {}),
    ("AdamW", {}),
    ("RMSprop", {}),
    ("Adagrad", {}),
]


def step_of(library: Any, parameter: Callable[..., Any], name: str, shapes: Any, options: dict[str, Any]) -> Any:
    """The `step` of an optimiser of chainrule or of PyTorch, on the same numbers."""
    rng = np.random.default_rng(0)
    params = []
    for shape in shapes:
        params.append(parameter(library.asarray(rng.standard_normal(shape).astype(np.float32))))
        params[-1].grad = library.asarray(rng.standard_normal(shape).astype(np.float32))
    return getattr(library.optim, name)(params, lr=1e-4, **options).step


def steps(rounds: int, threads: int) -> list[Comparison]:
    """Every optimiser on the parameters of a tiny and of a small MLP."""
    import torch

    import chainrule

    torch.set_num_threads(threads)
    results = []
    for network, shapes in SIZES.items():
        for name, options in OPTIMISERS:
            candidates = {
                "chainrule": step_of(chainrule, chainrule.nn.Parameter, name, shapes, options),
                "torch": step_of(torch, torch.nn.Parameter, name, shapes, options),
            }
            given = ", ".join(f"{k}={v}" for k, v in options.items())
            task = f"{name}({given}) on {network}"
            results.append(compare(task, candidates, rounds=rounds, warm_up=0.2, target=1.0))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60, help="turns of each candidate")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads that PyTorch may use")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    arguments = parser.parse_args()
    results = steps(arguments.rounds, arguments.threads)
    facts = machine("chainrule", "numpy", "torch")
    print(markdown(results, facts))
    if arguments.json:
        save(arguments.json, results, facts)


if __name__ == "__main__":
    main()
