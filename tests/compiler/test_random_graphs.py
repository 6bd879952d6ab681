"""Random graphs of pointwise work, movement and reductions: compiled code computes what NumPy does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainrule.compiler.graph import Graph, Value

from .programs import TARGETS, Builder, check, random_arrays

LENGTHS = st.sampled_from([0, 1, 2, 3, 5, 7, 8, 16, 17, 33, 64, 70])
UNARY = ("tanh", "sigmoid", "negative", "square", "abs", "relu", "floor", "sign")
BINARY = ("add", "subtract", "multiply", "maximum", "minimum")


@st.composite
def graphs(draw: Any) -> Graph:
    """Values are drawn by operations on those there are already, with all kinds of movement between."""
    b = Builder()
    dtype = draw(st.sampled_from(["float32", "float32", "float64"]))
    values: list[Value] = []
    for _ in range(draw(st.integers(1, 3))):
        shape = draw(st.lists(LENGTHS, min_size=0, max_size=3))
        values.append(b.input(*shape, dtype=dtype))
    for _ in range(draw(st.integers(1, 14))):
        x = draw(st.sampled_from(values))
        kind = draw(
            st.sampled_from(
                ["unary", "binary", "binary", "binary", "reduce", "reduce", "move", "move", "softmax", "compare"]
            )
        )
        if kind == "unary":
            values.append(getattr(b, draw(st.sampled_from(UNARY)))(x))
        elif kind == "binary":
            partners = [v for v in values if _broadcasts(x, v)]
            values.append(getattr(b, draw(st.sampled_from(BINARY)))(x, draw(st.sampled_from(partners))))
        elif kind == "compare":
            partners = [v for v in values if _broadcasts(x, v)]
            y = draw(st.sampled_from(partners))
            values.append(b.where(b.less(x, y), x, y))
        elif kind == "softmax" and x.ndim and x.size:
            axis = draw(st.integers(0, x.ndim - 1))
            values.append(getattr(b, draw(st.sampled_from(["softmax", "log_softmax"])))(x, axis=axis))
        elif kind == "reduce" and x.ndim:
            axes = draw(st.sets(st.integers(0, x.ndim - 1), min_size=1).map(lambda s: tuple(sorted(s))))
            names = ["sum", "mean"] + (["max", "min"] if x.size else [])
            name = draw(st.sampled_from(names))
            if name == "mean" and not x.size:
                name = "sum"
            values.append(getattr(b, name)(x, axis=axes, keepdims=draw(st.booleans())))
        elif kind == "move":
            values.append(_moved(draw, b, x))
    outputs = draw(st.lists(st.sampled_from(values), min_size=1, max_size=4))
    return b.graph(*outputs)


def _broadcasts(a: Value, b: Value) -> bool:
    return all(m == n or 1 in (m, n) for m, n in zip(a.shape[::-1], b.shape[::-1], strict=False))


def _moved(draw: Any, b: Builder, x: Value) -> Value:
    kind = draw(st.sampled_from(["permute", "reshape", "slice", "flip", "broadcast", "pad", "squeeze"]))
    if kind == "permute":
        return b.permute_dims(x, axes=tuple(draw(st.permutations(range(x.ndim)))))
    if kind == "reshape":
        shapes = [(x.size,), (1, x.size)]
        shapes += [(d, x.size // d) for d in range(2, 9) if x.size and x.size % d == 0]
        return b.reshape(x, shape=draw(st.sampled_from(shapes)))
    if kind == "slice":
        pattern = []
        for n in x.shape:
            start = draw(st.integers(0, n))
            pattern.append(("s", start, draw(st.integers(start, n)), draw(st.sampled_from([1, 1, 2]))))
        return b.index(x, pattern=tuple(pattern))
    if kind == "flip" and x.ndim:
        return b.flip(x, axis=(draw(st.integers(0, x.ndim - 1)),))
    if kind == "broadcast":
        return b.broadcast_to(x, shape=(draw(st.integers(1, 4)), *x.shape))
    if kind == "pad" and x.ndim:
        return b.pad(x, widths=tuple((draw(st.integers(0, 2)), draw(st.integers(0, 3))) for _ in x.shape))
    return b.reshape(x, shape=tuple(n for n in x.shape if n != 1))


@pytest.mark.parametrize("wanted", TARGETS, ids=lambda t: t.name)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=graphs(), seed=st.integers(0, 100))
def test_compiled_graphs_compute_what_numpy_does(wanted: Any, graph: Graph, seed: int) -> None:
    arrays = random_arrays(graph, seed)
    with np.errstate(all="ignore"):
        check(graph, arrays, wanted, scale=600)
