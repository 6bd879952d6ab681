"""Generated matrix products against NumPy in double precision."""

import ctypes

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.compiler.code.elements import can_fuse
from chainrule.compiler.code.expression import Affine, Call, Const, Load, Outside, Position
from chainrule.compiler.code.gemm import Gemm, Operand, Plan
from chainrule.compiler.code.gemm_loops import emit_gemm
from chainrule.compiler.code.ir import I64, PTR, VOID, Module, type_of
from chainrule.compiler.code.target import assembly, can_run, load, object_code, target
from chainrule.compiler.schedule.kernels import Store

TARGETS = [name for name in ("native", "avx512", "avx2", "generic") if can_run(target(name))]
BATCH, ROW, COLUMN, DEPTH = range(4)


def module_of(gemm, wanted, threads):
    """A module with `run(table, thread, threads)`, and the plan."""
    plan = Plan(gemm, wanted, threads)
    module = Module()
    buffers = gemm.buffers()
    emit_gemm(module, "product", plan, {b: i for i, b in enumerate(buffers)})
    f = module.function("run", [PTR, I64, I64])
    table, thread, count = f.arguments
    addresses = [f.element(f.load(PTR, table, i), offset, type_of(b.dtype)) for i, (b, offset) in enumerate(buffers)]
    f.call("product", VOID, *addresses, f.load(PTR, table, len(buffers)), thread, count)
    f.ret()
    return module, plan


def run(gemm, name="native", threads=1):
    """Computes a product whose buffers are arrays; the threads take turns."""
    module, plan = module_of(gemm, target(name), threads)
    library = load(object_code(module, target(name)), ["run"])
    function = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(library["run"])
    room = np.full(plan.scratch * threads + 64, 255, np.uint8)
    start = -(-room.ctypes.data // 64) * 64
    table = (ctypes.c_uint64 * (len(gemm.buffers()) + 1))(*(b.ctypes.data for b, _ in gemm.buffers()), start)
    for thread in range(threads):
        function(ctypes.addressof(table), thread, threads)
    return plan


def array(shape, dtype, seed):
    return Array(np.random.default_rng(seed).normal(size=shape).astype(dtype))


class Array(np.ndarray):
    """A NumPy array that can be a buffer's name: it is hashed and compared by identity."""

    def __new__(cls, data):
        return np.ascontiguousarray(data).view(cls)

    __hash__ = object.__hash__

    def __eq__(self, other):
        return self is other


def affine(x, *axes, offset=0):
    """The address of an element whose position along each dimension is an axis (None: always 0)."""
    steps = [s // x.itemsize for s in x.strides]
    return Affine(offset, [(a, s) for a, s in zip(axes, steps, strict=True) if a is not None])


def product(m, n, k, *, transpose=(False, False), batch=0, dtype="float32", expression=None, sums=False):
    """A product of random matrices with its operands and its result."""
    lead = ((batch,), (BATCH,)) if batch else ((), ())
    a_axes, b_axes = ((DEPTH, ROW), (COLUMN, DEPTH))
    a_axes = a_axes if transpose[0] else a_axes[::-1]
    b_axes = b_axes if transpose[1] else b_axes[::-1]
    lengths = {ROW: m, COLUMN: n, DEPTH: k}
    a = array((*lead[0], *(lengths[x] for x in a_axes)), dtype, 1)
    b = array((*lead[0], *(lengths[x] for x in b_axes)), dtype, 2)
    c = Array(np.full((*lead[0], m, n), np.nan, dtype))
    total = Outside("product", np.dtype(dtype))
    stored = total if expression is None else expression(total)
    gemm = Gemm(
        [(BATCH, batch)] if batch else [], [(ROW, m)], (COLUMN, n), [(DEPTH, k)],
        Operand(a, affine(a, *lead[1], *a_axes)), Operand(b, affine(b, *lead[1], *b_axes)), total,
        [Store(c, affine(c, *lead[1], ROW, COLUMN), stored)],
    )  # fmt: skip
    a = a.swapaxes(-1, -2) if transpose[0] else a
    b = b.swapaxes(-1, -2) if transpose[1] else b
    return gemm, np.asarray(a, np.float64), np.asarray(b, np.float64), np.asarray(c)


def assert_close(found, a, b, more=0.0):
    """Within rounding: a sum of k products has an error of about √k units of the sum of their sizes."""
    true, size = a @ b, np.abs(a) @ np.abs(b) + more
    bound = 2 * np.sqrt(a.shape[-1]) * np.finfo(found.dtype).eps * size
    assert np.all(np.abs(np.asarray(found, np.float64) - true) <= bound)


TRANSPOSES = [(False, False), (False, True), (True, False), (True, True)]


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("transpose", TRANSPOSES)
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (3, 17, 5), (37, 53, 41), (130, 100, 16), (8, 200, 130)])
def test_products_of_any_size_and_transposition(name, transpose, m, n, k):
    gemm, a, b, c = product(m, n, k, transpose=transpose)
    run(gemm, name)
    assert_close(c, a, b)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("m", [1, 2, 4])
def test_few_rows_are_dot_products(name, dtype, m):
    for n, k in ((3, 64), (77, 131), (200, 70)):
        gemm, a, b, c = product(m, n, k, transpose=(False, True), dtype=dtype, batch=2)
        assert run(gemm, name, 2).dots
        assert_close(c, a, b)
        gemm, a, b, c = product(m, n, k, transpose=(False, True), dtype=dtype, expression=twice)
        run(gemm, name, 2)
        assert_close(np.asarray(c) / 2, a, b)


def twice(total):
    return Call("add", [total, total], total.dtype)


def test_long_dot_products_are_cut():
    for k in (40_000, 40_007):
        gemm, a, b, c = product(2, 30, k, transpose=(False, True))
        plan = run(gemm, "native", 2)
        assert plan.dots and plan.k_blocked
        assert_close(c, a, b)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 70), st.integers(1, 70), st.integers(1, 70), st.sampled_from(TRANSPOSES), st.sampled_from([0, 1, 5]),
    st.sampled_from(["float32", "float64"]), st.sampled_from(TARGETS), st.integers(1, 3),
)  # fmt: skip
def test_random_products(m, n, k, transpose, batch, dtype, name, threads):
    gemm, a, b, c = product(m, n, k, transpose=transpose, batch=batch, dtype=dtype)
    run(gemm, name, threads)
    assert_close(c, a, b)


@pytest.mark.parametrize("transpose", TRANSPOSES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_large_products_are_packed_blocked_and_shared(transpose, dtype, threads):
    """Sizes whose operands are packed, whose reduced axis is cut, and whose last blocks are smaller."""
    gemm, a, b, c = product(150, 1030, 5003, transpose=transpose, dtype=dtype)
    plan = run(gemm, "native", threads)
    assert plan.k_blocked and (plan.units > 1 or threads == 1)
    assert_close(c, a, b)


@pytest.mark.parametrize("name", TARGETS)
def test_a_long_sum_with_an_epilogue_keeps_partial_sums_apart(name):
    gemm, a, b, c = product(40, 50, 20_011, expression=lambda t: Call("relu", [t], t.dtype))
    plan = run(gemm, name, 2)
    assert plan.k_blocked
    close = np.maximum(a @ b, 0)
    np.testing.assert_allclose(c, close, atol=2 * np.sqrt(20_011) * 2e-7 * 142)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(("m", "n", "k"), [(33, 47, 20), (300, 200, 64)])
def test_bias_activation_and_residual_in_the_epilogue(name, m, n, k):
    bias, residual = array(n, "float32", 3), array((m, n), "float32", 4)

    def expression(total):
        x = Call("add", [total, Load(bias, affine(bias, COLUMN), "float32")], total.dtype)
        x = Call("tanh", [x], total.dtype)
        return Call("add", [x, Load(residual, affine(residual, ROW, COLUMN), "float32")], total.dtype)

    gemm, a, b, c = product(m, n, k, expression=expression)
    run(gemm, name, 2)
    np.testing.assert_allclose(c, np.tanh(a @ b + np.asarray(bias)) + np.asarray(residual), rtol=1e-5, atol=3e-5)


def test_several_results_a_mask_and_the_sums_of_columns():
    """The result, whether it is positive, and the sum over the rows of what is left of it."""
    m, n, k = 45, 70, 31
    gemm, a, b, c = product(m, n, k)
    total = gemm.product
    positive = Call("greater", [total, Const(0, "float32")], np.dtype(bool))
    flags, sums = Array(np.zeros((m, n), bool)), Array(np.full(n, np.nan, np.float32))
    kept = Call("relu", [total], total.dtype)
    gemm.stores.append(Store(flags, affine(flags, ROW, COLUMN), positive))
    gemm.sums.append(Store(sums, affine(sums, COLUMN), kept))
    run(gemm, "native", 2)
    true = a @ b
    assert_close(c, a, b)
    np.testing.assert_array_equal(np.asarray(flags), c > 0)
    np.testing.assert_allclose(np.asarray(sums), np.maximum(true, 0).sum(0), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", TARGETS)
def test_the_sums_of_columns_when_threads_share_the_columns(name):
    gemm, a, b, _ = product(200, 300, 64)
    sums = Array(np.full(300, np.nan, np.float32))
    gemm.sums.append(Store(sums, affine(sums, COLUMN), gemm.product))
    plan = run(gemm, name, 2)
    assert plan.column_chunks >= 2
    np.testing.assert_allclose(np.asarray(sums), (a @ b).sum(0), atol=2e-3)


def test_results_may_be_stored_transposed_and_depend_on_the_position():
    m, n, k = 20, 37, 9
    gemm, a, b, _ = product(m, n, k)
    turned = Array(np.zeros((n, m), np.float32))
    at = Position(Affine(1, [(ROW, 10), (COLUMN, 1)]))
    value = Call("add", [gemm.product, Call("astype", [at], np.dtype(np.float32))], np.dtype(np.float32))
    gemm.stores[0] = Store(turned, affine(turned, COLUMN, ROW), value)
    run(gemm)
    expected = a @ b + 10 * np.arange(m)[:, None] + np.arange(n) + 1
    np.testing.assert_allclose(np.asarray(turned), expected.T, rtol=1e-5)


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("width", [3, 4, 9, 20])
@pytest.mark.parametrize("step", [1, 2])
def test_a_convolution_is_a_product_with_several_reduced_axes(name, width, step):
    """x (image, row, column, channel) with w (row, column, channel, out): rows of pixels, no im2col."""
    images, height, taps, channels, outs = 2, 5, 3, 4, 33
    x = array((images, (height - 1) * step + taps, (width - 1) * step + taps, channels), "float32", 1)
    w = array((taps, taps, channels, outs), "float32", 2)
    y = Array(np.full((images, height, width, outs), np.nan, np.float32))
    image, row, column, out, i, j, channel = range(7)
    total = Outside("product", np.dtype(np.float32))
    bias = array(outs, "float32", 3)
    shifted = Call("add", [total, Load(bias, affine(bias, out), "float32")], total.dtype)
    strides = [s // 4 for s in x.strides]
    at = Affine(0, [
        (image, strides[0]), (row, step * strides[1]), (column, step * strides[2]), (i, strides[1]), (j, strides[2]),
        (channel, 1),
    ])  # fmt: skip
    for expression in (total, shifted):
        gemm = Gemm(
            [], [(image, images), (row, height), (column, width)], (out, outs),
            [(i, taps), (j, taps), (channel, channels)],
            Operand(x, at), Operand(w, affine(w, i, j, channel, out)), total,
            [Store(y, affine(y, image, row, column, out), expression)],
        )  # fmt: skip
        run(gemm, name, 2)
        windows = np.lib.stride_tricks.sliding_window_view(np.asarray(x, float), (taps, taps), (1, 2))
        true = np.einsum("nhwcij,ijco->nhwo", windows[:, ::step, ::step], np.asarray(w, float))
        true = true + (np.asarray(bias) if expression is shifted else 0)
        np.testing.assert_allclose(np.asarray(y), true, rtol=1e-4, atol=2e-5)


def test_the_gradient_of_a_convolutions_weights_is_a_product_too():
    """Reduced over images, rows and columns, in blocks; the rows of the result are kernel taps and channels."""
    images, height, width, taps, channels, outs = 6, 30, 31, 3, 5, 20
    x = array((images, height + 2, width + 2, channels), "float32", 1)
    g = array((images, height, width, outs), "float32", 2)
    dw = Array(np.full((taps, taps, channels, outs), np.nan, np.float32))
    i, j, channel, out, image, row, column = range(7)
    strides = [s // 4 for s in x.strides]
    total = Outside("product", np.dtype(np.float32))
    at = Affine(0, [
        (i, strides[1]), (j, strides[2]), (channel, 1), (image, strides[0]), (row, strides[1]), (column, strides[2])
    ])  # fmt: skip
    gemm = Gemm(
        [], [(i, taps), (j, taps), (channel, channels)], (out, outs), [(image, images), (row, height), (column, width)],
        Operand(x, at), Operand(g, affine(g, image, row, column, out)), total,
        [Store(dw, affine(dw, i, j, channel, out), total)],
    )  # fmt: skip
    run(gemm, "native", 2)
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(x, float), (height, width), (1, 2))
    true = np.einsum("nijchw,nhwo->ijco", windows, np.asarray(g, float))
    np.testing.assert_allclose(np.asarray(dw), true, rtol=1e-3, atol=2e-3)


def test_addresses_that_are_read_from_data_cannot_stand_in_an_epilogue():
    index = array(3, "float32", 0)
    chosen = Call("astype", [Load(index, Affine(), "float32")], np.dtype(np.int64))
    assert can_fuse(chosen)
    assert not can_fuse(Load(index, Affine(0, [], [(chosen, 1)]), "float32"))


def test_products_assemble_for_another_architecture():
    gemm, *_ = product(60, 70, 80, transpose=(False, True))
    module, plan = module_of(gemm, target("neon"), 2)
    text = assembly(module, target("neon"))
    assert plan.shape.lanes == 4 and "fmla" in text


def test_code_stays_small():
    """Text grows with the number of registers, not with the size of the matrices."""
    sizes = [len(str(module_of(product(m, m, m)[0], target("avx512"), 2)[0])) for m in (64, 640)]
    assert max(sizes) < 80_000
