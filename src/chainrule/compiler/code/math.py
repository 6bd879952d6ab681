"""Elementary functions as instructions, for a float32 or float64 value or a vector of them.

exp, log, sin, erf and their like are written out: the argument is reduced to a short interval, a
polynomial (`coefficients.py`) does the rest, and selects put the special cases right. They are within
2 ULP in float32 and in float64 over the whole range, with or without fused multiply-add, as
`tests/compiler/code/test_math.py` measures. The less common functions call the C library lane by lane.

Sources: W. J. Cody and W. Waite, "Software Manual for the Elementary Functions" (1980), for the reductions;
fdlibm (Sun Microsystems, 1993) for log, log1p and the parts of π/2.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from decimal import Decimal, localcontext

from . import coefficients as table
from .ir import F64, I32, I64, Function, Type, Value, vector

LN2 = math.log(2)


class _Format:
    """The numbers that depend on the floating-point format."""

    def __init__(self, type: Type) -> None:
        single = type.bits == 32
        self.mantissa = 23 if single else 52
        self.bias = 127 if single else 1023
        self.integer = vector(I32 if single else I64, type.lanes)
        # Adding it rounds to an integer, which is then in the low bits.
        self.rounder = 1.5 * 2.0**self.mantissa
        # ln 2 in two parts, the first short enough that its product with an exponent is exact.
        self.ln2 = (0.693359375, -2.12194440e-4) if single else (6.93147180369123816490e-01, 1.90821492927058770002e-10)
        self.exp = table.EXP_32 if single else table.EXP_64
        # Outside of these exp is 0 or infinite (or overflows to it in `_scale`).
        self.exp_limits = (-104.0, 89.0) if single else (-746.0, 710.0)
        self.smallest_normal = 2.0**-126 if single else 2.0**-1022


def _polynomial(f: Function, coefficients: Sequence[float], x: Value) -> Value:
    """Horner's scheme; the lowest power comes first."""
    value = f.constant(x.type, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value = f.fma(value, x, c)
    return value


def _bits(f: Function, x: Value) -> Value:
    return f.bitcast(x, _Format(x.type).integer)


def _clamp(f: Function, x: Value, low: float, high: float) -> Value:
    """x within the limits; NaN stays NaN."""
    x = f.select(x > high, high, x)
    return f.select(x < low, low, x)


def _exp_parts(f: Function, x: Value) -> tuple[Value, Value, Value]:
    """(k, r, q) with exp(x) = 2^n (1 + r + q), |r| <= ln(2)/2, and k = n + 2 bias as an integer."""
    form = _Format(x.type)
    x = _clamp(f, x, *form.exp_limits)
    rounded = f.fma(x, 1 / LN2, form.rounder)
    n = rounded - form.rounder
    r = f.fma(n, -form.ln2[1], f.fma(n, -form.ln2[0], x))
    return _biased(f, rounded), r, r * r * _polynomial(f, form.exp, r)


def _biased(f: Function, rounded: Value) -> Value:
    """n + 2 bias, from n + rounder."""
    form = _Format(rounded.type)
    base = int(form.rounder).bit_length()
    pattern = ((base - 1 + form.bias) << form.mantissa) | (1 << (form.mantissa - 1))
    return _bits(f, rounded) - (pattern - 2 * form.bias)


def _scale(f: Function, x: Value, k: Value) -> Value:
    """x · 2^(k - 2 bias) in two steps, so that results below the normal numbers are rounded once."""
    form = _Format(x.type)
    half = k >> 1
    first, second = (f.bitcast(part << form.mantissa, x.type) for part in (half, k - half))
    return x * first * second


def exp(f: Function, x: Value) -> Value:
    k, r, q = _exp_parts(f, x)
    return _scale(f, r + q + 1.0, k)


def _exp_close(f: Function, x: Value) -> Value:
    """exp within 0.6 ULP: what rounding takes from r and from 1 + r is put back."""
    form = _Format(x.type)
    x = _clamp(f, x, *form.exp_limits)
    rounded = f.fma(x, 1 / LN2, form.rounder)
    n = rounded - form.rounder
    t = f.fma(n, -form.ln2[0], x)
    r = f.fma(n, -form.ln2[1], t)
    lost = f.fma(n, -form.ln2[1], t - r)
    whole = r + 1.0
    rest = (r - (whole - 1.0)) + f.fma(r * r, _polynomial(f, form.exp, r), lost)
    return _scale(f, whole + rest, _biased(f, rounded))


def exp2(f: Function, x: Value) -> Value:
    form = _Format(x.type)
    x = _clamp(f, x, form.exp_limits[0] / LN2, form.exp_limits[1] / LN2)
    rounded = x + form.rounder
    r = (x - (rounded - form.rounder)) * LN2
    return _scale(f, r + r * r * _polynomial(f, form.exp, r) + 1.0, _biased(f, rounded))


def expm1(f: Function, x: Value) -> Value:
    k, r, q = _exp_parts(f, x)
    form = _Format(x.type)
    # 2^n (r + q) + (2^n - 1), at half its size so that 2^n itself does not overflow.
    scale = f.bitcast((k - (form.bias + 1)) << form.mantissa, x.type)
    scale = f.select(f.compare("lt", k, form.bias + 2), 0.0, scale)
    value = f.fma(scale, r + q, scale - 0.5) * 2.0
    tiny = f.unary("fabs", x) < 2.0 ** -(form.mantissa + 2)
    return f.select(tiny, x, f.pairwise("copysign", value, x))


def sigmoid(f: Function, x: Value) -> Value:
    """1 / (1 + exp(-x)); for negative x as exp(x) / (1 + exp(x)), which has all digits of small results."""
    small = _exp_close(f, -f.unary("fabs", x))
    below = x < 0.0
    whole = small + 1.0
    value = f.select(below, small, 1.0) / whole
    # What the addition rounded away, relative to the sum.
    lost = (small - (whole - 1.0)) * f.select(below, 1.0 - value, value)
    return f.fma(-value, lost, value)


def tanh(f: Function, x: Value) -> Value:
    """x + x P(x²) up to 0.625, 1 - 2 / (exp(2|x|) + 1) beyond."""
    size = f.unary("fabs", x)
    z = f.select(size > 0.625, 0.625, size)
    z = z * z
    near = f.fma(size * z, _polynomial(f, table.TANH_32 if x.type.bits == 32 else table.TANH_64, z), size)
    far = 1.0 - 2.0 / (exp(f, size + size) + 1.0)
    return f.pairwise("copysign", f.select(size > 0.625, far, near), x)


def _log_parts(f: Function, x: Value, *, normal: bool = False) -> tuple[Value, Value]:
    """(n, m) with x = 2^n m, sqrt(1/2) <= m < sqrt(2), both as floats, for positive finite x."""
    form = _Format(x.type)
    shift = f.zero(x.type)
    if not normal:
        tiny = x < form.smallest_normal
        step = form.mantissa + 2
        x = f.select(tiny, x * 2.0**step, x)
        shift = f.select(tiny, float(-step), shift)
    bits = _bits(f, x)
    root = _float_bits(math.sqrt(0.5), form.mantissa)
    one = form.bias << form.mantissa
    # The exponent counted from sqrt(1/2) on, still above a bias that keeps it positive.
    offset = bits + (one - root)
    n = f.convert((offset >> form.mantissa) - form.bias, x.type.scalar)
    m = f.bitcast((offset & ((1 << form.mantissa) - 1)) + root, x.type)
    return n + shift, m


def _float_bits(number: float, mantissa: int) -> int:
    exponent = math.floor(math.log2(number))
    bias = 127 if mantissa == 23 else 1023
    return ((exponent + bias) << mantissa) + int((number / 2.0**exponent - 1) * 2**mantissa)


def _log_rest(f: Function, r: Value, small: Value) -> tuple[Value, Value]:
    """(half, rest) with log(1 + r) + small = r - (half - rest), for r in [sqrt(1/2) - 1, sqrt(2) - 1]."""
    half = r * r * 0.5
    if r.type.bits == 32:
        return half, f.fma(r * r, r * _polynomial(f, table.LOG_32, r), small)
    s = r / (r + 2.0)
    z = s * s
    ratio = z * _polynomial(f, table.LOG_RATIO_64, z)
    return half, f.fma(s, half + ratio, small)


def _log_of(f: Function, n: Value, r: Value, correction: Value | None = None) -> Value:
    """n ln 2 + log(1 + r) + correction."""
    high, low = _Format(r.type).ln2
    half, rest = _log_rest(f, r, n * low if correction is None else f.fma(n, low, correction))
    return f.fma(n, high, r - (half - rest))


def _log_edges(f: Function, value: Value, x: Value, zero: float) -> Value:
    """The value of a logarithm with a pole at `zero`: -inf there, NaN below and for NaN, inf at inf."""
    value = f.select(x > zero, value, float("nan"))
    value = f.select(f.equal(x, zero), float("-inf"), value)
    return f.select(f.equal(x, float("inf")), float("inf"), value)


def log(f: Function, x: Value) -> Value:
    n, m = _log_parts(f, x)
    return _log_edges(f, _log_of(f, n, m - 1.0), x, 0.0)


def _log_in_base(f: Function, x: Value, base: int) -> Value:
    """log(m) / log(base) + n log(2) / log(base), exact at powers of two for base 2."""
    n, m = _log_parts(f, x)
    r = m - 1.0
    half, rest = _log_rest(f, r, f.zero(x.type))
    # log(m) with what rounding takes from it.
    mantissa = r - half
    lost = (r - mantissa) - half + rest
    with localcontext(prec=40):
        factor = 1 / Decimal(base).ln()
        high, low = _split(factor * Decimal(2).ln(), x.type)
        factor_high, factor_low = _split(factor, x.type)
    value = f.fma(mantissa, factor_low, f.fma(lost, float(factor), n * low))
    return _log_edges(f, f.fma(n, high, f.fma(mantissa, factor_high, value)), x, 0.0)


def _split(number: Decimal, type: Type) -> tuple[float, float]:
    """A number as a part of few bits, whose product with an exponent is exact, and the rest."""
    scale = 2 ** (12 if type.bits == 32 else 40)
    high = round(number * scale) / scale
    return high, float(number - Decimal(high))


def log2(f: Function, x: Value) -> Value:
    return _log_in_base(f, x, 2)


def log10(f: Function, x: Value) -> Value:
    return _log_in_base(f, x, 10)


def log1p(f: Function, x: Value) -> Value:
    """log(u) with u = 1 + x, plus what the addition rounded away, divided by u."""
    u = x + 1.0
    n, m = _log_parts(f, u, normal=True)
    whole = f.equal(n, 0.0)
    r = f.select(whole, x, m - 1.0)
    large = x > 1.0
    lost = f.select(large, 1.0 - (u - x), x - (u - 1.0)) / u
    value = _log_of(f, n, r, f.select(whole, 0.0, lost))
    return f.pairwise("copysign", _log_edges(f, value, x, -1.0), x)


def erf(f: Function, x: Value) -> Value:
    """x + x P(x²) up to 1, 1 - exp(-|x| Q(|x|)) beyond."""
    single = x.type.bits == 32
    size = f.unary("fabs", x)
    size = f.select(size > 6.0, 6.0, size) if not single else f.select(size > 4.0, 4.0, size)
    near_size = f.select(size > 1.0, 1.0, size)
    near = f.fma(near_size, _polynomial(f, table.ERF_32 if single else table.ERF_64, near_size * near_size), near_size)
    far = 1.0 - exp(f, -size * _polynomial(f, table.ERF_FAR_32 if single else table.ERF_FAR_64, size))
    return f.pairwise("copysign", f.select(size > 1.0, far, near), x)


# π/2 in parts so short that their products with the quadrant's number are exact up to these limits.
_HALF_PI = {
    32: ((1.5703125, 4.837512969970703e-4, 7.549533620476723e-08, 2.563344151594519e-12), 8192.0),
    64: ((1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21), 1.0e6),
}


def _quarter(f: Function, x: Value) -> tuple[Value, Value, Value, Value]:
    """(q, r, lost, far): x = q π/2 + r + lost with |r| <= π/4, and where |x| is too large for that."""
    form = _Format(x.type)
    parts, limit = _HALF_PI[x.type.bits]
    far = ~(f.unary("fabs", x) < limit)
    near = f.select(far, 0.0, x)
    rounded = f.fma(near, 2 / math.pi, form.rounder)
    n = rounded - form.rounder
    start = near
    for part in parts[:-2]:
        start = f.fma(n, -part, start)
    # The products are exact; what the last two differences round away is kept.
    first = f.fma(n, -parts[-2], start)
    rest = f.fma(n, -parts[-1], f.fma(n, -parts[-2], start - first))
    r = first + rest
    return _bits(f, rounded), r, rest - (r - first), far


def _sine(f: Function, x: Value, turn: int, name: str) -> Value:
    """sin(x + turn π/2)."""
    single = x.type.bits == 32
    q, r, lost, far = _quarter(f, x)
    q = q + turn
    z = r * r
    sin_r = r + f.fma(r * z, _polynomial(f, table.SIN_32 if single else table.SIN_64, z), lost)
    cos_rest = f.fma(z * z, _polynomial(f, table.COS_32 if single else table.COS_64, z), -r * lost)
    half = z * 0.5
    whole = 1.0 - half
    cos_r = whole + ((1.0 - whole) - half + cos_rest)
    value = f.select(f.equal(q & 1, 0), sin_r, cos_r)
    sign = (q & 2) << (x.type.bits - 2)
    value = f.bitcast(_bits(f, value) ^ sign, x.type)
    if turn == 0:
        value = f.select(f.equal(x, 0.0), x, value)
    anywhere = f.reduce("or", far) if x.type.lanes else far
    return f.cond(anywhere, lambda: [f.select(far, _library(f, name, x), value)], lambda: [value])[0]


def sin(f: Function, x: Value) -> Value:
    """Beyond 8192 (float32) or 10⁶ (float64) the C library's, whose reduction is exact."""
    return _sine(f, x, 0, "sin")


def cos(f: Function, x: Value) -> Value:
    """Beyond 8192 (float32) or 10⁶ (float64) the C library's, whose reduction is exact."""
    return _sine(f, x, 1, "cos")


def sqrt(f: Function, x: Value) -> Value:
    return f.unary("sqrt", x)


def power(f: Function, a: Value, b: Value) -> Value:
    return _library(f, "pow", a, b)


def _library(f: Function, name: str, *operands: Value) -> Value:
    """A function of the C library in double precision, lane by lane, in a function of its own."""
    type = operands[0].type
    helper = f"each_{name}_{type.mangled}"
    if helper not in f.module.functions:
        _lane_by_lane(f.module.function(helper, [o.type for o in operands], type, internal=True), name)
    return f.call(helper, type, *(f.as_type(type, o) for o in operands))


def _lane_by_lane(f: Function, name: str) -> None:
    type = f.result
    scalar = type.scalar

    def one(*arguments: Value) -> Value:
        return f.convert(f.call(name, F64, *(f.convert(a, F64) for a in arguments)), scalar)

    if not type.lanes:
        f.ret(one(*f.arguments))
        return
    places = [f.alloca(type.lanes * type.nbytes) for _ in f.arguments]
    for argument, place in zip(f.arguments, places, strict=True):
        f.store(argument, place)
    with f.loop(0, type.lanes) as loop:
        f.store(one(*(f.load(scalar, place, loop.index) for place in places)), places[0], loop.index)
    f.ret(f.load(type, places[0]))


def _from_library(name: str) -> Callable[..., Value]:
    def function(f: Function, *operands: Value) -> Value:
        return _library(f, name, *operands)

    function.__name__ = name
    return function


tan = _from_library("tan")
asin = _from_library("asin")
acos = _from_library("acos")
atan = _from_library("atan")
atan2 = _from_library("atan2")
sinh = _from_library("sinh")
cosh = _from_library("cosh")
asinh = _from_library("asinh")
acosh = _from_library("acosh")
atanh = _from_library("atanh")
hypot = _from_library("hypot")


def nextafter(f: Function, a: Value, b: Value) -> Value:
    """The next number from a towards b, by its bits, which are ordered as the numbers are."""
    form = _Format(a.type)
    bits = _bits(f, a)
    away = f.select((a < b) ^ (a < 0.0), f.constant(form.integer, 1), -1)
    moved = f.bitcast(bits + away, a.type)
    smallest = f.pairwise("copysign", f.bitcast(f.constant(form.integer, 1), a.type), b)
    moved = f.select(f.equal(a, 0.0), smallest, moved)
    moved = f.select(f.equal(a, b), b, moved)
    return f.select(f.is_nan(a) | f.is_nan(b), float("nan"), moved)
