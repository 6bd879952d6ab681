"""Passes keep what a graph computes, and make of it what a reader would have written."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.compiler.graph import Graph, Op, Value, evaluate
from chainrule.compiler.passes import optimise
from chainrule.compiler.passes.dead_code import remove_dead_code
from chainrule.compiler.passes.sharing import share
from chainrule.compiler.passes.simplify import simplify
from chainrule.compiler.passes.sums import join_sums
from chainrule.compiler.passes.transposes import sink_transposes
from chainrule.core.primitive import table

F = np.float32


class Writer:
    """Writes a graph down: `w.multiply(x, 1.0)`; numbers and arrays become constants."""

    def __init__(self, *shapes, dtype=F):
        self.inputs = [Value(shape, dtype) for shape in shapes]
        self.ops, self.constants = [], {}

    def __getattr__(self, name):
        def apply(*inputs, **params):
            op = Op(table[name], [self.value(v) for v in inputs], params)
            self.ops.append(op)
            return op.output

        return apply

    def value(self, given):
        if isinstance(given, Value):
            return given
        array = np.asarray(given, F if isinstance(given, float) else None)
        made = Value(array.shape, array.dtype)
        self.constants[made] = array
        return made

    def graph(self, *outputs) -> Graph:
        return Graph(self.inputs, self.ops, list(outputs), self.constants)


def written(graph: Graph) -> list[str]:
    """The operations and the results of a graph, one a line, without its inputs and constants."""
    return [line for line in str(graph).splitlines() if " input" not in line and " constant" not in line]


def same(before: Graph, after: Graph, *arrays, exact=True) -> None:
    for a, b in zip(evaluate(before, arrays), evaluate(after, arrays), strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        if exact:
            np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(np.signbit(a[~np.isnan(a)]), np.signbit(b[~np.isnan(b)]))
        else:
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


SPECIAL = np.array([[0.0, -0.0, np.nan], [np.inf, -np.inf, 1e-42]], F)

# What is written, and what is left of it; x has shape (2, 3).
EXAMPLES = {
    "times one": (lambda w, x: w.multiply(x, 1.0), []),
    "one times": (lambda w, x: w.multiply(np.ones((2, 3), F), x), []),
    "divided by one": (lambda w, x: w.divide(x, 1.0), []),
    "minus zero": (lambda w, x: w.subtract(x, 0.0), []),
    "plus negative zero": (lambda w, x: w.add(x, -0.0), []),
    "plus zero stays": (lambda w, x: w.add(x, 0.0), ["add"]),
    "minus negative zero stays": (lambda w, x: w.subtract(x, -0.0), ["subtract"]),
    "times zero stays": (lambda w, x: w.multiply(x, 0.0), ["multiply"]),
    "negative twice": (lambda w, x: w.negative(w.negative(x)), []),
    "plus negative": (lambda w, x: w.add(x, w.negative(w.exp(x))), ["exp", "subtract"]),
    "negatives multiplied": (lambda w, x: w.multiply(w.negative(x), w.negative(w.exp(x))), ["exp", "multiply"]),
    "times itself": (lambda w, x: w.multiply(x, x), ["square"]),
    "divided by four": (lambda w, x: w.divide(x, 4.0), ["multiply"]),
    "divided by three stays": (lambda w, x: w.divide(x, 3.0), ["divide"]),
    "power of one": (lambda w, x: w.integer_power(x, n=1), []),
    "power of two": (lambda w, x: w.integer_power(x, n=2), ["square"]),
    "reshaped twice": (lambda w, x: w.reshape(w.reshape(x, shape=(6,)), shape=(3, 2)), ["reshape"]),
    "reshaped back": (lambda w, x: w.reshape(w.reshape(x, shape=(6,)), shape=(2, 3)), []),
    "transposed twice": (lambda w, x: w.permute_dims(w.permute_dims(x, axes=(1, 0)), axes=(1, 0)), []),
    "new axes moved": (lambda w, x: w.permute_dims(w.reshape(x, shape=(1, 2, 3)), axes=(1, 0, 2)), ["reshape"]),
    "broadcast to itself": (lambda w, x: w.broadcast_to(x, shape=(2, 3)), []),
    "broadcast twice": (
        lambda w, x: w.broadcast_to(w.broadcast_to(x, shape=(4, 2, 3)), shape=(5, 4, 2, 3)), ["broadcast_to"],
    ),
    "flipped twice": (lambda w, x: w.flip(w.flip(x, axis=(1,)), axis=(1,)), []),
    "whole slice": (lambda w, x: w.index(x, pattern=(("s", 0, 2, 1), ("s", 0, 3, 1))), []),
    "there and back in precision": (
        lambda w, x: w.astype(w.astype(x, dtype=np.dtype("f8")), dtype=np.dtype("f4")), [],
    ),
    "less precision and back stays": (
        lambda w, x: w.astype(w.astype(x, dtype=np.dtype("i4")), dtype=np.dtype("f4")), ["astype", "astype"],
    ),
    "either way the same": (lambda w, x: w.where(w.isnan(x), x, x), []),
    "chosen by a constant": (lambda w, x: w.where(np.ones((2, 3), bool), x, w.exp(x)), []),
    "broadcast operand": (lambda w, x: w.add(x, w.broadcast_to(w.value(2.0), shape=(2, 3))), ["add"]),
    "array of equal numbers": (lambda w, x: w.multiply(x, np.full((2, 3), 3.0, F)), ["multiply"]),
    "function of a broadcast": (lambda w, x: w.exp(w.broadcast_to(x, shape=(4, 2, 3))), ["exp", "broadcast_to"]),
    "sum over an axis of length 1": (
        lambda w, x: w.sum(w.reshape(x, shape=(2, 1, 3)), axis=(1,), keepdims=False), [],
    ),
    "constants": (lambda w, x: w.multiply(x, w.exp(w.add(1.0, 2.0))), ["multiply"]),
    "same twice": (lambda w, x: w.multiply(w.exp(x), w.exp(x)), ["exp", "square"]),
    "unused": (lambda w, x: (w.exp(x), w.sin(x))[1], ["sin"]),
}  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_is_left(name):
    write, left = EXAMPLES[name]
    w = Writer((2, 3))
    before = w.graph(write(w, w.inputs[0]))
    after = optimise(before)
    assert [op.primitive.name for op in after.ops] == left, f"\n{before}\n\n{after}"
    with np.errstate(all="ignore"):
        # NumPy's sum of a single -0 is 0; ours leaves it.
        same(before, after, np.abs(SPECIAL) if name == "sum over an axis of length 1" else SPECIAL)
        same(before, after, np.arange(6, dtype=F).reshape(2, 3))


def test_a_graph_before_and_after():
    w = Writer((8, 4), (3, 4))
    x, weight = w.inputs
    y = w.matmul(x, w.permute_dims(w.multiply(weight, 1.0), axes=(1, 0)), transpose_a=False, transpose_b=False)
    shifted = w.add(y, w.broadcast_to(w.negative(w.value(-1.0)), shape=(8, 3)))
    before = w.graph(w.divide(w.sum(shifted, axis=(0, 1), keepdims=False), 8.0))
    assert str(before) == (
        "%0 float32[8, 4] input\n"
        "%1 float32[3, 4] input\n"
        "%2 float32[] constant = 1.0\n"
        "%3 float32[] constant = -1.0\n"
        "%4 float32[] constant = 8.0\n"
        "%5 float32[3, 4] = multiply(%1, %2)\n"
        "%6 float32[4, 3] = permute_dims(%5, axes=(1, 0))\n"
        "%7 float32[8, 3] = matmul(%0, %6, transpose_a=False, transpose_b=False)\n"
        "%8 float32[] = negative(%3)\n"
        "%9 float32[8, 3] = broadcast_to(%8, shape=(8, 3))\n"
        "%10 float32[8, 3] = add(%7, %9)\n"
        "%11 float32[] = sum(%10, axis=(0, 1), keepdims=False)\n"
        "%12 float32[] = divide(%11, %4)\n"
        "return %12"
    )
    after = optimise(before)
    assert str(after) == (
        "%0 float32[8, 4] input\n"
        "%1 float32[3, 4] input\n"
        "%2 float32[] constant = 1.0\n"
        "%3 float32[] constant = 0.125\n"
        "%4 float32[8, 3] = matmul(%0, %1, transpose_a=False, transpose_b=True)\n"
        "%5 float32[8, 3] = add(%4, %2)\n"
        "%6 float32[] = sum(%5, axis=(0, 1), keepdims=False)\n"
        "%7 float32[] = multiply(%6, %3)\n"
        "return %7"
    )
    rng = np.random.default_rng(0)
    same(before, after, rng.normal(size=(8, 4)).astype(F), rng.normal(size=(3, 4)).astype(F), exact=False)


def test_sum_of_copies():
    w = Writer((3,))
    (x,) = w.inputs
    before = w.graph(
        w.sum(w.broadcast_to(x, shape=(5, 3)), axis=(0,), keepdims=True),
        w.sum(w.broadcast_to(x, shape=(5, 3)), axis=(0, 1), keepdims=False),
        w.sum(w.broadcast_to(x, shape=(5, 3)), axis=(1,), keepdims=False),
    )
    after = optimise(before)
    assert not any(op.output.shape == (5, 3) for op in after.ops if op.primitive.name == "multiply")
    assert [line.split(" = ")[1].split("(")[0] for line in written(after)[:-1]].count("multiply") == 2
    same(before, after, np.array([0.1, -2.0, 3.0], F), exact=False)


def test_integers_lose_zeros():
    w = Writer((3,), dtype=np.int64)
    (x,) = w.inputs
    zero = np.zeros((), np.int64)
    after = optimise(w.graph(w.add(x, zero), w.multiply(x, zero)))
    assert [op.primitive.name for op in after.ops] == ["broadcast_to"]


def test_transposes_of_products():
    w = Writer((2, 3, 4), (2, 4, 5))
    a, b = w.inputs
    product = w.matmul(a, b, transpose_a=False, transpose_b=False)
    before = w.graph(w.permute_dims(product, axes=(0, 2, 1)))
    after = remove_dead_code(sink_transposes(before))
    assert written(after) == ["%2 float32[2, 5, 3] = matmul(%1, %0, transpose_a=True, transpose_b=True)", "return %2"]
    rng = np.random.default_rng(0)
    same(before, after, rng.normal(size=(2, 3, 4)).astype(F), rng.normal(size=(2, 4, 5)).astype(F), exact=False)


def strip(n: int, start: int, stop: int):
    return {"pattern": (("s", 0, 2, 1), ("s", start, stop, 1)), "shape": (2, n)}


def test_parts_that_were_sliced_are_put_side_by_side():
    w = Writer((2, 3), (2, 3), (2, 3))
    x, y, z = w.inputs
    total = w.add(w.index_add(z, **strip(12, 9, 12)), w.index_add(x, **strip(12, 0, 3)))
    before = w.graph(w.add(w.index_add(y, **strip(12, 3, 6)), total))
    after = optimise(before)
    assert [op.primitive.name for op in after.ops] == ["broadcast_to", "concat"]
    rng = np.random.default_rng(0)
    same(before, after, *(rng.normal(size=(2, 3)).astype(F) for _ in range(3)))


def test_parts_that_overlap_are_added():
    w = Writer((2, 3), (2, 3))
    x, y = w.inputs
    before = w.graph(w.add(w.index_add(x, **strip(5, 0, 3)), w.index_add(y, **strip(5, 2, 5))))
    assert [op.primitive.name for op in optimise(before).ops] == ["index_add", "index_add", "add"]


def test_rows_that_were_taken_one_by_one_are_put_one_above_the_other():
    w = Writer((3,), (3,), (2, 3))
    x, y, z = w.inputs
    rows = [w.index_add(v, pattern=(("i", i), ("s", 0, 3, 1)), shape=(2, 3)) for i, v in enumerate((x, y))]
    before = w.graph(w.add(w.add(rows[1], z), rows[0]))
    after = optimise(before)
    assert [op.primitive.name for op in after.ops] == ["reshape", "reshape", "concat", "add"]
    rng = np.random.default_rng(0)
    same(before, after, *(rng.normal(size=v.shape).astype(F) for v in w.inputs))


@pytest.mark.parametrize("flags", [(False, False), (True, False), (False, True), (True, True)])
def test_products_that_are_summed_are_one_product(flags):
    shapes = ((3, 2) if flags[0] else (2, 3), (5, 3) if flags[1] else (3, 5))
    w = Writer(*shapes * 4)
    params = dict(zip(("transpose_a", "transpose_b"), flags, strict=True))
    products = [w.matmul(*w.inputs[2 * i : 2 * i + 2], **params) for i in range(4)]
    before = w.graph(w.add(w.add(products[0], products[1]), w.add(products[2], products[3])))
    after = optimise(before)
    assert [op.primitive.name for op in after.ops] == ["concat", "concat", "matmul"]
    rng = np.random.default_rng(0)
    same(before, after, *(rng.normal(size=v.shape).astype(F) for v in w.inputs), exact=False)


def test_slices_of_slices_and_slices_side_by_side():
    w = Writer((2, 9))
    (x,) = w.inputs
    cut = [w.index(x, pattern=(("s", 0, 2, 1), ("s", i, i + 3, 1))) for i in (0, 3, 6)]
    inner = w.index(cut[1], pattern=(("s", 1, 2, 1), ("s", 1, 3, 1)))
    before = w.graph(w.concat(*cut, axis=1), w.concat(cut[1], cut[2], axis=1), inner)
    after = optimise(before)
    assert after.outputs[0] is x
    assert written(after)[:-1] == [
        "%1 float32[1, 2] = index(%0, pattern=(('s', 1, 2, 1), ('s', 4, 6, 1)))",
        "%2 float32[2, 6] = index(%0, pattern=(('s', 0, 2, 1), ('s', 3, 9, 1)))",
    ]
    same(before, after, np.arange(18, dtype=F).reshape(2, 9))


def test_dead_code_keeps_inputs_and_the_order_of_outputs():
    w = Writer((3,), (3,))
    x, _y = w.inputs
    kept = w.exp(x)
    w.sin(kept)
    after = remove_dead_code(w.graph(kept, kept))
    assert len(after.inputs) == 2 and after.outputs == [kept, kept] and after.ops == [kept.op]


def test_different_zeros_and_nans_are_different_constants():
    w = Writer((3,))
    (x,) = w.inputs
    graph = share(w.graph(*(w.copysign(x, v) for v in (0.0, -0.0, 0.0))))
    assert len(graph.ops) == 2


def test_a_pass_leaves_the_graph_that_it_got():
    w = Writer((2, 3))
    before = w.graph(w.multiply(w.negative(w.negative(w.inputs[0])), 1.0))
    text = str(before)
    optimise(before)
    assert str(before) == text


SHAPES = [(), (1,), (3,), (2, 3), (2, 1), (1, 3), (4, 2, 3), (4, 1, 1)]
NUMBERS = [0.0, -0.0, 1.0, -1.0, 2.0, 0.5, 3.0]


@st.composite
def graphs(draw):
    """Random graphs of operations that rules look at, over a few small shapes."""
    w = Writer((2, 3), (3,), (2, 3))
    values = list(w.inputs)
    for number in draw(st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=3)):
        shape = draw(st.sampled_from([(), (3,), (2, 3)]))
        values.append(w.value(np.full(shape, number, F)))
    for _ in range(draw(st.integers(1, 14))):
        x = draw(st.sampled_from(values))
        kind = draw(st.sampled_from(["unary", "binary", "binary", "binary", "move", "reduce", "where", "matmul"]))
        if kind == "unary":
            made = getattr(w, draw(st.sampled_from(["negative", "tanh", "square", "identity", "sigmoid"])))(x)
        elif kind in ("binary", "where", "matmul"):
            y = draw(st.sampled_from(values))
            try:
                if kind == "matmul":
                    flags = {f"transpose_{k}": draw(st.booleans()) for k in "ab"}
                    made = w.matmul(x, y, **flags)
                elif kind == "where":
                    made = w.where(w.greater(x, 0.5), x, y)
                else:
                    made = getattr(w, draw(st.sampled_from(["add", "subtract", "multiply", "maximum"])))(x, y)
            except Exception:
                continue
        elif kind == "reduce":
            axes = tuple(draw(st.sets(st.integers(0, x.ndim - 1)))) if x.ndim else ()
            made = getattr(w, draw(st.sampled_from(["sum", "max"])))(x, axis=axes, keepdims=draw(st.booleans()))
        else:
            made = draw(moves(w, x))
        values.append(made)
    outputs = draw(st.lists(st.sampled_from(values), min_size=1, max_size=4))
    return w.graph(*outputs)


@st.composite
def moves(draw, w, x):
    kind = draw(st.sampled_from(["reshape", "permute", "broadcast", "flip", "astype", "slice", "place"]))
    if kind == "slice":
        starts = [draw(st.integers(0, n - 1)) for n in x.shape]
        bounds = [(a, draw(st.integers(a + 1, n))) for a, n in zip(starts, x.shape, strict=True)]
        return w.index(x, pattern=tuple(("s", a, b, 1) for a, b in bounds))
    if kind == "place":
        starts = [draw(st.integers(0, 2)) for _ in x.shape]
        pattern = tuple(("s", a, a + n, 1) for a, n in zip(starts, x.shape, strict=True))
        return w.index_add(x, pattern=pattern, shape=tuple(n + 2 for n in x.shape))
    if kind == "permute":
        return w.permute_dims(x, axes=tuple(draw(st.permutations(range(x.ndim)))))
    if kind == "flip":
        return w.flip(x, axis=tuple(draw(st.sets(st.integers(0, x.ndim - 1)))) if x.ndim else ())
    if kind == "astype":
        return w.astype(w.astype(x, dtype=np.dtype("f8")), dtype=np.dtype("f4"))
    if kind == "broadcast":
        return w.broadcast_to(x, shape=(draw(st.integers(1, 2)), *(1,) * draw(st.integers(0, 1)), *x.shape))
    sizes = [n for n in x.shape if n != 1]
    at = draw(st.integers(0, len(sizes)))
    return w.reshape(x, shape=draw(st.sampled_from([(x.size,), (*sizes[:at], 1, *sizes[at:]), tuple(sizes)])))


@settings(max_examples=150, deadline=None)
@given(graphs(), st.integers(0, 2**32 - 1))
@pytest.mark.parametrize("run", [simplify, share, sink_transposes, join_sums, remove_dead_code, optimise])
def test_random_graphs_compute_the_same(run, graph, seed):
    rng = np.random.default_rng(seed)
    arrays = [rng.normal(size=v.shape).astype(F) for v in graph.inputs]
    after = run(graph)
    assert after.inputs == graph.inputs and len(after.outputs) == len(graph.outputs)
    with np.errstate(all="ignore"):
        same(graph, after, *arrays, exact=False)


@settings(max_examples=200, deadline=None)
@given(graphs(), st.integers(0, 2**32 - 1))
def test_values_that_are_not_finite_stay_so(graph, seed):
    rng = np.random.default_rng(seed)
    arrays = [rng.choice(np.array([0.0, -0.0, 1.0, np.nan, np.inf, -np.inf, 1e-42], F), v.shape) for v in graph.inputs]
    with np.errstate(all="ignore"):
        same(graph, optimise(graph), *arrays, exact=False)
