"""Adam and its relatives: AdamW, Adamax, NAdam."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.tensor import Tensor
from .optimizer import Optimizer
from .setting import Setting


def bias_correction(beta: float, step: Any) -> Any:
    """1 - beta^step, for numbers or settings of a traced step; without cancellation where beta is close to 1."""
    if not beta:
        return 1.0
    exponent = step * (beta.log() if isinstance(beta, Setting) else math.log(beta))
    return -exponent.expm1() if isinstance(exponent, Setting) else -math.expm1(exponent)


def decayed(p: Any, g: Any, lr: Any, weight_decay: float, decoupled: bool, maximize: bool) -> tuple[Any, Any]:
    """The parameter and the direction of descent: one of them has the weight decay in it."""
    if maximize:
        g = -g
    if weight_decay and decoupled:
        p *= 1 - lr * weight_decay
    elif weight_decay:
        g = g + weight_decay * p
    return p, g


def adam(
    p: Any, g: Any, m: Any, v: Any, v_max: Any = None, *, step: Any, lr: Any, betas: tuple[float, float], eps: float,
    weight_decay: float, amsgrad: bool, maximize: bool, decoupled_weight_decay: bool,
) -> tuple[Any, ...]:  # fmt: skip
    """One step of `Adam` or `AdamW`."""
    xp = p.__array_namespace__()
    p, g = decayed(p, g, lr, weight_decay, decoupled_weight_decay, maximize)
    m += (1 - betas[0]) * (g - m)
    v += (1 - betas[1]) * (g * g - v)
    largest = v
    if amsgrad:
        v_max = largest = xp.maximum(v_max, v)
    # m̂ / (√v̂ + eps) with the factors of both corrections drawn out of the arrays.
    root = bias_correction(betas[1], step) ** 0.5
    p -= (lr * root / bias_correction(betas[0], step)) * (m / (xp.sqrt(largest) + eps * root))
    return (p, m, v, v_max) if amsgrad else (p, m, v)


class Adam(Optimizer):
    """Adam: steps along the mean gradient in units of its root mean square.

        g ← ∇f(p) + weight_decay · p
        m ← β₁ m + (1 - β₁) g,    m̂ = m / (1 - β₁ᵗ)
        v ← β₂ v + (1 - β₂) g²,   v̂ = v / (1 - β₂ᵗ)      (amsgrad: the largest v so far)
        p ← p - lr · m̂ / (√v̂ + eps)

    Kingma & Ba 2015, "Adam: A Method for Stochastic Optimization"; amsgrad: Reddi et al. 2018,
    "On the Convergence of Adam and Beyond".

    Args:
        params: parameters or parameter groups.
        lr: learning rate.
        betas: decay of the two running means, each in [0, 1).
        eps: keeps the denominator away from zero.
        weight_decay: factor of the L2 penalty.
        amsgrad: divide by the largest v so far.
        maximize: ascend instead.
        decoupled_weight_decay: decay the weights themselves, as `AdamW` does.

    Raises:
        OperationError, DTypeError: see `Optimizer`.
    """

    rule = staticmethod(adam)

    def __init__(
        self, params: Any, lr: Any = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0, amsgrad: bool = False, *, maximize: bool = False,
        decoupled_weight_decay: bool = False, **implementation: Any,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize, "decoupled_weight_decay": decoupled_weight_decay,
        }  # fmt: skip
        super().__init__(params, defaults, implementation)

    def _check(self, group: dict[str, Any]) -> None:
        self._at_least_zero(group, "lr", "eps", "weight_decay")
        self._check_betas(group)

    def _names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("step", "exp_avg", "exp_avg_sq", *(("max_exp_avg_sq",) if group["amsgrad"] else ()))

    def _everything(self) -> dict[str, Any]:
        return {"amsgrad": True}


class AdamW(Adam):
    """Adam with weight decay apart from the gradient.

        p ← (1 - lr · weight_decay) p, then as `Adam` without its penalty

    Loshchilov & Hutter 2019, "Decoupled Weight Decay Regularization". Arguments as `Adam`;
    weight_decay is 0.01 by default.
    """

    def __init__(
        self, params: Any, lr: Any = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 1e-2, amsgrad: bool = False, *, maximize: bool = False, **implementation: Any,
    ) -> None:  # fmt: skip
        super().__init__(
            params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize, decoupled_weight_decay=True,
            **implementation,
        )  # fmt: skip


def adamax(
    p: Any, g: Any, m: Any, u: Any, *, step: Any, lr: Any, betas: tuple[float, float], eps: float,
    weight_decay: float, maximize: bool,
) -> tuple[Any, ...]:  # fmt: skip
    """One step of `Adamax`."""
    xp = p.__array_namespace__()
    if maximize:
        g = -g
    if weight_decay:
        g = g + weight_decay * p
    m += (1 - betas[0]) * (g - m)
    u = xp.maximum(betas[1] * u, xp.abs(g) + eps)
    p -= (lr / bias_correction(betas[0], step)) * (m / u)
    return p, m, u


class Adamax(Optimizer):
    """Adam with the infinity norm in place of the root mean square.

        m ← β₁ m + (1 - β₁) g
        u ← max(β₂ u, |g| + eps)
        p ← p - lr / (1 - β₁ᵗ) · m / u

    Kingma & Ba 2015, section 7. Arguments as `Adam`; lr is 0.002 by default.
    """

    rule = staticmethod(adamax)

    def __init__(
        self, params: Any, lr: Any = 2e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0, *, maximize: bool = False, **implementation: Any,
    ) -> None:  # fmt: skip
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults, implementation)

    def _check(self, group: dict[str, Any]) -> None:
        self._at_least_zero(group, "lr", "eps", "weight_decay")
        self._check_betas(group)

    def _names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("step", "exp_avg", "exp_inf")


def nadam(
    p: Any, g: Any, mu_product: Any, m: Any, v: Any, *, step: Any, lr: Any, betas: tuple[float, float], eps: float,
    weight_decay: float, momentum_decay: float, decoupled_weight_decay: bool, maximize: bool,
) -> tuple[Any, ...]:  # fmt: skip
    """One step of `NAdam`."""
    xp = p.__array_namespace__()
    p, g = decayed(p, g, lr, weight_decay, decoupled_weight_decay, maximize)
    mu = betas[0] * (1 - 0.5 * 0.96 ** (step * momentum_decay))
    mu_next = betas[0] * (1 - 0.5 * 0.96 ** ((step + 1) * momentum_decay))
    mu_product = mu_product * mu
    m += (1 - betas[0]) * (g - m)
    v += (1 - betas[1]) * (g * g - v)
    root = bias_correction(betas[1], step) ** 0.5
    direction = (root * (1 - mu) / (1 - mu_product)) * g + (root * mu_next / (1 - mu_product * mu_next)) * m
    p -= lr * (direction / (xp.sqrt(v) + eps * root))
    return p, mu_product, m, v


class NAdam(Optimizer):
    """Adam with Nesterov's momentum.

        μₜ = β₁ (1 - ½ · 0.96^(t · momentum_decay))
        m, v as in `Adam`
        m̂ = μₜ₊₁ m / (1 - μ₁ … μₜ₊₁) + (1 - μₜ) g / (1 - μ₁ … μₜ)
        p ← p - lr · m̂ / (√v̂ + eps)

    Dozat 2016, "Incorporating Nesterov Momentum into Adam". Arguments as `Adam` and
    momentum_decay; lr is 0.002 by default.
    """

    rule = staticmethod(nadam)
    scalars = ("step", "mu_product")

    def __init__(
        self, params: Any, lr: Any = 2e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 0, momentum_decay: float = 4e-3, decoupled_weight_decay: bool = False, *,
        maximize: bool = False, **implementation: Any,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults, implementation)

    def _check(self, group: dict[str, Any]) -> None:
        self._at_least_zero(group, "lr", "eps", "weight_decay", "momentum_decay")
        self._check_betas(group)

    def _names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("step", "mu_product", "exp_avg", "exp_avg_sq")

    def _initial(self, name: str, p: Tensor, group: dict[str, Any]) -> np.ndarray:
        value = super()._initial(name, p, group)
        return np.ones_like(value) if name == "mu_product" else value
