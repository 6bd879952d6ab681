"""Convolutional networks beside PyTorch's eager mode: the forward pass, and forward and backward together.

Run with `python -m benchmarks.bench_conv --json results.json`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from .harness import Comparison, compare, machine, markdown, save

Call = Callable[[], object]


def plain(library: ModuleType) -> Any:
    """Three convolutions and two poolings for images of 3 x 32 x 32."""
    nn = library.nn
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 8 * 8, 10),
    )  # fmt: skip


def residual(library: ModuleType) -> Any:
    """Three residual blocks with 32, 64 and 128 channels for images of 1 x 28 x 28."""
    nn = library.nn

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, channels: int, outputs: int, stride: int) -> None:
            super().__init__()
            self.conv1 = nn.Conv2d(channels, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            same = channels == outputs and stride == 1
            self.shortcut = nn.Identity() if same else nn.Conv2d(channels, outputs, 1, stride, bias=False)
            self.relu = nn.ReLU()

        def forward(self, input: Any) -> Any:
            inner = self.relu(self.bn1(self.conv1(input)))
            return self.relu(self.bn2(self.conv2(inner)) + self.shortcut(input))

    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(),
        Block(32, 32, 1), Block(32, 64, 2), Block(64, 128, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def depthwise(library: ModuleType) -> Any:
    """Two separable convolutions for images of 3 x 32 x 32."""
    nn = library.nn
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(),
        nn.Conv2d(64, 64, 3, padding=1, groups=64), nn.Conv2d(64, 128, 1), nn.ReLU(),
        nn.Conv2d(128, 128, 3, 2, 1, groups=128), nn.Conv2d(128, 128, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10),
    )  # fmt: skip


def passes(library: ModuleType, network: Callable[[ModuleType], Any], shape: tuple[int, ...]) -> tuple[Call, Call]:
    """The forward pass without a graph, and forward and backward, of one batch."""
    rng = np.random.default_rng(0)
    model = network(library)
    images = library.asarray(rng.standard_normal(shape).astype(np.float32))
    labels = library.asarray(rng.integers(0, 10, shape[0]))

    def forward() -> object:
        with library.no_grad():
            return model(images)

    def both() -> object:
        model.zero_grad()
        loss = library.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        return loss

    return forward, both


def networks(rounds: int) -> list[Comparison]:
    """Each network's two passes."""
    import torch

    import chainrule

    torch.set_num_threads(os.cpu_count() or 1)
    results = []
    for network, shape in ((plain, (64, 3, 32, 32)), (residual, (128, 1, 28, 28)), (depthwise, (32, 3, 32, 32))):
        pairs = {library.__name__: passes(library, network, shape) for library in (chainrule, torch)}
        for which, name in enumerate(("forward", "forward and backward")):
            candidates = {library: calls[which] for library, calls in pairs.items()}
            task = f"{network.__name__} CNN, batch {shape[0]}, {name}"
            results.append(compare(task, candidates, rounds=rounds, warm_up=0.3))
    return results


def main() -> None:
    """Measure everything, print a table, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="turns per measurement")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    results = networks(options.rounds)
    facts = machine("numpy", "torch")
    print(markdown(results, facts))
    if options.json:
        save(options.json, results, facts)


if __name__ == "__main__":
    main()
