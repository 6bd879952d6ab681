"""Eager training steps beside PyTorch's, and the time of `import chainrule` beside NumPy's.

Run with `make bench`, or `python -m benchmarks.bench_eager --json results.json`.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .harness import Comparison, compare, machine, markdown, save, summarise

Step = Callable[[], object]


def training_step(library: ModuleType, sizes: tuple[int, ...], activation: str, optimiser: str, batch: int) -> Step:
    """Forward, backward and update of an MLP classifier, as a user of `library` writes it.

    `library` is chainrule or torch: the same code runs on both, from the same weights.
    """
    nn, rng = library.nn, np.random.default_rng(0)
    layers: list[Any] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), getattr(nn, activation)()]
    model = nn.Sequential(*layers[:-1])
    x = library.asarray(rng.standard_normal((batch, sizes[0])).astype(np.float32))
    labels = library.asarray(rng.integers(0, sizes[-1], batch))
    update = getattr(library.optim, optimiser)(model.parameters(), lr=1e-4)
    loss_of = nn.CrossEntropyLoss()

    def step() -> object:
        update.zero_grad()
        loss = loss_of(model(x), labels)
        loss.backward()
        update.step()
        return loss

    return step


def steps(rounds: int, threads: int) -> list[Comparison]:
    """Training steps of a tiny and of a small MLP; PyTorch may use `threads` threads."""
    import torch

    import chainrule

    torch.set_num_threads(threads)
    results = []
    for sizes, activation, optimiser, batch, target in (
        ((4, 64, 64, 2), "Tanh", "SGD", 32, 1.0),
        ((4, 64, 64, 2), "Tanh", "Adam", 32, 1.0),
        ((784, 512, 512, 10), "ReLU", "SGD", 128, 1.3),
        ((784, 512, 512, 10), "ReLU", "Adam", 128, 1.3),
    ):
        candidates = {
            library.__name__: training_step(library, sizes, activation, optimiser, batch)
            for library in (chainrule, torch)
        }
        task = f"MLP {'-'.join(map(str, sizes))}, {activation}, {optimiser}, batch {batch}"
        results.append(compare(task, candidates, rounds=rounds, target=target))
    return results


def imports(rounds: int) -> Comparison:
    """The time of `import chainrule` and of `import numpy`, each in a fresh interpreter."""
    times: dict[str, list[float]] = {"chainrule": [], "numpy": []}
    # An installed package has its bytecode beside it; so must a checkout for a fair comparison.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for turn in range(rounds + 1):
        for name in times:
            code = f"import time; t = time.perf_counter(); import {name}; print(time.perf_counter() - t)"
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
            if turn:  # the first turn fills the file cache and writes the bytecode
                times[name].append(float(done.stdout))
    return summarise("import", times, target=1.5)


def main() -> None:
    """Measure everything, print a table, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="turns per training step")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="PyTorch's threads; as many as cores")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    results = [*steps(options.rounds, options.threads), imports(20)]
    facts = machine("numpy", "torch")
    print(markdown(results, facts))
    if options.json:
        save(options.json, results, facts)


if __name__ == "__main__":
    main()
