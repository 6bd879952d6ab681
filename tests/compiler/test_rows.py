"""Positions of extrema, running sums, sorting and searching: the same numbers as NumPy, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.compiler import runtime
from chainrule.compiler.graph import Graph, evaluate
from chainrule.compiler.schedule.build import schedule
from chainrule.compiler.schedule.kernels import RowKernel

from .programs import TARGETS, Builder, run

each_target = pytest.mark.parametrize("wanted", TARGETS, ids=lambda t: t.name)
DTYPES = ["float32", "float64", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "bool"]
SHAPES = [((1,), 0), ((7,), 0), ((3, 70), 1), ((70, 3), 0), ((2, 33, 5), 1), ((5, 300), 1), ((300, 19), 0), ((130,), 0)]


def numbers(shape: Any, dtype: str, seed: int = 0) -> np.ndarray:
    """Numbers with many ties; among floats zeros of both signs, denormal numbers, infinities and NaN."""
    rng = np.random.default_rng(seed)
    d = np.dtype(dtype)
    if d.kind == "b":
        return rng.random(shape) < 0.5
    if d.kind in "iu":
        info = np.iinfo(d)
        few = np.array([info.min, info.min + 1, 0, 1, 2, info.max - 1, info.max], d)
        wide = rng.integers(info.min, info.max, shape, d, endpoint=True)
        return np.where(rng.random(shape) < 0.5, rng.choice(few, shape), wide)
    few = np.array(
        [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, -np.nan, np.finfo(d).tiny / 4, -np.finfo(d).tiny / 8], d
    )
    return np.where(rng.random(shape) < 0.6, rng.choice(few, shape), rng.normal(size=shape).astype(d)).astype(d)


def exact(graph: Graph, arrays: Any, wanted: Any = None) -> None:
    assert all(isinstance(kernel, RowKernel) for kernel in schedule(graph).kernels)
    with np.errstate(all="ignore"):
        expected = evaluate(graph, arrays)
    for got, want in zip(run(graph, arrays, wanted), expected, strict=True):
        np.testing.assert_array_equal(got, want)


def graph_of(name: str, shape: Any, dtype: str, **params: Any) -> Graph:
    b = Builder()
    return b.graph(getattr(b, name)(b.input(*shape, dtype=dtype), **params))


def of_all_shapes(dtype: str, *calls: tuple[str, dict[str, Any]]) -> Graph:
    """One graph that applies primitives along an axis to arrays of all shapes."""
    b = Builder()
    outputs = []
    for shape, axis in SHAPES:
        x = b.input(*shape, dtype=dtype)
        outputs += [getattr(b, name)(x, axis=axis, **params) for name, params in calls]
    return b.graph(*outputs)


def arrays_of(graph: Graph, seed: int, *, finite: bool = False) -> list[np.ndarray]:
    made = [numbers(v.shape, v.dtype.str, seed) for v in graph.inputs]
    return [np.nan_to_num(a, nan=2.0, posinf=1.5, neginf=-1.5) if finite else a for a in made]


@each_target
@pytest.mark.parametrize("dtype", DTYPES)
def test_first_extremum(wanted, dtype):
    calls = [(name, {"keepdims": keep}) for name in ("argmax", "argmin") for keep in (False, True)]
    graph = of_all_shapes(dtype, *calls)
    for seed in range(4):
        exact(graph, arrays_of(graph, seed, finite=seed % 2 == 1 and dtype[0] == "f"), wanted)


@each_target
@pytest.mark.parametrize("dtype", DTYPES[:-1])
def test_running_sums_and_products(wanted, dtype):
    graph = of_all_shapes(dtype, ("cumulative_sum", {}), ("cumulative_prod", {}))
    for seed in range(4):
        exact(graph, arrays_of(graph, seed, finite=seed % 2 == 1 and dtype[0] == "f"), wanted)


@each_target
@pytest.mark.parametrize("dtype", DTYPES)
def test_stable_sort(wanted, dtype):
    graph = of_all_shapes(dtype, *(("argsort", {"descending": down, "stable": True}) for down in (False, True)))
    for seed in range(4):
        exact(graph, arrays_of(graph, seed), wanted)


@each_target
@pytest.mark.parametrize("dtype", DTYPES)
def test_search_among_sorted_values(wanted, dtype):
    b = Builder()
    values = [b.input(count, dtype=dtype) for count in (0, 1, 2, 3, 8, 100, 1000)]
    x = b.input(5, 7, dtype=dtype)
    graph = b.graph(*(b.searchsorted(v, x, side=side) for v in values for side in ("left", "right")))
    for seed in range(3):
        *many, sought = arrays_of(graph, seed)
        exact(graph, [*map(np.sort, many), sought], wanted)


@each_target
@pytest.mark.parametrize(("shape", "axis"), [((0,), 0), ((3, 0), 1), ((0, 3), 1), ((3, 0, 2), 0)])
def test_arrays_without_elements(wanted, shape, axis):
    for name in ("cumulative_sum", "cumulative_prod"):
        exact(graph_of(name, shape, "float32", axis=axis), [np.zeros(shape, "float32")], wanted)
    order = graph_of("argsort", shape, "float32", axis=axis, descending=False, stable=True)
    exact(order, [np.zeros(shape, "float32")], wanted)
    if shape[axis]:
        exact(graph_of("argmax", shape, "float32", axis=axis, keepdims=False), [np.zeros(shape, "float32")], wanted)


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(1, 90), min_size=1, max_size=3),
    data=st.data(),
    dtype=st.sampled_from(DTYPES),
    seed=st.integers(0, 1000),
)
def test_any_shape(shape, data, dtype, seed):
    axis = data.draw(st.integers(0, len(shape) - 1))
    x = numbers(shape, dtype, seed)
    exact(graph_of("argsort", shape, dtype, axis=axis, descending=seed % 2 == 0, stable=True), [x])
    exact(graph_of("argmin", shape, dtype, axis=axis, keepdims=False), [x])
    if dtype != "bool":
        exact(graph_of("cumulative_sum", shape, dtype, axis=axis), [x])


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_share_rows(threads):
    b = Builder()
    x = b.input(50, 700)
    graph = b.graph(
        b.argsort(x, axis=1, descending=False, stable=True),
        b.cumulative_sum(x, axis=1),
        b.argmax(x, axis=0, keepdims=False),
    )
    array = numbers((50, 700), "float32")
    program = runtime.build(graph, threads=threads)
    assert program.threads == threads
    with np.errstate(all="ignore"):
        expected = evaluate(graph, [array])
    for _ in range(10):
        outputs = [np.full(v.shape, 9, v.dtype) for v in graph.outputs]
        program.bind([array], outputs)()
        for got, want in zip(outputs, expected, strict=True):
            np.testing.assert_array_equal(got, want)


def test_ordinary_programs_with_sorts_and_accuracies_have_no_hand_over():
    def step(x, y):
        accuracy = (cr.argmax(x, axis=1) == y).astype("float32").mean()
        ranked = cr.sort(x, axis=1, descending=True)[:, :3]
        return accuracy, ranked, cr.grad((cr.cumulative_sum(cr.sort(x, axis=1), axis=1) * x).sum(), [x])

    x = cr.tensor(np.random.default_rng(0).normal(size=(40, 10)).astype("float32"), requires_grad=True)
    y = cr.asarray(np.arange(40) % 10)
    compiled = cr.compile(step)
    got, want = compiled(x, y), step(x, y)
    for a, b in zip([*got[:2], *got[2]], [*want[:2], *want[2]], strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)
    assert not compiled.report(time=False).handed_over
