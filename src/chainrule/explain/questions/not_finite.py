"""Why a gradient is NaN or infinite: the first operation that made it, with its operands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..steps import flat, local_numbers
from ..trace import Value
from .answer import Answer, Evidence, where

if TYPE_CHECKING:
    from ..explanation import Explanation


def why_not_finite(e: Explanation) -> Answer:
    """The first operation that made NaN or infinity, forwards or backwards, with its inputs.

    An infinity that a later operation absorbed (a mask) is not blamed.
    """
    question = "Why is the gradient NaN or infinite?"
    if not e.trace.loss.requires_grad and _bad(e.trace.loss.array()):
        text = "The loss was not computed from anything that requires a gradient, so its history is unknown."
        return Answer(question, text, ())
    found = _first_in_forward_pass(e)
    if found is not None:
        return _made_forward(e, found, question)
    masked = any(_bad(v.array()) for v in e.trace.values)
    for product in e.trace.products:
        if product.array is None or not _bad(product.array) or _bad(product.consumer.gradient):
            continue
        consumer = product.consumer
        finite = "What reached the loss is finite" if masked else "The forward pass is finite"
        text = (
            f"{finite}. The derivative of {where(e, consumer)} is not: it turned a finite gradient "
            f"into {_kind(product.array)}."
        )
        at = _first_bad(product.array)
        operand = product.operand
        evidence = [Evidence(f"∂L/∂{e.names[operand].label}{_index(at)} = {product.array[at]:.6g}", operand)]
        local = local_numbers(product)
        if local is not None and local.shape == product.array.shape:
            g = np.broadcast_to(consumer.gradient, local.shape)[at]
            told = f"it is the product of the gradient {g:.6g} and the derivative {local[at]:.6g}"
            evidence.append(Evidence(told, consumer))
        evidence += _operands(e, consumer, at)
        return Answer(question, text, tuple(evidence))
    for value in e.targets:
        if _bad(value.gradient):
            return Answer(question, f"The sum of finite products overflows at {e.names[value].label}.", ())
    return Answer(question, "It is finite, and so is every value and every product of the graph.", ())


def _first_in_forward_pass(e: Explanation) -> Value | None:
    """The earliest value that is not finite although its operands are, of those that made the loss so."""
    loss = e.trace.loss
    if not _bad(loss.array()):
        return None
    stack, seen = [loss], {loss}
    origins = []
    while stack:
        value = stack.pop()
        bad = [i for i in value.inputs if _bad(i.array())]
        if not bad:
            origins.append(value)
        for operand in bad:
            if operand not in seen:
                seen.add(operand)
                stack.append(operand)
    return min(origins, key=lambda v: v.index)


def _made_forward(e: Explanation, value: Value, question: str) -> Answer:
    if value.primitive is not None:
        text = f"The forward pass made {_kind(value.array())} from finite operands: {where(e, value, source=True)}"
        return Answer(question, text, (Evidence(_entries(value), value), *_operands(e, value)))
    reader = next((r for r in e.trace.values if value in r.inputs), None)
    read = () if reader is None else (Evidence(f"first read by {where(e, reader)}", reader),)
    kind, cause = "input", "Look at the data."
    if e.is_parameter(value):
        kind, cause = "parameter", "The last update went wrong: lower the learning rate or clip the gradients."
    text = f"The {kind} {e.names[value].label} already holds {_kind(value.array())}. {cause}"
    return Answer(question, text, (Evidence(_entries(value), value), *read))


def _bad(array: Any) -> bool:
    if array is None:
        return False
    if isinstance(array, list | tuple):
        return any(map(_bad, array))
    return array.dtype.kind in "fc" and not bool(np.isfinite(array).all())


def _kind(array: Any) -> str:
    return "NaN" if np.isnan(flat(array)).any() else "infinity"


def _first_bad(array: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])


def _index(at: tuple[int, ...]) -> str:
    return f"[{', '.join(map(str, at))}]" if at else ""


def _entries(value: Value) -> str:
    array = value.array()
    if isinstance(array, tuple):
        array = next(a for a in array if _bad(a))
    if array.size == 1:
        return f"it is {array.item()}"
    bad = ~np.isfinite(array)
    at = _first_bad(array)
    return f"{int(bad.sum())} of {array.size} entries, first at {list(at)}: {array[at]}"


def _operands(e: Explanation, value: Value, at: tuple[int, ...] | None = None) -> tuple[Evidence, ...]:
    """The operands of an operation, at an entry where their shape has it."""
    found = []
    where_bad = at if at is not None else (None if value.several else _first_bad(value.array()))
    for operand in value.inputs:
        array = operand.array()
        if isinstance(array, tuple) or array.dtype.kind not in "fiu" or not array.size:
            continue
        name = e.names[operand].label
        if array.size == 1:
            if operand.primitive is None and not operand.requires_grad and operand is not value.inputs[0]:
                continue  # a number that stands in the source line
            text = f"{name} = {array.item():.6g}"
        elif where_bad is not None and array.shape == (value.shape if at is None else _shape_like(value, at, array)):
            text = f"{name}{_index(where_bad)} = {array[where_bad]:.6g}"
        else:
            finite = array[np.isfinite(array)]
            between = f"from {finite.min():.6g} to {finite.max():.6g}" if finite.size else "without a finite entry"
            text = f"{name} of shape {array.shape} {between}"
        found.append(Evidence(text, operand))
    return tuple(found)


def _shape_like(value: Value, at: tuple[int, ...], array: np.ndarray) -> tuple[int, ...]:
    fits = len(at) == array.ndim and all(i < n for i, n in zip(at, array.shape, strict=True))
    return array.shape if fits else (-1,)
