"""Memory of compiled steps over many calls: it must not grow.

Run with `python -m benchmarks.bench_leak --steps 100000` (Linux: /proc is read). Three programs take turns: a network
with dropout and gradient clipping, an embedding under `cr.scan`, which now and then is given an index that is out of
range, and one that hands an operation to NumPy; the batch changes between two sizes. The first tenth is for warming up.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

import chainrule as cr
from chainrule import nn, optim
from chainrule.nn import functional as F

GROWTH = 1 << 20
"""Bytes that a run may grow by, whatever its length: pages that the allocator keeps for itself."""
_PAGE = 4096


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE


def network() -> Callable[[int], object]:
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 4))
    optimizer = optim.Adam(model.parameters())

    @cr.compile
    def step(x: cr.Tensor, y: cr.Tensor) -> cr.Tensor:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    batches = {n: (cr.asarray(np.ones((n, 8), np.float32)), cr.asarray(np.arange(n) % 4)) for n in (16, 17)}
    return lambda n: step(*batches[n])


def sequence() -> Callable[[int], object]:
    embedding, cell = nn.Embedding(11, 6), nn.GRUCell(6, 6)
    optimizer = optim.SGD([*embedding.parameters(), *cell.parameters()], lr=0.01)

    @cr.compile
    def step(tokens: cr.Tensor) -> cr.Tensor:
        optimizer.zero_grad()
        last, _ = cr.scan(lambda h, t: (cell(embedding(t), h), None), cr.zeros((tokens.shape[1], 6)), tokens)
        loss = (last**2).mean()
        loss.backward()
        optimizer.step()
        return loss

    right = {n: cr.asarray(np.arange(5 * n).reshape(5, n) % 11) for n in (16, 17)}
    wrong = cr.asarray(np.full((5, 16), 11))
    count = itertools.count()

    def run(n: int) -> object:
        if next(count) % 10 == 0:
            try:
                step(wrong)
            except cr.IndexingError:
                return None
            raise AssertionError("an index out of range was not noticed")
        return step(right[n])

    return run


def handed_over() -> Callable[[int], object]:
    step = cr.compile(lambda x: cr.linalg.svdvals(x * 2).sum())
    matrices = {n: cr.asarray(np.eye(3, n % 16 + 3, dtype=np.float32)) for n in (16, 17)}
    return lambda n: step(matrices[n])


def run(steps: int, show: Callable[[str], object] = lambda _: None, measure: Callable[[], int] = resident) -> int:
    """What has been added between a tenth of the steps and the end: bytes, or what else is measured."""
    programs = [network(), sequence(), handed_over()]
    turns = zip(itertools.cycle(programs), itertools.cycle((16, 16, 16, 17, 17, 17)), strict=False)
    warm, started = 0, time.perf_counter()
    for number, (program, size) in enumerate(itertools.islice(turns, steps + 1)):
        if number == steps // 10:
            warm = measure()
        if number % max(steps // 10, 1) == 0:
            show(f"{number:>9} steps  {resident() / 2**20:8.2f} MiB  {time.perf_counter() - started:6.1f} s")
        program(size)
    return measure() - warm


def main() -> None:
    """Print memory as it goes; exit with 1 if it grew."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=100_000)
    grown = run(parser.parse_args().steps, print)
    print(f"grown by {grown / 1024:.0f} KiB after the first tenth; allowed {GROWTH // 1024} KiB")
    sys.exit(grown > GROWTH)


if __name__ == "__main__":
    main()
