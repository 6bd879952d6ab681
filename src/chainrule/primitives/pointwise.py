"""Pointwise primitives: arithmetic, elementary functions, comparisons, logic, bits.

Each states its value, its partial derivatives and its notation. In a partial derivative y
is the output and x (or a, b) the input; a name with an underscore is not read.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.dtypes import real_dtype
from ..core.errors import DTypeError
from ..core.tensor import Tensor, new_tensor
from . import special
from .families import (
    bool_result,
    complex_result,
    fit_tangent,
    match,
    match_realness,
    pointwise,
    real_floating_result,
    result_of,
)

SUM, PRODUCT, POWER = 1, 2, 3  # precedence of infix notation; function calls bind tightest

TWO_OVER_SQRT_PI = 2.0 / math.sqrt(math.pi)
LN2, LN10 = math.log(2.0), math.log(10.0)


def _half_at_ties(strict: Any, equal: Any) -> Tensor:
    # max(a, b) has no derivative at a = b; PyTorch and JAX share the gradient, so do we.
    return where(strict, 1.0, where(equal, 0.5, 0.0))


add = pointwise("add", np.add, latex="{a} + {b}", text="{a} + {b}", precedence=SUM, partials=(1, 1))
subtract = pointwise("subtract", np.subtract, latex="{a} - {b:2}", text="{a} - {b:2}", precedence=SUM, partials=(1, -1))
multiply = pointwise(
    "multiply", np.multiply, latex=r"{a} \, {b}", text="{a} · {b}", precedence=PRODUCT,
    partials=(lambda _y, _a, b: b, lambda _y, a, _b: a),
)  # fmt: skip
divide = pointwise(
    "divide", np.true_divide, latex=r"\frac{{{a:0}}}{{{b:0}}}", text="{a} / {b:3}", precedence=PRODUCT,
    partials=(lambda _y, _a, b: 1 / b, lambda y, _a, b: -y / b), domain=(0.5, 3.0),
)  # fmt: skip
negative = pointwise("negative", np.negative, latex="-{x:2}", text="-{x:2}", precedence=PRODUCT, partials=-1)
reciprocal = pointwise(
    "reciprocal", np.reciprocal, latex=r"\frac{{1}}{{{x:0}}}", text="1 / {x:3}", precedence=PRODUCT,
    partials=lambda y, _x: -y * y, domain=(0.5, 3.0),
)  # fmt: skip

square = pointwise("square", np.square, latex="{x:4}^2", text="{x:4}²", precedence=POWER, partials=lambda _y, x: 2 * x)


def _integer_power(x: np.ndarray, n: int) -> np.ndarray:
    return np.power(x, np.array(n, dtype=x.dtype)) if x.dtype.kind in "fc" else np.power(x, n)


integer_power = pointwise(
    "integer_power", _integer_power, latex="{x:4}^{{{n}}}", text="{x:4}^{n}", precedence=POWER,
    partials=lambda _y, x, n: n * integer_power(x, n=n - 1) if n not in (0, 1) else n, domain=(0.5, 3.0),
    example=([((3,), np.dtype("float32"))], {"n": 3}),
)  # fmt: skip
power = pointwise(
    "power", np.power, latex="{a:4}^{{{b:0}}}", text="{a:4}^{b:4}", precedence=POWER, domain=(0.5, 3.0),
    partials=(
        lambda _y, a, b: where(equal(b, 0), 0.0, b * power(a, where(equal(b, 0), 1.0, b - 1))),
        lambda y, a, b: where(_zero_to_some_power(a, b), 0.0, y * log(where(_zero_to_some_power(a, b), 1.0, a))),
    ),
)  # fmt: skip


def _zero_to_some_power(a: Tensor, b: Tensor) -> Tensor:
    return logical_and(equal(a, 0), greater_equal(real(b), 0))


sqrt = pointwise("sqrt", np.sqrt, latex=r"\sqrt{{{x:0}}}", partials=lambda y, _x: 0.5 / y, domain=(0.1, 4.0))

exp = pointwise("exp", np.exp, latex="e^{{{x:0}}}", partials=lambda y, _x: y)
exp2 = pointwise("exp2", np.exp2, latex="2^{{{x:0}}}", partials=lambda y, _x: LN2 * y)
expm1 = pointwise(
    "expm1", special.expm1, latex="e^{{{x:0}}} - 1", partials=lambda y, _x: y + 1, result=result_of(np.expm1)
)
log = pointwise("log", np.log, latex=r"\ln {x}", text="ln({x:0})", partials=lambda _y, x: 1 / x, domain=(0.1, 4.0))
log1p = pointwise("log1p", np.log1p, latex=r"\ln (1 + {x:1})", partials=lambda _y, x: 1 / (1 + x), domain=(-0.9, 3.0))
log2 = pointwise("log2", np.log2, latex=r"\log_2 {x}", partials=lambda _y, x: 1 / (LN2 * x), domain=(0.1, 4.0))
log10 = pointwise("log10", np.log10, latex=r"\log_{{10}} {x}", partials=lambda _y, x: 1 / (LN10 * x), domain=(0.1, 4.0))
logaddexp = pointwise(
    "logaddexp", np.logaddexp, latex=r"\ln (e^{{{a:0}}} + e^{{{b:0}}})",
    partials=(lambda _y, a, b: special_ratio(a, b), lambda _y, a, b: special_ratio(b, a)),
)  # fmt: skip


def special_ratio(a: Tensor, b: Tensor) -> Tensor:
    """exp(a - logaddexp(a, b)) as a sigmoid of a difference; 1/2 where a and b are the same infinity."""
    same = equal(a, b)
    return sigmoid(where(same, 0.0, a) - where(same, 0.0, b))


sin = pointwise("sin", np.sin, latex=r"\sin {x}", partials=lambda _y, x: cos(x))
cos = pointwise("cos", np.cos, latex=r"\cos {x}", partials=lambda _y, x: -sin(x))
tan = pointwise("tan", np.tan, latex=r"\tan {x}", partials=lambda y, _x: 1 + y * y, domain=(-1.2, 1.2))
asin = pointwise(
    "asin", np.arcsin, latex=r"\arcsin {x}", partials=lambda _y, x: 1 / sqrt(1 - x * x), domain=(-0.9, 0.9)
)
acos = pointwise(
    "acos", np.arccos, latex=r"\arccos {x}", partials=lambda _y, x: -1 / sqrt(1 - x * x), domain=(-0.9, 0.9)
)
atan = pointwise("atan", np.arctan, latex=r"\arctan {x}", partials=lambda _y, x: 1 / (1 + x * x))
atan2 = pointwise(
    "atan2", np.arctan2, latex=r"\mathrm{{atan2}}({a:0}, {b:0})", domain=(0.3, 2.0),
    partials=(lambda _y, a, b: b / (a * a + b * b), lambda _y, a, b: -a / (a * a + b * b)),
)  # fmt: skip
sinh = pointwise("sinh", np.sinh, latex=r"\sinh {x}", partials=lambda _y, x: cosh(x))
cosh = pointwise("cosh", np.cosh, latex=r"\cosh {x}", partials=lambda _y, x: sinh(x))
tanh = pointwise(
    "tanh", special.tanh, latex=r"\tanh {x}", partials=lambda y, _x: 1 - square(y), result=result_of(np.tanh)
)
asinh = pointwise("asinh", np.arcsinh, latex=r"\mathrm{{arsinh}} {x}", partials=lambda _y, x: 1 / sqrt(x * x + 1))
acosh = pointwise(
    "acosh", np.arccosh, latex=r"\mathrm{{arcosh}} {x}", domain=(1.2, 4.0),
    partials=lambda _y, x: 1 / (sqrt(x - 1) * sqrt(x + 1)),
)  # fmt: skip
atanh = pointwise(
    "atanh", np.arctanh, latex=r"\mathrm{{artanh}} {x}", partials=lambda _y, x: 1 / (1 - x * x), domain=(-0.9, 0.9)
)
hypot = pointwise(
    "hypot", np.hypot, latex=r"\sqrt{{{a:3}^2 + {b:3}^2}}", domain=(0.3, 2.0),
    partials=(lambda y, a, _b: a / y, lambda y, _a, b: b / y),
)  # fmt: skip

sigmoid = pointwise(
    "sigmoid", special.sigmoid, latex=r"\sigma({x:0})", text="σ({x:0})", partials=lambda y, _x: y * (1 - y),
    result=real_floating_result,
)  # fmt: skip
erf = pointwise(
    "erf", special.erf, latex=r"\mathrm{{erf}}({x:0})", partials=lambda _y, x: TWO_OVER_SQRT_PI * exp(-square(x)),
    result=real_floating_result,
)  # fmt: skip


def _relu_vjp(g: Tensor, y: Any, _x: Any) -> Tensor:
    return select_positive(g, y)


relu = pointwise(
    "relu", lambda x: np.maximum(x, 0), latex=r"\max(0, {x:0})", text="max(0, {x:0})",
    partials=lambda y, _x: where(greater(y, 0), 1.0, 0.0),
    # A product with the 0/1 mask would turn an infinite cotangent into NaN: select instead.
    vjps=(_relu_vjp,),
    jvp=lambda tangents, y, _x: select_positive(tangents[0], y),
)  # fmt: skip
select_positive = pointwise(
    "select_positive", lambda g, y: np.multiply(g, y > 0) if special.all_finite(g) else np.where(y > 0, g, 0),
    latex=r"{a} \, [{b:0} > 0]", text="{a} · [{b:0} > 0]", precedence=PRODUCT, arity=2,
    result=lambda g, _y: g, partials=(lambda _y, _g, mask: where(greater(mask, 0), 1.0, 0.0), None),
    vjps=(lambda g, _y, _g, mask: match(select_positive(g, mask), _g), None),
    jvp=lambda tangents, y, _g, mask: None if tangents[0] is None else select_positive(tangents[0], mask),
)  # fmt: skip


def _abs_vjp(g: Tensor, _y: Any, x: Tensor) -> Tensor:
    return match(g * sign(x), x)


def _abs_jvp(tangents: Any, y: Tensor, x: Tensor) -> Tensor:
    return real(conj(sign(x)) * tangents[0]) if x.dtype.kind == "c" else sign(x) * tangents[0]


abs = pointwise(
    "abs", np.abs, latex=r"\left| {x:0} \right|", text="|{x:0}|", partials=lambda _y, x: sign(x), result=real_dtype,
    vjps=(_abs_vjp,), jvp=_abs_jvp, domain=(0.2, 3.0),
)  # fmt: skip


def _sign_vjp(g: Tensor, y: Tensor, x: Tensor) -> Tensor | None:
    if x.dtype.kind != "c":
        return None
    # sgn(z) = z / |z|: only the part of the cotangent orthogonal to sgn(z) passes (0 at z = 0).
    size = abs(x)
    along = real(g * conj(y))
    return where(equal(size, 0), 0.0, (g - along * y) / where(equal(size, 0), 1.0, size))


def _sign_jvp(tangents: Any, y: Tensor, x: Tensor) -> Tensor | None:
    return _sign_vjp(tangents[0], y, x)


sign = pointwise(
    "sign", np.sign, latex=r"\mathrm{{sgn}}({x:0})", partials=0, vjps=(_sign_vjp,), jvp=_sign_jvp,
    result=lambda x: x,
)  # fmt: skip

maximum = pointwise(
    "maximum", np.maximum, latex=r"\max({a:0}, {b:0})", text="max({a:0}, {b:0})",
    partials=(
        lambda _y, a, b: _half_at_ties(greater(a, b), equal(a, b)),
        lambda _y, a, b: _half_at_ties(less(a, b), equal(a, b)),
    ),
)  # fmt: skip
minimum = pointwise(
    "minimum", np.minimum, latex=r"\min({a:0}, {b:0})", text="min({a:0}, {b:0})",
    partials=(
        lambda _y, a, b: _half_at_ties(less(a, b), equal(a, b)),
        lambda _y, a, b: _half_at_ties(greater(a, b), equal(a, b)),
    ),
)  # fmt: skip
copysign = pointwise(
    "copysign", np.copysign, latex=r"|{a:0}| \, \mathrm{{sgn}}({b:0})", domain=(0.3, 2.0),
    partials=(lambda y, a, _b: sign(y) * sign(a), 0),
)  # fmt: skip
remainder = pointwise(
    "remainder", np.remainder, latex=r"{a} \bmod {b:3}", text="{a} mod {b:3}", precedence=PRODUCT,
    partials=(1, lambda _y, a, b: -floor_divide(a, b)), domain=(1.1, 1.9),
)  # fmt: skip


def _where_vjp(position: int) -> Any:
    def rule(g: Tensor, _y: Any, condition: Tensor, _a: Any, _b: Any) -> Tensor:
        chosen = where(condition, g, 0.0) if position == 1 else where(condition, 0.0, g)
        return match(chosen, (condition, _a, _b)[position])

    return rule


def _where_jvp(tangents: Any, y: Tensor, condition: Tensor, _a: Any, _b: Any) -> Tensor | None:
    return fit_tangent(where(condition, *(0.0 if t is None else t for t in tangents[1:])), y)


where = pointwise(
    "where", np.where, latex=r"\begin{{cases}} {b:0} & {a:0} \\ {c:0} & \text{{otherwise}} \end{{cases}}",
    text="({b:0} if {a:0} else {c:0})", arity=3, result=lambda _c, a, b: np.result_type(a, b),
    vjps=(None, _where_vjp(1), _where_vjp(2)), jvp=_where_jvp,
    example=([((3,), np.dtype(bool)), ((3,), np.dtype("float32")), ((3,), np.dtype("float32"))], {}),
)  # fmt: skip


def _astype(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if x.dtype.kind == "c" and dtype.kind != "c":
        x = x.real
    return x.astype(dtype, copy=False)


astype = pointwise(
    "astype", _astype, latex="{x}", text="{x}",
    abstract=lambda x, dtype: type(x)(x.shape, dtype),
    vjps=(lambda g, _y, _x, dtype: astype(match_realness(g, _x), dtype=_x.dtype) if _x.dtype.kind in "fc" else None,),
    jvp=lambda tangents, y, _x, dtype: astype(tangents[0], dtype=dtype) if dtype.kind in "fc" else None,
    example=([((3,), np.dtype("float32"))], {"dtype": np.dtype("float64")}), arity=1,
)  # fmt: skip
real = pointwise(
    "real", lambda x: np.real(x).copy() if x.dtype.kind == "c" else x, latex=r"\mathrm{{Re}} {x}", result=real_dtype,
    arity=1, vjps=(lambda g, _y, _x: astype(g, dtype=_x.dtype),), jvp=lambda tangents, y, _x: real(tangents[0]),
)  # fmt: skip
imag = pointwise(
    "imag", lambda x: np.imag(x).copy(), latex=r"\mathrm{{Im}} {x}", result=real_dtype, arity=1,
    example=([((3,), np.dtype("complex64"))], {}),
    vjps=(lambda g, _y, _x: g * 1j if _x.dtype.kind == "c" else None,), jvp=lambda tangents, y, _x: imag(tangents[0]),
)  # fmt: skip
conj = pointwise(
    "conj", lambda x: np.conj(x) if x.dtype.kind == "c" else x, latex=r"\overline{{{x:0}}}", result=lambda x: x,
    arity=1, vjps=(lambda g, _y, _x: conj(g),), jvp=lambda tangents, y, _x: conj(tangents[0]),
)  # fmt: skip


def _complex(real_part: np.ndarray, imaginary: np.ndarray) -> np.ndarray:
    dtype = complex_result(_real_floating(real_part.dtype, imaginary.dtype))
    out = np.empty(np.broadcast_shapes(real_part.shape, imaginary.shape), dtype)
    out.real, out.imag = real_part, imaginary
    return out


def _real_floating(*kinds: np.dtype) -> np.dtype:
    dtype = np.result_type(*kinds)
    if dtype.kind != "f":
        raise DTypeError(f"needs real floating parts, got {' and '.join(map(str, kinds))}")
    return dtype


make_complex = pointwise(
    "make_complex", _complex, latex=r"{a} + i \, {b:2}", text="{a} + i {b:2}", precedence=SUM, arity=2,
    result=lambda a, b: complex_result(_real_floating(a, b)),
    vjps=(lambda g, _y, _a, _b: match(real(g), _a), lambda g, _y, _a, _b: match(imag(g), _b)),
    jvp=lambda tangents, y, _a, _b: fit_tangent(
        make_complex(*(new_tensor(np.zeros((), real_dtype(y.dtype)), None) if t is None else t for t in tangents)), y
    ),
)  # fmt: skip


def _infix(name: str, ufunc: Any, sign_: str, latex: str, **more: Any) -> Any:
    return pointwise(name, ufunc, text=f"{{a}} {sign_} {{b}}", latex=f"{{a}} {latex} {{b}}", precedence=0, **more)


equal = _infix("equal", np.equal, "=", "=")
not_equal = _infix("not_equal", np.not_equal, "≠", r"\ne")
less = _infix("less", np.less, "<", "<")
less_equal = _infix("less_equal", np.less_equal, "≤", r"\le")
greater = _infix("greater", np.greater, ">", ">")
greater_equal = _infix("greater_equal", np.greater_equal, "≥", r"\ge")

_BOOLS: Any = ([((3,), np.dtype(bool))] * 2, {})
_INTS: Any = ([((3,), np.dtype("int32"))] * 2, {})
logical_and = _infix("logical_and", np.logical_and, "∧", r"\land", example=_BOOLS, result=bool_result)
logical_or = _infix("logical_or", np.logical_or, "∨", r"\lor", example=_BOOLS, result=bool_result)
logical_xor = _infix("logical_xor", np.logical_xor, "⊻", r"\veebar", example=_BOOLS, result=bool_result)
logical_not = pointwise(
    "logical_not", np.logical_not, latex=r"\lnot {x}", result=bool_result, example=(_BOOLS[0][:1], {})
)
bitwise_and = _infix("bitwise_and", np.bitwise_and, "&", r"\mathbin{{\&}}", example=_INTS)
bitwise_or = _infix("bitwise_or", np.bitwise_or, "|", r"\mathbin{{|}}", example=_INTS)
bitwise_xor = _infix("bitwise_xor", np.bitwise_xor, "^", r"\oplus", example=_INTS)
bitwise_invert = pointwise("bitwise_invert", np.bitwise_not, latex=r"\lnot {x}", example=(_INTS[0][:1], {}))
bitwise_left_shift = _infix("bitwise_left_shift", np.left_shift, "<<", r"\ll", example=_INTS, domain=(0, 4))
bitwise_right_shift = _infix("bitwise_right_shift", np.right_shift, ">>", r"\gg", example=_INTS, domain=(0, 4))

isnan = pointwise("isnan", np.isnan, result=bool_result)
isinf = pointwise("isinf", np.isinf, result=bool_result)
isfinite = pointwise("isfinite", np.isfinite, result=bool_result)
signbit = pointwise("signbit", np.signbit)
nextafter = pointwise("nextafter", np.nextafter)


def _integral(rounding: Any) -> Any:
    # NumPy would turn integers into floats; the standard leaves them as they are.
    return lambda x: x if x.dtype.kind in "iub" else rounding(x)


def _real_result(dtype: np.dtype) -> np.dtype:
    if dtype.kind == "c":
        raise DTypeError(f"not defined for {dtype}")
    return dtype


# Piecewise constant: the derivative is 0 wherever it exists (PyTorch and JAX agree).
floor = pointwise("floor", _integral(np.floor), latex=r"\lfloor {x:0} \rfloor", partials=0, result=_real_result)
ceil = pointwise("ceil", _integral(np.ceil), latex=r"\lceil {x:0} \rceil", partials=0, result=_real_result)
trunc = pointwise("trunc", _integral(np.trunc), partials=0, result=_real_result)
round = pointwise("round", _integral(np.round), partials=0, result=lambda x: x)
floor_divide = pointwise(
    "floor_divide", special.floor_divide, latex=r"\left\lfloor \frac{{{a:0}}}{{{b:0}}} \right\rfloor",
    text="⌊{a} / {b:3}⌋", partials=(0, 0), domain=(1.1, 1.9), result=result_of(np.floor_divide),
)  # fmt: skip
