"""One entry of a tensor, followed to the loss with scalars as on a blackboard.

For the entry v[i] and every consumer y = p(v, …), column i of the Jacobian ∂y/∂v says which entries
of y it moves and by how much; ∂L/∂v[i] = Σ_j ∂L/∂y[j] · ∂y[j]/∂v[i]. The columns come from the
primitives' own forward rules. The walk goes on with the entry of y whose product is largest.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..core.autodiff import unrecorded
from ..core.primitive import project
from ..core.tensor import Tensor, new_tensor
from .trace import Product, Trace, Value

SHOWN = 3

Entry = tuple[int, ...]


class ScalarTerm(NamedTuple):
    """∂L/∂y[entry] · ∂y[entry]/∂v[i] = product; of a complex v[i], `local` is the slope along its real part."""

    edge: Product
    entry: Entry
    upstream: Any
    local: Any
    product: Any


class Scalars(NamedTuple):
    """The derivative by one entry, as a sum of products of numbers.

    Attributes:
        entry: which entry of the step's value; of one with several outputs the output's number comes first.
        value: ∂L/∂v[entry], as autodiff computed it.
        terms: the largest products.
        rest: how many other products there are that are not zero, and their sum.
    """

    entry: Entry
    value: Any
    terms: tuple[ScalarTerm, ...]
    rest: tuple[int, Any]


def follow(trace: Trace, leads: set[Value], target: Value, entry: Entry) -> dict[Value, Scalars]:
    """The scalars of every step on the way from one entry of `target` to the loss."""
    asked: dict[Value, tuple[float, Entry]] = {target: (np.inf, entry)}
    found: dict[Value, Scalars] = {}
    for value in trace.values:
        if value not in asked or value not in leads:
            continue
        entry = asked[value][1]
        terms: list[ScalarTerm] = []
        for product in value.products:
            if product.array is None or product.consumer not in leads:
                continue
            own = _terms(product, entry)
            terms += own
            largest = max(own, key=lambda t: abs(t.product), default=None)
            if largest is not None and abs(largest.product) > asked.get(product.consumer, (-1.0, ()))[0]:
                asked[product.consumer] = abs(largest.product), largest.entry
        terms.sort(key=lambda t: -abs(t.product))
        rest = terms[SHOWN:] if len(terms) > SHOWN + 1 else []
        shown = terms[: len(terms) - len(rest)]
        found[value] = Scalars(entry, _entry_of(value.gradient, entry, value), tuple(shown), (len(rest), _total(rest)))
    return found


def _total(terms: list[ScalarTerm]) -> Any:
    return sum((t.product for t in terms), 0.0)


def _entry_of(gradient: Any, entry: Entry, value: Value) -> Any:
    if gradient is None:
        return 0.0
    if value.several:
        part = gradient[entry[0]]
        return 0.0 if part is None else part[entry[1:]].item()
    return gradient[entry].item()


def _terms(product: Product, entry: Entry) -> list[ScalarTerm]:
    """The products by way of one consumer that are not zero."""
    consumer = product.consumer
    primitive = consumer.primitive
    if primitive is None or consumer.gradient is None:
        return []
    if primitive is project:
        if entry[0] != consumer.params["index"]:
            return []
        g = consumer.gradient[entry[1:]].item()
        return [ScalarTerm(product, entry[1:], g, 1.0, g)]
    columns = [_column(product, entry, 1)]
    if product.operand.dtype.kind == "c":
        columns.append(_column(product, entry, 1j))
    found = []
    for index, g in enumerate(_listed(consumer.gradient)):
        if g is None or columns[0][index] is None:
            continue
        # The gradient of a real L by z = x + iy is ∂L/∂x + i ∂L/∂y; each is Re(conj(g) · slope).
        parts = [np.real(np.conj(g) * c[index]) for c in columns]
        products = parts[0] + 1j * parts[1] if len(parts) > 1 else parts[0]
        for at in np.argwhere(products):
            where = tuple(int(i) for i in at)
            full = (index, *where) if consumer.several else where
            local = columns[0][index][where].item()
            found.append(ScalarTerm(product, full, g[where].item(), local, products[where].item()))
    return found


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _column(product: Product, entry: Entry, direction: complex) -> list[Any]:
    """The slope along one entry of the operand for every output of the consumer; None where there is none."""
    consumer = product.consumer
    primitive = consumer.primitive
    assert primitive is not None
    if primitive.jvp is None:
        return [None] * len(_listed(consumer.value))
    operand = product.operand
    unit = np.zeros(operand.shape, operand.dtype)
    unit[entry] = direction
    tangents: list[Any] = [None] * len(consumer.inputs)
    tangents[product.position] = new_tensor(unit, None)
    with unrecorded():
        moved = primitive.jvp(tangents, consumer.handle(), *(v.handle() for v in consumer.inputs), **consumer.params)
    return [m.numpy() if isinstance(m, Tensor) else None for m in _listed(moved)]
