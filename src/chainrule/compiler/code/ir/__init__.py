"""A small builder of LLVM IR in text form.

A `Module` holds functions; a `Function` appends instructions in order. Values are typed and carry
Python's operators, so an address or a polynomial reads as arithmetic. Numbers beside a value become
constants of its type, and integer arithmetic on constants is folded here: index expressions stay
short. Control flow is structured (`loop`, `when`, `cond`) and keeps values in registers through phi
nodes, so no pass has to lift them out of memory.

Text, and not llvmlite's object model, because a training step has many instructions and appending
a line is the cheapest thing Python can do.
"""

from .flow import Loop
from .module import Function, Module
from .types import BF16, F32, F64, I1, I8, I16, I32, I64, PTR, VOID, Number, Type, is_native, type_of, vector
from .values import Operand, Value

__all__ = [
    "BF16",
    "F32",
    "F64",
    "I1",
    "I8",
    "I16",
    "I32",
    "I64",
    "PTR",
    "VOID",
    "Function",
    "Loop",
    "Module",
    "Number",
    "Operand",
    "Type",
    "Value",
    "is_native",
    "type_of",
    "vector",
]
