"""Recurrent layers, attention and embeddings beside PyTorch's eager mode: forward, and forward and backward together.

Run with `OPENBLAS_NUM_THREADS=1 python -m benchmarks.bench_sequences --threads 1 --json results.json`.
`--threads` is PyTorch's number; chainrule's is that of NumPy's BLAS.
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
RECURRENT = ((12, 64, 29, 32, 1), (64, 128, 64, 32, 2), (256, 256, 50, 64, 1))  # inputs, width, steps, batch, layers


def passes(library: ModuleType, model: Any, inputs: tuple[Any, ...], **options: Any) -> tuple[Call, Call]:
    """The forward pass alone, without recording, and both passes with a loss of all outputs."""

    def run() -> Any:
        out = model(*inputs, **options)
        while isinstance(out, tuple):  # of a layer with states; of a packed sequence, its data
            out = out[0]
        return out

    def forward() -> object:
        with library.no_grad():
            return run()

    def both() -> object:
        for p in model.parameters():
            p.grad = None
        loss = (run() ** 2).sum()
        loss.backward()
        return loss

    return forward, both


def layers() -> dict[str, Callable[[ModuleType], tuple[Call, Call]]]:
    """Name to a function that makes the passes of one library."""
    rng = np.random.default_rng(0)
    tasks: dict[str, Callable[[ModuleType], tuple[Call, Call]]] = {}

    def recurrent(kind: str, size: tuple[int, ...], packed: bool) -> Callable[[ModuleType], tuple[Call, Call]]:
        inputs, width, steps, batch, depth = size
        sequence = rng.standard_normal((steps, batch, inputs), np.float32)
        lengths = rng.integers(max(1, steps // 4), steps + 1, batch)

        def make(library: ModuleType) -> tuple[Call, Call]:
            x = library.tensor(sequence)
            if packed:
                pack = library.nn.utils.rnn.pack_padded_sequence
                x = pack(x, library.tensor(lengths), enforce_sorted=False)
            return passes(library, getattr(library.nn, kind)(inputs, width, depth), (x,))

        return make

    for size in RECURRENT:
        for kind in ("RNN", "GRU", "LSTM"):
            inputs, width, steps, batch, depth = size
            name = f"{kind} {inputs}-{width}, {steps} steps, batch {batch}, layers {depth}"
            tasks[name] = recurrent(kind, size, False)
    tasks["LSTM 12-64, packed, 7 to 29 steps, batch 32"] = recurrent("LSTM", RECURRENT[0], True)

    x = rng.standard_normal((12, 64, 128), np.float32)

    def attention(library: ModuleType) -> tuple[Call, Call]:
        model, tokens = library.nn.MultiheadAttention(128, 4, batch_first=True), library.tensor(x)
        return passes(library, model, (tokens, tokens, tokens), need_weights=False)

    def encoder(library: ModuleType) -> tuple[Call, Call]:
        model = library.nn.TransformerEncoderLayer(128, 4, 512, 0.0, "gelu", batch_first=True, norm_first=True)
        return passes(library, model, (library.tensor(x),))

    codes = rng.integers(0, 5000, (12, 64))
    tasks["MultiheadAttention 128, 4 heads, 64 steps, batch 12"] = attention
    tasks["TransformerEncoderLayer 128, 4 heads, 64 steps, batch 12"] = encoder
    tasks["Embedding 5000 x 128, 768 rows"] = lambda lib: passes(lib, lib.nn.Embedding(5000, 128), (lib.tensor(codes),))
    return tasks


def measure(rounds: int) -> list[Comparison]:
    """Both passes of every layer."""
    import torch

    import chainrule

    results = []
    for name, make in layers().items():
        pairs = {library.__name__: make(library) for library in (chainrule, torch)}
        for which, title in enumerate(("forward", "forward and backward")):
            candidates = {library: calls[which] for library, calls in pairs.items()}
            results.append(compare(f"{name}, {title}", candidates, rounds=rounds, warm_up=0.2))
    return results


def main() -> None:
    """Measure everything, print a table, and write JSON where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="PyTorch's threads; as many as cores")
    parser.add_argument("--rounds", type=int, default=20, help="turns per measurement")
    parser.add_argument("--json", type=Path, help="also write the results to this file")
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    results = measure(options.rounds)
    facts = machine("numpy", "torch")
    print(markdown(results, facts))
    if options.json:
        save(options.json, results, facts)


if __name__ == "__main__":
    main()
