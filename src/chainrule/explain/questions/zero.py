"""Why a gradient is zero: which operations stopped it, at which units, for what share of the batch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from ..names import written_as
from ..sentences import percent
from ..steps import flat, local_numbers
from ..trace import Product, Value
from .answer import SHOWN, Answer, Evidence, values_on_way, where

if TYPE_CHECKING:
    from ..explanation import Explanation


def why_zero(e: Explanation) -> Answer:
    """Which operations stopped the gradient, at which units and for what share of the batch."""
    question = "Why is the gradient zero?"
    silent = [v for v in e.targets if not v.several and v.size and (v.gradient is None or not flat(v.gradient).any())]
    if silent and len(e.targets) > 1:
        return _some_silent(e, silent, question)
    target = max(e.targets, key=_zeros)
    gradient = np.zeros(1) if target.gradient is None else flat(target.gradient)
    zeros = float((gradient == 0).mean()) if gradient.size else 1.0
    label = e.names[target].label
    if zeros == 0:
        return Answer(question, f"It is not: no entry of ∂L/∂{label} is zero.", ())
    stops = _complete_stops(e, target) if zeros == 1 else _partial_stops(e, target)
    evidence = tuple(_stop_evidence(e, p) for p in stops[:SHOWN])
    if zeros == 1:
        head = f"Every entry of ∂L/∂{label} is zero"
        text = f"{head}: the gradient stops at {_listed(e, evidence)}." if stops else f"{head}: the products cancel."
    else:
        head = f"{percent(zeros)} of the entries of ∂L/∂{label} are zero{_zero_rows(target)}"
        text = f"{head}. On the way the gradient is stopped in part:" if stops else f"{head}."
    return Answer(question, text, evidence)


def _zeros(target: Value) -> float:
    """The share of entries of a gradient that are zero."""
    if target.several or not target.size:
        return 0.0
    return 1.0 if target.gradient is None else float((flat(target.gradient) == 0).mean())


def _some_silent(e: Explanation, silent: list[Value], question: str) -> Answer:
    """Of several tensors those whose gradient is zero entirely."""
    labels = [e.names[v].label for v in silent]
    shown = ", ".join(labels[:SHOWN]) + (f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else "")
    head = f"Of {len(e.targets)} gradients {len(silent)} are zero in every entry: {shown}"
    stops = list(dict.fromkeys(p for v in silent for p in _complete_stops(e, v)))
    evidence = tuple({x.text: x for x in (_stop_evidence(e, p) for p in stops)}.values())[:SHOWN]
    text = f"{head}. The gradient stops at {_listed(e, evidence)}." if stops else f"{head}: the products cancel."
    return Answer(question, text, evidence)


def _listed(e: Explanation, evidence: Iterable[Evidence]) -> str:
    return " and at ".join(dict.fromkeys(where(e, x.value) for x in evidence if x.value is not None))


def _zero_rows(target: Value) -> str:
    if len(target.shape) < 2:
        return ""
    rows = np.flatnonzero(~np.asarray(target.gradient).reshape(target.shape[0], -1).any(axis=1))
    return f", rows {_some(rows, target.shape[0])} entirely" if rows.size else ""


def _some(numbers: np.ndarray, of: int) -> str:
    """`3, 7, 11, … (12 of 128)`."""
    shown = ", ".join(map(str, numbers[:6].tolist())) + (", …" if numbers.size > 6 else "")
    return f"{shown} ({numbers.size} of {of})"


def _complete_stops(e: Explanation, target: Value) -> list[Product]:
    """The products that are zero although their upstream gradient is not, on all ways to the target."""
    found, stack, seen = [], [target], {target}
    while stack:
        value = stack.pop()
        for product in value.products:
            consumer = product.consumer
            if consumer.gradient is None or not flat(consumer.gradient).any():
                if consumer not in seen:
                    seen.add(consumer)
                    stack.append(consumer)
            elif product.array is None or not flat(product.array).any():
                found.append(product)
    return found


def _partial_stops(e: Explanation, target: Value) -> list[Product]:
    """Products on the way that have many more zeros than their upstream gradient, nearest to the target first."""
    found = []
    for value in values_on_way(e, target):
        for product in value.products:
            if product.array is None or product.consumer.gradient is None or value.several or product.consumer.several:
                continue
            if product.consumer.primitive is None or product.consumer.primitive.name == "multiply":
                continue  # a factor that is 0 stops nothing but its partner
            local = local_numbers(product)
            if local is not None and local.size > 1 and (local == 0).mean() > 0.02:
                found.append(product)
    return found


def _stop_evidence(e: Explanation, product: Product) -> Evidence:
    consumer = product.consumer
    text = where(e, consumer, source=True)
    local = local_numbers(product)
    if product.array is None:
        return Evidence(f"{text}; its derivative is zero everywhere", consumer)
    if local is not None and local.size:
        return Evidence(f"{text}; {_units(local == 0)}", consumer)
    others = [i for k, i in enumerate(consumer.inputs) if k != product.position and not i.several]
    silent = [i for i in others if i.dtype.kind in "fc" and not np.any(i.array())]
    if silent:
        names = " and ".join(e.names[i].label for i in silent)
        return Evidence(f"{text}; the other factor, {names}, is zero", consumer)
    for behind in consumer.products:
        factor = _zero_factor(behind)
        if factor is not None:
            before, share = factor
            name = written_as(before) or e.names[before].label
            return Evidence(
                f"{text}; `multiply` behind it has the other factor, {name}, at 0 for {percent(share)} of the entries, "
                "those from here among them",
                consumer,
            )
    return Evidence(f"{text}; no entry that has a gradient was taken from here", consumer)


def _zero_factor(product: Product) -> tuple[Value, float] | None:
    """The other factor of a multiplication that is zero in places, and for what share of its entries."""
    consumer = product.consumer
    if consumer.primitive is None or consumer.primitive.name != "multiply":
        return None
    other = consumer.inputs[1 - product.position]
    share = float((other.array() == 0).mean())
    return (other, share) if share else None


def _units(stopped: np.ndarray) -> str:
    """Which units are stopped, for what share of the samples."""
    told = f"its derivative is 0 at {percent(float(stopped.mean()))} of the entries"
    if stopped.ndim < 2 or stopped.shape[0] < 2:
        where = np.flatnonzero(stopped)
        return told + (f", entries {_some(where, stopped.size)}" if 0 < where.size < stopped.size else "")
    axis = 1 if stopped.ndim == 4 else stopped.ndim - 1
    rest = tuple(d for d in range(stopped.ndim) if d != axis)
    dead = np.flatnonzero(stopped.all(axis=rest))
    if dead.size == stopped.shape[axis]:
        return told + f": all {dead.size} units, for all {stopped.shape[0]} samples"
    if dead.size:
        return told + f"; units {_some(dead, stopped.shape[axis])} for all {stopped.shape[0]} samples"
    return told + "; no unit is stopped for the whole batch"
