"""Branches and loops as native code: no hand-over, on every target, with threads, nested, and from the disk cache."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from chainrule import func, nn
from chainrule.compiler import runtime
from chainrule.compiler.graph import Graph, Op, Value, evaluate
from chainrule.compiler.nested import Branch, Loop
from chainrule.compiler.runtime import cache
from chainrule.compiler.schedule.build import schedule
from chainrule.compiler.schedule.kernels import HostKernel
from chainrule.core.tree import leaves
from chainrule.nn import functional as F

from .programs import TARGETS, Builder, check, random_arrays

each_target = pytest.mark.parametrize("wanted", TARGETS, ids=lambda t: t.name)


def loop(body: Graph, carried: int, constants: int, length: int, *, reverse=False, keeps=()) -> Graph:
    """A graph that is one loop."""
    made = Loop(body, carried, constants, length, reverse, keeps)
    specs = [(v.shape, v.dtype) for v in body.inputs[: carried + constants]]
    specs += [((length, *v.shape), v.dtype) for v in body.inputs[carried + constants :]]
    op = Op(made, [Value(*spec) for spec in specs], {})
    return Graph(list(op.inputs), [op], list(op.outputs))


def recurrence(dtype: str, rows: int = 5, width: int = 19) -> Graph:
    """`h, n = tanh(x + h w), n + 1`, with the sum of h as output."""
    b = Builder()
    h, n = b.input(rows, width, dtype=dtype), b.input(dtype="int64")
    w, x = b.input(width, width, dtype=dtype), b.input(rows, width, dtype=dtype)
    new = b.tanh(b.add(x, b.matmul(h, w, transpose_a=False, transpose_b=False)))
    after = b.add(n, b.constant(1, "int64"))
    total = b.sum(new, axis=(0,), keepdims=False)
    table = b.constant(np.arange(width), dtype)
    return b.graph(new, after, b.multiply(total, table), total)


def is_native(graph: Graph) -> bool:
    return not any(isinstance(kernel, HostKernel) for kernel in schedule(graph).kernels)


@each_target
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("length", [1, 2, 3, 8])
@pytest.mark.parametrize("reverse", [False, True])
def test_loops_carry_slice_stack_and_keep(wanted, dtype, length, reverse):
    for keeps in ((), (0,), (0, 1)):
        graph = loop(recurrence(dtype), 2, 1, length, reverse=reverse, keeps=keeps)
        assert is_native(graph)
        arrays = [a * 0.3 if a.dtype.kind == "f" else a for a in random_arrays(graph)]
        check(graph, [a.astype(v.dtype) for a, v in zip(arrays, graph.inputs, strict=True)], wanted, scale=64 * length)


@each_target
def test_carries_may_trade_places_and_pass_through(wanted):
    b = Builder()
    x, y, z, s = (b.input(7) for _ in range(4))
    graph = loop(b.graph(y, b.add(x, s), z, s, b.constant(np.arange(7)), z), 3, 0, 5, keeps=(0, 2))
    assert is_native(graph)
    check(graph, random_arrays(graph), wanted)


@each_target
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2)])
def test_loops_over_scalars_and_nothing(wanted, shape):
    b = Builder()
    c, x = b.input(*shape), b.input(*shape)
    graph = loop(b.graph(b.multiply(c, x), b.add(c, x)), 1, 0, 6, keeps=(0,))
    check(graph, random_arrays(graph), wanted)


@each_target
@pytest.mark.parametrize("chosen", [True, False])
def test_branches(wanted, chosen):
    b, other = Builder(), Builder()
    for part in (b, other):
        part.input(9, 33), part.input(9, 33)
    on_true = b.graph(b.exp(b.add(*b.inputs)), b.inputs[0])
    on_false = other.graph(other.constant(np.full((9, 33), 0.5)), other.multiply(*other.inputs))
    pred = Value((), "bool")
    op = Op(Branch((on_true, on_false)), [pred, Value((9, 33), "float32"), Value((9, 33), "float32")], {})
    graph = Graph(list(op.inputs), [op], list(op.outputs))
    assert is_native(graph)
    check(graph, [np.asarray(chosen), *random_arrays(graph)[1:]], wanted)


def test_threads_share_the_work_of_a_step():
    graph = loop(recurrence("float64", 96, 160), 2, 1, 40, keeps=(0,))
    arrays = [a * 0.05 if a.dtype.kind == "f" else a for a in random_arrays(graph)]
    expected = evaluate(graph, arrays)
    for threads in (1, 2, 3):
        program = runtime.build(graph, threads=threads)
        assert program.threads == threads
        for _ in range(20):
            outputs = [np.full(v.shape, 7, v.dtype) for v in graph.outputs]
            program.bind(arrays, outputs)()
            for got, want in zip(outputs, expected, strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-12)


def test_threads_meet_between_the_steps():
    # The step's one kernel reads all of what the step before has written, by all threads.
    b = Builder()
    h, w = b.input(64, 96, dtype="float64"), b.input(96, 96, dtype="float64")
    body = b.graph(b.tanh(b.matmul(h, w, transpose_a=False, transpose_b=False)))
    arrays = [np.random.default_rng(0).normal(size=v.shape) for v in body.inputs]
    arrays[1] = np.linalg.qr(arrays[1])[0]  # keeps lengths, so that errors neither grow nor vanish
    for keeps in ((), (0,)):
        graph = loop(body, 1, 1, 300, keeps=keeps)
        program = runtime.build(graph, threads=3)
        assert program.threads == 3
        expected = evaluate(graph, arrays)
        for _ in range(5):
            outputs = [np.full(v.shape, 7, v.dtype) for v in graph.outputs]
            program.bind(arrays, outputs)()
            for got, want in zip(outputs, expected, strict=True):
                np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-10)


def compiled_equals(function, *args, rtol=1e-12) -> cr.compiler.Report:
    compiled = cr.compile(function)
    for a, b in zip(leaves(function(*args)), leaves(compiled(*args)), strict=True):
        np.testing.assert_allclose(b.numpy(), a.numpy(), rtol=rtol, atol=1e-14)
    report = compiled.report(time=False)
    assert not report.handed_over
    return report


X = cr.asarray(np.random.default_rng(1).normal(size=(4, 6, 3)))


def test_a_loop_in_a_branch_in_a_loop():
    w = cr.asarray(np.random.default_rng(2).normal(size=(3, 3)))

    def inner(h, xs):
        return cr.scan(lambda h, x: (cr.tanh(w @ h + x), h.sum()), h, xs)

    def function(x, w):
        def step(h, xs):
            last, ys = cr.cond(h.sum() > 0, lambda: inner(h, xs), lambda: (h * w[0] + 1, xs.sum(axis=1)))
            return last, ys

        last, ys = cr.scan(step, cr.ones(3, dtype=cr.float64) - x[0, 0], x)
        return (last**2).sum() + ys.sum()

    compiled_equals(function, X, w)
    compiled_equals(func.grad(function, argnums=(0, 1)), X, w, rtol=1e-9)


def test_state_and_random_numbers_in_a_body():
    count = nn.Buffer(cr.tensor(0.0))

    def function(h):
        def body(c, x):
            count.assign(count + 1)
            return c + x * cr.rand(6, 3, dtype=cr.float64), cr.randn(2)

        return cr.scan(body, h, X)

    compiled = cr.compile(function)
    results = []
    for run in (function, compiled):
        cr.manual_seed(3)
        count.assign(0.0)
        results.append([t.numpy() for t in leaves(run(X[0]))] + [np.asarray(count.item()), cr.rand(3).numpy()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert not compiled.report(time=False).handed_over


def test_embeddings_in_a_body_and_an_index_out_of_range_anywhere_in_it():
    table = nn.Parameter(cr.asarray(np.random.default_rng(0).normal(size=(5, 3))))
    steps = nn.Buffer(cr.tensor(0))

    def function(tokens):
        steps.assign(steps + 1)
        loss = cr.scan(lambda h, t: (cr.tanh(h + table[t]), h), cr.zeros((2, 3), dtype=cr.float64), tokens)[0].sum()
        return loss, cr.grad(loss, [table])

    tokens = np.array([[0, 4], [1, -5], [3, 3]])
    compiled = cr.compile(function)
    compiled(cr.asarray(tokens))
    compiled_equals(lambda t: function(t), cr.asarray(tokens), rtol=1e-12)
    before = steps.item()
    for place, index in ((0, 5), (1, -6), (2, 17)):
        wrong = tokens.copy()
        wrong[place, 1] = index
        with pytest.raises(
            cr.IndexingError, match=r"index: an index is out of range for an axis of length 5\n  at .*test_nested"
        ):
            compiled(cr.asarray(wrong))
    assert steps.item() == before


def test_an_index_out_of_range_in_a_branch_counts_when_it_is_taken():
    table = cr.arange(5, dtype=cr.float64)
    compiled = cr.compile(lambda x, i: cr.cond(x > 0, lambda: table[i] * 2, lambda: table[i * 0]))
    assert compiled(cr.tensor(-1.0), cr.asarray([7])).tolist() == [0.0]
    assert compiled(cr.tensor(1.0), cr.asarray([4])).tolist() == [8.0]
    with pytest.raises(cr.IndexingError, match="length 5"):
        compiled(cr.tensor(1.0), cr.asarray([7]))


def test_a_body_that_needs_numpy_is_handed_over_as_a_whole():
    def function(x):
        begin = cr.tensor(0.0, dtype=cr.float64)
        return cr.scan(lambda total, a: (total + cr.linalg.svdvals(a)[0], None), begin, x)[0]

    compiled = cr.compile(function)
    np.testing.assert_allclose(compiled(X).item(), function(X).item())
    assert [k.operations["scan"] for k in compiled.report(time=False).handed_over] == [1]


def test_programs_with_loops_are_kept_on_disk():
    graph = loop(recurrence("float32"), 2, 1, 4)
    other = loop(recurrence("float32"), 2, 1, 5)
    assert not runtime.build(graph).cached
    again = runtime.build(loop(recurrence("float32"), 2, 1, 4))
    assert again.cached
    arrays = [a * np.float32(0.1) if a.dtype.kind == "f" else a for a in random_arrays(graph)]
    outputs = [np.empty(v.shape, v.dtype) for v in graph.outputs]
    again.bind(arrays, outputs)()
    for got, want in zip(outputs, evaluate(graph, arrays), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    (target,) = TARGETS[:1]
    assert len({cache.key(g, target, 1) for g in (graph, other)}) == 2


def test_an_lstm_by_scan_trains_as_the_one_written_out():
    def make(scan):
        cr.manual_seed(0)
        cell, out = nn.LSTMCell(5, 7), nn.Linear(7, 3)

        def step(xs, y):
            state = (cr.zeros((4, 7)), cr.zeros((4, 7)))
            if scan:
                state, _ = cr.scan(lambda s, x: (cell(x, s), None), state, xs)
            else:
                for t in range(xs.shape[0]):
                    state = cell(xs[t], state)
            loss = F.cross_entropy(out(state[0]), y)
            return loss, cr.grad(loss, [*cell.parameters(), *out.parameters()])

        return cr.compile(step)

    rng = np.random.default_rng(0)
    xs, y = cr.asarray(rng.normal(size=(9, 4, 5)).astype("float32")), cr.asarray([0, 2, 1, 1])
    loops, flat = make(True), make(False)
    for a, b in zip(leaves(loops(xs, y)), leaves(flat(xs, y)), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-6)
    report = loops.report(time=False)
    assert not report.handed_over
    assert any(k.kind == "scan" and k.flops > 0 and "affine" in k.operations for k in report.kernels)
