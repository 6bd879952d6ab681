"""The text builder: what the functions it writes compute."""

import ctypes

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.compiler.code.ir import F32, F64, I1, I32, I64, PTR, Module, type_of, vector
from chainrule.compiler.code.target import assembly, can_run, host, load, object_code, target

TARGETS = [name for name in ("native", "avx512", "avx2", "generic") if can_run(target(name))]


def native(module, name, *arguments, result=None, wanted=None):
    library = load(object_code(module, wanted or host()), [name])
    kinds = [ctypes.c_int64 if isinstance(a, int) else ctypes.c_void_p for a in arguments]
    function = ctypes.CFUNCTYPE(result, *kinds)(library[name])
    return function(*(a if isinstance(a, int) else a.ctypes.data for a in arguments))


def dot_product(wanted):
    module = Module()
    f = module.function("dot", [PTR, PTR, I64], F32)
    x, y, n = f.arguments
    lanes = wanted.lanes(F32)
    wide = vector(F32, lanes)
    with f.loop(0, n, lanes, carry=[f.zero(wide)]) as loop:
        mask = f.mask(lanes, n - loop.index)
        a, b = (f.load_masked(wide, pointer, mask, loop.index) for pointer in (x, y))
        loop.carry(f.fma(a, b, loop.carried[0]))
    f.ret(f.reduce("add", loop.results[0]))
    return module


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 100])
def test_a_masked_loop_reads_no_further_than_the_end(name, n):
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(2, n + 64)).astype(np.float32)
    x[n:] = np.nan
    found = native(dot_product(target(name)), "dot", x, y, n, result=ctypes.c_float, wanted=target(name))
    np.testing.assert_allclose(found, x[:n].astype(float) @ y[:n].astype(float), rtol=1e-5, atol=1e-5)


def test_code_for_another_architecture_is_machine_code_of_it():
    text = assembly(dot_product(target("neon")), target("neon"))
    assert "fmla" in text and ".4s" in text
    assert object_code(dot_product(target("neon")), target("neon"))[:4] == b"\x7fELF"


@given(st.integers(-1000, 1000), st.integers(-1000, 1000).filter(bool))
def test_constants_fold_as_the_instructions_would_compute(a, b):
    f = Module().function("f")
    folded = [f.index(a) // f.index(b), f.index(a) % f.index(b), f.index(a) * b - a + b]
    quotient = int(a / b)
    assert [v.constant for v in folded] == [quotient, a - b * quotient, a * b - a + b]


@pytest.mark.parametrize("turns", [0, 1, 7])
def test_a_loop_whose_length_is_known_carries_its_values(turns):
    module = Module()
    f = module.function("power", [], I64)
    with f.loop(0, turns, carry=[f.index(1), f.index(0)]) as loop:
        loop.carry(loop.carried[0] * 3, loop.index)
    f.ret(loop.results[0] + loop.results[1])
    assert native(module, "power", result=ctypes.c_int64) == 3**turns + max(turns - 1, 0)


def test_loops_nest_and_conditions_choose_values():
    """The sum over i < j < n of j - i, where j is odd."""
    module = Module()
    f = module.function("total", [I64], I64)
    (n,) = f.arguments
    with f.loop(0, n, carry=[f.index(0)]) as outer:
        with f.loop(outer.index + 1, n, carry=[outer.carried[0]]) as inner:
            i, j, total = outer.index, inner.index, inner.carried[0]
            (total,) = f.cond(f.equal(j % 2, 1), lambda: [total + j - i], lambda: [total])
            inner.carry(total)
        outer.carry(inner.results[0])
    f.ret(outer.results[0])
    expected = sum(j - i for i in range(9) for j in range(i + 1, 9) if j % 2)
    assert native(module, "total", 9, result=ctypes.c_int64) == expected


def test_when_runs_its_body_only_if_the_condition_holds():
    module = Module()
    f = module.function("positive", [PTR, PTR, I64])
    x, out, n = f.arguments
    with f.loop(0, n) as loop:
        value = f.load(F64, x, loop.index)
        with f.when(value > 0):
            f.store(value, out, loop.index)
    f.ret()
    x, out = np.array([1.0, -2.0, np.nan, 3.0]), np.zeros(4)
    native(module, "positive", x, out, 4)
    np.testing.assert_array_equal(out, [1.0, 0.0, 0.0, 3.0])


@pytest.mark.parametrize("name", TARGETS)
def test_masked_stores_leave_the_other_lanes_alone(name):
    module = Module()
    f = module.function("fill", [PTR, I64])
    f.store_masked(f.constant(vector(F32, 16), 1.5), f.arguments[0], f.mask(16, f.arguments[1]))
    f.ret()
    for count in (0, 5, 16, 40):
        out = np.zeros(20, np.float32)
        native(module, "fill", out, count, wanted=target(name))
        np.testing.assert_array_equal(out, [1.5 * (i < min(count, 16)) for i in range(20)])


@pytest.mark.parametrize("name", TARGETS)
def test_gather_reads_the_named_entries(name):
    module = Module()
    f = module.function("take", [PTR, PTR, PTR])
    x, where, out = f.arguments
    f.store(f.gather(vector(F32, 8), x, f.load(vector(I32, 8), where)), out)
    f.ret()
    x, where = np.arange(50, dtype=np.float32), np.array([3, 49, 0, 0, 7, 21, 8, 1], np.int32)
    out = np.zeros(8, np.float32)
    native(module, "take", x, where, out, wanted=target(name))
    np.testing.assert_array_equal(out, x[where])


def test_conversion_to_an_integer_saturates():
    module = Module()
    f = module.function("whole", [PTR, PTR])
    f.store(f.convert(f.load(vector(F64, 4), f.arguments[0]), I32), f.arguments[1])
    f.ret()
    out = np.zeros(4, np.int32)
    native(module, "whole", np.array([-1.9, 1e30, -1e30, np.nan]), out)
    np.testing.assert_array_equal(out, [-1, 2**31 - 1, -(2**31), 0])


def test_operands_of_different_types_are_refused():
    f = Module().function("f", [F32, F64])
    with pytest.raises(TypeError, match="float and double"):
        f.binary("add", *f.arguments)


def test_a_loop_must_hand_on_what_it_carries():
    f = Module().function("f", [F32])
    with pytest.raises(ValueError, match="carries 1 values"), f.loop(0, 3, carry=f.arguments) as loop:
        loop.carry()


def test_types_of_numpy_have_their_size_in_memory():
    for dtype in ("f4", "f8", "b1", "i1", "u2", "i4", "u8"):
        assert type_of(dtype).nbytes == np.dtype(dtype).itemsize
    assert vector(I1, 8).text == "<8 x i1>"
