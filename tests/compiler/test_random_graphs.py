"""Random graphs of all kinds of work and movement: compiled code computes what NumPy does, and writes nothing else."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainrule.compiler.graph import Graph, Op, Value
from chainrule.compiler.nested import Loop

from .programs import TARGETS, Builder, check, random_arrays

EXAMPLES = int(os.environ.get("CHAINRULE_EXAMPLES", "60"))  # many for a long run
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
                [
                    "unary",
                    "binary",
                    "binary",
                    "binary",
                    "reduce",
                    "reduce",
                    "move",
                    "move",
                    "softmax",
                    "compare",
                    "product",
                    "concat",
                    "rows",
                    "gather",
                    "loop",
                ]
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
        elif kind == "product" and x.ndim >= 2:
            values.append(_product(draw, b, x))
        elif kind == "concat" and x.ndim:
            values.append(b.concat(x, _moved(draw, b, x, "flip"), x, axis=draw(st.integers(0, x.ndim - 1))))
        elif kind == "rows" and x.ndim and x.size:
            values.append(b.cumulative_sum(x, axis=draw(st.integers(0, x.ndim - 1))))
            given_ones = [v for v in b.inputs if v.ndim and v.size]
            if given_ones:
                # Positions of computed numbers could depend on their rounding.
                values.append(_positions(draw, b, draw(st.sampled_from(given_ones))))
        elif kind == "gather" and x.ndim and x.size:
            rows = b.constant(draw(st.lists(st.integers(0, x.shape[0] - 1), min_size=1, max_size=9)), "int64")
            taken = b.index(x, rows, pattern=(("a", 0), *(("s", 0, n, 1) for n in x.shape[1:])))
            values.append(taken)
            pattern = (("a", 0), *(("s", 0, n, 1) for n in x.shape[1:]))
            values.append(b.index_add(b.square(taken), rows, pattern=pattern, shape=x.shape))
        elif kind == "loop" and x.ndim >= 1 and x.shape[0]:
            values += _loop(draw, b, x)
    outputs = draw(st.lists(st.sampled_from(values), min_size=1, max_size=4))
    return b.graph(*outputs)


def _broadcasts(a: Value, b: Value) -> bool:
    return all(m == n or 1 in (m, n) for m, n in zip(a.shape[::-1], b.shape[::-1], strict=False))


def _positions(draw: Any, b: Builder, x: Value) -> Value:
    axis = draw(st.integers(0, x.ndim - 1))
    if draw(st.booleans()):
        found = b.argsort(x, axis=axis, descending=draw(st.booleans()), stable=True)
    else:
        found = b.argmin(x, axis=axis, keepdims=draw(st.booleans()))
    return b.astype(found, dtype=x.dtype)


def _product(draw: Any, b: Builder, x: Value) -> Value:
    """A product with a part of itself, whichever way round."""
    a, t = draw(st.booleans()), draw(st.booleans())
    depth = x.shape[-2 if a else -1]
    other = b.constant(np.random.default_rng(depth).normal(size=(5, depth) if t else (depth, 5)), x.dtype)
    return b.matmul(x, other, transpose_a=a, transpose_b=t)


def _loop(draw: Any, b: Builder, x: Value) -> list[Value]:
    """A loop along the first axis, whose body is a small graph of its own."""
    inside = Builder()
    c, part = inside.input(*x.shape[1:], dtype=x.dtype), inside.input(*x.shape[1:], dtype=x.dtype)
    new = getattr(inside, draw(st.sampled_from(["add", "maximum", "subtract"])))(c, inside.tanh(part))
    outputs = [draw(st.sampled_from([new, c, part])) for _ in range(draw(st.integers(0, 2)))]
    keeps = (0,) if draw(st.booleans()) else ()
    made = Loop(inside.graph(inside.sigmoid(new), *outputs), 1, 0, x.shape[0], draw(st.booleans()), keeps)
    begin = b.index(x, pattern=(("i", 0), *(("s", 0, n, 1) for n in x.shape[1:])))
    op = Op(made, [begin, x], {})
    b.ops.append(op)
    return list(op.outputs)


def _moved(draw: Any, b: Builder, x: Value, kind: str = "") -> Value:
    kinds = st.sampled_from(["permute", "reshape", "slice", "flip", "broadcast", "pad", "squeeze"])
    kind = kind or draw(kinds)
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
@settings(
    max_examples=int(os.environ.get("CHAINRULE_EXAMPLES", "60")), deadline=None, suppress_health_check=list(HealthCheck)
)
@given(graph=graphs(), seed=st.integers(0, 100))
def test_compiled_graphs_compute_what_numpy_does(wanted: Any, graph: Graph, seed: int) -> None:
    arrays = random_arrays(graph, seed)
    with np.errstate(all="ignore"):
        check(graph, arrays, wanted, scale=600)
