"""The loss of a compiled function, computed eagerly once, so that there is a graph to explain.

What the function changes (weights, optimiser state, gradients, random numbers) is put back
afterwards: explaining a training step does not train.
"""

from __future__ import annotations

from typing import Any

from ..core.autodiff import kept_graphs
from ..core.errors import GradientError, located
from ..core.tensor import Tensor, Variable
from ..core.tree import leaves

_SLOTS = ("_value", "_node", "_grad", "_graph")


def loss_of(compiled: Any, args: tuple[Any, ...]) -> Tensor:
    """The loss that a compiled function returns for these arguments, with its graph.

    Args:
        compiled: what `cr.compile` returned.
        args: the arguments of a call.

    Raises:
        GradientError: none of the returned tensors is a number that can be differentiated.
    """
    from ..compiler.capture import capture

    captured = capture(compiled.function, args, {}, compiled.__name__)
    touched = {s.variable: None for s in captured.states} | {g.variable: None for g in captured.gradients}
    before = [(v, {name: getattr(v, name) for name in _SLOTS if hasattr(v, name)}) for v in touched]
    try:
        with kept_graphs():
            result = compiled.function(*args)
    finally:
        for variable, slots in before:
            _put_back(variable, slots)
    for tensor in leaves(result):
        if tensor.requires_grad and tensor.size == 1:
            return tensor
    raise GradientError(
        located(f"explain: {compiled.__name__} returns no loss: a number computed from what requires a gradient")
    )


def _put_back(variable: Variable, slots: dict[str, Any]) -> None:
    for name in _SLOTS:
        if name in slots:
            setattr(variable, name, slots[name])
        elif hasattr(variable, name):
            delattr(variable, name)
