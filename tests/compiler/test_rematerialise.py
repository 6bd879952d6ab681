"""Rematerialisation: the graph before and after, what it does to memory, and that no bit changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainrule.compiler.code.target import host
from chainrule.compiler.graph import Graph, evaluate
from chainrule.compiler.passes.rematerialise import rematerialise
from chainrule.compiler.runtime.layout import layout
from chainrule.compiler.schedule.build import schedule

from .programs import TARGETS, Builder, check, random_arrays
from .test_random_graphs import graphs

PLAIN = {"transpose_a": False, "transpose_b": False}
BACK = {"transpose_a": True, "transpose_b": False}


def four_layers(width: int = 128) -> Graph:
    """A sigmoid after each of four products, and the gradients of their weights, which multiply the sigmoids."""
    b = Builder()
    x, *weights = (b.input(width, width) for _ in range(5))
    h, before, after = x, [], [x]
    for w in weights:
        before.append(b.matmul(h, w, **PLAIN))
        h = b.multiply(b.sigmoid(before[-1]), b.constant(0.5))
        after.append(h)
    g = h
    gradients = []
    for w, u, h in zip(weights[::-1], before[::-1], after[-2::-1], strict=True):
        g = b.multiply(g, b.square(u))
        gradients.append(b.matmul(h, g, **BACK))
        g = b.matmul(g, w, transpose_a=False, transpose_b=True)
    return b.graph(*gradients, g)


def names(graph: Graph) -> list[str]:
    return [op.primitive.name for op in graph.ops]


def working_memory(graph: Graph) -> int:
    return layout(schedule(graph), host(), 1).arena


def test_activations_are_computed_again_for_the_gradients_of_weights() -> None:
    graph = four_layers()
    after = rematerialise(graph)
    assert names(graph).count("sigmoid") == 4
    assert names(after).count("sigmoid") > 4
    assert sum(op.postponed for op in after.ops) == len(after.ops) - len(graph.ops)
    arrays = random_arrays(graph)
    for a, b in zip(evaluate(graph, arrays), evaluate(after, arrays), strict=True):
        np.testing.assert_array_equal(a, b)
    assert working_memory(after) <= working_memory(graph) - 128 * 128 * 4


def test_what_is_small_or_dear_is_kept() -> None:
    small = four_layers(64)
    assert rematerialise(small) is small
    b = Builder()
    x, w = b.input(128, 128), b.input(128, 128)
    u = b.matmul(x, w, **PLAIN)
    h = b.power(b.abs(u), b.constant(1.7))  # a hundred additions an element
    y = b.matmul(h, w, **PLAIN)
    for _ in range(12):
        y = b.tanh(y)
    dear = b.graph(b.matmul(h, y, **BACK), b.multiply(u, y))
    assert rematerialise(dear) is dear


def test_a_copy_is_computed_where_it_is_read() -> None:
    kernels = schedule(rematerialise(four_layers())).kernels
    copies = [i for i, k in enumerate(kernels) if any(op.postponed for op in k.ops)]
    assert copies
    for i in copies:
        written = set(kernels[i].writes)
        readers = [j for j, k in enumerate(kernels) if written & set(k.reads)]
        assert readers and min(readers) - i <= 2


@pytest.mark.parametrize("wanted", TARGETS, ids=lambda t: t.name)
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(graph=graphs(), seed=st.integers(0, 100))
def test_random_graphs(wanted: Any, graph: Graph, seed: int) -> None:
    after = rematerialise(graph, least=1, late=0.0)
    arrays = random_arrays(graph, seed)
    with np.errstate(all="ignore"):
        for a, b in zip(evaluate(graph, arrays), evaluate(after, arrays), strict=True):
            np.testing.assert_array_equal(a, b)
        check(after, arrays, wanted, scale=600)
