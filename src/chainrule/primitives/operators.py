"""Python's operators on tensors, installed on `Tensor`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.dtypes import default_dtype, real_dtype
from ..core.errors import DTypeError, located
from ..core.primitive import Primitive
from ..core.tensor import Tensor, constant, new_tensor, operand
from . import indexing
from . import pointwise as p
from .products import matrix_product

_ndarray = np.ndarray


def beside_number(x: Tensor, y: Any) -> tuple[Tensor, Any]:
    """x and the operand y as tensors; NotImplemented for a y that is none.

    Integers beside a Python float become the default floating type. (NumPy's promotion of
    int64 and float32 to float64 is meant for tensors, not for numbers in a formula.)
    """
    kind, dtype = type(y), x._value.dtype
    if (kind is float or kind is int) and dtype.kind in "fc":
        return x, constant(y, dtype)  # by far the most frequent case
    other = operand(y, dtype)
    if other is NotImplemented and (y is None or isinstance(y, list | tuple | str | bytes | dict)):
        # Python would go on to ask a list for its product with the tensor, and complain about that.
        raise DTypeError(
            located(f"expected a tensor or a number beside a tensor, got {type(y).__name__}; asarray() makes a tensor")
        )
    if kind in (float, complex) and dtype.kind in "biu":
        x = p.astype(x, dtype=real_dtype(other.dtype))
    return x, other


def _binary(name: str, primitive: Primitive) -> None:
    def operator(x: Tensor, y: Any) -> Any:
        if not isinstance(y, Tensor):
            x, y = beside_number(x, y)
            if y is NotImplemented:
                return y
        return primitive(x, y)

    def reflected(x: Tensor, y: Any) -> Any:
        x, y = beside_number(x, y)
        return y if y is NotImplemented else primitive(y, x)

    setattr(Tensor, f"__{name}__", operator)
    if name not in ("lt", "le", "gt", "ge", "eq", "ne"):
        setattr(Tensor, f"__r{name}__", reflected)


def _ordered(primitive: Primitive) -> Any:
    def compare(x: Tensor, y: Tensor) -> Tensor:
        if x.dtype.kind == "c" or y.dtype.kind == "c":
            raise DTypeError(located(f"{primitive.name}: complex numbers have no order, got {x.dtype} and {y.dtype}"))
        return primitive(x, y)

    return compare


def _true_divide(x: Tensor, y: Tensor) -> Tensor:
    if x.dtype.kind in "iub" and y.dtype.kind in "iub":
        x = p.astype(x, dtype=default_dtype())
        y = p.astype(y, dtype=default_dtype())
    return p.divide(x, y)


def _power(x: Tensor, y: Any) -> Any:
    # A constant integer exponent has the simpler derivative n x^(n-1), also at x = 0.
    if isinstance(y, int) and not isinstance(y, bool) and x.dtype.kind in "fc":
        if y == 2:
            return p.square(x)
        if -64 <= y <= 64 and y != 0:
            return p.integer_power(x, n=y)
    if isinstance(y, float) and y == 0.5 and x.dtype.kind in "fc":
        return p.sqrt(x)
    if not isinstance(y, Tensor):
        x, y = beside_number(x, y)
        if y is NotImplemented:
            return y
    return p.power(x, y)


def _equal(x: Tensor, y: Any) -> Any:
    y = operand(y, x.dtype)
    return False if y is NotImplemented else p.equal(x, y)


def _not_equal(x: Tensor, y: Any) -> Any:
    y = operand(y, x.dtype)
    return True if y is NotImplemented else p.not_equal(x, y)


def _reflected_power(x: Tensor, y: Any) -> Any:
    x, y = beside_number(x, y)
    return y if y is NotImplemented else p.power(y, x)


def _and(boolean: Primitive, bitwise: Primitive) -> Any:
    def choose(x: Tensor, y: Tensor) -> Tensor:
        if x.dtype.kind not in "biu" or y.dtype.kind not in "biu":
            raise DTypeError(located(f"bit operations need integers or bools, got {x.dtype} and {y.dtype}"))
        return (boolean if x.dtype.kind == "b" and y.dtype.kind == "b" else bitwise)(x, y)

    return choose


def _matmul_operator(x: Tensor, y: Any) -> Any:
    y = operand(y, x.dtype)
    return y if y is NotImplemented else matrix_product(x, y)


def _reflected_matmul(x: Tensor, y: Any) -> Any:
    y = operand(y, x.dtype)
    return y if y is NotImplemented else matrix_product(y, x)


def install() -> None:
    """Give `Tensor` its operators."""
    for name, primitive in (
        ("add", p.add), ("sub", p.subtract), ("mul", p.multiply), ("floordiv", p.floor_divide),
        ("mod", p.remainder), ("lshift", p.bitwise_left_shift), ("rshift", p.bitwise_right_shift),
        ("lt", _ordered(p.less)), ("le", _ordered(p.less_equal)),
        ("gt", _ordered(p.greater)), ("ge", _ordered(p.greater_equal)),
        ("truediv", _true_divide),
        ("and", _and(p.logical_and, p.bitwise_and)), ("or", _and(p.logical_or, p.bitwise_or)),
        ("xor", _and(p.logical_xor, p.bitwise_xor)),
    ):  # fmt: skip
        _binary(name, primitive)  # type: ignore[arg-type]
    methods: dict[str, Any] = {
        "__eq__": _equal,
        "__ne__": _not_equal,
        "__pow__": _power,
        "__rpow__": _reflected_power,
        "__matmul__": _matmul_operator,
        "__rmatmul__": _reflected_matmul,
        "__neg__": lambda x: p.negative(x),
        "__pos__": lambda x: new_tensor(x._value, x._node),  # a handle of its own: `y = +x; y[0] = 1` leaves x alone
        "__abs__": lambda x: p.abs(x),
        "__invert__": lambda x: p.logical_not(x) if x.dtype.kind == "b" else p.bitwise_invert(x),
        "__getitem__": indexing.get_item,
        "__setitem__": indexing.set_item,
        "__iter__": indexing.iterate,
    }
    for name, method in methods.items():
        setattr(Tensor, name, method)
