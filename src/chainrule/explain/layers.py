"""The backward pass layer by layer: values that one call made, and the closed form of their derivative.

A group is what one layer of the library, one function of `nn.functional` or one operation of the
user's computed. Where the textbook has a closed form for it (`forms`), that form is computed
from the layer's own numbers and compared with what autodiff found; only a form that agrees is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import array, linalg
from ..core.program import expression_at
from ..core.source import Location
from ..nn import functional
from ..nn.containers import ModuleList, Sequential
from ..nn.functional import detection, rotary
from ..nn.module import Module
from .formulas import Formula, derivative_symbol, joined, literal
from .names import DERIVATIVES, Name, Places, call_of, latex_text, written_as
from .steps import Step, norm
from .trace import Trace, Value

# Layers that are explained as a whole although other layers run inside them.
WHOLE = frozenset({"MultiheadAttention", "RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"})


class Group:
    """The values of one call, in order of creation.

    Attributes:
        values: what the call computed.
        module: the layer that was called; None for a function or an operation.
        function: name of the function that the user's line called, such as `cross_entropy`.
        path, location: the module path and the user's line.
    """

    def __init__(self, values: list[Value], module: Module | None, function: str, path: str) -> None:
        self.values = values
        self.module = module
        self.function = function
        self.path = path
        self.location: Location | None = values[-1].location
        self._inside = set(values)

    def __contains__(self, value: Value) -> bool:
        return value in self._inside

    @property
    def kind(self) -> str:
        """The class of the layer, the name of the function, or that of the operation."""
        if self.module is not None:
            return type(self.module).__name__
        if any(hasattr(module, self.function) for module in (functional, detection, array, linalg, rotary)):
            return self.function
        if self.function in DERIVATIVES and len(self.values) > 1:
            return self.function
        primitive = self.values[-1].primitive
        return primitive.name if primitive else ""

    @property
    def inputs(self) -> list[Value]:
        """Values from outside that the call read, each once, in the order in which they were read."""
        return list(dict.fromkeys(i for v in self.values for i in v.inputs if i not in self._inside))

    @property
    def outputs(self) -> list[Value]:
        """Values that something outside reads, or that are the end of the graph."""
        return [v for v in self.values if not v.products or any(p.consumer not in self._inside for p in v.products)]

    def handed_back(self, value: Value) -> np.ndarray | None:
        """What this call contributes to the gradient of one of its inputs; None where that is nothing."""
        parts = [p.array for p in value.products if p.consumer in self._inside and p.array is not None]
        return None if not parts else sum(parts[1:], parts[0])


@dataclass(frozen=True)
class Equation:
    """One equation of a layer's closed form, and what it means."""

    formula: Formula
    meaning: str


@dataclass(frozen=True)
class Symbol:
    """What a symbol of the equations stands for."""

    symbol: Formula
    meaning: str
    shape: tuple[int, ...]
    value: Value | None


@dataclass(frozen=True, eq=False)
class Layer:
    """One layer's part of the backward pass.

    Attributes:
        title: `fc1 = Linear(in_features=784, …)`, `cross_entropy`, or the operation.
        module, location: the module's path and the user's line.
        equations, legend: the closed form; without one, the equation of the one step or nothing.
        agreement: largest difference of the closed form and autodiff's gradients, relative to the
            largest entry; None without a closed form.
        upstream: norm of the gradient that came in.
        result: norm of what was handed on towards the asked tensors; None where nothing was.
        ends: whether `result` is that of a leaf, with nothing further behind it.
        steps: the steps it consists of: `steps[i]` finds the gradient of a value that the call
            made or of an input that the path goes on with.
    """

    title: str
    module: str
    location: Location | None
    equations: tuple[Equation, ...]
    legend: tuple[Symbol, ...]
    agreement: float | None
    upstream: float
    result: float | None
    ends: bool
    steps: tuple[Step, ...]
    group: Group

    @property
    def sentence(self) -> str:
        """What happened to the gradient on its way through."""
        from .sentences import brief, percent

        if self.result is None:
            return f"The gradient arrives with norm {brief(self.upstream)} and goes no further towards what was asked."
        if self.upstream == 0:
            return "The gradient arrives as zero."
        if self.ends:
            return f"The gradient comes in with norm {brief(self.upstream)}; what was asked gets {brief(self.result)}."
        factor = self.result / self.upstream
        told = f"norm {brief(self.upstream)} comes in, {brief(self.result)} goes on"
        if not np.isfinite(factor):
            return told + "."
        word = "passes" if 0.95 < factor < 1.05 else "shrinks" if factor < 1 else "grows"
        size = "" if word == "passes" else f" to {percent(factor)}" if factor < 2 else f" {brief(factor)}-fold"
        return f"The gradient {word}{size}: {told}."


def groups_of(trace: Trace, places: Places) -> list[Group]:
    """The calls of a graph, in order of their ends."""
    found: dict[Any, list[Value]] = {}
    about: dict[Any, tuple[Module | None, str, str]] = {}
    before: Any = None
    calls = 0
    for value in trace.values:
        if value.primitive is None:
            continue
        scope = _layer_scope(value)
        if scope is not None and _is_one(scope[0]):
            key: Any = id(scope)
            about.setdefault(key, (scope[0], "", places.path_of(scope)))
        elif scope is not None:
            # Between the layers that a layer consists of, operations in a row are taken together.
            here = "between", id(scope)
            calls += here != before
            key = here, calls
            about.setdefault(key, (None, "", places.path_of(scope)))
        else:
            # What a function computes comes in a row; the same line in the next round of a loop is another call.
            here = value.place, id(value.scope)
            calls += here != before or value.place is None
            key = here, calls
            if key not in about:
                expression = expression_at(value.place)
                about[key] = None, expression.function if expression else "", places.path(value)
        before = None if scope is not None and _is_one(scope[0]) else here
        found.setdefault(key, []).append(value)
    groups = [Group(values, *about[key]) for key, values in found.items()]
    groups.sort(key=lambda g: g.values[-1].index)
    return groups


def _is_one(module: Module) -> bool:
    """Whether a layer is explained as one: it consists of no other layers, or is a whole one."""
    return type(module).__name__ in WHOLE or not any(True for _ in module.children())


def _layer_scope(value: Value) -> Any:
    """The scope of the layer that counts as one: the innermost of the library, or a whole one around it."""
    call = call_of(value)
    if call is None:
        return None
    chain = []
    scope = value.scope
    while scope is not call[1]:
        chain.append(scope)
        scope = scope[1]
    for scope in reversed(chain):
        if type(scope[0]).__name__ in WHOLE:
            return scope
    innermost = chain[0]
    return None if isinstance(innermost[0], Sequential | ModuleList) else innermost


def layers_of(trace: Trace, steps: Sequence[Step], names: dict[Value, Name], places: Places) -> list[Layer]:
    """The backward pass of `steps`, layer by layer, in backward order."""
    from .forms import closed_form

    by_value = {s.node: s for s in steps}
    layers = []
    for group in reversed(groups_of(trace, places)):
        outputs = [v for v in group.outputs if v in by_value and v.gradient is not None]
        if not outputs:
            continue
        inputs = [v for v in group.inputs if v in by_value]
        own = [by_value[v] for v in reversed(group.values) if v in by_value]
        ends = [by_value[v] for v in inputs if v.primitive is None]
        form = closed_form(group, names)
        equations: tuple[Equation, ...] = ()
        legend: tuple[Symbol, ...] = ()
        if form is not None:
            equations, legend = form.equations, form.legend
        elif len(group.values) == 1:
            equations = tuple(_operation(group, by_value[v], names) for v in inputs)
        elif group.kind in DERIVATIVES:
            equations = (_derivative(group, names),)
        upstream = float(np.sqrt(sum(norm(v.gradient) ** 2 for v in outputs)))
        agreement = None if form is None else form.agreement
        title = _title(group, names, form.kind if form is not None else "")
        layers.append(
            Layer(
                title, group.path, group.location, equations, legend, agreement, upstream,
                *_handed_on(group, inputs), tuple(own + ends), group,
            )
        )  # fmt: skip
    return layers


def _handed_on(group: Group, inputs: list[Value]) -> tuple[float | None, bool]:
    """The norm of the largest gradient that the way goes on with, or of the leaves where it ends; whether it ends."""
    handed = {v: group.handed_back(v) for v in inputs}
    inner = [norm(h) for v, h in handed.items() if h is not None and v.primitive is not None]
    ends = [norm(h) for v, h in handed.items() if h is not None and v.primitive is None]
    return max(inner or ends, default=None), not inner


_MEANINGS = {
    "relu": "the gradient passes where the output is positive and stops elsewhere",
    "add": "a sum hands its gradient to every summand as it is",
    "window_max": "each gradient goes back to the entry that was the maximum",
    "max": "the gradient goes to the entry that was the maximum; ties share it",
    "reshape": "the same numbers in another shape",
    "permute_dims": "the same numbers with their axes in another order",
    "index": "the entries that were taken get the gradient, all others 0",
    "sum": "every summand gets the gradient of the sum",
}


def _operation(group: Group, step: Step, names: dict[Value, Name]) -> Equation:
    """∂L/∂input = what one operation hands back, plus what others do."""
    products = [t.formula for t in step.terms if t.edge.consumer in group and t.formula is not None]
    others = len(step.terms) > len(products)
    parts: list[Formula | str] = [derivative_symbol(names[step.node]), " = "]
    for number, product in enumerate(products):
        parts += ([" + "] if number else []) + [product]
    if not products:
        parts.append("0")
    if others:
        parts.append(" + …")
    latex = [r" + \dots" if p == " + …" else p for p in parts if isinstance(p, str)]
    primitive = group.values[0].primitive
    assert primitive is not None
    meaning = _MEANINGS.get(primitive.name, "")
    rest = "… is what comes by other ways" if others else ""
    return Equation(joined(parts, latex=latex), "; ".join(m for m in (meaning, rest) if m))


def _derivative(group: Group, names: dict[Value, Name]) -> Equation:
    """What the program itself differentiated, as it is written there."""
    expression = expression_at(group.values[-1].place)
    written = expression.text if expression is not None else group.function
    meaning = (
        f"a derivative that the program took: the {len(group.values)} operations of its backward pass that the loss "
        "needs are part of the graph, and differentiated once more"
    )
    return Equation(literal(written, rf"\mathrm{{{latex_text(written)}}}"), meaning)


def _title(group: Group, names: dict[Value, Name], form: str) -> str:
    """The layer as it was made, the function, or the operation; `form` names what a function proved to be."""
    if group.module is not None:
        kind = type(group.module).__name__
        extra = group.module.extra_repr().replace("\n", ", ")
        extra = extra if len(extra) <= 60 else extra[:59] + "…"
        return f"{group.path} = {kind}({extra})" if group.path else f"{kind}({extra})"
    output = names[group.values[-1]]
    kind = form or group.kind
    if not output.numbered:
        return f"{output.label} = {kind}"
    written = "" if len(group.values) > 1 else written_as(group.values[0])
    return f"{written} ({kind})" if written and kind not in written else kind
