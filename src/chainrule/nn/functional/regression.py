"""Losses of numbers: squared and absolute errors, and negative log-likelihoods of Gaussian and Poisson models.

The arguments `size_average` and `reduce` are PyTorch's older way to write `reduction`.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from ...core.errors import OperationError, ShapeError, located
from ...core.tensor import Tensor
from ...primitives import pointwise as p
from .common import concrete, expand, floating, number, reduced, reduction_of, select, total


def _pair(input: Any, target: Any, name: str) -> tuple[Tensor, Tensor]:
    if not isinstance(target, Tensor):
        target = floating(target, f"{name} (target)")
    x = floating(input, name) if target._value.dtype.kind not in "fc" else input
    if not isinstance(x, Tensor):
        x = floating(x, name)
    if x._value.shape != target._value.shape:
        warnings.warn(
            located(
                f"{name}: the input of shape {x.shape} and the target of shape {target.shape} differ and are "
                "broadcast, which is rarely meant"
            ),
            stacklevel=4,
        )
    return x, target


def _finished(loss: Tensor, weight: Tensor | None, reduction: str, name: str) -> Tensor:
    if weight is None:
        return reduced(loss, reduction, name)
    _check_weight(weight, loss, name)
    weighted = loss * weight
    # The weighted mean divides by the sum of the weights.
    return total(weighted) / total(weight) if reduction == "mean" else reduced(weighted, reduction, name)


def _check_weight(weight: Tensor, loss: Tensor, name: str) -> None:
    if weight.shape != loss.shape:
        raise ShapeError(located(f"{name}: weight of shape {weight.shape} for a loss of shape {loss.shape}"))


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """(x - t)², averaged.

    Args:
        input, target: equal shapes; other shapes that broadcast give a warning.
        reduction: "mean", "sum" or "none".
        weight: factors of the input's shape; the mean then divides by their sum.
    """
    x, t = _pair(input, target, "mse_loss")
    return _finished(p.square(x - t), weight, reduction_of(reduction, size_average, reduce), "mse_loss")


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """|x - t|, averaged; arguments of `mse_loss`."""
    x, t = _pair(input, target, "l1_loss")
    return _finished(p.abs(x - t), weight, reduction_of(reduction, size_average, reduce), "l1_loss")


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """(x - t)² / (2 beta) where |x - t| < beta, |x - t| - beta / 2 elsewhere (Girshick 2015).

    Raises:
        OperationError: beta is negative.
    """
    if beta < 0:
        raise OperationError(located(f"smooth_l1_loss: beta cannot be negative, got {beta}"))
    x, t = _pair(input, target, "smooth_l1_loss")
    error = x - t
    size = p.abs(error)
    loss = size if beta == 0 else p.where(size < beta, p.square(error) * (0.5 / beta), size - 0.5 * beta)
    return reduced(loss, reduction_of(reduction, size_average, reduce), "smooth_l1_loss")


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """(x - t)² / 2 where |x - t| ≤ delta, delta (|x - t| - delta / 2) elsewhere (Huber 1964).

    A weight multiplies the loss; the mean divides by the number of entries, not by its sum.

    Raises:
        OperationError: delta is not positive.
    """
    if delta <= 0:
        raise OperationError(located(f"huber_loss: delta must be positive, got {delta}"))
    x, t = _pair(input, target, "huber_loss")
    error = x - t
    size = p.abs(error)
    loss = p.where(size <= delta, p.square(error) * 0.5, (size - 0.5 * delta) * delta)
    if weight is not None:
        _check_weight(weight, loss, "huber_loss")
        loss = loss * weight
    return reduced(loss, reduction, "huber_loss")


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """eˣ - t x for the logarithm x of a Poisson rate, or x - t ln(x + eps) for the rate itself.

    `full` adds Stirling's approximation of ln t!, t ln t - t + ln(2πt) / 2, where t > 1.
    """
    x, t = _pair(input, target, "poisson_nll_loss")
    loss = p.exp(x) - t * x if log_input else x - t * p.log(x + eps)
    if full:
        small = t <= 1
        big = select(small, 1.0, t, loss)
        stirling = big * p.log(big) - big + p.log(big * (2 * math.pi)) * 0.5
        loss = loss + select(small, 0.0, stirling, loss)
    return reduced(loss, reduction_of(reduction, size_average, reduce), "poisson_nll_loss")


def gaussian_nll_loss(
    input: Tensor, target: Tensor, var: Tensor | float, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """(ln v + (x - t)² / v) / 2 for a Gaussian of mean x and variance v.

    Args:
        input, target: means and observations.
        var: variances, of the input's shape, or of that shape without the last axis or with
            1 for it, or a number. Less than `eps` counts as `eps`, with gradient 1.
        full: add ln(2π) / 2.

    Raises:
        ShapeError: var has another shape.
        OperationError: a variance is negative.
    """
    x, t = floating(input, "gaussian_nll_loss"), target
    if not isinstance(var, Tensor):
        var = number(float(var), x)
    elif var.shape != x.shape:
        if var.shape == x.shape[:-1]:
            var = expand(var, var.ndim)
        elif var.ndim and not (var.shape[:-1] == x.shape[:-1] and var.shape[-1] == 1):
            raise ShapeError(located(f"gaussian_nll_loss: var of shape {var.shape} for an input of shape {x.shape}"))
    values = concrete(var)
    if values is not None and (values < 0).any():
        raise OperationError(located(f"gaussian_nll_loss: a variance is negative (the least is {values.min()})"))
    v = p.where(var < eps, var - var.detach() + eps, var)
    loss = (p.log(v) + p.square(x - t) / v) * 0.5
    if full:
        loss = loss + 0.5 * math.log(2 * math.pi)
    return reduced(loss, reduction, "gaussian_nll_loss")
