"""Attention in blocks: what the pass recognises, and that its code computes what products and softmax do."""

from __future__ import annotations

import ctypes
import mmap
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.compiler.attention import ATTENTION, ATTENTION_GRADIENT, causal_bias
from chainrule.compiler.code.attention import AttentionPlan
from chainrule.compiler.code.attention_forward import emit_attention
from chainrule.compiler.code.attention_gradient import emit_attention_gradient
from chainrule.compiler.code.ir import Module
from chainrule.compiler.code.target import Target, assembly, target
from chainrule.compiler.graph import Graph, Op, Value, evaluate
from chainrule.compiler.passes.attention import fuse_attention
from chainrule.compiler.runtime import build
from chainrule.compiler.runtime.layout import layout
from chainrule.compiler.schedule.build import schedule
from chainrule.nn import functional as F

from .programs import TARGETS, Builder, run

each_target = pytest.mark.parametrize("wanted", TARGETS, ids=lambda t: t.name)


def written_out(
    q: tuple[int, ...], keys: int, depth: int, bias: Any = None, scale: float = 0.25, dtype: Any = "float32"
) -> Graph:
    """Attention and its three gradients, as eager mode computes them, for a cotangent that is an input."""
    b = Builder()
    *batch, queries, width = q
    x, k = b.input(*q, dtype=dtype), b.input(*batch, keys, width, dtype=dtype)
    v, g = b.input(*batch, keys, depth, dtype=dtype), b.input(*batch, queries, depth, dtype=dtype)
    scaled = b.multiply(x, b.constant(scale, dtype))
    scores = b.matmul(scaled, k, transpose_a=False, transpose_b=True)
    if bias is not None:
        scores = b.add(scores, bias if isinstance(bias, Value) else b.constant(bias, dtype))
    weights = b.softmax(scores, axis=len(q) - 1)
    y = b.matmul(weights, v, transpose_a=False, transpose_b=False)
    d = b.matmul(g, v, transpose_a=False, transpose_b=True)
    dv = b.matmul(weights, g, transpose_a=True, transpose_b=False)
    along = b.sum(b.multiply(d, weights), axis=(len(q) - 1,), keepdims=True)
    cotangents = b.multiply(weights, b.subtract(d, along))
    dq = b.multiply(b.matmul(cotangents, k, transpose_a=False, transpose_b=False), b.constant(scale, dtype))
    dk = b.matmul(cotangents, scaled, transpose_a=True, transpose_b=False)
    return b.graph(y, dq, dk, dv)


def names(graph: Graph) -> list[str]:
    return [op.primitive.name for op in graph.ops]


def inputs(graph: Graph, seed: int = 0, spread: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [(spread * rng.standard_normal(v.shape)).astype(v.dtype) for v in graph.inputs]


# What becomes one operation


@pytest.mark.parametrize("bias", [None, causal_bias(130, 128, np.float32), np.ones((130, 128), np.float32)])
def test_attention_and_its_gradients_become_one_operation_each(bias: Any) -> None:
    graph = written_out((2, 3, 130, 16), 128, 8, bias)
    fused = fuse_attention(graph)
    assert [n for n in names(fused) if n not in ("permute_dims", "multiply")] == ["attention", "attention_gradient"]
    op = next(op for op in fused.ops if op.primitive is ATTENTION)
    assert op.params == {"scale": 0.25, "is_causal": bias is not None and not bias.max()}
    assert len(op.inputs) == (4 if bias is not None and bias.max() else 3)
    given = inputs(graph)
    for got, expected in zip(evaluate(fused, given), evaluate(graph, given), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)


def test_weights_that_somebody_else_reads_are_computed() -> None:
    graph = written_out((2, 128, 8), 128, 8)
    weights = next(op.output for op in graph.ops if op.primitive.name == "softmax")
    graph.outputs.append(weights)
    assert fuse_attention(graph) is graph


def test_a_gradient_of_the_bias_keeps_the_scores() -> None:
    graph = written_out((2, 128, 8), 128, 8, np.zeros((128, 128), np.float32))
    cotangents = next(op for op in graph.ops if op.primitive.name == "subtract").output
    graph.outputs += [op.output for op in graph.ops if op.primitive.name == "multiply" and cotangents in op.inputs]
    assert len(graph.outputs) == 5
    assert fuse_attention(graph) is graph


def test_a_row_that_is_added_to_all_scores_is_not_the_causal_order() -> None:
    graph = written_out((2, 128, 8), 128, 8, causal_bias(1, 128, np.float32))
    assert [op.params["is_causal"] for op in fuse_attention(graph).ops if op.primitive is ATTENTION] == [False]


def test_short_sequences_stay_products() -> None:
    graph = written_out((2, 3, 64, 16), 64, 16)
    assert fuse_attention(graph) is graph


def test_working_memory_grows_with_the_length_and_not_its_square() -> None:
    def arena(length: int) -> int:
        fused = fuse_attention(written_out((1, 2, length, 16), length, 16, causal_bias(length, length, np.float32)))
        return layout(schedule(fused), TARGETS[0], 1).arena

    assert arena(2048) < 2.2 * arena(1024)
    assert arena(2048) < 2048 * 2048 * 4


# What it computes


def composed(
    batch: tuple[int, ...], queries: int, keys: int, width: int, depth: int, dtype: Any, is_causal: bool,
    bias: tuple[int, ...] | None, order: bool, scale: float = 0.3,
) -> Graph:  # fmt: skip
    """The two operations as the pass makes them; with `order`, q, k and v are views with the length in front."""
    b = Builder()

    def operand(rows: int, columns: int) -> Value:
        if not order:
            return b.input(*batch, rows, columns, dtype=dtype)
        x = b.input(rows, *batch, columns, dtype=dtype)
        return b.permute_dims(x, axes=(*range(1, len(batch) + 1), 0, len(batch) + 1))

    q, k, v, g = operand(queries, width), operand(keys, width), operand(keys, depth), operand(queries, depth)
    more = [b.input(*bias, dtype=dtype)] if bias is not None else []
    params = {"scale": scale, "is_causal": is_causal}
    forward = Op(ATTENTION, (q, k, v, *more), params)
    backward = Op(ATTENTION_GRADIENT, (q, k, v, *forward.outputs, g, *more), params)
    b.ops += [forward, backward]
    return b.graph(*forward.outputs, *backward.outputs)


def agree(graph: Graph, given: list[np.ndarray], wanted: Target) -> None:
    """Compiled and evaluated outputs differ by rounding. Gradients are differences of numbers of about 1."""
    scale = 400 * float(np.finfo(graph.outputs[0].dtype).eps)
    for got, expected in zip(run(graph, given, wanted), evaluate(graph, given), strict=True):
        np.testing.assert_allclose(got, expected, rtol=scale, atol=scale * max(1.0, float(np.abs(expected).max())))


SIZES = [
    ((2, 3), 64, 64, 16, 16),
    ((3,), 70, 129, 24, 40),
    ((1, 2), 130, 65, 7, 5),
    ((2,), 1, 200, 33, 1),
    ((1, 2), 65, 1, 3, 17),
]


@each_target
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_blocks_compute_what_the_whole_does(sizes: Any, wanted: Target) -> None:
    for dtype, is_causal, order in (("float32", False, True), ("float32", True, False), ("float64", True, True)):
        graph = composed(*sizes, dtype, is_causal, None, order)
        agree(graph, inputs(graph), wanted)


@each_target
@pytest.mark.parametrize("shape", [(70, 129), (2, 1, 1, 129), (3, 70, 1), (1,), (2, 3, 70, 129)])
def test_a_bias_is_broadcast(shape: tuple[int, ...], wanted: Target) -> None:
    graph = composed((2, 3), 70, 129, 16, 16, "float32", False, shape, False)
    agree(graph, inputs(graph), wanted)


@each_target
def test_queries_that_see_nothing_give_nan_and_others_do_not(wanted: Target) -> None:
    graph = composed((1,), 70, 200, 16, 16, "float32", False, (70, 200), False)
    given = inputs(graph)
    given[-1][3] = -np.inf  # a query that sees no key
    given[-1][5, :150] = -np.inf  # one that sees only keys of later blocks
    given[-1][6, 1:] = -np.inf
    with np.errstate(all="ignore"):
        y, _, _, dq, *_ = evaluate(graph, given)
    assert np.isnan(y[3]).all() and np.isfinite(y[4:]).all()
    got = build(graph, wanted)
    outputs = [np.empty(v.shape, v.dtype) for v in graph.outputs]
    got.bind(given, outputs)()
    for a, b in zip((outputs[0], outputs[3]), (y, dq), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


@each_target
def test_scores_that_are_not_finite(wanted: Target) -> None:
    graph = composed((1,), 70, 200, 4, 16, "float32", False, None, False)
    given = inputs(graph)
    given[0][0, 1, 0] = np.nan
    given[0][0, 2] = [np.inf, 0, 0, 0]
    given[0][0, 69] *= 1e30
    given[1][0, 150] = 1e20
    with np.errstate(all="ignore"):
        expected = evaluate(graph, given)
    outputs = [np.empty(v.shape, v.dtype) for v in graph.outputs]
    build(graph, wanted).bind(given, outputs)()
    np.testing.assert_array_equal(np.isnan(outputs[0]), np.isnan(expected[0]))
    rows = ~np.isnan(expected[0]).any(-1)
    assert rows.sum() == 67
    np.testing.assert_allclose(outputs[0][rows], expected[0][rows], rtol=2e-5, atol=2e-6)


def test_code_for_aarch64_is_assembled() -> None:
    neon = target("neon")
    fused = composed((2,), 70, 129, 24, 40, "float32", True, None, False)
    planned = layout(schedule(fused), neon, 2)
    works = [k for k in planned.kernels if getattr(k, "work", None) is not None]
    assert len(works) == 2
    for kernel in works:
        module = Module()
        emit = emit_attention_gradient if kernel.work.gradients else emit_attention
        emit(module, "k", AttentionPlan(kernel.work, neon))
        assert "fmla" in assembly(module, neon)


# Memory


class _Fenced:
    """Memory between pages that nobody may touch, with arrays at its end or at its beginning."""

    def __init__(self, nbytes: int, at_end: bool) -> None:
        page = mmap.PAGESIZE
        inside = -(-max(nbytes, 1) // page) * page
        self._map = mmap.mmap(-1, inside + 2 * page)
        whole = np.frombuffer(self._map, np.uint8)
        protect = ctypes.CDLL(None).mprotect
        for start in (0, inside + page):
            assert protect(ctypes.c_void_p(whole.ctypes.data + start), ctypes.c_size_t(page), 0) == 0
        first = page + (inside - nbytes) // 16 * 16 if at_end else page
        self.bytes = whole[first : first + nbytes]
        self.bytes[:] = 0xFF  # NaN: memory that is read before it is written shows


def _fenced(array: np.ndarray, at_end: bool, kept: list[_Fenced]) -> np.ndarray:
    kept.append(_Fenced(array.nbytes, at_end))
    made = kept[-1].bytes.view(array.dtype).reshape(array.shape)
    made[...] = array
    return made


def run_fenced(graph: Graph, at_end: bool, seed: int, wanted: Target) -> None:
    """Run on arrays and working memory between forbidden pages, and compare with `evaluate`."""
    kept: list[_Fenced] = []
    arrays = [_fenced(a, at_end, kept) for a in inputs(graph, seed)]
    outputs = [_fenced(np.zeros(v.shape, v.dtype), at_end, kept) for v in graph.outputs]
    program = build(graph, wanted, 1)
    bound = program.bind(arrays, outputs)
    arena = _Fenced(-(-program.arena // 64) * 64, at_end)
    position = len(bound._arrays) - 1
    bound._arrays[position] = arena.bytes[: program.arena]
    bound._table[position] = arena.bytes.ctypes.data
    bound()
    scale = 600 * float(np.finfo(graph.outputs[0].dtype).eps)
    for got, expected in zip(outputs, evaluate(graph, arrays), strict=True):
        np.testing.assert_allclose(got, expected, rtol=scale, atol=scale * max(1.0, float(np.abs(expected).max())))


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="pages are protected with mprotect")


@on_linux
@each_target
@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_nothing_beside_the_arrays_is_touched(wanted: Target, data: st.DataObject) -> None:
    sizes = [data.draw(st.integers(1, most)) for most in (140, 140, 35, 35)]
    queries, keys, *_ = sizes
    batch = tuple(data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=2)))
    shapes = [None, (queries, keys), (keys,), (*batch, queries, 1), (*batch[:-1], 1, 1, keys)]
    bias, is_causal = data.draw(st.sampled_from(shapes)), data.draw(st.booleans())
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    graph = composed(batch, *sizes, dtype, is_causal, bias, data.draw(st.booleans()))
    run_fenced(graph, data.draw(st.booleans()), data.draw(st.integers(0, 99)), wanted)


@on_linux
def test_a_block_of_queries_with_one_too_many_reads_no_bias_for_it() -> None:
    run_fenced(composed((4,), 65, 70, 16, 16, "float32", False, (4, 65, 1), False), True, 0, TARGETS[0])


# From the outside


def attended(
    length: int, mode: str, steps: int, *, heads: int = 2, width: int = 16, compiled: bool = True
) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    made = [rng.standard_normal((2, heads, length, width)).astype(np.float32) for _ in range(3)]
    weights = [cr.nn.Parameter(cr.asarray(a)) for a in made]
    visible = rng.random((length, length)) > 0.5
    visible[4] = False
    numbers = cr.asarray(rng.standard_normal((length, length)).astype(np.float32))
    masks = {"causal": None, "plain": None, "bool": cr.asarray(visible), "float": numbers}
    optimizer = cr.optim.SGD(weights, lr=0.1)

    def step(target: Any) -> Any:
        optimizer.zero_grad()
        y = F.scaled_dot_product_attention(*weights, attn_mask=masks[mode], is_causal=mode == "causal")
        loss = ((y - target) ** 2).mean()
        loss.backward()
        optimizer.step()
        return loss

    call = cr.compile(step) if compiled else step
    for _ in range(steps):
        call(cr.asarray(made[2][:, :, ::-1].copy()))
    if compiled:
        kinds = [kernel.kind for kernel in call.report(time=False).kernels]
        assert kinds.count("attention") == 2
    return [w.numpy() for w in weights]


@pytest.mark.parametrize("mode", ["causal", "plain", "bool", "float"])
def test_training_steps_are_those_of_eager_mode(mode: str) -> None:
    for got, expected in zip(attended(150, mode, 3), attended(150, mode, 3, compiled=False), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-4, atol=2e-6)


def test_from_the_disk_cache_it_is_the_same() -> None:
    first, second = attended(131, "causal", 2), attended(131, "causal", 2)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
