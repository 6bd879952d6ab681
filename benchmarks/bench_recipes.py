"""Training steps of the recipes at their own sizes beside PyTorch's eager mode, from the same source.

Run with `python -m benchmarks.bench_recipes --threads 1 --json results.json`. `--threads` is
PyTorch's number; chainrule's is that of NumPy's BLAS, which OPENBLAS_NUM_THREADS sets.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .harness import Comparison, compare, machine, markdown, save


def step(model: Any, optimizer: Any, loss: Callable[..., Any], batch: tuple[Any, ...]) -> Callable[[], object]:
    """One update: gradients set to zero, forward, backward, optimiser."""

    def run() -> object:
        optimizer.zero_grad()
        value = loss(model, batch)
        value.backward()
        optimizer.step()
        return value.item()

    return run


def both(
    task: str, mine: Any, theirs: Any, losses: tuple[Any, Any], batch: list[np.ndarray], rounds: int
) -> Comparison:
    """The same step in both libraries, with AdamW."""
    import torch

    import chainrule as cr

    ours = step(mine, cr.optim.AdamW(mine.parameters(), 1e-3), losses[0], tuple(map(cr.Tensor, batch)))
    other = step(theirs, torch.optim.AdamW(theirs.parameters(), 1e-3), losses[1], tuple(map(torch.tensor, batch)))
    return compare(task, {"chainrule": ours, "PyTorch": other}, rounds=rounds)


def measure(rounds: int) -> list[Comparison]:
    """All recipes."""
    import torch

    from chainrule.data import DataLoader, FashionMNIST
    from chainrule.nn import functional as F
    from chainrule.recipes import cnn, detector, diffusion
    from chainrule.recipes.scenes import Scenes

    from .same_source import in_pytorch

    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((128, 1, 28, 28), np.float32), rng.integers(0, 10, 128)
    losses = tuple(lambda m, b, f=f: f(m(b[0]), b[1]) for f in (F.cross_entropy, torch.nn.functional.cross_entropy))
    theirs = in_pytorch(cnn.Block, cnn.ResNet)["ResNet"]()
    results = [both("cnn, batch 128", cnn.ResNet(), theirs, losses, [images, labels], rounds)]

    scenes = detector.Targets(Scenes(FashionMNIST(), True, 16, seed=0), 10)
    batch = [t.numpy().copy() for t in next(iter(DataLoader(scenes, 16)))]
    parts = (cnn.Block, detector.Detector, detector.around_cell, detector.detection_loss, detector.objective)
    space = in_pytorch(*parts, STRIDE=detector.STRIDE)
    mine, pair = detector.Detector(10), (detector.objective, space["objective"])
    results.append(both("detector, batch 16", mine, space["Detector"](10), pair, batch, rounds))

    parts = (diffusion.Block, diffusion.UNet, diffusion.waves, diffusion.objective)
    space = in_pytorch(*parts, CLASSES=diffusion.CLASSES, NO_CLASS=diffusion.NO_CLASS)
    mine, pair = diffusion.UNet(), (diffusion.objective, space["objective"])
    results.append(both("diffusion, batch 64", mine, space["UNet"](), pair, [images[:64], labels[:64]], rounds))
    return results


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
