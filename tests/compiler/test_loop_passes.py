"""Passes over loops: the graph before and after, and that both compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.compiler.capture import capture
from chainrule.compiler.graph import Graph, Op, Value, evaluate
from chainrule.compiler.nested import Loop
from chainrule.compiler.passes import optimise
from chainrule.compiler.passes.loops import improve_loops

from .programs import Builder, random_arrays

PLAIN = {"transpose_a": False, "transpose_b": False}


def loop(body: Graph, carried: int, constants: int, *, length: int = 6, keeps: Any = (), reverse: bool = False) -> Op:
    specs = [(v.shape, v.dtype) for v in body.inputs[: carried + constants]]
    specs += [((length, *v.shape), v.dtype) for v in body.inputs[carried + constants :]]
    return Op(Loop(body, carried, constants, length, reverse, keeps), [Value(*s) for s in specs], {})


def improved(graph: Graph) -> Graph:
    """The graph after the passes, which computes the same."""
    after = improve_loops(graph, optimise)
    assert after.inputs == graph.inputs
    arrays = random_arrays(graph)
    for a, b in zip(evaluate(graph, arrays), evaluate(after, arrays), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    return after


def names(graph: Graph) -> list[str]:
    return [op.primitive.name for op in graph.ops]


def body(graph: Graph) -> Graph:
    (found,) = [op.primitive for op in graph.ops if isinstance(op.primitive, Loop)]
    return found.graph


def test_a_product_of_the_input_is_taken_before_the_loop() -> None:
    b = Builder()
    h, w, u, x = (b.input(*s, dtype="float64") for s in [(4, 3), (5, 3), (3, 3), (4, 5)])
    new = b.tanh(b.add(b.matmul(x, w, **PLAIN), b.matmul(h, u, **PLAIN)))
    op = loop(b.graph(new), 1, 2)
    after = improved(Graph(list(op.inputs), [op], list(op.outputs)))
    assert names(after) == ["matmul", "scan"]
    assert after.ops[0].output.shape == (6, 4, 3)
    assert names(body(after)) == ["matmul", "add", "tanh"]


def test_sums_of_products_are_one_product_after_the_loop() -> None:
    b = Builder()
    total, sums, x, y = (b.input(*s, dtype="float64") for s in [(3, 5), (5,), (4, 3), (4, 5)])
    product = b.matmul(x, y, transpose_a=True, transpose_b=False)
    op = loop(b.graph(b.add(total, product), b.add(sums, b.sum(y, axis=(0,), keepdims=False))), 2, 0, reverse=True)
    after = improved(Graph(list(op.inputs), [op], list(op.outputs)))
    assert names(after) == ["reshape", "reshape", "matmul", "add", "sum", "add"]


@pytest.mark.parametrize("a", [False, True])
@pytest.mark.parametrize("b", [False, True])
def test_sums_of_products_of_any_orientation(a: bool, b: bool) -> None:
    build = Builder()
    total, x, y = (build.input(*s, dtype="float64") for s in [(3, 5), (4, 3) if a else (3, 4), (5, 4) if b else (4, 5)])
    product = build.matmul(build.square(x), y, transpose_a=a, transpose_b=b)
    op = loop(build.graph(build.add(product, total)), 1, 0)
    after = improved(Graph(list(op.inputs), [op], list(op.outputs)))
    assert "matmul" in names(after) and names(body(after)) == ["square"]


def test_a_sum_that_the_loop_reads_stays() -> None:
    b = Builder()
    total, x, y = (b.input(*s, dtype="float64") for s in [(3, 5), (4, 3), (4, 5)])
    new = b.add(total, b.matmul(x, y, transpose_a=True, transpose_b=False))
    op = loop(b.graph(new, b.sum(total, axis=(0, 1), keepdims=False)), 1, 0)
    after = improved(Graph(list(op.inputs), [op], list(op.outputs)))
    assert names(after) == ["scan"]


def test_a_stacked_product_is_taken_after_the_loop() -> None:
    b = Builder()
    h, w, x = (b.input(*s, dtype="float64") for s in [(4, 3), (3, 7), (4, 3)])
    new = b.sin(b.add(h, x))
    op = loop(b.graph(new, b.matmul(new, w, **PLAIN)), 1, 1)
    after = improved(Graph(list(op.inputs), [op], list(op.outputs)))
    assert names(after) == ["scan", "matmul"]
    assert names(body(after)) == ["add", "sin"]


def test_what_is_the_same_at_each_step_is_computed_once() -> None:
    b = Builder()
    h, k, w, x = (b.input(*s, dtype="float64") for s in [(4,), (4,), (4,), (4,)])
    scale = b.exp(b.multiply(w, b.constant(2.0, "float64")))
    graph = b.graph(b.add(b.multiply(h, scale), b.add(x, k)), k)
    op = loop(graph, 2, 1, keeps=(0, 1))
    after = improved(Graph(list(op.inputs), [op], list(op.outputs)))
    assert names(after) == ["multiply", "exp", "scan", "broadcast_to"]
    assert names(body(after)) == ["multiply", "add", "add"]


def test_what_nobody_reads_is_dropped() -> None:
    b = Builder()
    h, c, w, x, y = (b.input(2, 2, dtype="float64") for _ in range(5))
    graph = b.graph(b.add(h, x), b.multiply(c, b.exp(w)), b.sin(y), b.cos(h))
    op = loop(graph, 2, 1, keeps=(0, 1))
    after = improved(Graph(list(op.inputs), [op], [op.outputs[3]]))
    (made,) = after.ops
    assert names(body(after)) == ["cos", "add"] or names(body(after)) == ["add", "cos"]
    assert len(made.inputs) == 2 and len(made.outputs) == 2


def gradient_of(cell: Any, width: int) -> Graph:
    """The graph of a loss over a recurrent cell and of its gradients."""
    cr.manual_seed(0)

    def step(xs: cr.Tensor) -> Any:
        begin = cr.zeros((2, width))
        state = (begin, begin) if isinstance(cell, nn.LSTMCell) else begin
        last, _ = cr.scan(lambda s, x: (cell(x, s), None), state, xs)
        loss = (last[0] if isinstance(last, tuple) else last).sum()
        return loss, cr.grad(loss, list(cell.parameters()))

    captured = capture(step, (cr.zeros((5, 2, 3)),), {}, "step")
    return captured.graph


@pytest.mark.parametrize("kind", [nn.RNNCell, nn.GRUCell, nn.LSTMCell])
def test_a_recurrent_cell_is_not_computed_again_backwards(kind: Any) -> None:
    graph = gradient_of(kind(3, 4), 4)
    forwards, backwards = (op.primitive.graph for op in graph.ops if isinstance(op.primitive, Loop))
    assert {"tanh"} <= set(names(forwards))
    assert not {"tanh", "sigmoid", "affine", "exp"} & set(names(backwards))
    # Forwards the product of the state, backwards its cotangent; those of the inputs and the weights are outside.
    products = lambda inside: sum(n in ("affine", "matmul") for n in names(inside))  # noqa: E731
    assert products(forwards) == products(backwards) == 1
