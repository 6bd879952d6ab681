"""Matrix products and convolutions in generated code beside NumPy's BLAS and PyTorch, and as a share of the peak.

Run with `python -m benchmarks.bench_kernels --json results.json`. A BLAS that was told to use another processor's
kernels (OPENBLAS_CORETYPE) is no comparison: unset such variables.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from chainrule.compiler.graph import Graph, Op, Value
from chainrule.compiler.runtime import build
from chainrule.core.primitive import table

from .harness import Comparison, compare, machine, markdown, save
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


def products(rounds: int, threads: int) -> list[tuple[Comparison, int]]:
    """Each product with its floating-point operations."""
    import torch

    results = []
    for m, n, k, transpose_a, transpose_b, batch in PRODUCTS:
        lead = (batch,) if batch else ()
        a = numbers(*lead, *((k, m) if transpose_a else (m, k)))
        b = numbers(*lead, *((n, k) if transpose_b else (k, n)))
        x, y = (t.swapaxes(-1, -2) if turned else t for t, turned in ((a, transpose_a), (b, transpose_b)))
        of_torch = [torch.from_numpy(t) for t in (a, b)]
        u, v = (t.mT if turned else t for t, turned in zip(of_torch, (transpose_a, transpose_b), strict=True))
        candidates: dict[str, Call] = {
            "chainrule": compiled("matmul", [a, b], threads, transpose_a=transpose_a, transpose_b=transpose_b),
            "torch": lambda u=u, v=v: torch.matmul(u, v),  # type: ignore[misc]
            "numpy": lambda x=x, y=y: np.matmul(x, y),  # type: ignore[misc]
        }
        letters = ("T" if transpose_a else "N") + ("T" if transpose_b else "N")
        task = f"{batch} x " * bool(batch) + f"{m} x {n} x {k} {letters}"
        results.append((compare(task, candidates, rounds=rounds, warm_up=0.2), 2 * max(batch, 1) * m * n * k))
    return results


def convolutions(rounds: int, threads: int) -> list[tuple[Comparison, int]]:
    """Each convolution, the gradient of its images and that of its weights, with their operations."""
    import torch

    results = []
    for image, weight, stride, padding in CONVOLUTIONS:
        x, w = numbers(*image), numbers(*weight)
        params = {"stride": (stride,) * 2, "padding": ((padding,) * 2,) * 2, "dilation": (1, 1), "groups": 1}
        of_torch = [torch.from_numpy(t) for t in (x, w)]
        y = torch.conv2d(*of_torch, None, stride, padding)
        g = numbers(*y.shape)
        gradient = torch.nn.grad
        cotangent = torch.from_numpy(g)
        pairs = {
            "": (("conv", [x, w], {}), lambda: torch.conv2d(*of_torch, None, stride, padding)),  # noqa: B023
            ", images": (
                ("conv_transpose", [g, w], {"size": image[2:]}),
                lambda: gradient.conv2d_input(image, of_torch[1], cotangent, stride, padding),  # noqa: B023
            ),
            ", weights": (
                ("conv_weight", [x, g], {"kernel": weight[2:]}),
                lambda: gradient.conv2d_weight(of_torch[0], weight, cotangent, stride, padding),  # noqa: B023
            ),
        }
        flops = 2 * image[0] * int(np.prod(weight)) * int(np.prod(y.shape[2:]))
        for what, ((name, arrays, more), peer) in pairs.items():
            candidates = {"chainrule": compiled(name, arrays, threads, **params, **more), "torch": peer}
            task = f"{'x'.join(map(str, image))} * {'x'.join(map(str, weight))}, stride {stride}{what}"
            results.append((compare(task, candidates, rounds=rounds, warm_up=0.2), flops))
    return results


def rates(results: Sequence[tuple[Comparison, int]], peak: float) -> str:
    """What the times mean: operations a second, and the share of the peak."""
    lines = [
        "| task | " + " | ".join(("GF/s", "share of the peak", "GF/s of torch")) + " |",
        "| --- | ---: | ---: | ---: |",
    ]
    for c, flops in results:
        mine, theirs = (flops / c.seconds[name] for name in ("chainrule", "torch"))
        lines.append(f"| {c.task} | {mine / 1e9:.0f} | {mine / peak:.0%} | {theirs / 1e9:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="turns of each candidate")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="threads of either side")
    parser.add_argument("--json", type=Path, help="file to write the results to")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(arguments.threads)
    results = products(arguments.rounds, arguments.threads) + convolutions(arguments.rounds, arguments.threads)
    peak = measure(arguments.threads)
    facts = machine("chainrule", "numpy", "torch") | {"peak": f"{peak / 1e9:.0f} GF/s on {arguments.threads} threads"}
    comparisons = [c for c, _ in results]
    print(markdown(comparisons, facts))
    print(rates(results, peak))
    if arguments.json:
        save(arguments.json, comparisons, facts)


if __name__ == "__main__":
    main()
