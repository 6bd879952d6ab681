"""`Setting`: a hyperparameter in a traced step, as a number that is read again at every call."""

from __future__ import annotations

from typing import Any

from ..core.dtypes import float64
from ..core.tensor import Tensor, constant
from ..primitives import pointwise as p


class Setting:
    """A float64 number whose value a trace does not know.

    It computes like the Python float it stands for: in double precision among numbers, and in the
    data type of the tensor beside a tensor. It is never zero where a rule asks whether it is: rules
    leave whole terms out then, so that a zero is part of what was traced.
    """

    __slots__ = ("tensor",)
    __array_ufunc__ = None

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor if tensor.dtype == float64 else p.astype(tensor, dtype=float64)

    def __bool__(self) -> bool:
        return True

    def __neg__(self) -> Setting:
        return Setting(p.negative(self.tensor))

    def __add__(self, other: Any) -> Any:
        return _apply(p.add, self, other)

    def __radd__(self, other: Any) -> Any:
        return _apply(p.add, other, self)

    def __sub__(self, other: Any) -> Any:
        return _apply(p.subtract, self, other)

    def __rsub__(self, other: Any) -> Any:
        return _apply(p.subtract, other, self)

    def __mul__(self, other: Any) -> Any:
        return _apply(p.multiply, self, other)

    def __rmul__(self, other: Any) -> Any:
        return _apply(p.multiply, other, self)

    def __truediv__(self, other: Any) -> Any:
        return _apply(p.divide, self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return _apply(p.divide, other, self)

    def __pow__(self, other: Any) -> Any:
        return Setting(p.sqrt(self.tensor)) if other == 0.5 else _apply(p.power, self, other)

    def __rpow__(self, other: Any) -> Any:
        return _apply(p.power, other, self)

    def log(self) -> Setting:
        """Its natural logarithm."""
        return Setting(p.log(self.tensor))

    def expm1(self) -> Setting:
        """e to its power, minus 1."""
        return Setting(p.expm1(self.tensor))


def _apply(primitive: Any, a: Any, b: Any) -> Any:
    beside = next((o for o in (a, b) if isinstance(o, Tensor)), None)
    if beside is not None:
        return primitive(_operand(a, beside.dtype), _operand(b, beside.dtype))
    return Setting(primitive(_operand(a, float64), _operand(b, float64)))


def _operand(value: Any, dtype: Any) -> Tensor:
    if isinstance(value, Setting):
        return value.tensor if dtype == float64 else p.astype(value.tensor, dtype=dtype)
    return value if isinstance(value, Tensor) else constant(float(value), dtype)
