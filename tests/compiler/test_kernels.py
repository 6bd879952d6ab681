"""Single kinds of kernels against `evaluate`: edges of shapes and numbers, gathers, scatters, random bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.compiler.graph import Graph, evaluate
from chainrule.compiler.runtime.build import code_of
from chainrule.compiler.runtime.layout import layout
from chainrule.compiler.schedule.build import schedule
from chainrule.compiler.schedule.kernels import HostKernel

from .programs import TARGETS, Builder, check, random_arrays, run

pytestmark = pytest.mark.parametrize("wanted", TARGETS, ids=lambda t: t.name)

UNARY = (
    "negative", "abs", "relu", "square", "floor", "ceil", "trunc", "round", "sign", "isnan", "isinf", "isfinite",
    "signbit", "sqrt", "reciprocal", "logical_not",
)  # fmt: skip
BINARY = (
    "add", "subtract", "multiply", "divide", "maximum", "minimum", "less", "equal", "not_equal", "greater_equal",
    "logical_and", "remainder", "floor_divide", "copysign",
)  # fmt: skip
OF_INTEGERS = (
    "add", "subtract", "multiply", "maximum", "minimum", "less", "remainder", "floor_divide", "bitwise_and",
    "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift",
)  # fmt: skip
AWKWARD = [0.0, -0.0, 1.5, -2.5, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3.4e38, -3.4e38, 1e-45]


def stays_native(graph: Graph) -> None:
    names = [k.op.primitive.name for k in schedule(graph).kernels if isinstance(k, HostKernel)]
    assert not names, f"handed to NumPy: {names}"


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_pointwise_of_non_finite_and_denormal_numbers(wanted: Any, name: str, dtype: str) -> None:
    b = Builder()
    x = b.input(len(AWKWARD), dtype=dtype)
    graph = b.graph(getattr(b, name)(x))
    stays_native(graph)
    with np.errstate(all="ignore"):
        check(graph, [np.array(AWKWARD, dtype)], wanted, scale=1)


@pytest.mark.parametrize("name", BINARY)
def test_pairs_of_non_finite_and_denormal_numbers(wanted: Any, name: str) -> None:
    b = Builder()
    x, y = b.input(12, 1), b.input(12)
    graph = b.graph(getattr(b, name)(x, y))
    stays_native(graph)
    numbers = np.array(AWKWARD, np.float32)
    with np.errstate(all="ignore"):
        check(graph, [numbers[:, None], numbers], wanted, scale=2)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("name", OF_INTEGERS)
def test_integers(wanted: Any, name: str, dtype: str) -> None:
    b = Builder()
    x, y = b.input(6, 1, dtype=dtype), b.input(7, dtype=dtype)
    graph = b.graph(getattr(b, name)(x, y))
    stays_native(graph)
    limits = np.iinfo(dtype)
    numbers = np.array([0, 1, 2, 3, limits.max, limits.min], dtype)
    counts = np.array([0, 1, 2, 3, 7, 5, 4], dtype)
    with np.errstate(all="ignore"):
        check(graph, [numbers[:, None], counts], wanted)


@pytest.mark.parametrize("given", ["bool", "int8", "uint8", "int32", "int64", "uint64", "float32", "float64"])
@pytest.mark.parametrize("result", ["bool", "int8", "uint8", "int32", "int64", "uint32", "float32", "float64"])
def test_conversions_of_numbers_that_fit(wanted: Any, given: str, result: str) -> None:
    b = Builder()
    x = b.input(19, dtype=given)
    graph = b.graph(b.astype(x, dtype=np.dtype(result)))
    check(graph, [(np.arange(19) % 3 * 30).astype(given)], wanted)


@pytest.mark.parametrize("dtype", ["float32", "int32", "bool"])
@pytest.mark.parametrize("name", ["sum", "max", "min", "prod", "all", "any"])
@pytest.mark.parametrize("axis", [(0,), (1,), (2,), (0, 2), (1, 2), (0, 1, 2)])
def test_reductions_over_any_axes(wanted: Any, name: str, axis: tuple[int, ...], dtype: str) -> None:
    if name in ("sum", "prod") and dtype == "bool":
        dtype = "int64"
    b = Builder()
    x = b.input(3, 5, 21, dtype=dtype)
    graph = b.graph(getattr(b, name)(x, axis=axis, keepdims=False))
    stays_native(graph)
    check(graph, random_arrays(graph), wanted, scale=64)


def test_nan_wins_an_extremum(wanted: Any) -> None:
    b = Builder()
    x = b.input(40, 33)
    graph = b.graph(b.max(x, axis=(1,), keepdims=False), b.min(x, axis=(0,), keepdims=True))
    (array,) = random_arrays(graph)
    array[3, 5] = array[17, 32] = np.nan
    check(graph, [array], wanted)


def test_reductions_of_nothing(wanted: Any) -> None:
    b = Builder()
    x = b.input(3, 0)
    graph = b.graph(
        b.sum(x, axis=(1,), keepdims=False), b.sum(x, axis=(0,), keepdims=False), b.mean(x, axis=(0, 1), keepdims=False)
    )
    with np.errstate(all="ignore"):
        check(graph, random_arrays(graph), wanted)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_along_any_axis(wanted: Any, name: str, axis: int) -> None:
    b = Builder()
    x = b.input(4, 37, 19)
    graph = b.graph(getattr(b, name)(x, axis=axis))
    stays_native(graph)
    check(graph, random_arrays(graph), wanted)


def test_layer_norm_is_one_kernel(wanted: Any) -> None:
    b = Builder()
    x, w, bias, eps = b.input(6, 10, 50), b.input(50), b.input(50), b.constant(1e-5)
    c = b.subtract(x, b.mean(x, axis=(2,), keepdims=True))
    scale = b.reciprocal(b.sqrt(b.add(b.mean(b.square(c), axis=(2,), keepdims=True), eps)))
    graph = b.graph(b.add(b.multiply(b.multiply(c, scale), w), bias))
    assert len(schedule(graph).kernels) == 1
    check(graph, random_arrays(graph), wanted)


@pytest.mark.parametrize("shape", [(3, 20, 4, 9), (2, 37, 7, 7), (5, 3, 1, 1), (4, 16, 0, 3)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_batch_norm_runs_along_rows_of_pixels(wanted: Any, shape: tuple[int, ...], dtype: str) -> None:
    b = Builder()
    x, eps = b.input(*shape, dtype=dtype), b.constant(1e-5, dtype)
    w, bias = (b.reshape(b.input(shape[1], dtype=dtype), shape=(1, shape[1], 1, 1)) for _ in range(2))
    axes: dict[str, Any] = {"axis": (0, 2, 3), "keepdims": True}
    c = b.subtract(x, b.mean(x, **axes))
    scale = b.reciprocal(b.sqrt(b.add(b.mean(b.square(c), **axes), eps)))
    graph = b.graph(b.relu(b.add(b.multiply(b.multiply(c, scale), w), bias)))
    assert len(schedule(graph).kernels) == 1
    if shape[2] > 1:
        # Weights and biases lie along the channels, but are read once a channel: pixels matter.
        assert "gather" not in str(code_of(layout(schedule(graph), wanted, 1), wanted, 1)[0])
    with np.errstate(all="ignore"):
        check(graph, random_arrays(graph), wanted, scale=256)


@pytest.mark.parametrize("shape", [(256, 2048), (9, 331), (40, 16), (3, 1), (7, 5, 130), (0, 70)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sums_over_a_batch_run_along_the_rows(wanted: Any, shape: tuple[int, ...], dtype: str) -> None:
    b = Builder()
    x, *numbers = b.input(*shape, dtype=dtype), *(b.input(*shape[:-1], 1, dtype=dtype) for _ in range(3))
    scaled = b.multiply(b.subtract(x, b.log(b.square(numbers[0]))), b.multiply(numbers[1], numbers[2]))
    axes = tuple(range(len(shape) - 1))
    mean = b.mean(scaled, axis=axes, keepdims=True)
    graph = b.graph(
        scaled,
        b.sum(scaled, axis=axes, keepdims=False),
        b.max(b.subtract(scaled, mean), axis=axes, keepdims=True) if 0 not in shape else mean,
    )
    if shape[-1] > 16:
        # Numbers of a row are many buffers, but few elements.
        assert "gather" not in str(code_of(layout(schedule(graph), wanted, 1), wanted, 1)[0])
    with np.errstate(all="ignore"):
        check(graph, random_arrays(graph), wanted, scale=1024)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bool"])
@pytest.mark.parametrize("shape", [(7, 64, 2), (5, 3, 2), (64, 3), (33, 1), (40, 2, 1, 2), (0, 2), (3, 0)])
def test_reductions_over_a_few_neighbours(wanted: Any, shape: tuple[int, ...], dtype: str) -> None:
    b = Builder()
    x = b.input(*shape, dtype=dtype)
    names = ("any", "all") if dtype == "bool" else ("sum",) if 0 in shape else ("sum", "max")
    graph = b.graph(*(getattr(b, name)(x, axis=(len(shape) - 1,), keepdims=False) for name in names))
    check(graph, random_arrays(graph), wanted)


@pytest.mark.parametrize("dtype", ["float32", "bool", "int64"])
@pytest.mark.parametrize("length", [32, 128, 129, 191])
def test_every_second_element(wanted: Any, length: int, dtype: str) -> None:
    b = Builder()
    x = b.input(3, length, dtype=dtype)
    parts = [b.index(x, pattern=(("s", 0, 3, 1), ("s", i, length - length % 2, 2))) for i in (0, 1)]
    graph = b.graph(b.not_equal(*parts), *parts)
    check(graph, random_arrays(graph), wanted)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bool"])
@pytest.mark.parametrize("shape", [(3, 5, 7, 7), (2, 3, 4), (5, 2, 1), (2, 0, 3), (6, 2, 8)])
def test_short_axes_share_a_vector(wanted: Any, shape: tuple[int, ...], dtype: str) -> None:
    b = Builder()
    x = b.input(*shape, dtype=dtype)
    wide = b.reshape(x, shape=(*shape, 1))
    twice = b.reshape(b.broadcast_to(wide, shape=(*shape, 2)), shape=(*shape[:-1], 2 * shape[-1]))
    turned = b.permute_dims(x, axes=(*range(len(shape) - 2), len(shape) - 1, len(shape) - 2))
    rows = b.input(shape[-2], 1, dtype=dtype)
    flipped = b.logical_xor(b.flip(x, axis=(len(shape) - 1,)), rows)
    padded = b.pad(x, widths=((0, 0),) * (len(shape) - 2) + ((1, 0), (1, 2)))
    graph = b.graph(twice, b.equal(turned, turned), turned, flipped, padded)
    check(graph, random_arrays(graph), wanted)


@pytest.mark.parametrize("integers", ["int32", "int64", "uint8"])
def test_gather_and_scatter_of_rows(wanted: Any, integers: str) -> None:
    b = Builder()
    weight, ids, g = b.input(11, 13), b.input(4, 5, dtype=integers), b.input(4, 5, 13)
    rows = (("a", 0), ("s", 0, 13, 1))
    graph = b.graph(
        b.index(weight, ids, pattern=rows),
        b.index_add(g, ids, pattern=rows, shape=(11, 13)),
        b.index(weight, ids, pattern=(("s", 0, 11, 1), ("a", 0))),
    )
    stays_native(graph)
    arrays = random_arrays(graph)
    if integers != "uint8":
        arrays[1][0, 0] = -3
    check(graph, arrays, wanted)


def test_cross_entropy_and_its_gradient_need_no_scatter(wanted: Any) -> None:
    b = Builder()
    x, target, g = b.input(9, 21), b.input(9, dtype="int64"), b.input(9)
    rows = b.constant(np.arange(9), "int64")
    picked = (("a", 0), ("a", 1))
    logs = b.log_softmax(x, axis=1)
    gradient = b.index_add(g, rows, target, pattern=picked, shape=(9, 21))
    back = b.subtract(gradient, b.multiply(b.exp(logs), b.sum(gradient, axis=(1,), keepdims=True)))
    graph = b.graph(b.index(logs, rows, target, pattern=picked), back)
    stays_native(graph)
    check(graph, random_arrays(graph), wanted)


def test_replacing_elements(wanted: Any) -> None:
    b = Builder()
    x, v, ids, row = b.input(6, 8), b.input(3, 1), b.input(4, dtype="int64"), b.input(4, 8)
    graph = b.graph(
        b.index_set(x, v, pattern=(("s", 1, 4, 1), ("s", 2, 8, 1))),
        b.index_set(x, b.constant(2.0), pattern=(("i", 3), ("s", 0, 8, 1))),
        b.index_set(x, row, ids, pattern=(("a", 0), ("s", 0, 8, 1))),
        b.index_add(v, pattern=(("s", 1, 4, 1), ("s", 5, 6, 1)), shape=(6, 8)),
    )
    stays_native(graph)
    check(graph, random_arrays(graph), wanted)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_concatenation(wanted: Any, axis: int) -> None:
    b = Builder()
    x, y = b.input(3, 4, 5), b.input(3, 4, 5)
    graph = b.graph(b.tanh(b.concat(x, b.flip(y, axis=(1,)), b.exp(x), axis=axis)))
    stays_native(graph)
    check(graph, random_arrays(graph), wanted)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (8,), (3, 5), (100,), (1001,)])
def test_random_bits_are_the_same(wanted: Any, shape: tuple[int, ...]) -> None:
    b = Builder()
    state = b.input(2, dtype="uint64")
    graph = b.graph(b.random_bits(state, shape=shape))
    stays_native(graph)
    check(graph, [np.array([2**63 + 12345, 77], np.uint64)], wanted)


def test_dropout_draws_what_eager_draws(wanted: Any) -> None:
    b = Builder()
    state, x = b.input(2, dtype="uint64"), b.input(33, 17)
    bits = b.astype(
        b.bitwise_right_shift(b.random_bits(state, shape=(33, 17)), b.constant(8, "uint32")), dtype=np.dtype("float32")
    )
    kept = b.greater_equal(b.multiply(bits, b.constant(2.0**-24)), b.constant(0.3))
    graph = b.graph(b.where(kept, b.divide(x, b.constant(0.7)), b.constant(0.0)))
    check(graph, [np.array([1, 0], np.uint64), random_arrays(graph)[1]], wanted)


def test_what_has_no_code_is_handed_to_numpy(wanted: Any) -> None:
    b = Builder()
    x = b.input(7, 7)
    volume = b.det(b.tanh(b.permute_dims(x, axes=(1, 0))))
    graph = b.graph(b.add(volume, b.constant(1)))
    assert any(isinstance(k, HostKernel) for k in schedule(graph).kernels)
    check(graph, random_arrays(graph), wanted)


def test_state_is_overwritten_in_place(wanted: Any) -> None:
    from chainrule.compiler.runtime import build

    b = Builder()
    p, g = b.input(40, 3), b.input(40, 3)
    new = b.subtract(p, b.multiply(b.constant(0.5), g))
    total = b.sum(p, axis=(0, 1), keepdims=False)
    turned = b.permute_dims(b.reshape(p, shape=(3, 40)), axes=(1, 0))
    graph = b.graph(total, new, b.add(turned, new), updates={1: 0})
    arrays = random_arrays(graph)
    expected = evaluate(graph, arrays)
    outputs = [np.empty((), np.float32), arrays[0], np.empty((40, 3), np.float32)]
    build(graph, wanted).bind(arrays, outputs)()
    for got, value in zip(outputs, expected, strict=True):
        np.testing.assert_allclose(got, value, rtol=1e-5)


def test_an_output_may_be_an_input_a_constant_or_given_twice(wanted: Any) -> None:
    b = Builder()
    x, c = b.input(3, 3), b.constant([[1.0, 2.0]])
    y = b.exp(x)
    graph = b.graph(x, c, y, y, b.reshape(y, shape=(9,)), b.permute_dims(x, axes=(1, 0)))
    check(graph, random_arrays(graph), wanted)


def test_each_call_has_its_own_arrays(wanted: Any) -> None:
    from chainrule.compiler.runtime import build

    b = Builder()
    x = b.input(5)
    program = build(b.graph(b.exp(x)), wanted)
    first, second = np.empty(5, np.float32), np.empty(5, np.float32)
    call = program.bind([np.zeros(5, np.float32)], [first])
    other = program.bind([np.ones(5, np.float32)], [second])
    call(), other()
    call.set_input(0, np.full(5, 2, np.float32))
    third = np.empty(5, np.float32)
    call.set_output(0, third)
    call()
    np.testing.assert_allclose([first[0], second[0], third[0]], np.exp([0, 1, 2]), rtol=1e-6)


def test_kernels_that_differ_in_offsets_only_share_code(wanted: Any) -> None:
    b = Builder()
    x = b.input(6, 64)
    parts = [b.index(x, pattern=(("i", i), ("s", 16 * (i % 3), 16 * (i % 3) + 16, 1))) for i in range(6)]
    graph = b.graph(*(b.tanh(p) for p in parts))
    module, _, _ = code_of(layout(schedule(graph), wanted, 1), wanted, 1)
    assert sum(name.startswith("k") for name in module.functions) == 1
    check(graph, random_arrays(graph), wanted)
    assert run(graph, random_arrays(graph), wanted)[0].shape == (16,)


@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize("tb", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [((), ()), ((3,), ()), ((3,), (3,)), ((2, 1), (5,)), ((), (3,))])
def test_matrix_products(wanted: Any, ta: bool, tb: bool, dtype: str, batch: Any) -> None:
    b = Builder()
    left = b.input(*batch[0], *((17, 9) if ta else (9, 17)), dtype=dtype)
    right = b.input(*batch[1], *((21, 17) if tb else (17, 21)), dtype=dtype)
    product = b.matmul(left, right, transpose_a=ta, transpose_b=tb)
    bias = b.input(21, dtype=dtype)
    graph = b.graph(
        b.relu(b.add(product, bias)), b.sum(b.tanh(product), axis=tuple(range(product.ndim - 1)), keepdims=False)
    )
    stays_native(graph)
    check(graph, random_arrays(graph), wanted, scale=100)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 1), (7, 1, 3), (33, 4, 1), (1, 64, 70)])
def test_thin_matrix_products(wanted: Any, shape: tuple[int, int, int]) -> None:
    m, k, n = shape
    b = Builder()
    left, right = b.input(m, k), b.input(k, n)
    product = b.matmul(left, right, transpose_a=False, transpose_b=False)
    graph = b.graph(product, b.sum(b.square(product), axis=(0,), keepdims=False))
    stays_native(graph)
    check(graph, random_arrays(graph), wanted, scale=100)


def test_attention_reads_moved_operands_where_they_are(wanted: Any) -> None:
    b = Builder()
    x = b.input(2, 9, 3 * 8)
    heads = [
        b.permute_dims(b.reshape(b.index(x, pattern=(("s", 0, 2, 1), ("s", 0, 9, 1), ("s", 8 * i, 8 * i + 8, 1))),
                                 shape=(2, 9, 2, 4)), axes=(0, 2, 1, 3))
        for i in range(3)
    ]  # fmt: skip
    q, k, v = heads
    scores = b.multiply(b.matmul(q, k, transpose_a=False, transpose_b=True), b.constant(0.5))
    y = b.matmul(b.softmax(scores, axis=3), v, transpose_a=False, transpose_b=False)
    graph = b.graph(b.reshape(b.permute_dims(y, axes=(0, 2, 1, 3)), shape=(2, 9, 8)))
    stays_native(graph)
    assert len(schedule(graph).kernels) <= 4
    check(graph, random_arrays(graph), wanted, scale=100)


@pytest.mark.parametrize("bad", [11, -12, 2**40, -(2**60)])
def test_an_index_out_of_range_is_an_error_and_changes_no_state(wanted: Any, bad: int) -> None:
    from chainrule.compiler.runtime import build

    b = Builder()
    weight, ids = b.input(11, 13), b.input(40, dtype="int64")
    rows = b.index(weight, ids, pattern=(("a", 0), ("s", 0, 13, 1)))
    gradient = b.index_add(rows, ids, pattern=(("a", 0), ("s", 0, 13, 1)), shape=(11, 13))
    new = b.subtract(weight, gradient)
    graph = b.graph(b.sum(rows, axis=(0, 1), keepdims=False), new, updates={1: 0})
    arrays = random_arrays(graph)
    before = arrays[0].copy()
    call = build(graph, wanted).bind(arrays, [np.empty((), np.float32), arrays[0]])
    arrays[1][17] = bad
    with pytest.raises(cr.IndexingError, match="out of range for an axis of length 11"):
        call()
    np.testing.assert_array_equal(arrays[0], before)
    arrays[1][17] = -11
    call()
    assert not np.array_equal(arrays[0], before)


def test_nothing_is_written_for_values_without_elements(wanted: Any) -> None:
    b = Builder()
    x = b.input(0, 1, 2)
    total = b.sum(x, axis=(0,), keepdims=False)
    graph = b.graph(b.where(b.less(x, total), x, total), total, b.concat(b.tanh(x), b.exp(x), axis=0))
    check(graph, random_arrays(graph), wanted)


def test_a_moved_operand_that_is_a_result_as_well(wanted: Any) -> None:
    b = Builder()
    x, w = b.input(3), b.input(3, 3)
    column = b.reshape(b.multiply(x, x), shape=(3, 1))
    flat = b.reshape(b.matmul(w, column, transpose_a=True, transpose_b=False), shape=(3,))
    graph = b.graph(flat, column.op.inputs[0], column)
    check(graph, random_arrays(graph), wanted)


def test_a_part_of_a_reshape_that_is_written_later(wanted: Any) -> None:
    b = Builder()
    total = b.reshape(b.add(b.input(), b.input(1, 3, 2)), shape=(2, 3))
    row = b.index(total, pattern=(("i", 0), ("s", 0, 3, 1)))
    graph = b.graph(b.argsort(row, axis=0, descending=False, stable=True), b.argmax(total, axis=1, keepdims=False))
    check(graph, random_arrays(graph), wanted)
