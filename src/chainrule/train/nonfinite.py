"""Where did the NaN come from? Answered from the graph of the step that failed.

From a loss that is not finite, walk back through values that are not finite to where all
operands still were; for a gradient, do the same along the backward pass. Nothing is run
again, and an infinity that a later operation absorbed (a mask) is not blamed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.autodiff import pull_back
from ..core.errors import ChainruleError
from ..core.node import Node, collect, is_missing, materialise
from ..core.tensor import Tensor
from ..nn.module import Module, module_path


class NonFiniteError(ChainruleError, ArithmeticError):
    """The loss or a gradient became NaN or infinite; the message names where."""


def explain_loss(loss: Tensor, model: Module) -> str:
    """The first operation, parameter or input that made `loss` NaN or infinite."""
    node = loss._node
    if node is None:
        return "the loss was not computed from parameters that require a gradient, so its history is unknown"
    suspects = [node]
    seen: set[Any] = {node}
    found: Any = node
    reader: Any = None
    while suspects:
        current = suspects.pop()
        bad = [parent for parent in current.inputs if not _finite(_value(parent))]
        for parent in bad:
            if parent.primitive is None:
                return _blame_operand(parent, current, model)
            if parent not in seen:
                seen.add(parent)
                suspects.append(parent)
        if not bad and (reader is None or current.order < found.order):
            found = reader = current
    operands = ", ".join(_range(_value(parent)) for parent in found.inputs)
    return f"{_where(found)} made {_kind(_value(found))} from finite operands ({operands})"


def explain_gradient(loss: Tensor, model: Module) -> str:
    """The operation whose derivative made a gradient NaN or infinite."""
    node = loss._node
    assert node is not None
    order = collect([node])
    cotangents = pull_back({node: Tensor(np.ones(loss.shape, loss.dtype))}, set(order))
    bad = {n for n, g in cotangents.items() if isinstance(g, Tensor) and not _finite(g.numpy())}
    if not bad:
        return "the gradients of this step are finite one by one; their norm overflows"
    first = max(bad, key=lambda n: n.order)
    for reader in order:
        if first in reader.inputs and reader not in bad:
            operands = ", ".join(_range(_value(parent)) for parent in reader.inputs)
            return f"the derivative of {_where(reader)} is not finite at its operands ({operands})"
    return f"the gradient is {_kind(cotangents[first].numpy())} from {_where(first)} on"


def _blame_operand(leaf: Any, reader: Node, model: Module) -> str:
    kind = _kind(_value(leaf))
    owner = leaf.owner
    for name, parameter in model.named_parameters():
        if parameter is owner:
            return (
                f"parameter {name} already holds {kind}, read by {_where(reader)}: "
                "the last update went wrong; lower the learning rate or clip the gradients"
            )
    return f"an input holds {kind}, read by {_where(reader)}: look at the data"


def _where(node: Node) -> str:
    assert node.primitive is not None
    path = module_path(node.scope)
    place = node.location
    text = f"`{node.primitive.name}`"
    if path:
        text += f" in module {path}"
    return f"{text} at {place}" if place else text


def _value(node: Any) -> Any:
    return materialise(node) if is_missing(node.value) else node.value


def _finite(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_finite, value))
    return value.dtype.kind not in "fc" or bool(np.isfinite(value).all())


def _kind(value: Any) -> str:
    if isinstance(value, tuple):
        value = next(v for v in value if not _finite(v))
    return "NaN" if np.isnan(value).any() else "infinity"


def _range(value: Any) -> str:
    if isinstance(value, tuple) or not value.size or value.dtype.kind not in "fiu":
        return "…"
    if value.size == 1:
        return f"{value.item():.4g}"
    return f"shape {value.shape} from {value.min():.4g} to {value.max():.4g}"
