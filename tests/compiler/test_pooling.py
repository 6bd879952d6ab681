"""Pooling kernels of a graph against `evaluate`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.compiler.graph import Graph
from chainrule.compiler.schedule.build import schedule
from chainrule.compiler.schedule.kernels import HostKernel

from .programs import TARGETS, Builder, check

CASES = {
    "halves": ((2, 3, 8, 32), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
    "halves of odd sizes": ((3, 7, 13), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
    "a remainder is left out": ((2, 9, 67), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
    "overlapping": ((2, 2, 9, 40), (3, 3), (2, 2), ((1, 1), (1, 1)), (1, 1)),
    "overlapping inside": ((2, 9, 41), (3, 3), (2, 2), ((0, 0), (0, 0)), (1, 1)),
    "step of one": ((2, 6, 35), (3, 2), (1, 1), ((1, 1), (0, 1)), (1, 1)),
    "large windows": ((4, 8, 8), (8, 8), (8, 8), ((0, 0), (0, 0)), (1, 1)),
    "dilated": ((2, 9, 20), (2, 3), (1, 2), ((0, 1), (2, 1)), (2, 3)),
    "step beyond the window": ((2, 10, 23), (2, 2), (3, 4), ((0, 0), (0, 0)), (1, 1)),
    "thirds": ((2, 9, 30), (3, 3), (3, 3), ((0, 0), (0, 0)), (1, 1)),
    "one row of two": ((2, 6, 64), (1, 2), (1, 2), ((0, 0), (0, 0)), (1, 1)),
    "one axis": ((3, 4, 50), (3,), (2,), ((1, 0),), (1,)),
    "no axis before": ((8, 8), (2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1)),
}


def pooling(shape: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, dtype: str) -> Graph:
    """Every window primitive: maxima, the taps that won, what they read, and where gradients go."""
    params = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    size = shape[len(shape) - len(kernel) :]
    b = Builder()
    x = b.input(*shape, dtype=dtype)
    y = b.window_max(x, **params)
    taps = b.window_argmax(x, y, **params)
    g = b.input(*y.shape, dtype=dtype)
    put = b.window_put(g, taps, size=size, **params)
    take = b.window_take(x, taps, **params)
    total = b.window_sum(x, **params)
    return b.graph(y, taps, put, take, total, b.window_spread(g, size=size, **params))


def arrays_of(graph: Graph, seed: int, distinct: int = 9) -> list[np.ndarray]:
    """Few distinct numbers, so that maxima are often attained twice."""
    rng = np.random.default_rng(seed)
    return [rng.integers(-distinct, distinct, v.shape).astype(v.dtype) / 4 for v in graph.inputs]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("wanted", TARGETS, ids=lambda t: t.name)
def test_pooling(wanted: Any, case: str, dtype: str) -> None:
    graph = pooling(*CASES[case], dtype)
    assert not any(isinstance(k, HostKernel) for k in schedule(graph).kernels)
    check(graph, arrays_of(graph, 0), wanted)


@pytest.mark.parametrize("wanted", TARGETS, ids=lambda t: t.name)
def test_nan_and_infinities(wanted: Any) -> None:
    for case in ("halves", "overlapping"):
        graph = pooling(*CASES[case], "float32")
        arrays = arrays_of(graph, 1)
        x = arrays[0].reshape(-1)
        x[::7], x[1::11], x[2::13] = np.nan, np.inf, -np.inf
        x[200:300] = -np.inf
        names = [k.ops[0].primitive.name for k in schedule(graph).kernels]
        assert "window_max" in names
        outputs = graph.outputs
        # Sums of infinities of both signs are NaN in any order; the maxima are exact.
        check(Graph(graph.inputs, graph.ops, outputs[:2], graph.constants), arrays, wanted)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_random_windows(data: Any) -> None:
    def pair(low: int, high: int) -> tuple[int, int]:
        return data.draw(st.tuples(st.integers(low, high), st.integers(low, high)))

    kernel, stride, dilation, padding = pair(1, 3), pair(1, 3), pair(1, 2), (pair(0, 2), pair(0, 2))
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    size = tuple(max(1, r - sum(p) + data.draw(st.integers(0, 20))) for r, p in zip(reach, padding, strict=True))
    graph = pooling((data.draw(st.integers(1, 3)), *size), kernel, stride, padding, dilation, "float32")
    check(graph, arrays_of(graph, 2), data.draw(st.sampled_from(TARGETS)))
