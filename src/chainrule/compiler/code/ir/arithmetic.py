"""Instructions that compute: constants, arithmetic, conversions, vectors, calls."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .types import I1, I64, PTR, VOID, Number, Type, constant_text, vector
from .values import Operand, Value

if TYPE_CHECKING:
    from .module import Module

_FLOAT_OPCODES = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv", "rem": "frem"}
_FOLDED: dict[str, Callable[[int, int], int]] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "sdiv": lambda a, b: _towards_zero(a, b),
    "srem": lambda a, b: a - b * _towards_zero(a, b),
}


def _towards_zero(a: int, b: int) -> int:
    quotient = abs(a) // abs(b)
    return quotient if (a < 0) == (b < 0) else -quotient


class Arithmetic:
    """What numbers are computed by. Instructions go to the end of the current block."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self._entry: list[str] = []
        self._lines: list[str] = []
        self._names = 0
        self._block = "entry"

    def constant(self, type: Type, number: Number) -> Value:
        """A number of a type; of a vector type, in every lane."""
        return Value(self, type, constant_text(type, number), number)

    def index(self, number: int) -> Value:
        """A constant for address arithmetic (i64)."""
        return Value(self, I64, str(number), number)

    def lanes(self, type: Type, numbers: Sequence[Number]) -> Value:
        """A constant vector, lane by lane."""
        scalar = type.scalar
        listed = ", ".join(f"{scalar.text} {constant_text(scalar, n)}" for n in numbers)
        return Value(self, vector(scalar, len(numbers)), f"<{listed}>")

    def zero(self, type: Type) -> Value:
        return Value(self, type, "null" if type is PTR else "zeroinitializer" if type.lanes else constant_text(type, 0))

    def address_of(self, name: str) -> Value:
        """The address of a global variable or function."""
        return Value(self, PTR, f"@{name}")

    def _pair(self, a: Operand, b: Operand) -> tuple[Value, Value]:
        """Two operands of one type: a number takes the other's type, a scalar beside a vector is broadcast."""
        if not isinstance(a, Value):
            assert isinstance(b, Value), "one operand must be a value"
            return self.constant(b.type, a), b
        if not isinstance(b, Value):
            return a, self.constant(a.type, b)
        if a.type is not b.type:
            if a.type.lanes and not b.type.lanes:
                b = self.broadcast(b, a.type.lanes)
            elif b.type.lanes and not a.type.lanes:
                a = self.broadcast(a, b.type.lanes)
            if a.type is not b.type:
                raise TypeError(f"operands of types {a.type} and {b.type}")
        return a, b

    def emit(self, type: Type, text: str) -> Value:
        """Appends an instruction that has a result."""
        name = f"%v{self._names}"
        self._names += 1
        self._lines.append(f"  {name} = {text}")
        return Value(self, type, name)

    def emit_void(self, text: str) -> None:
        """Appends an instruction without a result."""
        self._lines.append("  " + text)

    def binary(self, opcode: str, a: Operand, b: Operand) -> Value:
        """add, sub, mul, div (floats), sdiv, udiv, srem, urem, and, or, xor, shl, lshr, ashr; rem (floats)."""
        a, b = self._pair(a, b)
        if a.type.is_float:
            opcode = _FLOAT_OPCODES[opcode]
        else:
            x, y = a.constant, b.constant
            if x is not None and y is not None and not a.type.lanes and opcode in _FOLDED:
                return self.constant(a.type, _FOLDED[opcode](int(x), int(y)))
            if y == 0 and opcode in ("add", "sub", "or", "shl", "lshr"):
                return a
            if x == 0 and opcode in ("add", "or"):
                return b
            if y == 1 and opcode in ("mul", "sdiv", "udiv"):
                return a
            if x == 1 and opcode == "mul":
                return b
        return self.emit(a.type, f"{opcode} {a.type.text} {a.text}, {b.text}")

    def compare(self, relation: str, a: Operand, b: Operand) -> Value:
        """lt, le, gt, ge, eq, ne of one type: signed integers (ult … for unsigned), floats ordered but for ne.

        Comparing floats is false if one is NaN; `ne` is then true.
        """
        a, b = self._pair(a, b)
        result = vector(I1, a.type.lanes)
        if a.type.is_float:
            return self.emit(result, f"fcmp {'une' if relation == 'ne' else 'o' + relation} {a}, {b.text}")
        plain = relation in ("eq", "ne") or len(relation) == 3
        return self.emit(result, f"icmp {relation if plain else 's' + relation} {a}, {b.text}")

    def equal(self, a: Operand, b: Operand) -> Value:
        return self.compare("eq", a, b)

    def is_nan(self, x: Value) -> Value:
        return self.emit(vector(I1, x.type.lanes), f"fcmp uno {x}, {x.text}")

    def select(self, condition: Value, a: Operand, b: Operand) -> Value:
        """a where the condition holds, else b. A scalar condition chooses whole vectors."""
        a, b = self._pair(a, b)
        if condition.type.lanes and not a.type.lanes:
            a, b = self.broadcast(a, condition.type.lanes), self.broadcast(b, condition.type.lanes)
        return self.emit(a.type, f"select {condition}, {a}, {b}")

    def fma(self, a: Value, b: Operand, c: Operand) -> Value:
        """a·b + c, rounded once where the target has the instruction and twice where it has not."""
        type = next(v.type for v in (a, b, c) if isinstance(v, Value) and (v.type.lanes or not a.type.lanes))
        operands = [self.as_type(type, v) for v in (a, b, c)]
        return self.intrinsic(f"llvm.fmuladd.{type.mangled}", type, *operands)

    def as_type(self, type: Type, v: Operand) -> Value:
        """A number as a constant of the type; a scalar, if the type is a vector, in every lane."""
        if not isinstance(v, Value):
            return self.constant(type, v)
        return self.broadcast(v, type.lanes) if type.lanes and not v.type.lanes else v

    def unary(self, name: str, x: Value) -> Value:
        """An intrinsic of one operand and the same type: fabs, sqrt, floor, ceil, trunc, rint, nearbyint, ctpop."""
        return self.intrinsic(f"llvm.{name}.{x.type.mangled}", x.type, x)

    def pairwise(self, name: str, a: Operand, b: Operand) -> Value:
        """An intrinsic of two operands of one type: maximum, minimum (NaN wins), maxnum, minnum (NaN loses),
        copysign; smax, smin, umax, umin of integers."""
        a, b = self._pair(a, b)
        return self.intrinsic(f"llvm.{name}.{a.type.mangled}", a.type, a, b)

    def intrinsic(self, name: str, result: Type, *operands: Value) -> Value:
        return self.call(name, result, *operands)

    def call(self, name: str, result: Type, *arguments: Value) -> Value:
        """Calls a function of this module, of the process, or an intrinsic."""
        if name not in self.module.functions:
            self.module.declare(name, result, [a.type for a in arguments])
        listed = ", ".join(f"{a.type.text} {a.text}" for a in arguments)
        if result is VOID:
            self.emit_void(f"call void @{name}({listed})")
            return Value(self, VOID, "")
        return self.emit(result, f"call {result.text} @{name}({listed})")

    def call_pointer(self, pointer: Value, result: Type, *arguments: Value) -> Value:
        """Calls the function at an address."""
        listed = ", ".join(f"{a.type.text} {a.text}" for a in arguments)
        text = f"call {result.text} {pointer.text}({listed})"
        if result is VOID:
            self.emit_void(text)
            return Value(self, VOID, "")
        return self.emit(result, text)

    def ret(self, value: Value | None = None) -> None:
        self.emit_void(f"ret {value}" if value is not None else "ret void")

    def broadcast(self, x: Value, lanes: int) -> Value:
        """A vector with the scalar in every lane."""
        if x.constant is not None:
            return self.constant(vector(x.type, lanes), x.constant)
        wide = vector(x.type, lanes)
        one = self.emit(wide, f"insertelement {wide.text} poison, {x}, i64 0")
        return self.emit(wide, f"shufflevector {one}, {wide.text} poison, <{lanes} x i32> zeroinitializer")

    def shuffle(self, a: Value, b: Value, lanes: Sequence[int]) -> Value:
        """The chosen lanes of two vectors laid end to end; -1 leaves a lane undefined."""
        listed = ", ".join("i32 poison" if i < 0 else f"i32 {i}" for i in lanes)
        return self.emit(vector(a.type, len(lanes)), f"shufflevector {a}, {b}, <{len(lanes)} x i32> <{listed}>")

    def extract(self, x: Value, lane: Operand) -> Value:
        return self.emit(x.type.scalar, f"extractelement {x}, {self.as_type(I64, lane)}")

    def insert(self, x: Value, element: Value, lane: Operand) -> Value:
        return self.emit(x.type, f"insertelement {x}, {element}, {self.as_type(I64, lane)}")

    def bitcast(self, x: Value, type: Type) -> Value:
        return x if x.type is type else self.emit(type, f"bitcast {x} to {type.text}")

    def cast(self, opcode: str, x: Value, type: Type) -> Value:
        """A named conversion: trunc, zext, sext, fptrunc, fpext, fptosi, sitofp, uitofp, ptrtoint, inttoptr."""
        return x if x.type is type else self.emit(type, f"{opcode} {x} to {type.text}")

    def convert(self, x: Value, scalar: Type, *, signed: bool = True) -> Value:
        """The number as another scalar type, lane by lane. i1 counts as unsigned; to an integer it saturates."""
        type = vector(scalar, x.type.lanes)
        if x.type is type:
            return x
        if x.constant is not None:
            return self.constant(type, x.constant)
        signed = signed and x.type.bits > 1
        if x.type.is_float and type.is_float:
            return self.cast("fpext" if type.bits > x.type.bits else "fptrunc", x, type)
        if type.is_float:
            return self.cast("sitofp" if signed else "uitofp", x, type)
        if x.type.is_float:
            kind = "fptosi" if signed else "fptoui"
            return self.intrinsic(f"llvm.{kind}.sat.{type.mangled}.{x.type.mangled}", type, x)
        if type.bits < x.type.bits:
            return self.cast("trunc", x, type)
        return self.cast("sext" if signed else "zext", x, type)

    def reduce(self, operation: str, x: Value) -> Value:
        """add, mul, maximum, minimum, fmax, fmin; of integers smax, smin, umax, umin, and, or, xor.

        Sums and products of floats are taken in whatever order is fastest.
        """
        if x.type.is_float and operation in ("add", "mul"):
            scalar = x.type.scalar
            name = f"llvm.vector.reduce.f{operation}.{x.type.mangled}"
            start = self.constant(scalar, -0.0 if operation == "add" else 1.0)
            self.module.declare(name, scalar, [scalar, x.type])
            return self.emit(scalar, f"call reassoc {scalar.text} @{name}({start}, {x})")
        prefix = "f" if operation in ("maximum", "minimum") else ""
        return self.intrinsic(f"llvm.vector.reduce.{prefix}{operation}.{x.type.mangled}", x.type.scalar, x)
