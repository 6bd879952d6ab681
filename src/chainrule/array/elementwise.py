"""The elementwise functions of the standard: one primitive each, with broadcasting.

Functions of one tensor take `(x, /)`, functions of two `(x1, x2, /)`, where one of the two
may be a Python number, which takes the other's type. Functions that are not defined on
integers convert them to the default floating type, as PyTorch does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.dtypes import default_dtype
from ..core.errors import DTypeError, located
from ..core.primitive import Primitive
from ..core.tensor import Tensor, new_tensor, operand
from ..primitives import pointwise as p
from ..primitives.operators import beside_number
from .arguments import floating, floating_real, public, tensor_of

__all__ = [
    "abs", "acos", "acosh", "add", "asin", "asinh", "atan", "atan2", "atanh", "bitwise_and", "bitwise_invert",
    "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "ceil", "clip", "conj", "copysign",
    "cos", "cosh", "divide", "equal", "erf", "exp", "exp2", "expm1", "floor", "floor_divide", "greater",
    "greater_equal", "hypot", "imag", "isfinite", "isinf", "isnan", "less", "less_equal", "log", "log1p", "log2",
    "log10", "logaddexp", "logical_and", "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "multiply",
    "negative", "nextafter", "not_equal", "positive", "pow", "real", "reciprocal", "relu", "remainder", "round",
    "sigmoid", "sign", "signbit", "sin", "sinh", "sqrt", "square", "subtract", "tan", "tanh", "trunc",
]  # fmt: skip

Unary = Callable[[Tensor], Tensor]
Binary = Callable[[Any, Any], Tensor]


def paired(x1: Any, x2: Any, name: str) -> tuple[Tensor, Tensor]:
    """Two operands as tensors; a Python number beside a tensor takes the tensor's type."""
    if isinstance(x1, Tensor):
        if isinstance(x2, Tensor):
            return x1, x2
        return beside_number(x1, _number(x2, name))
    if isinstance(x2, Tensor):
        b, a = beside_number(x2, _number(x1, name))
        return a, b
    a = tensor_of(x1, name)
    return beside_number(a, _number(x2, name))


def _number(value: Any, name: str) -> Any:
    if not isinstance(value, bool | int | float | complex | np.ndarray | np.generic):
        raise DTypeError(
            located(f"{name}: expected tensors or numbers, got {type(value).__name__}; "
                    "chainrule.asarray() makes a tensor of it")
        )  # fmt: skip
    return value


def _named(call: Any, name: str, doc: str) -> Any:
    call.__name__ = call.__qualname__ = name
    call.__doc__ = doc
    return public(call)


def _unary(name: str, primitive: Primitive, convert: Any, doc: str) -> Unary:
    def call(x: Tensor, /) -> Tensor:
        return primitive(convert(x, name))

    return _named(call, name, doc)


def _binary(name: str, primitive: Primitive, doc: str, kinds: str = "") -> Binary:
    """`kinds`: "float" converts integers, "real" refuses complex numbers, "bits" takes integers."""

    def call(x1: Any, x2: Any, /) -> Tensor:
        a, b = paired(x1, x2, name)
        if kinds:
            a, b = _fitted(a, b, name, kinds)
        return primitive(a, b)

    return _named(call, name, doc + _BINARY_ERRORS)


_BINARY_ERRORS = """

    Raises:
        ShapeError: the shapes do not broadcast.
        DTypeError: an operand is no tensor or number, or the operation is not defined for its type.
    """


def _fitted(a: Tensor, b: Tensor, name: str, kinds: str) -> tuple[Tensor, Tensor]:
    found = a.dtype.kind + b.dtype.kind
    if kinds == "bits":
        if not set(found) <= set("biu"):
            raise DTypeError(located(f"{name}: needs integers or bools, got {a.dtype} and {b.dtype}"))
        return a, b
    if kinds != "bool" and "c" in found:
        raise DTypeError(located(f"{name}: not defined for complex numbers, got {a.dtype} and {b.dtype}"))
    if kinds == "float" and "f" not in found:
        return p.astype(a, dtype=default_dtype()), p.astype(b, dtype=default_dtype())
    return a, b


def _real(x: Any, name: str) -> Tensor:
    x = tensor_of(x, name)
    if x.dtype.kind == "c":
        raise DTypeError(located(f"{name}: not defined for complex numbers, got {x.dtype}"))
    return x


abs = _unary("abs", p.abs, tensor_of, "Absolute value |x|; real for complex x. The gradient at 0 is 0.")
acos = _unary("acos", p.acos, floating, "Arc cosine, in [0, π]; NaN outside of [-1, 1] for real x.")
acosh = _unary("acosh", p.acosh, floating, "Inverse hyperbolic cosine; NaN below 1 for real x.")
asin = _unary("asin", p.asin, floating, "Arc sine, in [-π/2, π/2]; NaN outside of [-1, 1] for real x.")
asinh = _unary("asinh", p.asinh, floating, "Inverse hyperbolic sine.")
atan = _unary("atan", p.atan, floating, "Arc tangent, in [-π/2, π/2].")
atanh = _unary("atanh", p.atanh, floating, "Inverse hyperbolic tangent; NaN outside of [-1, 1] for real x.")
bitwise_invert = _unary(
    "bitwise_invert", p.bitwise_invert, tensor_of, "Every bit inverted; logical not for bools. Integers or bools."
)
ceil = _unary("ceil", p.ceil, _real, "Smallest integer that is not below x, in x's type. The gradient is 0.")
cos = _unary("cos", p.cos, floating, "Cosine of an angle in radians.")
cosh = _unary("cosh", p.cosh, floating, "Hyperbolic cosine (eˣ + e⁻ˣ) / 2.")
erf = _unary("erf", p.erf, floating_real, "Error function 2/√π ∫₀ˣ exp(-t²) dt. Real.")
exp = _unary("exp", p.exp, floating, "Exponential eˣ.")
exp2 = _unary("exp2", p.exp2, floating, "Power of two 2ˣ.")
expm1 = _unary("expm1", p.expm1, floating, "eˣ - 1, accurate for small x.")
floor = _unary("floor", p.floor, _real, "Largest integer that is not above x, in x's type. The gradient is 0.")
isfinite = _unary("isfinite", p.isfinite, tensor_of, "Whether x is neither infinite nor NaN.")
isinf = _unary("isinf", p.isinf, tensor_of, "Whether x is infinite, of either sign.")
isnan = _unary("isnan", p.isnan, tensor_of, "Whether x is NaN.")
log = _unary("log", p.log, floating, "Natural logarithm; -inf at 0, NaN below for real x.")
log10 = _unary("log10", p.log10, floating, "Logarithm to base 10.")
log1p = _unary("log1p", p.log1p, floating, "ln(1 + x), accurate for small x.")
log2 = _unary("log2", p.log2, floating, "Logarithm to base 2.")
logical_not = _unary("logical_not", p.logical_not, tensor_of, "Whether x is false (0).")
reciprocal = _unary("reciprocal", p.reciprocal, floating, "1 / x.")
round = _unary("round", p.round, tensor_of, "Nearest integer, the even one of two, in x's type. The gradient is 0.")
sigmoid = _unary("sigmoid", p.sigmoid, floating_real, "Logistic function 1 / (1 + e⁻ˣ), without overflow. Real.")
sign = _unary("sign", p.sign, tensor_of, "-1, 0 or 1 by the sign of x; x / |x| for complex x. The gradient is 0.")
signbit = _unary("signbit", p.signbit, _real, "Whether the sign bit is set: for negative numbers and -0.0. Real.")
sin = _unary("sin", p.sin, floating, "Sine of an angle in radians.")
sinh = _unary("sinh", p.sinh, floating, "Hyperbolic sine (eˣ - e⁻ˣ) / 2.")
sqrt = _unary("sqrt", p.sqrt, floating, "Square root; NaN below 0 for real x. The gradient at 0 is infinite.")
square = _unary("square", p.square, tensor_of, "x².")
tan = _unary("tan", p.tan, floating, "Tangent of an angle in radians.")
tanh = _unary("tanh", p.tanh, floating, "Hyperbolic tangent.")
trunc = _unary("trunc", p.trunc, _real, "The integer part of x, rounded towards 0, in x's type. The gradient is 0.")
negative = _unary("negative", p.negative, tensor_of, "-x. Numeric.")
relu = _unary("relu", p.relu, _real, "max(0, x); the gradient at 0 is 0.")
conj = _unary("conj", p.conj, tensor_of, "Complex conjugate; x itself where it is real.")
real = _unary("real", p.real, tensor_of, "Real part, of the real type of x's precision.")
imag = _unary("imag", p.imag, tensor_of, "Imaginary part, of the real type of x's precision; 0 for real x.")

add = _binary("add", p.add, "x1 + x2.")
subtract = _binary("subtract", p.subtract, "x1 - x2.")
multiply = _binary("multiply", p.multiply, "x1 x2.")
atan2 = _binary("atan2", p.atan2, "Angle of the point (x2, x1) in [-π, π]: arc tangent of x1/x2 by quadrant.", "float")
copysign = _binary("copysign", p.copysign, "The magnitude of x1 with the sign of x2.", "float")
hypot = _binary("hypot", p.hypot, "√(x1² + x2²) without overflow.", "float")
logaddexp = _binary("logaddexp", p.logaddexp, "ln(eˣ¹ + eˣ²) without overflow.", "float")
nextafter = _binary("nextafter", p.nextafter, "The next number after x1 towards x2. No derivative.", "float")
floor_divide = _binary("floor_divide", p.floor_divide, "⌊x1 / x2⌋. The gradient is 0.", "real")
remainder = _binary("remainder", p.remainder, "x1 - ⌊x1 / x2⌋ x2: the remainder, with the sign of x2.", "real")
maximum = _binary("maximum", p.maximum, "The larger one; NaN if either is. Equal operands share the gradient.", "real")
minimum = _binary("minimum", p.minimum, "The smaller one; NaN if either is. Equal operands share the gradient.", "real")
equal = _binary("equal", p.equal, "Whether x1 = x2; NaN equals nothing.")
not_equal = _binary("not_equal", p.not_equal, "Whether x1 ≠ x2.")
less = _binary("less", p.less, "Whether x1 < x2.", "real")
less_equal = _binary("less_equal", p.less_equal, "Whether x1 ≤ x2.", "real")
greater = _binary("greater", p.greater, "Whether x1 > x2.", "real")
greater_equal = _binary("greater_equal", p.greater_equal, "Whether x1 ≥ x2.", "real")
logical_and = _binary("logical_and", p.logical_and, "Whether both are true.", "bool")
logical_or = _binary("logical_or", p.logical_or, "Whether at least one is true.", "bool")
logical_xor = _binary("logical_xor", p.logical_xor, "Whether exactly one is true.", "bool")
bitwise_and = _binary("bitwise_and", p.bitwise_and, "The bits set in both. Integers or bools.", "bits")
bitwise_or = _binary("bitwise_or", p.bitwise_or, "The bits set in at least one. Integers or bools.", "bits")
bitwise_xor = _binary("bitwise_xor", p.bitwise_xor, "The bits set in exactly one. Integers or bools.", "bits")
bitwise_left_shift = _binary(
    "bitwise_left_shift", p.bitwise_left_shift, "The bits of x1 moved up by x2 places. Integers.", "bits"
)
bitwise_right_shift = _binary(
    "bitwise_right_shift", p.bitwise_right_shift, "The bits of x1 moved down by x2 places, the sign kept.", "bits"
)


@public
def positive(x: Tensor, /) -> Tensor:
    """x itself, as a new tensor."""
    x = tensor_of(x, "positive")
    return p.astype(x, dtype=x.dtype)


@public
def divide(x1: Any, x2: Any, /) -> Tensor:
    """x1 / x2; integers are converted to the default floating type.

    Raises:
        ShapeError: the shapes do not broadcast.
        DTypeError: an operand is no tensor or number.
    """
    a, b = paired(x1, x2, "divide")
    return a / b


@public
def pow(x1: Any, x2: Any, /) -> Tensor:
    """x1 to the power x2.

    Raises:
        ShapeError: the shapes do not broadcast.
        DTypeError: an operand is no tensor or number.
    """
    if isinstance(x1, Tensor) and type(x2) in (int, float):
        return x1**x2
    a, b = paired(x1, x2, "pow")
    return a**b


@public
def clip(x: Tensor, /, min: Any = None, max: Any = None) -> Tensor:
    """x moved into [min, max]; `max` where min > max, NaN where any of the three is.

    The gradient goes to x inside of the interval and on its ends, as in PyTorch.

    Args:
        x: real.
        min, max: numbers or tensors that broadcast with x; None for no bound.

    Returns:
        The clipped values in x's type.

    Raises:
        ShapeError: the shapes do not broadcast.
        DTypeError: x or a bound is complex.
    """
    y = _real(x, "clip")
    for bound, beyond in ((min, p.less), (max, p.greater)):
        if bound is not None:
            limit = _bound(bound, y)
            moved = beyond(y, limit)
            if limit.dtype.kind == "f":
                moved = p.logical_or(moved, p.isnan(limit))
            y = p.where(moved, limit, y)
    return p.astype(y, dtype=y.dtype) if y is x else y


def _bound(bound: Any, x: Tensor) -> Tensor:
    if isinstance(bound, int) and x.dtype.kind in "iu":
        limits = np.iinfo(x.dtype)
        nearest = limits.min if bound < limits.min else limits.max if bound > limits.max else bound
        return new_tensor(np.array(nearest, x.dtype), None)
    limit = operand(bound, x.dtype)
    if limit is NotImplemented or limit.dtype.kind == "c":
        raise DTypeError(located(f"clip: a bound is a real number or tensor, got {type(bound).__name__}"))
    return limit if limit.dtype == x.dtype else p.astype(limit, dtype=x.dtype)
