"""What the values of a graph are called: the user's variables, parameters by their paths, numbers.

In this order: a tensor that the caller's frame holds, a parameter's path, the variable that
the source assigns a result to, the module that computed it, a number as itself. What is left is
numbered: v₁, v₂, … Several values of one name are numbered, too.
"""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from ..core.formula import number
from ..core.program import Expression, expression_at
from ..core.tensor import Tensor
from ..nn.module import Module, module_path
from .trace import Trace, Value

# Functions of the library that return derivatives: one line of the user's makes a whole backward pass.
DERIVATIVES = frozenset({"grad", "value_and_grad", "vjp", "jvp", "jacrev", "jacfwd", "hessian", "hvp"})
_SUBSCRIPTS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")
_GREEK = frozenset(
    [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "zeta",
        "eta",
        "theta",
        "kappa",
        "lambda",
        "mu",
        "nu",
        "xi",
        "pi",
        "rho",
        "sigma",
        "tau",
        "phi",
        "chi",
        "psi",
        "omega",
    ]
)


class Name(NamedTuple):
    """The name of a value, and how it came by it."""

    text: str
    latex: str
    about: str
    label: str  # `text` without typographic digits, for tables and search
    numbered: bool = False  # whether it is a mere number among the values without a name


def name_of(base: str, about: str, subscript: int | None = None) -> Name:
    """A name for formulas; `subscript` tells values of the same name apart."""
    found = re.fullmatch(r"([^\W\d_])_?(\d+)", base)
    if found and subscript is None:
        base, subscript = found[1], int(found[2])
    if len(base) == 1 and base.isalpha():
        latex = base
    elif base in _GREEK:
        latex = f"\\{base} "
    else:
        latex = rf"\mathrm{{{latex_text(base)}}}"
    if subscript is None:
        return Name(base, latex, about, base)
    text = base + str(subscript).translate(_SUBSCRIPTS)
    label = f"{base}_{subscript}" if base[-1].isdigit() else f"{base}{subscript}"
    return Name(text, f"{latex}_{{{subscript}}}", about, label)


def latex_text(text: str) -> str:
    """Any text as LaTeX that shows it."""
    for character in "\\{}$%&#_^~":
        shown = {"\\": r"\backslash ", "^": r"\hat{}", "~": r"\sim "}.get(character, "\\" + character)
        text = text.replace(character, {"\\": "\0"}.get(character, shown))
    return text.replace("\0", r"\backslash ")


class Places:
    """Module paths of values, with one cache for all of them: calls share their scopes."""

    def __init__(self) -> None:
        self._paths: dict[int, str] = {}

    def path(self, value: Value) -> str:
        """The path of the module that computed a value, empty outside of any."""
        return "" if value.scope is None else self.path_of(value.scope)

    def path_of(self, scope: Any) -> str:
        """The path of the module that a scope was entered for."""
        known = self._paths.get(id(scope))
        if known is None:
            known = self._paths[id(scope)] = module_path(scope)
        return known


def call_of(value: Value) -> Any:
    """The scope of the outermost layer of the library that was running, which the user's line called."""
    scope, call = value.scope, None
    while scope is not None and not scope[0]._has_user_code:
        scope, call = scope[1], scope
    return call


def name_values(trace: Trace, namespace: Mapping[str, Any]) -> dict[Value, Name]:
    """A name for every value of the graph.

    Args:
        trace: the graph.
        namespace: variables of the code that asks; tensors and modules among them lend their names.
    """
    names: dict[Value, Name] = {}
    held = _held_names(trace, namespace)
    bases: dict[Value, tuple[str, str]] = {}
    results = _results(trace)
    for value in trace.values:
        if value is trace.loss:
            continue
        if value in held:
            bases[value] = held[value]
        elif value.primitive is None:
            constant = _constant_name(value)
            if constant is not None:
                names[value] = constant
        elif value in results:
            given = _result_name(value, results[value])
            if given is not None:
                bases[value] = given
    for value in trace.values:
        _name_operands(value, names, bases)
    loss = trace.loss
    about = held.get(loss, ("", ""))[0]
    _number(trace, names, bases, about)
    names[loss] = Name("L", "L", f"the loss {about}" if about not in ("", "L") else "the loss", about or "L")
    return names


def _held_names(trace: Trace, namespace: Mapping[str, Any]) -> dict[Value, tuple[str, str]]:
    found: dict[Value, tuple[str, str]] = {}
    modules = {k: m for k, m in namespace.items() if isinstance(m, Module) and not k.startswith("_")}
    for name, tensor in namespace.items():
        if isinstance(tensor, Tensor) and not name.startswith("_"):
            value = trace.value_of(tensor)
            if value is not None:
                found.setdefault(value, (name, f"variable {name}"))
    roots: dict[int, Module] = {}
    for value in trace.values:
        scope = value.scope
        while scope is not None and scope[1] is not None:
            scope = scope[1]
        if scope is not None:
            roots.setdefault(id(scope[0]), scope[0])
    inside = {id(m) for root in roots.values() for m in root.modules()}
    for module in modules.values():
        if id(module) not in inside:
            roots.setdefault(id(module), module)
    owners = {id(v.node.owner): v for v in trace.values if v.primitive is None and v.node.owner is not None}
    several = sum(any(id(p) in owners for p in root.parameters()) for root in roots.values()) > 1
    for root in roots.values():
        variable = next((name for name, module in modules.items() if module is root), type(root).__name__)
        for path, parameter in root.named_parameters():
            value = owners.get(id(parameter)) or trace.value_of(parameter)
            if value is not None:
                full = f"{variable}.{path}"
                found[value] = (full if several else path, f"parameter {full}")
    return found


def _constant_name(value: Value) -> Name | None:
    array = value.value
    if isinstance(array, np.ndarray) and array.size == 1 and array.dtype.kind in "biufc":
        text, latex = number(array.item(), "text").replace("-", "−"), number(array.item(), "latex")
        if text.startswith("−"):
            text, latex = f"({text})", f"({latex})"
        return Name(text, latex, "a number", number(array.item(), "text"))
    return None


def _results(trace: Trace) -> dict[Value, Expression]:
    """The values that are the result of a whole expression of the user's, with it.

    An operation of the library's makes several values at one place; its result is the one
    that nothing else at that place reads.
    """
    read_there: set[tuple[Value, Any]] = set()
    keys: dict[Value, Any] = {}
    for value in trace.values:
        if value.primitive is not None and value.place is not None:
            keys[value] = (value.place, id(call_of(value)))
        for parent in value.inputs:
            if keys.get(parent) == keys.get(value, ""):
                read_there.add((parent, keys[parent]))
    found = {}
    for value, key in keys.items():
        expression = expression_at(value.place)
        if expression is None or expression.function in DERIVATIVES:
            continue
        # In a loop the same line reads what it made in the round before.
        whole = call_of(value) is None and _computes(value, expression)
        if whole or value.several or (value, key) not in read_there:
            found[value] = expression
    return found


def _result_name(value: Value, expression: Expression) -> tuple[str, str] | None:
    index = value.params["index"] if _is_output(value) else 0
    if value.several:
        return None
    targets = expression.targets
    unpacked = len(targets) > 1 or not _is_output(value)
    if unpacked and index < len(targets) and targets[index]:
        location = value.location
        assert location is not None
        return targets[index], f"assigned in {location.where}"
    call = call_of(value)
    if call is not None:
        path = module_path(call)
        if path:
            return path, f"what {path} returned"
    if not targets and _is_variable(expression.text):
        return expression.text, f"written {expression.text}"
    return None


def written_as(value: Value) -> str:
    """The user's expression that is this very operation, such as `h[target]`; empty if there is none or it is long."""
    expression = None if call_of(value) is not None else expression_at(value.place)
    if expression is None or not _computes(value, expression) or len(expression.text) > 32:
        return ""
    return expression.text


def _is_output(value: Value) -> bool:
    return value.primitive is not None and value.primitive.name == "project"


def _is_variable(text: str) -> bool:
    return len(text) <= 24 and all(p.isidentifier() and not keyword.iskeyword(p) for p in text.split("."))


def _name_operands(value: Value, names: dict[Value, Name], bases: dict[Value, tuple[str, str]]) -> None:
    """Inputs without a name of their own are called as the expression that reads them calls them."""
    if all(i in names or i in bases or i.primitive is not None for i in value.inputs):
        return
    expression = expression_at(value.place)
    if expression is None:
        return
    written = expression.operands
    for position, parent in enumerate(value.inputs):
        if parent in names or parent in bases or parent.primitive is not None:
            continue
        if call_of(value) is not None and len(written) == 1:
            position = 0  # a layer's argument
        elif len(written) != len(value.inputs) or not _computes(value, expression):
            continue
        if _is_variable(written[position]):
            bases[parent] = written[position].removeprefix("self."), f"written {written[position]}"


def _computes(value: Value, expression: Expression) -> bool:
    """Whether the expression's own operator or function is the operation, and not a call that led to it."""
    primitive = value.primitive
    return not expression.function or (primitive is not None and primitive.name == expression.function)


def _number(trace: Trace, names: dict[Value, Name], bases: dict[Value, tuple[str, str]], taken: str) -> None:
    """Give every value its name, with subscripts where several share one or the loss has it."""
    count = Counter(base for base, _ in bases.values())
    count[taken] += 1
    seen: Counter[str] = Counter()
    unnamed = 0
    for value in trace.values:
        if value in names or value is trace.loss:
            continue
        if value in bases:
            base, about = bases[value]
            if count[base] > 1:
                seen[base] += 1
                names[value] = name_of(base, f"{about}, {seen[base]} of {count[base]}", seen[base])
            else:
                names[value] = name_of(base, about)
            continue
        if value.primitive is None:
            base, about = "c" if not value.requires_grad else "p", "a constant" if not value.requires_grad else "a leaf"
            seen[base] += 1
            names[value] = name_of(base, about, seen[base])
            continue
        unnamed += 1
        names[value] = name_of("v", f"a step of {value.primitive.name}", unnamed)._replace(numbered=True)
