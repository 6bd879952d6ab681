"""Lion: steps along the sign of the momentum."""

from __future__ import annotations

from typing import Any

from .optimizer import Optimizer


def lion(
    p: Any, g: Any, m: Any, *, lr: Any, betas: tuple[float, float], weight_decay: float, maximize: bool
) -> tuple[Any, ...]:
    """One step of `Lion`."""
    xp = p.__array_namespace__()
    if maximize:
        g = -g
    if weight_decay:
        p *= 1 - lr * weight_decay
    p -= lr * xp.sign(betas[0] * m + (1 - betas[0]) * g)
    m += (1 - betas[1]) * (g - m)
    return p, m


class Lion(Optimizer):
    """Lion: every entry moves by lr, in the direction of the momentum's sign.

        p ← (1 - lr · weight_decay) p - lr · sign(β₁ m + (1 - β₁) g)
        m ← β₂ m + (1 - β₂) g

    Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms". Its lr is usually three
    to ten times smaller than Adam's, its weight decay larger by the same factor.

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: weight of the momentum in the direction, and its decay; each in [0, 1).
        weight_decay: decay of the weights themselves.
        maximize: ascend instead.

    Raises:
        OperationError, DTypeError: see `Optimizer`.
    """

    rule = staticmethod(lion)

    def __init__(
        self, params: Any, lr: Any = 1e-4, betas: tuple[float, float] = (0.9, 0.99), weight_decay: float = 0, *,
        maximize: bool = False, **implementation: Any,
    ) -> None:  # fmt: skip
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults, implementation)

    def _check(self, group: dict[str, Any]) -> None:
        self._at_least_zero(group, "lr", "weight_decay")
        self._check_betas(group)

    def _names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("exp_avg",)
