"""A small builder of LLVM IR in text form.

A `Module` holds functions; a `Function` appends instructions in order. Values are typed and carry
Python's operators, so an address or a polynomial reads as arithmetic. Numbers beside a value become
constants of its type, and integer arithmetic on constants is folded here: index expressions stay
short. Control flow is structured (`loop`, `when`, `cond`) and keeps values in registers through phi
nodes, so no pass has to lift them out of memory.

Text, and not llvmlite's object model, because a training step has many instructions and appending
a line is the cheapest thing Python can do.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

Number = int | float


class Type:
    """A first-class LLVM type: a scalar, a pointer, or a vector of `lanes` scalars (0: no vector)."""

    __slots__ = ("bits", "element", "is_float", "lanes", "text")

    def __init__(self, element: str, bits: int, lanes: int = 0) -> None:
        self.element = element
        self.bits = bits
        self.lanes = lanes
        self.is_float = element in ("float", "double", "half", "bfloat")
        self.text = f"<{lanes} x {element}>" if lanes else element

    @property
    def scalar(self) -> Type:
        """The type of one lane."""
        return vector(self, 0)

    @property
    def nbytes(self) -> int:
        """Bytes of one lane in memory."""
        return (self.bits + 7) // 8

    @property
    def mangled(self) -> str:
        """How the names of overloaded intrinsics spell the type."""
        kind = {"float": "f32", "double": "f64", "half": "f16", "bfloat": "bf16", "ptr": "p0"}.get(
            self.element, self.element
        )
        return f"v{self.lanes}{kind}" if self.lanes else kind

    def __repr__(self) -> str:
        return self.text


@cache
def _type(element: str, bits: int, lanes: int) -> Type:
    return Type(element, bits, lanes)


def vector(scalar: Type, lanes: int) -> Type:
    """The vector of so many lanes; with 0 lanes the scalar itself."""
    return _type(scalar.element, scalar.bits, lanes)


F32 = _type("float", 32, 0)
F64 = _type("double", 64, 0)
BF16 = _type("bfloat", 16, 0)
I1 = _type("i1", 1, 0)
I8 = _type("i8", 8, 0)
I16 = _type("i16", 16, 0)
I32 = _type("i32", 32, 0)
I64 = _type("i64", 64, 0)
PTR = _type("ptr", 64, 0)
VOID = _type("void", 0, 0)

_DTYPES = {"f4": F32, "f8": F64, "b1": I8, "i1": I8, "u1": I8, "i2": I16, "u2": I16}
_DTYPES |= {"i4": I32, "u4": I32, "i8": I64, "u8": I64}


def type_of(dtype: Any) -> Type:
    """The type that holds a NumPy data type in memory (bool: one byte)."""
    return _DTYPES[np.dtype(dtype).str[1:]]


def is_native(dtype: Any) -> bool:
    """Whether there is a type that holds a NumPy data type in memory."""
    return np.dtype(dtype).str[1:] in _DTYPES


class Value:
    """A result of an instruction, an argument, or a constant. `constant` is its number if it is one."""

    __slots__ = ("constant", "function", "text", "type")

    def __init__(self, function: Function, type: Type, text: str, constant: Number | None = None) -> None:
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


def _constant_text(type: Type, number: Number) -> str:
    if type.is_float:
        if type.element == "bfloat":
            text = f"0xR{struct.unpack('<I', struct.pack('<f', number))[0] >> 16:04X}"
        else:
            exact = float(np.float32(number)) if type.element == "float" else float(number)
            text = f"0x{struct.unpack('<Q', struct.pack('<d', exact))[0]:016X}"
    elif type.element == "i1":
        text = "true" if int(number) & 1 else "false"
    elif type.element == "ptr":
        text = "null" if not number else f"inttoptr (i64 {int(number)} to ptr)"
    else:
        text = str(int(number))
    return f"splat ({type.element} {text})" if type.lanes else text


class Loop:
    """A loop under construction: `index`, the `carried` values of this turn, and, after it, `results`."""

    __slots__ = ("_next", "carried", "index", "results")

    def __init__(self, index: Value, carried: list[Value]) -> None:
        self.index = index
        self.carried = carried
        self.results: list[Value] = carried
        self._next: list[Value] | None = None

    def carry(self, *values: Value) -> None:
        """States the carried values of the next turn; once in the body, with as many as were carried."""
        if len(values) != len(self.carried):
            raise ValueError(f"the loop carries {len(self.carried)} values, the body hands on {len(values)}")
        self._next = list(values)


class Module:
    """Functions, global variables and declarations; `str(module)` is the text that LLVM parses."""

    def __init__(self) -> None:
        self.functions: dict[str, Function] = {}
        self.declarations: dict[str, str] = {}
        self.globals: dict[str, str] = {}

    def function(
        self, name: str, parameters: Sequence[Type] = (), result: Type = VOID, *, internal: bool = False
    ) -> Function:
        """A new function. An internal one can be called in this module only."""
        if name in self.functions:
            raise ValueError(f"a function called {name} exists")
        made = Function(self, name, parameters, result, internal=internal)
        self.functions[name] = made
        return made

    def declare(self, name: str, result: Type, parameters: Sequence[Type]) -> None:
        """A function of the process or an intrinsic."""
        if name not in self.declarations and name not in self.functions:
            listed = ", ".join(p.text for p in parameters)
            self.declarations[name] = f"declare {result.text} @{name}({listed})"

    def zeros(self, name: str, nbytes: int, align: int = 64) -> str:
        """A global variable of zero bytes, writable; returns its name."""
        self.globals[name] = f"@{name} = internal global [{nbytes} x i8] zeroinitializer, align {align}"
        return name

    def table(self, name: str, type: Type, numbers: Sequence[Number], align: int = 64) -> str:
        """A constant array of scalars; returns its name."""
        listed = ", ".join(f"{type.text} {_constant_text(type, n)}" for n in numbers)
        self.globals[name] = f"@{name} = internal constant [{len(numbers)} x {type.text}] [{listed}], align {align}"
        return name

    def __str__(self) -> str:
        parts = [*self.globals.values(), *self.declarations.values(), *(str(f) for f in self.functions.values())]
        return "\n".join(parts) + "\n"


class Function:
    """A function under construction. Instructions go to the end of the current block."""

    def __init__(
        self, module: Module, name: str, parameters: Sequence[Type], result: Type, *, internal: bool = False
    ) -> None:
        self.module = module
        self.name = name
        self.result = result
        self.arguments = [Value(self, p, f"%a{i}") for i, p in enumerate(parameters)]
        self._internal = internal
        self._entry: list[str] = []
        self._lines: list[str] = []
        self._names = 0
        self._block = "entry"

    def __str__(self) -> str:
        listed = ", ".join(f"{a.type.text} {a.text}" for a in self.arguments)
        kind = "define internal" if self._internal else "define"
        body = "\n".join(["entry:", *self._entry, *self._lines])
        return f"{kind} {self.result.text} @{self.name}({listed}) nounwind {{\n{body}\n}}"

    # Constants

    def constant(self, type: Type, number: Number) -> Value:
        """A number of a type; of a vector type, in every lane."""
        return Value(self, type, _constant_text(type, number), number)

    def index(self, number: int) -> Value:
        """A constant for address arithmetic (i64)."""
        return Value(self, I64, str(number), number)

    def lanes(self, type: Type, numbers: Sequence[Number]) -> Value:
        """A constant vector, lane by lane."""
        scalar = type.scalar
        listed = ", ".join(f"{scalar.text} {_constant_text(scalar, n)}" for n in numbers)
        return Value(self, vector(scalar, len(numbers)), f"<{listed}>")

    def zero(self, type: Type) -> Value:
        return Value(
            self, type, "null" if type is PTR else "zeroinitializer" if type.lanes else _constant_text(type, 0)
        )

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

    # Instructions

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

    # Types

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

    # Memory

    def element(self, pointer: Value, index: Operand, scalar: Type) -> Value:
        """The address of entry `index` of an array of scalars."""
        index = self.as_type(I64, index)
        if index.constant == 0:
            return pointer
        return self.emit(PTR, f"getelementptr {scalar.text}, {pointer}, {index}")

    def offset(self, pointer: Value, nbytes: Operand) -> Value:
        """The address so many bytes further."""
        return self.element(pointer, nbytes, I8)

    def load(self, type: Type, pointer: Value, index: Operand = 0, *, align: int = 0) -> Value:
        """A scalar, or consecutive scalars as a vector, from entry `index` on."""
        address = self.element(pointer, index, type.scalar)
        return self.emit(type, f"load {type.text}, {address}, align {align or type.nbytes}")

    def store(
        self, value: Value, pointer: Value, index: Operand = 0, *, align: int = 0, nontemporal: bool = False
    ) -> None:
        address = self.element(pointer, index, value.type.scalar)
        self.emit_void(f"store {value}, {address}, align {align or value.type.nbytes}")

    def load_masked(self, type: Type, pointer: Value, mask: Value | None, index: Operand = 0) -> Value:
        """Consecutive scalars; lanes that the mask leaves out are not read and are zero. No mask: all."""
        if mask is None:
            return self.load(type, pointer, index)
        address = self.element(pointer, index, type.scalar)
        name = f"llvm.masked.load.{type.mangled}.p0"
        return self._call_masked(name, type, address, mask, self.zero(type))

    def store_masked(self, value: Value, pointer: Value, mask: Value | None, index: Operand = 0) -> None:
        """Writes the lanes that the mask keeps. No mask: all."""
        if mask is None:
            self.store(value, pointer, index)
            return
        type = value.type
        address = self.element(pointer, index, type.scalar)
        name = f"llvm.masked.store.{type.mangled}.p0"
        self.module.declarations.setdefault(name, f"declare void @{name}({type.text}, ptr, <{type.lanes} x i1>)")
        self.emit_void(f"call void @{name}({value}, ptr align {type.nbytes} {address.text}, {mask})")

    def _call_masked(self, name: str, type: Type, address: Value, mask: Value, otherwise: Value) -> Value:
        self.module.declarations.setdefault(name, f"declare {type.text} @{name}(ptr, <{type.lanes} x i1>, {type.text})")
        text = f"call {type.text} @{name}(ptr align {type.nbytes} {address.text}, {mask}, {otherwise})"
        return self.emit(type, text)

    def mask(self, lanes: int, count: Operand) -> Value | None:
        """The first `count` of so many lanes; None if that is all of them for sure."""
        if isinstance(count, Value) and count.constant is not None:
            count = int(count.constant)
        if not isinstance(count, Value):
            if count >= lanes:
                return None
            return self.lanes(I1, [int(i < count) for i in range(lanes)])
        narrow = self.cast("trunc", self.pairwise("smin", count, lanes), I32)
        return self.compare("lt", self.lanes(I32, range(lanes)), self.broadcast(narrow, lanes))

    def gather(self, type: Type, pointer: Value, indices: Value, mask: Value | None = None) -> Value:
        """Scalars from entries `indices` (a vector of i32 or i64) of an array; left-out lanes are zero."""
        pointers = self.emit(vector(PTR, type.lanes), f"getelementptr {type.element}, {pointer}, {indices}")
        keep = mask if mask is not None else self.constant(vector(I1, type.lanes), 1)
        name = f"llvm.masked.gather.{type.mangled}.{pointers.type.mangled}"
        self.module.declarations.setdefault(
            name, f"declare {type.text} @{name}({pointers.type.text}, {keep.type.text}, {type.text})"
        )
        listed = f"{pointers.type.text} align {type.nbytes} {pointers.text}, {keep}, {self.zero(type)}"
        return self.emit(type, f"call {type.text} @{name}({listed})")

    def scatter(self, value: Value, pointer: Value, indices: Value, mask: Value | None = None) -> None:
        """Writes the lanes that the mask keeps to entries `indices` of an array."""
        type = value.type
        pointers = self.emit(vector(PTR, type.lanes), f"getelementptr {type.element}, {pointer}, {indices}")
        keep = mask if mask is not None else self.constant(vector(I1, type.lanes), 1)
        name = f"llvm.masked.scatter.{type.mangled}.{pointers.type.mangled}"
        self.module.declarations.setdefault(
            name, f"declare void @{name}({type.text}, {pointers.type.text}, {keep.type.text})"
        )
        listed = f"{value}, {pointers.type.text} align {type.nbytes} {pointers.text}, {keep}"
        self.emit_void(f"call void @{name}({listed})")

    def alloca(self, nbytes: int, align: int = 64) -> Value:
        """Memory on the stack, for the whole function."""
        name = f"%s{len(self._entry)}"
        self._entry.append(f"  {name} = alloca [{nbytes} x i8], align {align}")
        return Value(self, PTR, name)

    def prefetch(self, pointer: Value, *, locality: int = 3) -> None:
        """Asks for a cache line; locality 3 keeps it near, 0 passes it through."""
        self.module.declarations.setdefault("llvm.prefetch.p0", "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        self.emit_void(f"call void @llvm.prefetch.p0({pointer}, i32 0, i32 {locality}, i32 1)")

    # Atomics

    def atomic_load(self, type: Type, pointer: Value, ordering: str = "acquire") -> Value:
        return self.emit(type, f"load atomic {type.text}, {pointer} {ordering}, align {type.nbytes}")

    def atomic_store(self, value: Value, pointer: Value, ordering: str = "release") -> None:
        self.emit_void(f"store atomic {value}, {pointer} {ordering}, align {value.type.nbytes}")

    def atomic(self, operation: str, pointer: Value, value: Value, ordering: str = "acq_rel") -> Value:
        """add, sub, xchg, and, or, max, … in one step; the value before."""
        return self.emit(value.type, f"atomicrmw {operation} {pointer}, {value} {ordering}")

    def exchange(self, pointer: Value, old: Value, new: Value) -> Value:
        """Stores `new` if `old` is found there, in one step; whether it was."""
        pair = self.emit(old.type, f"cmpxchg {pointer}, {old}, {new} acq_rel acquire")
        return self.emit(I1, f"extractvalue {{ {old.type.text}, i1 }} {pair.text}, 1")

    # Reductions of a vector to a scalar

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

    # Control flow

    def label(self, hint: str = "b") -> str:
        self._names += 1
        return f"{hint}{self._names}"

    def start_block(self, label: str) -> None:
        self._lines.append(f"{label}:")
        self._block = label

    def jump(self, label: str) -> None:
        self.emit_void(f"br label %{label}")

    def branch(self, condition: Value, then: str, otherwise: str) -> None:
        self.emit_void(f"br {condition}, label %{then}, label %{otherwise}")

    def phi(self, type: Type, incoming: Sequence[tuple[Value, str]]) -> Value:
        listed = ", ".join(f"[ {value.text}, %{block} ]" for value, block in incoming)
        return self.emit(type, f"phi {type.text} {listed}")

    @contextmanager
    def loop(self, start: Operand, stop: Operand, step: Operand = 1, carry: Sequence[Value] = ()) -> Iterator[Loop]:
        """for index in range(start, stop, step), upwards; `carry` are values that change from turn to turn.

        with f.loop(0, n, carry=[total]) as loop:
            loop.carry(loop.carried[0] + f.load(F32, x, loop.index))
        total, = loop.results
        """
        first, last, by = self.as_type(I64, start), self.as_type(I64, stop), self.as_type(I64, step)
        body, done = self.label("loop"), self.label("done")
        before = self._block
        known = first.constant is not None and last.constant is not None
        runs = known and int(first.constant or 0) < int(last.constant or 0)
        guarded = not runs
        if guarded:
            self.branch(self.compare("lt", first, last), body, done)
        else:
            self.jump(body)
        self.start_block(body)
        heads = [self._reserve(I64), *(self._reserve(v.type) for v in carry)]
        places = [len(self._lines) - len(heads) + i for i in range(len(heads))]
        made = Loop(heads[0], heads[1:])
        yield made
        following = made._next if made._next is not None else list(made.carried)
        advanced = heads[0] + by
        latch = self._block
        for place, head, begin, later in zip(places, heads, [first, *carry], [advanced, *following], strict=True):
            self._lines[place] = (
                f"  {head.text} = phi {head.type.text} [ {begin.text}, %{before} ], [ {later.text}, %{latch} ]"
            )
        self.branch(self.compare("lt", advanced, last), body, done)
        self.start_block(done)
        made.results = following
        if guarded:
            made.results = [
                self.phi(begin.type, [(begin, before), (later, latch)])
                for begin, later in zip(carry, following, strict=True)
            ]

    def _reserve(self, type: Type) -> Value:
        """A name whose instruction is written later."""
        name = f"%v{self._names}"
        self._names += 1
        self._lines.append("")
        return Value(self, type, name)

    @contextmanager
    def repeat(self) -> Iterator[Callable[[Value], None]]:
        """Runs the body again and again; it leaves where it calls what it is given with a condition that holds."""
        body, done = self.label("again"), self.label("done")

        def leave_if(condition: Value) -> None:
            following = self.label("on")
            self.branch(condition, done, following)
            self.start_block(following)

        self.jump(body)
        self.start_block(body)
        yield leave_if
        self.jump(body)
        self.start_block(done)

    @contextmanager
    def when(self, condition: Value) -> Iterator[None]:
        """Runs the body if the condition holds."""
        then, done = self.label("then"), self.label("done")
        self.branch(condition, then, done)
        self.start_block(then)
        yield
        self.jump(done)
        self.start_block(done)

    def either(self, condition: Value, then: Callable[[], None], otherwise: Callable[[], None]) -> None:
        """Runs one of two bodies."""

        def empty(body: Callable[[], None]) -> Callable[[], Sequence[Value]]:
            def run() -> Sequence[Value]:
                body()
                return ()

            return run

        self.cond(condition, empty(then), empty(otherwise))

    def cond(
        self,
        condition: Value,
        then: Callable[[], Sequence[Value]],
        otherwise: Callable[[], Sequence[Value]],
    ) -> list[Value]:
        """Runs one of two bodies and returns the values it hands out."""
        yes, no, done = self.label("then"), self.label("else"), self.label("done")
        self.branch(condition, yes, no)
        ends = []
        for label, body in ((yes, then), (no, otherwise)):
            self.start_block(label)
            values = list(body())
            ends.append((values, self._block))
            self.jump(done)
        self.start_block(done)
        (left, left_block), (right, right_block) = ends
        return [self.phi(a.type, [(a, left_block), (b, right_block)]) for a, b in zip(left, right, strict=True)]
