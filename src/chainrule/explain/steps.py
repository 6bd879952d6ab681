"""The chain rule step by step: one step for every derivative on the way from the loss to the asked tensors.

A step finds ∂L/∂v of one value v. It adds up one product for each consumer of v: the consumer's
own gradient times the local derivative. The products are those that autodiff computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.autodiff import unrecorded
from ..core.source import Location
from ..core.tensor import Tensor, new_tensor
from .blackboard import Scalars
from .formulas import Formula, derivative_symbol, is_one, is_passed_on, joined, local_formula, product_formula
from .names import Name
from .trace import Product, Value

SHOWN_TERMS = 4


def flat(array: Any) -> np.ndarray:
    """The entries as a vector of float64 or complex128; those of several outputs one after the other."""
    if isinstance(array, list | tuple):
        parts = [flat(a) for a in array if a is not None]
        return np.concatenate(parts) if parts else np.zeros(0)
    return np.asarray(array).ravel().astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def norm(array: Any) -> float:
    """The L2 norm in float64."""
    if isinstance(array, np.ndarray) and array.dtype.kind == "f" and array.dtype.itemsize <= 4:
        return float(np.sqrt(np.square(array, dtype=np.float64).sum()))  # no square overflows
    entries = flat(array)
    largest = np.abs(entries).max(initial=0.0)
    if largest == 0 or not np.isfinite(largest):
        return float(largest)
    return float(largest * np.linalg.norm(entries / largest))


def share(product: Any, total: Any) -> float:
    """⟨product, total⟩ / ⟨total, total⟩: the part of the total's length that the product makes up."""
    size = norm(total)
    if size == 0 or not np.isfinite(size):
        return float("nan")
    if isinstance(total, np.ndarray) and total.dtype.kind == "f" and isinstance(product, np.ndarray):
        return float(np.multiply(total / size, product / size, dtype=np.float64).sum())
    return float(np.real(np.vdot(flat(total) / size, flat(product) / size)))


@dataclass(frozen=True, eq=False)
class Term:
    """One product of the chain rule: what one consumer hands back.

    Attributes:
        consumer: the name of the value computed from the step's.
        primitive: the operation that computed it.
        position: which operand of that operation the step's value is.
        upstream: ∂L/∂consumer.
        local: the local derivative's numbers, where the operation is pointwise; None otherwise.
        product: upstream times local derivative: the contribution, of the shape of the step's value.
        share: the contribution's share of the whole gradient; NaN where that is zero.
        formula: the product: `∂L/∂a · (1 - a²)`; None where the derivative is zero everywhere.
        local_formula: the local derivative: `∂a/∂z = 1 - a²`, for pointwise operations.
    """

    consumer: str
    primitive: str
    position: int
    upstream: Any
    product: Any
    share: float
    formula: Formula | None
    local_formula: Formula | None
    edge: Product

    @property
    def local(self) -> np.ndarray | None:
        return local_numbers(self.edge)


@dataclass(frozen=True, eq=False)
class Step:
    """One derivative: ∂L/∂(this value), as the sum of what its consumers hand back.

    Attributes:
        name: what the value is called.
        value: its numbers (a property; computed again where they were not kept).
        primitive: the operation that computed it; None for parameters and inputs.
        module: path of the module that computed it, empty outside of any.
        location: the user's line that computed it, or None.
        gradient: ∂L/∂value, the sum of the terms' products.
        terms: one for each consumer, in the order in which they arrived.
        formula: the derivative as an equation; it prints as text and has `latex` and `mathml`.
        passed_on: whether the value has no name of its own and its gradient is its one
            consumer's as it is; other formulas then name the consumer's.
        scalars: the derivative by one entry, number by number, where the explanation follows one.
    """

    name: str
    primitive: str | None
    module: str
    location: Location | None
    shape: tuple[int, ...] | None
    dtype: str | None
    gradient: Any
    terms: tuple[Term, ...]
    formula: Formula
    passed_on: bool
    scalars: Scalars | None
    node: Value

    @property
    def value(self) -> Any:
        return self.node.array()

    def __repr__(self) -> str:
        return f"<Step {self.formula.text}>"


def local_numbers(product: Product) -> np.ndarray | None:
    """The local derivative of a pointwise operation at its operands, of the consumer's shape."""
    consumer = product.consumer
    primitive = consumer.primitive
    if primitive is None or primitive.partials is None or product.array is None:
        return None
    rule = primitive.partials[product.position]
    if rule is None:
        return None
    if callable(rule):
        with unrecorded():
            found: Any = rule(consumer.handle(), *(v.handle() for v in consumer.inputs), **consumer.params)
        found = found.numpy() if isinstance(found, Tensor) else np.asarray(found, consumer.dtype)
    else:
        found = np.asarray(rule, consumer.dtype)
    return np.broadcast_to(found, consumer.shape)


def step_of(
    value: Value, names: dict[Value, Name], module: str, scalars: Scalars | None = None, *, is_loss: bool = False
) -> Step:
    """The step that finds the derivative of a value."""
    terms = tuple(
        Term(
            names[p.consumer].label, p.consumer.primitive.name if p.consumer.primitive else "", p.position, p.upstream,
            p.array, 0.0 if p.array is None else share(_whole(p), value.gradient),
            product_formula(p, names), local_formula(p, names), p,
        )
        for p in value.products
        if p.consumer.gradient is not None
    )  # fmt: skip
    left = derivative_symbol(names[value])
    products = [t.formula for t in terms if t.formula is not None]
    if is_loss and not products:
        whole = joined([left, " = 1" if is_one(value.gradient) else " is given"])
    elif not products:
        whole = joined([left, " = 0"])
    else:
        parts: list[Formula | str] = [left, " = "]
        for number, product in enumerate(products[:SHOWN_TERMS]):
            parts += ([" + "] if number else []) + [product]
        if len(products) > SHOWN_TERMS:
            parts.append(f" + … ({len(products)} terms)")
        whole = joined(parts, latex=[_latex(p) for p in parts if isinstance(p, str)])
    several = value.several
    return Step(
        names[value].label, value.primitive.name if value.primitive else None, module, value.location,
        None if several else value.shape, None if several else str(value.dtype), value.gradient, terms, whole,
        is_passed_on(value, names), scalars, value,
    )  # fmt: skip


def _latex(text: str) -> str:
    found = text.removeprefix(" + … (").removesuffix(" terms)")
    return text if found == text else rf" + \dots \; ({found} \text{{ terms}})"


def _whole(product: Product) -> Any:
    """The product in the place it takes in the operand's gradient."""
    if not product.operand.several:
        return product.array
    index = product.consumer.params["index"]
    gradient = product.operand.gradient or []
    return [
        product.array if i == index else np.zeros_like(g) for i, g in enumerate(gradient) if g is not None or i == index
    ]


def gradient_tensor(value: Value) -> Tensor | None:
    """∂L/∂value as a tensor; zeros where the loss depends on it by steps of derivative zero only."""
    if value.gradient is None:
        if value.several:
            return None
        return new_tensor(np.zeros(value.shape, value.dtype), None)
    return None if value.several else new_tensor(value.gradient, None)
