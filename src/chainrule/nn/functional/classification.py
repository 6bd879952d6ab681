"""Losses of classifiers: negative log-likelihood, cross entropies, Kullback-Leibler divergence.

The arguments `size_average` and `reduce` are PyTorch's older way to write `reduction`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...core.errors import DTypeError, IndexingError, OperationError, ShapeError, located
from ...core.tensor import Tensor
from ...primitives import nn
from ...primitives import pointwise as p
from ...primitives.index import index
from ...primitives.shape import permute_dims, reshape
from .common import (
    beyond,
    concrete,
    floating,
    mean,
    on_numbers,
    positions,
    reduced,
    reduction_of,
    same_shape,
    select,
    total,
)


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-ln softmax(input)[target]: the cross entropy of logits and classes.

    Args:
        input: logits of shape (C,), (N, C) or (N, C, d1, …).
        target: class indices of shape (), (N,) or (N, d1, …), or probabilities of the
            input's shape and kind.
        weight: one factor for each class, shape (C,).
        ignore_index: samples with this class index count for nothing.
        reduction: "mean" (weighted, over samples that are not ignored; NaN if there are
            none), "sum" or "none".
        label_smoothing: in [0, 1]: the share of the target spread evenly over all classes
            (Szegedy et al. 2016).

    Raises:
        ShapeError: the shapes do not belong together.
        DTypeError: the input is not floating, or the target has the shape of class indices
            and is not an integer.
        IndexingError: a class index is out of range.
    """
    x = floating(input, "cross_entropy")
    reduction = reduction_of(reduction, size_average, reduce)
    if not 0 <= label_smoothing <= 1:
        raise OperationError(located(f"cross_entropy: label_smoothing is in [0, 1], got {label_smoothing}"))
    target = _as_target(target, "cross_entropy")
    axis = _class_axis(x, "cross_entropy")
    if target.dtype.kind == "f" and target.shape == x.shape:
        logs = nn.log_softmax(x, axis=axis)
        return _against_probabilities(logs, target, axis, weight, reduction, label_smoothing)
    classes, ignored = checked_classes(x, target, ignore_index, "cross_entropy")
    plain = weight is None and ignored is None and not label_smoothing and reduction == "mean"
    if plain and on_numbers(x, classes):  # a transformation gets the loss in its parts, which it can take apart or fuse
        return nn.cross_entropy(class_rows(x), classes)
    logs = nn.log_softmax(x, axis=axis)
    if not label_smoothing:
        return _likelihood(logs, target, classes, ignored, weight, reduction, "cross_entropy")
    return _smoothed(logs, target, classes, ignored, weight, reduction, label_smoothing)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-input[target]: the negative log-likelihood of classes under log-probabilities.

    Arguments, shapes and errors are those of `cross_entropy`, without probabilities.
    """
    x = floating(input, "nll_loss")
    _class_axis(x, "nll_loss")
    target = _as_target(target, "nll_loss")
    classes, ignored = checked_classes(x, target, ignore_index, "nll_loss")
    return _likelihood(x, target, classes, ignored, weight, reduction_of(reduction, size_average, reduce), "nll_loss")


def _as_target(target: Any, name: str) -> Tensor:
    if isinstance(target, Tensor):
        return target
    if isinstance(target, np.ndarray | np.generic):
        return Tensor(target)
    raise DTypeError(located(f"{name}: expected the target as a tensor, got {type(target).__name__}"))


def _class_axis(x: Tensor, name: str) -> int:
    if x.ndim == 0:
        raise ShapeError(located(f"{name}: the input needs an axis of classes, got a 0-d tensor"))
    return 0 if x.ndim == 1 else 1


def _likelihood(
    logs: Tensor, target: Tensor, classes: Tensor, ignored: Tensor | None, weight: Tensor | None, reduction: str,
    name: str,
) -> Tensor:  # fmt: skip
    rows = class_rows(logs)
    count = rows.shape[1]
    chosen = index(rows, positions(rows.shape[0]), classes, pattern=(("a", 0), ("a", 1)))
    if weight is None and ignored is None and reduction == "mean":
        return total(chosen) * (-1.0 / chosen.size if chosen.size else float("nan"))
    loss = -chosen
    factor = None if weight is None else index(check_weight(weight, count, name), classes, pattern=(("a", 0),))
    if factor is not None:
        loss = loss * factor
    if ignored is not None:
        loss = select(ignored, 0.0, loss, loss)
        factor = select(ignored, 0.0, 1.0 if factor is None else factor, loss)
    if reduction == "mean" and factor is not None:
        return p.divide(total(loss), total(factor))
    if reduction == "none" and target.ndim != 1:
        loss = reshape(loss, shape=target.shape)
    return reduced(loss, reduction, name)


def class_rows(x: Tensor) -> Tensor:
    """The classes last and all else one axis: shape (samples, C)."""
    shape = x.shape
    if len(shape) == 2:
        return x
    if len(shape) == 1:
        return reshape(x, shape=(1, shape[0]))
    last = permute_dims(x, axes=(0, *range(2, len(shape)), 1))
    return reshape(last, shape=(x.size // shape[1] if shape[1] else 0, shape[1]))


def checked_classes(x: Tensor, target: Tensor, ignore_index: int, name: str) -> tuple[Tensor, Tensor | None]:
    """The class indices as a vector, checked, and where they are to be ignored (None: nowhere)."""
    shape = x.shape
    count = shape[0] if len(shape) == 1 else shape[1]
    expected = (*shape[:1], *shape[2:]) if len(shape) > 1 else ()
    if target.dtype.kind not in "iu":
        raise DTypeError(
            located(
                f"{name}: class indices are integers of shape {expected}, got {target.dtype}{list(target.shape)} "
                f"for an input of shape {shape}"
            )
        )
    if target.shape != expected:
        raise ShapeError(
            located(
                f"{name}: target of shape {target.shape} for an input of shape {shape}; class indices need {expected}"
            )
        )
    classes = target if target.ndim == 1 else reshape(target, shape=(target.size,))
    values = concrete(classes)
    if values is not None:
        if not beyond(values, count):
            if not 0 <= ignore_index < count:
                return classes, None
        else:
            odd = np.flatnonzero((values != ignore_index) & ((values < 0) | (values >= count)))
            if odd.size:
                raise IndexingError(
                    located(
                        f"{name}: class index {values[odd[0]]} at position {odd[0]} is out of range for "
                        f"{count} classes (0 to {count - 1})"
                    )
                )
    ignored = p.equal(classes, ignore_index) if np.can_cast(np.min_scalar_type(ignore_index), classes.dtype) else None
    return (classes, None) if ignored is None else (p.where(ignored, 0, classes), ignored)


def check_weight(weight: Tensor, count: int, name: str) -> Tensor:
    if weight.shape != (count,):
        raise ShapeError(located(f"{name}: weight of shape {weight.shape} for {count} classes"))
    return weight


def _weight_along(weight: Tensor, x: Tensor, axis: int, name: str) -> Tensor:
    weight = check_weight(weight, x.shape[axis], name)
    return reshape(weight, shape=(x.shape[axis], *(1,) * (x.ndim - 1 - axis)))


def _against_probabilities(
    logs: Tensor, target: Tensor, axis: int, weight: Tensor | None, reduction: str, smoothing: float
) -> Tensor:
    if smoothing:
        target = target * (1 - smoothing) + smoothing / logs.shape[axis]
    if weight is not None:
        target = target * _weight_along(weight, logs, axis, "cross_entropy")
    return reduced(-total(logs * target, (axis,)), reduction, "cross_entropy")


def _smoothed(
    logs: Tensor, target: Tensor, classes: Tensor, ignored: Tensor | None, weight: Tensor | None, reduction: str,
    smoothing: float,
) -> Tensor:  # fmt: skip
    # (1 - s) nll + s/C Σ_c w_c (-ln p_c), both averaged with the weights of the target classes.
    axis = _class_axis(logs, "cross_entropy")
    sharp = _likelihood(logs, target, classes, ignored, weight, reduction, "cross_entropy")
    weighted = logs if weight is None else logs * _weight_along(weight, logs, axis, "cross_entropy")
    even = -total(weighted, (axis,))
    if ignored is not None:
        even = select(reshape(ignored, shape=even.shape), 0.0, even, even)
    if reduction == "mean":
        if weight is not None:
            factor = index(weight, classes, pattern=(("a", 0),))
            factor = factor if ignored is None else select(ignored, 0.0, factor, factor)
            even = total(even) / total(factor)
        elif ignored is not None:
            even = total(even) / total(select(ignored, 0.0, 1.0, even))
        else:
            even = mean(even)
    elif reduction == "sum":
        even = total(even)
    return sharp * (1 - smoothing) + even * (smoothing / logs.shape[axis])


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-(t ln x + (1 - t) ln(1 - x)) for probabilities x, each logarithm at least -100.

    Args:
        input: probabilities in [0, 1].
        target: same shape.
        weight: factors that broadcast to the loss.

    Raises:
        ShapeError: the shapes differ.
        OperationError: an input lies outside [0, 1].
    """
    x = floating(input, "binary_cross_entropy")
    target = floating(target, "binary_cross_entropy (target)")
    same_shape(x, target, "binary_cross_entropy")
    values = concrete(x)
    if values is not None and values.size and (values.min() < 0 or values.max() > 1):
        raise OperationError(
            located(
                f"binary_cross_entropy: the input holds probabilities, got values from {values.min()} to "
                f"{values.max()}; binary_cross_entropy_with_logits takes any number"
            )
        )
    loss = -(target * _bounded_log(x) + (1.0 - target) * _bounded_log(1.0 - x))
    if weight is not None:
        loss = loss * weight
    return reduced(loss, reduction_of(reduction, size_average, reduce), "binary_cross_entropy")


def _bounded_log(x: Tensor) -> Tensor:
    # The bound is on x as well: beyond it the unselected logarithm would give 0 · inf.
    tiny = x < math.exp(-100)
    return select(tiny, -100.0, p.log(select(tiny, 1.0, x, x)), x)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """-(w t ln σ(x) + (1 - t) ln(1 - σ(x))), w = pos_weight, without overflow.

    Computed as (1 - t) x + (1 + (w - 1) t) ln(1 + e⁻ˣ).

    Args:
        input: logits, any shape.
        target: same shape, in [0, 1].
        weight: factors that broadcast to the loss.
        pos_weight: factors of the positive part, broadcast to the input.
    """
    x = floating(input, "binary_cross_entropy_with_logits")
    target = floating(target, "binary_cross_entropy_with_logits (target)")
    same_shape(x, target, "binary_cross_entropy_with_logits")
    softened = nn.softplus(-x)
    if pos_weight is not None:
        softened = softened * (target * (pos_weight - 1.0) + 1.0)
    loss = (1.0 - target) * x + softened
    if weight is not None:
        loss = loss * weight
    return reduced(loss, reduction_of(reduction, size_average, reduce), "binary_cross_entropy_with_logits")


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """t (ln t - x): the Kullback-Leibler divergence of log-probabilities x from t.

    Args:
        input: log-probabilities.
        target: probabilities, or their logarithms if `log_target`; 0 counts as 0 · ln 0 = 0.
        reduction: also "batchmean": the sum over the length of the first axis.
    """
    x = floating(input, "kl_div")
    target = floating(target, "kl_div (target)")
    if log_target:
        loss = p.exp(target) * (target - x)
    else:
        zero = target <= 0
        loss = target * p.log(select(zero, 1.0, target, target)) - target * x
    reduction = reduction_of(reduction, size_average, reduce)
    if reduction == "batchmean":
        if not x.ndim:
            return total(loss)
        return total(loss) * (1.0 / x.shape[0] if x.shape[0] else float("nan"))
    return reduced(loss, reduction, "kl_div")
