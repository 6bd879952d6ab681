"""Stochastic gradient descent with momentum."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.errors import OperationError
from ..core.tensor import Tensor
from .optimizer import Optimizer


def sgd(
    p: Any, g: Any, b: Any = None, *, lr: Any, momentum: float, dampening: float, weight_decay: float,
    nesterov: bool, maximize: bool,
) -> tuple[Any, ...]:  # fmt: skip
    """One step of `SGD`."""
    if maximize:
        g = -g
    if weight_decay:
        g = g + weight_decay * p
    if not momentum:
        p -= lr * g
        return (p,)
    b *= momentum
    b += (1 - dampening) * g if dampening else g
    p -= lr * (g + momentum * b if nesterov else b)
    return p, b


class SGD(Optimizer):
    """Stochastic gradient descent, optionally with momentum.

        g ← ∇f(p) + weight_decay · p
        b ← momentum · b + (1 - dampening) · g      (b ← g at the first step)
        p ← p - lr · b                              (nesterov: p - lr · (g + momentum · b))

    Polyak 1964, "Some methods of speeding up the convergence of iteration methods";
    Nesterov 1983; in this form Sutskever et al. 2013, "On the importance of initialization and
    momentum in deep learning".

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        momentum: factor of the previous direction; 0 for none.
        dampening: how much of the new gradient momentum leaves out.
        weight_decay: factor of the L2 penalty.
        nesterov: look ahead along the momentum; needs momentum > 0 and dampening = 0.
        maximize: ascend instead.

    Raises:
        OperationError, DTypeError: see `Optimizer`.
    """

    rule = staticmethod(sgd)

    def __init__(
        self, params: Any, lr: Any = 1e-3, momentum: float = 0, dampening: float = 0, weight_decay: float = 0,
        nesterov: bool = False, *, maximize: bool = False, **implementation: Any,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
            "nesterov": nesterov, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, implementation)

    def _check(self, group: dict[str, Any]) -> None:
        self._at_least_zero(group, "lr", "momentum", "weight_decay")
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise OperationError(self._message("nesterov needs momentum > 0 and dampening = 0"))

    def _names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",) if group["momentum"] else ()

    def _everything(self) -> dict[str, Any]:
        return {"momentum": 1}

    def _initial(self, name: str, p: Tensor, group: dict[str, Any]) -> np.ndarray:
        dampening, momentum = group["dampening"], group["momentum"]
        if not dampening:
            return super()._initial(name, p, group)
        # The b before the first step for which the recurrence gives b = g after it.
        assert p.grad is not None
        g = p.grad._array("an optimiser's step")
        direction = (-g if group["maximize"] else g) + group["weight_decay"] * p._array("an optimiser's step")
        return direction * (dampening / momentum)
