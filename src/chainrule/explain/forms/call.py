"""What a closed form is written with: the call's numbers, its roles and the equations' notation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..formulas import literal
from ..layers import Equation, Group, Symbol
from ..names import Name
from ..trace import Value

REARRANGE = frozenset({"reshape", "permute_dims", "astype"})


@dataclass
class Candidate:
    """A form that may fit: what it says, the gradients it gives for inputs of the call, and what the call proves to be.

    `kind` is given where the call itself has no name.
    """

    equations: list[Equation]
    legend: list[Symbol]
    gradients: dict[Value, np.ndarray]
    kind: str = ""


class Gradients:
    """Gradients by value; those of a value that is read several times are added up."""

    def __init__(self) -> None:
        self.found: dict[Value, np.ndarray] = {}

    def add(self, value: Value | None, gradient: np.ndarray) -> None:
        if value is not None and value.requires_grad:
            self.found[value] = self.found.get(value, 0) + gradient


Form = Callable[["Call"], Iterator[Candidate]]
forms: list[tuple[frozenset[str], Form]] = []
of_several: set[Form] = set()


def form(*kinds: str, several: bool = False) -> Callable[[Form], Form]:
    """Register a form for layers, functions and operations of these names.

    `several` says that it knows calls with several results.
    """

    def register(function: Form) -> Form:
        forms.append((frozenset(kinds), function))
        if several:
            of_several.add(function)
        return function

    return register


class Call:
    """A call's numbers in float64, and the means to write about it.

    Attributes:
        output: what the call returned; of several results the first that was computed.
        delta: ∂L/∂output as it comes in from outside.
        sized: whether gradients are taken by their sizes, without signs: what would come out if nothing cancelled.
    """

    def __init__(self, group: Group, names: dict[Value, Name], sized: bool = False) -> None:
        self.group = group
        self.names = names
        self.output = group.outputs[0]
        self.sized = sized
        self.delta = self.arriving(self.output)

    def arriving(self, value: Value) -> np.ndarray:
        """What arrives at a result of the call from outside of it, of its shape; zeros where nothing does."""
        inside = [p for p in value.products if p.consumer in self.group and p.array is not None]
        if not inside:
            return self.gradient(value)
        outside = [p.array for p in value.products if p.consumer not in self.group and p.array is not None]
        return self._signed(sum(numbers_of(a) for a in outside) + np.zeros(value.shape))

    def gradient(self, value: Value) -> np.ndarray:
        """∂L/∂value, of its shape; zeros where none arrives."""
        return np.zeros(value.shape) if value.gradient is None else self._signed(numbers_of(value.gradient))

    def _signed(self, array: np.ndarray) -> np.ndarray:
        return np.abs(array) if self.sized else array

    @property
    def module(self) -> Any:
        return self.group.module

    def node(self, *primitives: str) -> Value | None:
        """The first value of the call that one of these primitives computed."""
        return next((v for v in self.group.values if v.primitive and v.primitive.name in primitives), None)

    def source(self, value: Value) -> Value:
        """The input of the call that a value is a mere rearrangement of; the value itself if it is none."""
        while value in self.group and value.primitive and value.primitive.name in REARRANGE:
            value = value.inputs[0]
        return value

    def parameter(self, name: str) -> Value | None:
        """The input that is the module's parameter of this name."""
        owner = getattr(self.module, name, None)
        return None if owner is None else next((v for v in self.group.inputs if is_value_of(v, owner)), None)

    def data(self) -> list[Value]:
        """The floating inputs that are no parameters of the module, largest first."""
        own = list(self.module.parameters()) if self.module is not None else []
        found = [
            v for v in self.group.inputs
            if not v.several and v.dtype.kind == "f" and v.shape and not any(is_value_of(v, p) for p in own)
        ]  # fmt: skip
        return sorted(found, key=lambda v: (not v.requires_grad, -v.size))

    def legend(self, *rows: tuple[str, str, str, Value | None]) -> list[Symbol]:
        """Rows of (text, LaTeX, meaning, value)."""
        found = []
        for text, latex, meaning, value in rows:
            shape = value.shape if value is not None else self.output.shape
            label = f"{meaning} {self.names[value].label}".strip() if value is not None else meaning
            found.append(Symbol(literal(text, latex), label, shape, value))
        return found

    def delta_row(self) -> tuple[str, str, str, Value | None]:
        return "δ", r"\delta", f"∂L/∂{self.names[self.output].label}, what comes in", None


def is_value_of(value: Value, parameter: Any) -> bool:
    """Whether a value is a parameter's; of one that asks for no gradient the graph has the array only."""
    return value.node.owner is parameter or value.value is getattr(parameter, "_value", value)


def numbers(value: Value) -> np.ndarray:
    """A value's numbers in float64 (complex128)."""
    return numbers_of(value.array())


def numbers_of(array: np.ndarray) -> np.ndarray:
    """An array in float64 (complex128)."""
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def partial(symbol: str, latex: str | None = None) -> tuple[str, str]:
    """∂L/∂symbol as text and LaTeX."""
    return f"∂L/∂{symbol}", rf"\frac{{\partial L}}{{\partial {latex or symbol}}}"


def equation(symbol: str, text: str, latex: str, meaning: str, symbol_latex: str | None = None) -> Equation:
    """∂L/∂symbol = …"""
    left, left_latex = partial(symbol, symbol_latex)
    return Equation(literal(f"{left} = {text}", f"{left_latex} = {latex}"), meaning)


def plain(text: str, latex: str, meaning: str) -> Equation:
    """An equation that is no derivative."""
    return Equation(literal(text, latex), meaning)


def as_rows(array: np.ndarray) -> np.ndarray:
    """The last axis across, all others down."""
    return array.reshape(-1, array.shape[-1])
