"""Losses with margins: of scores against classes, and of vectors against one another.

The arguments `size_average` and `reduce` are PyTorch's older way to write `reduction`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...core.errors import IndexingError, OperationError, ShapeError, located
from ...core.tensor import Tensor
from ...primitives import nn
from ...primitives import pointwise as pw
from ...primitives.index import index
from ...primitives.reduce import cumulative_sum
from ...primitives.shape import reshape
from .classification import check_weight, checked_classes, class_rows
from .common import at_least_zero, concrete, floating, mean, positions, reduced, reduction_of, same_shape, select, total
from .distance import pairwise_distance


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos(x₁, x₂) where t = 1, max(0, cos(x₁, x₂) - margin) where t = -1.

    Args:
        input1, input2: shape (N, D) or (D,).
        target: 1 or -1, shape (N,) or ().
    """
    a, b = floating(input1, "cosine_embedding_loss"), floating(input2, "cosine_embedding_loss")
    if a.shape != b.shape or a.ndim not in (1, 2) or target.shape != a.shape[:-1]:
        raise ShapeError(
            located(
                "cosine_embedding_loss: inputs of equal shape (N, D) or (D,) and a target of shape (N,) or () "
                f"are needed, got {a.shape}, {b.shape} and {target.shape}"
            )
        )
    axes = (a.ndim - 1,)
    tiny = 1e-12
    sizes = (total(pw.square(a), axes) + tiny) * (total(pw.square(b), axes) + tiny)
    cosine = total(a * b, axes) / pw.sqrt(sizes)
    apart = select(target == -1, at_least_zero(cosine - margin), 0.0, cosine)
    loss = select(target == 1, 1.0 - cosine, apart, cosine)
    return reduced(loss, reduction_of(reduction, size_average, reduce), "cosine_embedding_loss")


def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """x where t = 1, max(0, margin - x) where t = -1."""
    x = floating(input, "hinge_embedding_loss")
    loss = select(target == 1, 0.0, at_least_zero(margin - x), x) + select(target == -1, 0.0, x, x)
    return reduced(loss, reduction_of(reduction, size_average, reduce), "hinge_embedding_loss")


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, -t (x₁ - x₂) + margin): x₁ shall rank above x₂ where t = 1, below where t = -1."""
    a, b = floating(input1, "margin_ranking_loss"), floating(input2, "margin_ranking_loss")
    loss = at_least_zero(margin - target * (a - b))
    return reduced(loss, reduction_of(reduction, size_average, reduce), "margin_ranking_loss")


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(a, p) - d(a, n) + margin), d the `pairwise_distance` (Balntas et al. 2016).

    Args:
        anchor, positive, negative: shape (N, D) or (D,).
        swap: replace d(a, n) by min(d(a, n), d(p, n)).
    """

    def distance(x: Tensor, y: Tensor) -> Tensor:
        return pairwise_distance(x, y, p, eps)

    return triplet_margin_with_distance_loss(
        anchor, positive, negative, distance_function=distance, margin=margin, swap=swap,
        reduction=reduction_of(reduction, size_average, reduce),
    )  # fmt: skip


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(a, p) - d(a, n) + margin) for any distance function d of two tensors.

    Raises:
        OperationError: the margin is not positive.
    """
    if margin <= 0:
        raise OperationError(located(f"triplet loss: the margin must be positive, got {margin}"))
    distance = distance_function or pairwise_distance
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = pw.minimum(far, distance(positive, negative))
    return reduced(at_least_zero(near - far + margin), reduction, "triplet loss")


def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """ln(1 + exp(-t x)) for t = ±1, without overflow."""
    x = floating(input, "soft_margin_loss")
    same_shape(x, target, "soft_margin_loss")
    return reduced(nn.softplus(-(target * x)), reduction_of(reduction, size_average, reduce), "soft_margin_loss")


def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-(t ln σ(x) + (1 - t) ln σ(-x)), averaged over the classes (last axis)."""
    x = floating(input, "multilabel_soft_margin_loss")
    same_shape(x, target, "multilabel_soft_margin_loss")
    loss = target * nn.softplus(-x) + (1.0 - target) * nn.softplus(x)
    if weight is not None:
        loss = loss * weight
    loss = mean(loss, (x.ndim - 1,))
    return reduced(loss, reduction_of(reduction, size_average, reduce), "multilabel_soft_margin_loss")


def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Σ_{j ≠ t} max(0, margin - x_t + x_j)ᵖ / C for one class index t a sample.

    Args:
        input: scores of shape (C,) or (N, C).
        target: class indices of shape () or (N,).
        p: 1 or 2.
        weight: one factor for each class.
    """
    x = floating(input, "multi_margin_loss")
    if p not in (1, 2):
        raise OperationError(located(f"multi_margin_loss: p is 1 or 2, got {p}"))
    if x.ndim not in (1, 2):
        raise ShapeError(located(f"multi_margin_loss: the input has shape (C,) or (N, C), got {x.shape}"))
    rows = class_rows(x)
    samples, count = rows.shape
    classes, _ = checked_classes(x, target, -1 if target.dtype.kind == "u" else -(2**31), "multi_margin_loss")
    chosen = index(rows, positions(samples), classes, pattern=(("a", 0), ("a", 1)))
    excess = at_least_zero(rows - reshape(chosen, shape=(samples, 1)) + margin)
    if p == 2:
        excess = excess * excess
    if weight is not None:
        factor = index(check_weight(weight, count, "multi_margin_loss"), classes, pattern=(("a", 0),))
        excess = excess * reshape(factor, shape=(samples, 1))
    own = reshape(classes, shape=(samples, 1)) == positions(count)
    loss = mean(select(own, 0.0, excess, excess), (1,))
    if reduction == "none" and x.ndim == 1:
        loss = reshape(loss, shape=())
    return reduced(loss, reduction_of(reduction, size_average, reduce), "multi_margin_loss")


def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Σ over classes j that apply and i that do not of max(0, 1 - (x_j - x_i)) / C.

    Args:
        input: scores of shape (C,) or (N, C).
        target: same shape: the class indices that apply, ended by -1 where there are fewer than C.
    """
    x = floating(input, "multilabel_margin_loss")
    same_shape(x, target, "multilabel_margin_loss")
    rows = class_rows(x)
    samples, count = rows.shape
    labels = target if target.ndim == 2 else reshape(target, shape=(1, count))
    values = concrete(labels)
    if values is not None and values.size and (values.min() < -1 or values.max() >= count):
        raise IndexingError(
            located(f"multilabel_margin_loss: class indices are -1 to {count - 1}, got {values.tolist()}")
        )
    used = cumulative_sum(_as_int(labels < 0), axis=1) == 0
    pairs = reshape(labels, shape=(samples, count, 1)) == positions(count)
    applies = total(_as_int(pairs & reshape(used, shape=(samples, count, 1))), (1,)) > 0
    excess = at_least_zero(1.0 - (reshape(rows, shape=(samples, count, 1)) - reshape(rows, shape=(samples, 1, count))))
    counted = reshape(applies, shape=(samples, count, 1)) & ~reshape(applies, shape=(samples, 1, count))
    loss = total(select(counted, excess, 0.0, excess), (1, 2)) * (1.0 / count if count else float("nan"))
    if reduction == "none" and x.ndim == 1:
        loss = reshape(loss, shape=())
    return reduced(loss, reduction_of(reduction, size_average, reduce), "multilabel_margin_loss")


def _as_int(x: Tensor) -> Tensor:
    return pw.astype(x, dtype=np.dtype(np.int64))
