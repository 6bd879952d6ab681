"""Pointwise primitives as instructions, for one element or a vector of them.

Each function here is the counterpart of a primitive's NumPy value, edge cases included. In registers
a bool is an i1; other types are those in memory. What is not here has no code: `supported` says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from . import math
from .ir import I1, I32, I64, Function, Type, Value, type_of, vector

if TYPE_CHECKING:
    from .expression import Call

_BOOL = np.dtype(bool)
Emitter = Callable[..., Value]


def register_type(dtype: Any) -> Type:
    """The type of a value in a register: that in memory, but i1 for bool."""
    dtype = np.dtype(dtype)
    return I1 if dtype == _BOOL else type_of(dtype)


def supported(name: str, dtypes: Sequence[np.dtype], result: np.dtype) -> bool:
    """Whether there is code for a pointwise primitive on these data types."""
    if any(d.kind not in "biuf" or d.itemsize > 8 or (d.kind == "f" and d.itemsize < 4) for d in (*dtypes, result)):
        return False
    if name in _FLOATING:
        return result.kind == "f"
    return name in _ANY


def emit_call(f: Function, call: Call, values: Sequence[Value]) -> Value:
    """The instructions of one call, given its operands' values."""
    name, result = call.name, call.dtype
    dtypes = [o.dtype for o in call.operands]
    if name in _FLOATING:
        values = [cast(f, v, d, result) for v, d in zip(values, dtypes, strict=True)]
        return _FLOATING[name](f, *values)
    return _ANY[name](f, values, dtypes, result, call.params)


def cast(f: Function, x: Value, given: np.dtype, wanted: np.dtype) -> Value:
    """`x.astype(wanted)`; a float that an integer type cannot hold saturates."""
    if given == wanted:
        return x
    if wanted == _BOOL:
        return f.compare("ne", x, 0)
    if x.constant is not None:
        return f.constant(vector(register_type(wanted), x.type.lanes), wanted.type(x.constant).item())
    return f.convert(x, register_type(wanted), signed=given.kind == "i" or (given.kind == "f" and wanted.kind != "u"))


# Functions of floats, all operands of the result's type.


def _maximum(f: Function, a: Value, b: Value) -> Value:
    return f.pairwise("maximum", a, b)


def _minimum(f: Function, a: Value, b: Value) -> Value:
    return f.pairwise("minimum", a, b)


def _logaddexp(f: Function, a: Value, b: Value) -> Value:
    # At equal infinities a - b is NaN; the result is then a + ln 2 = a.
    largest = _maximum(f, a, b)
    difference = f.select(f.equal(a, b), 0.0, f.unary("fabs", a - b))
    return largest + math.log1p(f, math.exp(f, -difference))


def _softplus(f: Function, x: Value) -> Value:
    positive = f.select(f.emit(vector(I1, x.type.lanes), f"fcmp ugt {x}, {f.zero(x.type).text}"), x, 0.0)
    return positive + math.log1p(f, math.exp(f, -f.unary("fabs", x)))


def _remainder(f: Function, a: Value, b: Value) -> Value:
    rest = f.binary("rem", a, b)
    other_sign = f.compare("lt", rest, 0.0) ^ f.compare("lt", b, 0.0)
    moved = f.select(other_sign, rest + b, rest)
    return f.select(f.equal(rest, 0.0), f.pairwise("copysign", f.zero(rest.type), b), moved)


def _floor_divide(f: Function, a: Value, b: Value) -> Value:
    """As NumPy's, and ±inf for infinite a, ±0 for infinite b."""
    rest = f.binary("rem", a, b)
    quotient = (a - rest) / b
    other_sign = f.compare("lt", rest, 0.0) ^ f.compare("lt", b, 0.0)
    moves = other_sign & f.compare("ne", rest, 0.0)
    quotient = f.select(moves, quotient - 1.0, quotient)
    floor = f.unary("floor", quotient)
    floor = f.select(f.compare("gt", quotient - floor, 0.5), floor + 1.0, floor)
    ratio = a / b
    floor = f.select(f.equal(quotient, 0.0), f.pairwise("copysign", f.zero(a.type), ratio), floor)
    infinity = float("inf")
    infinite = f.equal(f.unary("fabs", a), infinity) ^ f.equal(f.unary("fabs", b), infinity)
    return f.select(infinite | f.equal(b, 0.0), ratio, floor)


def _sign(f: Function, x: Value) -> Value:
    nonzero = f.select(f.compare("gt", x, 0.0), 1.0, f.constant(x.type, -1.0))
    return f.select(f.compare("ne", x, 0.0) & ~f.is_nan(x), nonzero, x + 0.0)


def _relu(f: Function, x: Value) -> Value:
    return f.select(f.emit(vector(I1, x.type.lanes), f"fcmp ugt {x}, {f.zero(x.type).text}"), x, 0.0)


_FLOATING: dict[str, Emitter] = {
    "divide": lambda f, a, b: a / b,
    "reciprocal": lambda f, x: 1.0 / x,
    "sqrt": lambda f, x: f.unary("sqrt", x),
    "exp": math.exp,
    "exp2": math.exp2,
    "expm1": math.expm1,
    "log": math.log,
    "log1p": math.log1p,
    "log2": math.log2,
    "log10": math.log10,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "asin": math.asin,
    "acos": math.acos,
    "atan": math.atan,
    "atan2": math.atan2,
    "sinh": math.sinh,
    "cosh": math.cosh,
    "tanh": math.tanh,
    "asinh": math.asinh,
    "acosh": math.acosh,
    "atanh": math.atanh,
    "hypot": math.hypot,
    "sigmoid": math.sigmoid,
    "erf": math.erf,
    "logaddexp": _logaddexp,
    "softplus": _softplus,
    "power": math.power,
    "copysign": lambda f, a, b: f.pairwise("copysign", a, b),
    "nextafter": math.nextafter,
}


# Primitives of several kinds of numbers: (f, operands, their types, the result's type, params).


def _arithmetic(floating: Emitter, integer: Emitter, boolean: Emitter | None = None) -> Emitter:
    """Operands converted to the result's type first."""

    def emitter(f: Function, values: Sequence[Value], dtypes: Sequence[np.dtype], result: np.dtype, _: Any) -> Value:
        values = [cast(f, v, d, result) for v, d in zip(values, dtypes, strict=True)]
        if result.kind == "f":
            return floating(f, *values)
        if result == _BOOL:
            return (boolean or integer)(f, *values)
        return integer(f, *values)

    return emitter


def _by_sign(signed: Emitter, unsigned: Emitter, floating: Emitter, boolean: Emitter) -> Emitter:
    def emitter(f: Function, values: Sequence[Value], dtypes: Sequence[np.dtype], result: np.dtype, _: Any) -> Value:
        values = [cast(f, v, d, result) for v, d in zip(values, dtypes, strict=True)]
        return {"f": floating, "i": signed, "u": unsigned, "b": boolean}[result.kind](f, *values)

    return emitter


def _comparison(relation: str) -> Emitter:
    def emitter(f: Function, values: Sequence[Value], dtypes: Sequence[np.dtype], _r: Any, _p: Any) -> Value:
        common = np.result_type(*dtypes)
        a, b = (cast(f, v, d, common) for v, d in zip(values, dtypes, strict=True))
        unsigned = common.kind in "ub" and relation not in ("eq", "ne")
        return f.compare(f"u{relation}" if unsigned else relation, a, b)

    return emitter


def _logical(operation: Emitter) -> Emitter:
    def emitter(f: Function, values: Sequence[Value], dtypes: Sequence[np.dtype], _r: Any, _p: Any) -> Value:
        return operation(f, *(cast(f, v, d, _BOOL) for v, d in zip(values, dtypes, strict=True)))

    return emitter


def _test(floating: Emitter, otherwise: int) -> Emitter:
    """A test of floats that has one answer for all integers."""

    def emitter(f: Function, values: Sequence[Value], dtypes: Sequence[np.dtype], _r: Any, _p: Any) -> Value:
        (x,) = values
        if dtypes[0].kind == "f":
            return floating(f, x)
        return f.constant(vector(I1, x.type.lanes), otherwise)

    return emitter


def _where(f: Function, values: Sequence[Value], dtypes: Sequence[np.dtype], result: np.dtype, _: Any) -> Value:
    condition = cast(f, values[0], dtypes[0], _BOOL)
    a, b = (cast(f, v, d, result) for v, d in zip(values[1:], dtypes[1:], strict=True))
    return f.select(condition, a, b)


def _select_positive(
    f: Function, values: Sequence[Value], dtypes: Sequence[np.dtype], result: np.dtype, _: Any
) -> Value:
    # NumPy's value multiplies where everything is finite, which makes a zero's sign differ; nothing else.
    positive = _comparison("gt")(f, [values[1], f.zero(values[1].type)], [dtypes[1], dtypes[1]], None, None)
    return f.select(positive, cast(f, values[0], dtypes[0], result), 0)


def _integer_power(
    f: Function, values: Sequence[Value], dtypes: Sequence[np.dtype], result: np.dtype, params: Any
) -> Value:
    x, n = cast(f, values[0], dtypes[0], result), int(params["n"])
    power: Value | None = None
    factor, left = x, abs(n)
    while left:
        if left & 1:
            power = factor if power is None else power * factor
        left >>= 1
        if left:
            factor = factor * factor
    if power is None:
        return f.constant(x.type, 1)
    return 1.0 / power if n < 0 else power


def _shift(left: bool) -> Emitter:
    """Shifts by the width or more (or a negative number, read as a huge one) leave 0, or the sign."""

    def emitter(f: Function, values: Sequence[Value], dtypes: Sequence[np.dtype], result: np.dtype, _: Any) -> Value:
        x, count = (cast(f, v, d, result) for v, d in zip(values, dtypes, strict=True))
        bits = x.type.bits
        if left:
            return f.select(f.compare("ult", count, bits), f.binary("shl", x, _within(f, count, bits)), 0)
        if result.kind == "u":
            return f.select(f.compare("ult", count, bits), f.binary("lshr", x, _within(f, count, bits)), 0)
        return f.binary("ashr", x, f.select(f.compare("ult", count, bits), count, bits - 1))

    return emitter


def _within(f: Function, count: Value, bits: int) -> Value:
    return f.select(f.compare("ult", count, bits), count, 0)


def _integer_division(remainder: bool) -> Emitter:
    """Rounded down, with 0 for a division by 0, as NumPy's."""

    def signed(f: Function, a: Value, b: Value) -> Value:
        safe = f.select(f.equal(b, 0), 1, b)
        # The smallest number divided by -1 does not fit; negation wraps as NumPy's does.
        minus = f.equal(safe, -1)
        divisor = f.select(minus, 1, safe)
        quotient, rest = f.binary("sdiv", a, divisor), f.binary("srem", a, divisor)
        moves = f.compare("ne", rest, 0) & (f.compare("lt", rest, 0) ^ f.compare("lt", divisor, 0))
        if remainder:
            result = f.select(minus, 0, f.select(moves, rest + divisor, rest))
        else:
            result = f.select(minus, -a, f.select(moves, quotient - 1, quotient))
        return f.select(f.equal(b, 0), 0, result)

    def unsigned(f: Function, a: Value, b: Value) -> Value:
        divisor = f.select(f.equal(b, 0), 1, b)
        return f.select(f.equal(b, 0), 0, f.binary("urem" if remainder else "udiv", a, divisor))

    floating = _remainder if remainder else _floor_divide
    return _by_sign(signed, unsigned, floating, unsigned)


def _abs(f: Function, values: Sequence[Value], dtypes: Sequence[np.dtype], result: np.dtype, _: Any) -> Value:
    (x,) = values
    if result.kind == "f":
        return f.unary("fabs", x)
    return f.select(f.compare("lt", x, 0), -x, x) if result.kind == "i" else x


def _integer_sign(f: Function, x: Value) -> Value:
    return f.select(f.compare("gt", x, 0), 1, f.select(f.compare("lt", x, 0), f.constant(x.type, -1), 0))


def _rounding(name: str) -> Emitter:
    def emitter(f: Function, values: Sequence[Value], dtypes: Sequence[np.dtype], result: np.dtype, _: Any) -> Value:
        x = cast(f, values[0], dtypes[0], result)
        return f.unary(name, x) if result.kind == "f" else x

    return emitter


def _is_infinite(f: Function, x: Value) -> Value:
    return f.equal(f.unary("fabs", x), float("inf"))


def _signbit(f: Function, values: Sequence[Value], dtypes: Sequence[np.dtype], _r: Any, _p: Any) -> Value:
    (x,) = values
    if dtypes[0].kind == "f":
        x = f.bitcast(x, vector(I32 if x.type.bits == 32 else I64, x.type.lanes))
    elif dtypes[0].kind != "i":
        return f.constant(vector(I1, x.type.lanes), 0)
    return f.compare("lt", x, 0)


def _unchanged(f: Function, values: Sequence[Value], dtypes: Sequence[np.dtype], result: np.dtype, _: Any) -> Value:
    return cast(f, values[0], dtypes[0], result)


def _no_bools(f: Function, *values: Value) -> Value:
    raise NotImplementedError("arithmetic that NumPy does not define for bool")


_ANY: dict[str, Emitter] = {
    "add": _arithmetic(lambda f, a, b: a + b, lambda f, a, b: a + b, lambda f, a, b: a | b),
    "subtract": _arithmetic(lambda f, a, b: a - b, lambda f, a, b: a - b, _no_bools),
    "multiply": _arithmetic(lambda f, a, b: a * b, lambda f, a, b: a * b, lambda f, a, b: a & b),
    "negative": _arithmetic(lambda f, x: -x, lambda f, x: -x, _no_bools),
    "square": _arithmetic(lambda f, x: x * x, lambda f, x: x * x, lambda f, x: x),
    "integer_power": _integer_power,
    "abs": _abs,
    "sign": _by_sign(_integer_sign, lambda f, x: f.select(f.equal(x, 0), 0, f.constant(x.type, 1)), _sign, _no_bools),
    "relu": _by_sign(
        lambda f, x: f.pairwise("smax", x, 0), lambda f, x: x, _relu, lambda f, x: x
    ),
    "select_positive": _select_positive,
    "maximum": _by_sign(
        lambda f, a, b: f.pairwise("smax", a, b), lambda f, a, b: f.pairwise("umax", a, b), _maximum,
        lambda f, a, b: a | b,
    ),
    "minimum": _by_sign(
        lambda f, a, b: f.pairwise("smin", a, b), lambda f, a, b: f.pairwise("umin", a, b), _minimum,
        lambda f, a, b: a & b,
    ),
    "remainder": _integer_division(True),
    "floor_divide": _integer_division(False),
    "where": _where,
    "astype": _unchanged,
    "identity": _unchanged,
    "real": _unchanged,
    "conj": _unchanged,
    "equal": _comparison("eq"),
    "not_equal": _comparison("ne"),
    "less": _comparison("lt"),
    "less_equal": _comparison("le"),
    "greater": _comparison("gt"),
    "greater_equal": _comparison("ge"),
    "logical_and": _logical(lambda f, a, b: a & b),
    "logical_or": _logical(lambda f, a, b: a | b),
    "logical_xor": _logical(lambda f, a, b: a ^ b),
    "logical_not": _logical(lambda f, x: f.binary("xor", x, 1)),
    "bitwise_and": _arithmetic(_no_bools, lambda f, a, b: a & b),
    "bitwise_or": _arithmetic(_no_bools, lambda f, a, b: a | b),
    "bitwise_xor": _arithmetic(_no_bools, lambda f, a, b: a ^ b),
    "bitwise_invert": _arithmetic(_no_bools, lambda f, x: f.binary("xor", x, -1), lambda f, x: f.binary("xor", x, 1)),
    "bitwise_left_shift": _shift(True),
    "bitwise_right_shift": _shift(False),
    "isnan": _test(lambda f, x: f.is_nan(x), 0),
    "isinf": _test(_is_infinite, 0),
    "isfinite": _test(lambda f, x: f.compare("lt", f.unary("fabs", x), float("inf")), 1),
    "signbit": _signbit,
    "floor": _rounding("floor"),
    "ceil": _rounding("ceil"),
    "trunc": _rounding("trunc"),
    "round": _rounding("roundeven"),
}  # fmt: skip
