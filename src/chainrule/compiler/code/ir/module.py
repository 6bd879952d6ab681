"""Functions, and the module that holds them."""

from __future__ import annotations

from collections.abc import Sequence

from .flow import ControlFlow
from .types import VOID, Number, Type, constant_text
from .values import Value


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
        listed = ", ".join(f"{type.text} {constant_text(type, n)}" for n in numbers)
        self.globals[name] = f"@{name} = internal constant [{len(numbers)} x {type.text}] [{listed}], align {align}"
        return name

    def __str__(self) -> str:
        parts = [*self.globals.values(), *self.declarations.values(), *(str(f) for f in self.functions.values())]
        return "\n".join(parts) + "\n"


class Function(ControlFlow):
    """A function under construction. Instructions go to the end of the current block."""

    def __init__(
        self, module: Module, name: str, parameters: Sequence[Type], result: Type, *, internal: bool = False
    ) -> None:
        super().__init__(module)
        self.name = name
        self.result = result
        self.arguments = [Value(self, p, f"%a{i}") for i, p in enumerate(parameters)]
        self._internal = internal

    def __str__(self) -> str:
        listed = ", ".join(f"{a.type.text} {a.text}" for a in self.arguments)
        kind = "define internal" if self._internal else "define"
        body = "\n".join(["entry:", *self._entry, *self._lines])
        return f"{kind} {self.result.text} @{self.name}({listed}) nounwind {{\n{body}\n}}"
