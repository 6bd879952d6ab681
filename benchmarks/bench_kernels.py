"""Matrix products and convolutions in generated code beside NumPy's BLAS and PyTorch, and as a share of the peak.

Run with `OPENBLAS_NUM_THREADS=1 python -m benchmarks.bench_kernels`. One thread each, timed by the processor time
that it used, which programs beside it disturb little; `--threads 2` times several by the clock. A BLAS that was
told to use another processor's kernels (OPENBLAS_CORETYPE) is no comparison: unset such variables.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from chainrule.compiler.graph import Graph, Op, Value
from chainrule.compiler.runtime import build
from chainrule.core.primitive import table

from .harness import machine
from .peak import measure

Call = Callable[[], object]

# (rows, columns, depth, transpose of a, of b, batch): products of the layers of small networks and their gradients.
PRODUCTS: list[tuple[int, int, int, bool, bool, int]] = [
    (32, 64, 64, False, True, 0),
    (128, 512, 784, False, True, 0),
    (128, 784, 512, False, False, 0),
    (512, 784, 128, True, False, 0),
    (768, 512, 128, False, True, 0),
    (256, 2048, 2048, False, True, 0),
    (2048, 2048, 256, True, False, 0),
    (2048, 2048, 2048, False, False, 0),
    (256, 256, 64, False, True, 24),
    (256, 64, 256, False, False, 24),
]
# (image, weight, stride, padding)
CONVOLUTIONS: list[tuple[tuple[int, ...], tuple[int, ...], int, int]] = [
    ((64, 3, 32, 32), (32, 3, 3, 3), 1, 1),
    ((64, 32, 32, 32), (64, 32, 3, 3), 1, 1),
    ((64, 64, 16, 16), (64, 64, 3, 3), 1, 1),
    ((64, 64, 32, 32), (128, 64, 3, 3), 2, 1),
    ((64, 128, 8, 8), (128, 128, 3, 3), 1, 1),
    ((64, 64, 16, 16), (128, 64, 1, 1), 1, 0),
]


def compiled(name: str, arrays: Sequence[np.ndarray], threads: int, **params: Any) -> Call:
    """One primitive as a program on these arrays."""
    inputs = [Value(a.shape, a.dtype) for a in arrays]
    op = Op(table[name], inputs, params)
    program = build(Graph(inputs, [op], [op.output]), threads=threads)
    return program.bind(arrays, [np.empty(op.output.shape, op.output.dtype)])


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape, np.float32)


class Turns:
    """The rates of candidates that take turns, in operations a second."""

    def __init__(self, rounds: int, threads: int) -> None:
        self.rounds, self.threads = rounds, threads
        self.now = time.thread_time if threads == 1 else time.perf_counter

    def rates(self, candidates: dict[str, Call], flops: int) -> dict[str, float]:
        """The median over the rounds; a turn repeats short calls."""
        calls = max(1, round(3e7 * self.threads / flops))
        times: dict[str, list[float]] = {name: [] for name in candidates}
        for turn in range(self.rounds + 1):
            for name in candidates if turn % 2 else reversed(candidates):
                started = self.now()
                for _ in range(calls):
                    candidates[name]()
                times[name].append((self.now() - started) / calls)
        return {name: flops / statistics.median(found[1:]) for name, found in times.items()}


def products(turns: Turns) -> Iterator[tuple[str, dict[str, float]]]:
    """Each product with the candidates' rates."""
    import torch

    for m, n, k, transpose_a, transpose_b, batch in PRODUCTS:
        lead = (batch,) if batch else ()
        a = numbers(*lead, *((k, m) if transpose_a else (m, k)))
        b = numbers(*lead, *((n, k) if transpose_b else (k, n)))
        x, y = (t.swapaxes(-1, -2) if turned else t for t, turned in ((a, transpose_a), (b, transpose_b)))
        u, v = (torch.from_numpy(t) for t in (x, y))
        candidates: dict[str, Call] = {
            "chainrule": compiled("matmul", [a, b], turns.threads, transpose_a=transpose_a, transpose_b=transpose_b),
            "torch": lambda u=u, v=v: torch.matmul(u, v),  # type: ignore[misc]
            "numpy": lambda x=x, y=y: np.matmul(x, y),  # type: ignore[misc]
        }
        letters = ("T" if transpose_a else "N") + ("T" if transpose_b else "N")
        task = f"{batch} × " * bool(batch) + f"{m} × {n} × {k} {letters}"
        yield task, turns.rates(candidates, 2 * max(batch, 1) * m * n * k)


def convolutions(turns: Turns) -> Iterator[tuple[str, dict[str, float]]]:
    """Each convolution, the gradient of its images and that of its weights."""
    import torch

    gradient = torch.nn.grad
    for image, weight, stride, padding in CONVOLUTIONS:
        x, w = numbers(*image), numbers(*weight)
        params = {"stride": (stride,) * 2, "padding": ((padding,) * 2,) * 2, "dilation": (1, 1), "groups": 1}
        u, v = torch.from_numpy(x), torch.from_numpy(w)
        y = torch.conv2d(u, v, None, stride, padding)
        g = numbers(*y.shape)
        h = torch.from_numpy(g)
        of_images = partial(gradient.conv2d_input, image, v, h, stride, padding)
        of_weights = partial(gradient.conv2d_weight, u, weight, h, stride, padding)
        peers: dict[str, tuple[str, list[np.ndarray], dict[str, Any], Call]] = {
            "": ("conv", [x, w], {}, partial(torch.conv2d, u, v, None, stride, padding)),
            ", images": ("conv_transpose", [g, w], {"size": image[2:]}, of_images),
            ", weights": ("conv_weight", [x, g], {"kernel": weight[2:]}, of_weights),
        }
        flops = 2 * image[0] * int(np.prod(weight)) * int(np.prod(y.shape[2:]))
        for what, (name, arrays, more, peer) in peers.items():
            mine = compiled(name, arrays, turns.threads, **params, **more)
            task = f"{'×'.join(map(str, image))} ⋆ {'×'.join(map(str, weight))}, stride {stride}{what}"
            yield task, turns.rates({"chainrule": mine, "torch": peer}, flops)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11, help="turns of each candidate")
    parser.add_argument("--threads", type=int, default=1, help="threads of either side")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    peak = measure(arguments.threads)
    facts = machine("chainrule", "numpy", "torch")
    print(
        ", ".join(f"{k} {v}" for k, v in facts.items()) + f", peak {peak / 1e9:.0f} GF/s, {arguments.threads} threads\n"
    )
    print("| GF/s | chainrule | torch | numpy | of the peak |\n| --- | ---: | ---: | ---: | ---: |")
    turns = Turns(arguments.rounds, arguments.threads)
    for task, rates in itertools.chain(products(turns), convolutions(turns)):
        cells = [f"{rates[name] / 1e9:.0f}" if name in rates else "" for name in ("chainrule", "torch", "numpy")]
        print(f"| {task} | {' | '.join(cells)} | {rates['chainrule'] / peak:.0%} |", flush=True)


if __name__ == "__main__":
    main()
