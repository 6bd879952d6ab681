"""Types of LLVM IR, and how numbers of a type are written."""

from __future__ import annotations

import struct
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


def constant_text(type: Type, number: Number) -> str:
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
