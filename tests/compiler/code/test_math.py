"""Elementary functions in generated code against mpmath, over the whole range of each format."""

import ctypes
from functools import cache

import mpmath as mp
import numpy as np
import pytest

from chainrule.compiler.code import math
from chainrule.compiler.code.ir import I64, PTR, Module, type_of, vector
from chainrule.compiler.code.target import assembly, can_run, load, object_code, target

TARGETS = [name for name in ("native", "avx512", "avx2", "generic") if can_run(target(name))]

# Bounds in units in the last place: float32, float64.
POLYNOMIAL = {
    "exp": (1, 1), "exp2": (1.1, 1), "expm1": (2, 2), "log": (1, 1), "log2": (1.3, 1.3), "log10": (1.3, 1.3),
    "log1p": (1, 1), "sigmoid": (2, 2), "tanh": (1.5, 1.5), "erf": (1.5, 1.5), "sin": (1, 1), "cos": (1, 1),
    "sqrt": (0.5, 0.5),
}  # fmt: skip
LIBRARY = ("tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh")


@cache
def compiled(name, dtype, target_name, lanes=None, arity=1):
    """A native function (x, …, out, n), n a multiple of the lanes."""
    wanted = target(target_name)
    scalar = type_of(dtype)
    lanes = wanted.lanes(scalar) if lanes is None else lanes
    type = vector(scalar, lanes)
    module = Module()
    f = module.function("each", [*[PTR] * arity, PTR, I64])
    *operands, out, n = f.arguments
    with f.loop(0, n, lanes or 1) as loop:
        value = getattr(math, name)(f, *(f.load(type, x, loop.index) for x in operands))
        f.store(value, out, loop.index)
    f.ret()
    library = load(object_code(module, wanted), ["each"])
    native = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (arity + 1), ctypes.c_int64)(library["each"])

    def function(*arrays):
        padded = [np.concatenate([a, np.zeros(-a.size % 16, dtype)]).astype(dtype) for a in arrays]
        out = np.empty_like(padded[0])
        native(*(a.ctypes.data for a in padded), out.ctypes.data, out.size)
        return out[: arrays[0].size]

    function.library = library
    return function


def sample(dtype, count):
    """Numbers of every size and sign, the short intervals where functions bend, and what is special."""
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    with np.errstate(over="ignore"):
        spread = np.exp2(rng.uniform(np.log2(info.smallest_subnormal) - 1, info.maxexp, count)).astype(dtype)
        near = rng.uniform(-4, 4, count).astype(dtype)
        middle = rng.uniform(-120, 120, count).astype(dtype)
        around_one = (1 + rng.normal(size=count) * np.exp2(rng.uniform(-info.nmant, 0, count))).astype(dtype)
        wide = rng.uniform(-800, 800, count).astype(dtype)
    special = np.array([0.0, -0.0, 1, -1, 0.5, 2, 10, 1000, info.tiny, info.smallest_subnormal, info.max], dtype)
    return np.concatenate([spread, -spread, near, middle, around_one, wide, special, -special])


def exact(name, x):
    """The function's value by mpmath, or None where it is not a real number."""
    try:
        if name == "sigmoid":
            return 1 / (1 + mp.exp(-x))
        if name.startswith("log") and x < (-1 if name == "log1p" else 0):
            return None
        if name in ("exp2", "log2"):
            return mp.mpf(2) ** x if name == "exp2" else mp.log(x, 2)
        value = getattr(mp, name)(x)
    except (ValueError, ZeroDivisionError):
        return None
    return value if isinstance(value, mp.mpf) else None


def errors_in_ulp(name, x, found):
    info = np.finfo(found.dtype)
    errors = []
    with mp.workprec(200 if found.dtype == np.float64 else 120):
        largest = mp.mpf(float(info.max)) * (1 + mp.mpf(2) ** -(info.nmant + 2))
        for argument, value in zip(x.tolist(), found.tolist(), strict=True):
            if name == "exp2" and abs(argument) > 2e4:
                argument = np.copysign(2e4, argument)
            if name in ("exp", "expm1", "sigmoid", "tanh", "erf") and abs(argument) > 2e4:
                argument = np.copysign(2e4, argument)
            true = exact(name, mp.mpf(float(argument)))
            if true is None or not mp.isfinite(true):
                continue
            if abs(true) > largest or not np.isfinite(value):
                errors.append(0 if abs(true) > largest * (1 - mp.mpf(2) ** -20) and np.isinf(value) else mp.inf)
                continue
            exponent = max(int(mp.floor(mp.log(abs(true), 2))) if true else info.minexp, info.minexp)
            errors.append(abs(mp.mpf(value) - true) / mp.mpf(2) ** (exponent - info.nmant))
    return float(max(errors))


@pytest.mark.parametrize("name", POLYNOMIAL)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("target_name", TARGETS)
def test_error_in_units_in_the_last_place(name, dtype, target_name):
    x = sample(np.dtype(dtype), 300)
    bound = POLYNOMIAL[name][dtype == "float64"]
    assert errors_in_ulp(name, x, compiled(name, dtype, target_name)(x)) <= bound


def reference32(name, x):
    """In double precision, exact enough for float32."""
    x = x.astype(np.float64)
    if name == "sigmoid":
        return np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))
    if name == "erf":
        return np.vectorize(__import__("math").erf)(x)
    return getattr(np, name)(x)


@pytest.mark.parametrize("name", POLYNOMIAL)
@pytest.mark.parametrize("target_name", TARGETS)
def test_error_over_many_numbers_in_float32(name, target_name):
    """Every 2048th of all float32 numbers, and many in the intervals where functions bend."""
    every = np.arange(0, 2**32, 2048 + 1, dtype=np.uint64).astype(np.uint32).view(np.float32)
    x = np.concatenate([every[np.isfinite(every)], sample(np.dtype(np.float32), 20_000)])
    with np.errstate(all="ignore"):
        true = reference32(name, x)
        keep = np.isfinite(true) & (np.abs(true) < float(np.finfo(np.float32).max))
        x, true = x[keep], true[keep]
        found = compiled(name, "float32", target_name)(x).astype(np.float64)
        exponent = np.maximum(np.floor(np.log2(np.abs(true))), -126)
        errors = np.abs(found - true) / np.exp2(exponent - 23)
    assert errors[true == 0].max(initial=0) == 0
    assert errors[true != 0].max() <= POLYNOMIAL[name][0] + 1e-6


@pytest.mark.parametrize("name", [*POLYNOMIAL, *LIBRARY])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("target_name", TARGETS)
def test_zeros_infinities_and_nan_give_what_numpy_gives(name, dtype, target_name):
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -1.0, 1.0, 2.0, -2.0], dtype)
    with np.errstate(all="ignore"):
        if name == "sigmoid":
            true = 1 / (1 + np.exp(-x))
        elif name == "erf":
            true = np.vectorize(__import__("math").erf)(x).astype(dtype)
        else:
            aliases = {"asin": "arcsin", "acos": "arccos", "atan": "arctan"}
            aliases |= {"asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh"}
            true = getattr(np, aliases.get(name, name))(x)
    found = compiled(name, dtype, target_name)(x)
    np.testing.assert_allclose(found, true, rtol=3 * np.finfo(dtype).eps, atol=0)
    np.testing.assert_array_equal(np.signbit(found)[~np.isnan(true)], np.signbit(true)[~np.isnan(true)])


@pytest.mark.parametrize("name", [*POLYNOMIAL, *LIBRARY])
def test_a_single_value_and_a_vector_agree(name):
    x = np.random.default_rng(3).uniform(0.1, 0.9, 64).astype(np.float32)
    np.testing.assert_allclose(
        compiled(name, "float32", "native", 0)(x), compiled(name, "float32", "native")(x), rtol=2e-7
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["power", "atan2", "hypot", "nextafter"])
def test_functions_of_two_operands(name, dtype):
    special = np.array([0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, 2.5, -3, 1e-40, 1e30, -1e-45], dtype)
    a, b = (m.ravel() for m in np.meshgrid(special, special))
    with np.errstate(all="ignore"):
        true = {"power": np.power, "atan2": np.arctan2, "hypot": np.hypot, "nextafter": np.nextafter}[name](a, b)
    found = compiled(name, dtype, "native", arity=2)(a, b)
    np.testing.assert_allclose(found, true, rtol=3 * np.finfo(dtype).eps, atol=0)
    np.testing.assert_array_equal(np.signbit(found)[~np.isnan(true)], np.signbit(true)[~np.isnan(true)])


def test_every_function_assembles_for_another_architecture():
    neon = target("neon")
    module = Module()
    for dtype in ("float32", "float64"):
        type = vector(type_of(dtype), neon.lanes(type_of(dtype)))
        for name in POLYNOMIAL:
            f = module.function(f"{name}_{dtype}", [PTR])
            f.store(getattr(math, name)(f, f.load(type, f.arguments[0])), f.arguments[0])
            f.ret()
    assert "fmla" in assembly(module, neon)
