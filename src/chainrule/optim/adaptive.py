"""Learning rates per entry from the sizes of past gradients: Adagrad, Adadelta, RMSprop."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.errors import OperationError
from ..core.tensor import Tensor
from .optimizer import Optimizer


def adagrad(
    p: Any, g: Any, s: Any, *, step: Any, lr: Any, lr_decay: float, weight_decay: float, eps: float, maximize: bool
) -> tuple[Any, ...]:
    """One step of `Adagrad`."""
    xp = p.__array_namespace__()
    if maximize:
        g = -g
    if weight_decay:
        g = g + weight_decay * p
    s += g * g
    p -= (lr / (1 + (step - 1) * lr_decay)) * (g / (xp.sqrt(s) + eps))
    return p, s


class Adagrad(Optimizer):
    """Adagrad: each entry's steps shrink with the sum of its squared gradients.

        s ← s + g²
        p ← p - lr / (1 + (t - 1) lr_decay) · g / (√s + eps)

    Duchi, Hazan & Singer 2011, "Adaptive Subgradient Methods for Online Learning and
    Stochastic Optimization".

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        lr_decay: how the learning rate falls with the steps.
        weight_decay: factor of the L2 penalty.
        initial_accumulator_value: s before the first step.
        eps: keeps the denominator away from zero.
        maximize: ascend instead.

    Raises:
        OperationError, DTypeError: see `Optimizer`.
    """

    rule = staticmethod(adagrad)

    def __init__(
        self, params: Any, lr: Any = 1e-2, lr_decay: float = 0, weight_decay: float = 0,
        initial_accumulator_value: float = 0, eps: float = 1e-10, *, maximize: bool = False, **implementation: Any,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, implementation)

    def _check(self, group: dict[str, Any]) -> None:
        self._at_least_zero(group, "lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")

    def _names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("step", "sum")

    def _initial(self, name: str, p: Tensor, group: dict[str, Any]) -> np.ndarray:
        if name != "sum":
            return super()._initial(name, p, group)
        start = group["initial_accumulator_value"]
        return np.full(p.shape, complex(start, start) if p.dtype.kind == "c" else start, p.dtype)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """As `Optimizer.add_param_group`; Adagrad's state exists from the beginning, as in PyTorch."""
        super().add_param_group(param_group)
        group = self.param_groups[-1]
        for p in group["params"]:
            self._create_states(p, group, self._names(group))


def adadelta(
    p: Any, g: Any, s: Any, d: Any, *, lr: Any, rho: float, eps: float, weight_decay: float, maximize: bool, step: Any
) -> tuple[Any, ...]:
    """One step of `Adadelta`."""
    xp = p.__array_namespace__()
    if maximize:
        g = -g
    if weight_decay:
        g = g + weight_decay * p
    s += (1 - rho) * (g * g - s)
    change = xp.sqrt(d + eps) / xp.sqrt(s + eps) * g
    d += (1 - rho) * (change * change - d)
    p -= lr * change
    return p, s, d


class Adadelta(Optimizer):
    """Adadelta: steps in units of the root mean square of past steps over that of gradients.

        s ← ρ s + (1 - ρ) g²
        Δ = √(d + eps) / √(s + eps) · g
        d ← ρ d + (1 - ρ) Δ²
        p ← p - lr · Δ

    Zeiler 2012, "ADADELTA: An Adaptive Learning Rate Method".

    Args:
        params: parameters or parameter groups.
        lr: factor of the steps.
        rho: decay of the running means, in [0, 1].
        eps: added under both roots.
        weight_decay: factor of the L2 penalty.
        maximize: ascend instead.

    Raises:
        OperationError, DTypeError: see `Optimizer`.
    """

    rule = staticmethod(adadelta)

    def __init__(
        self, params: Any, lr: Any = 1.0, rho: float = 0.9, eps: float = 1e-6, weight_decay: float = 0, *,
        maximize: bool = False, **implementation: Any,
    ) -> None:  # fmt: skip
        defaults = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults, implementation)

    def _check(self, group: dict[str, Any]) -> None:
        self._at_least_zero(group, "lr", "eps", "weight_decay")
        if not 0 <= group["rho"] <= 1:
            raise OperationError(self._message(f"rho must be in [0, 1], got {group['rho']!r}"))

    def _names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("step", "square_avg", "acc_delta")


def rmsprop(
    p: Any, g: Any, s: Any, *more: Any, lr: Any, alpha: float, eps: float, weight_decay: float, momentum: float,
    centered: bool, maximize: bool, step: Any,
) -> tuple[Any, ...]:  # fmt: skip
    """One step of `RMSprop`; `more` is the momentum b, the mean gradient m, or both, as the options ask for."""
    xp = p.__array_namespace__()
    if maximize:
        g = -g
    if weight_decay:
        g = g + weight_decay * p
    s += (1 - alpha) * (g * g - s)
    states = [s]
    variance = s
    if centered:
        m = more[-1]
        m += (1 - alpha) * (g - m)
        variance = s - m * m
        states = [s, m]
    direction = g / (xp.sqrt(variance) + eps)
    if momentum:
        b = more[0]
        b *= momentum
        b += direction
        direction = b
        states.insert(1, b)
    p -= lr * direction
    return (p, *states)


class RMSprop(Optimizer):
    """RMSprop: gradients in units of their running root mean square.

        s ← α s + (1 - α) g²
        centered: m ← α m + (1 - α) g,  and s - m² in place of s below
        b ← momentum · b + g / (√s + eps)
        p ← p - lr · b

    Tieleman & Hinton 2012, "Lecture 6.5: rmsprop", COURSERA: Neural Networks for Machine
    Learning; centered: Graves 2013, "Generating Sequences With Recurrent Neural Networks".

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        alpha: decay of the running means, at least 0.
        eps: keeps the denominator away from zero.
        weight_decay: factor of the L2 penalty.
        momentum: factor of the previous direction; 0 for none.
        centered: divide by the standard deviation, not by the root mean square.
        maximize: ascend instead.

    Raises:
        OperationError, DTypeError: see `Optimizer`.
    """

    rule = staticmethod(rmsprop)

    def __init__(
        self, params: Any, lr: Any = 1e-2, alpha: float = 0.99, eps: float = 1e-8, weight_decay: float = 0,
        momentum: float = 0, centered: bool = False, *, maximize: bool = False, **implementation: Any,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
            "weight_decay": weight_decay, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, implementation)

    def _check(self, group: dict[str, Any]) -> None:
        self._at_least_zero(group, "lr", "alpha", "eps", "weight_decay", "momentum")

    def _names(self, group: dict[str, Any]) -> tuple[str, ...]:
        names = ["step", "square_avg"]
        if group["momentum"] > 0:
            names.append("momentum_buffer")
        if group["centered"]:
            names.append("grad_avg")
        return tuple(names)

    def _everything(self) -> dict[str, Any]:
        return {"momentum": 1, "centered": True}
