"""Values under construction, with Python's operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .types import Number, Type

if TYPE_CHECKING:
    from .arithmetic import Arithmetic


class Value:
    """A result of an instruction, an argument, or a constant. `constant` is its number if it is one."""

    __slots__ = ("constant", "function", "text", "type")

    def __init__(self, function: Arithmetic, type: Type, text: str, constant: Number | None = None) -> None:
        self.function = function
        self.type = type
        self.text = text
        self.constant = constant

    def __repr__(self) -> str:
        return f"{self.type.text} {self.text}"

    def __add__(self, other: Operand) -> Value:
        return self.function.binary("add", self, other)

    def __radd__(self, other: Number) -> Value:
        return self.function.binary("add", other, self)

    def __sub__(self, other: Operand) -> Value:
        return self.function.binary("sub", self, other)

    def __rsub__(self, other: Number) -> Value:
        return self.function.binary("sub", other, self)

    def __mul__(self, other: Operand) -> Value:
        return self.function.binary("mul", self, other)

    def __rmul__(self, other: Number) -> Value:
        return self.function.binary("mul", other, self)

    def __truediv__(self, other: Operand) -> Value:
        return self.function.binary("div", self, other)

    def __rtruediv__(self, other: Number) -> Value:
        return self.function.binary("div", other, self)

    def __floordiv__(self, other: Operand) -> Value:
        """Of integers, rounded towards zero: for indices, which are not negative."""
        return self.function.binary("sdiv", self, other)

    def __mod__(self, other: Operand) -> Value:
        """Of integers, with the sign of the dividend: for indices, which are not negative."""
        return self.function.binary("srem", self, other)

    def __and__(self, other: Operand) -> Value:
        return self.function.binary("and", self, other)

    def __or__(self, other: Operand) -> Value:
        return self.function.binary("or", self, other)

    def __xor__(self, other: Operand) -> Value:
        return self.function.binary("xor", self, other)

    def __lshift__(self, other: Operand) -> Value:
        return self.function.binary("shl", self, other)

    def __rshift__(self, other: Operand) -> Value:
        """Fills with zeros; `binary("ashr", …)` fills with the sign."""
        return self.function.binary("lshr", self, other)

    def __invert__(self) -> Value:
        return self.function.binary("xor", self, -1)

    def __neg__(self) -> Value:
        if self.type.is_float:
            return self.function.emit(self.type, f"fneg {self.type.text} {self.text}")
        return self.function.binary("sub", 0, self)

    def __lt__(self, other: Operand) -> Value:
        return self.function.compare("lt", self, other)

    def __le__(self, other: Operand) -> Value:
        return self.function.compare("le", self, other)

    def __gt__(self, other: Operand) -> Value:
        return self.function.compare("gt", self, other)

    def __ge__(self, other: Operand) -> Value:
        return self.function.compare("ge", self, other)


Operand = Value | int | float
