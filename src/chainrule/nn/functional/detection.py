"""Object detection: boxes and their overlaps, losses of overlap, non-maximum suppression, focal loss.

Names, arguments and defaults are those of `torchvision.ops`. A box is (x1, y1, x2, y2) with
x1 ≤ x2 and y1 ≤ y2 where nothing else is said.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...core.errors import OperationError, ShapeError, located
from ...core.tensor import Tensor, new_tensor
from ...primitives import pointwise as p
from ...primitives.index import index
from ...primitives.shape import concat
from .classification import binary_cross_entropy_with_logits
from .common import at_least_zero, expand, floating, mean, reduced, select, total

_FORMATS = ("xyxy", "xywh", "cxcywh")


def _boxes(boxes: Any, name: str) -> Tensor:
    x = floating(boxes, name)
    if x.ndim < 1 or x.shape[-1] != 4:
        raise ShapeError(located(f"{name}: boxes have shape (…, 4), got {x.shape}"))
    return x


def _sides(boxes: Tensor) -> list[Tensor]:
    """The four numbers of each box, shape (…)."""
    front = tuple(("s", 0, n, 1) for n in boxes.shape[:-1])
    return [index(boxes, pattern=(*front, ("i", k))) for k in range(4)]


def _joined(*sides: Tensor) -> Tensor:
    return concat(*(expand(s, s.ndim) for s in sides), axis=sides[0].ndim)


def box_convert(boxes: Tensor, in_fmt: str, out_fmt: str) -> Tensor:
    """Boxes (…, 4) in another format: "xyxy" corners, "xywh" corner and size, "cxcywh" centre and size.

    Raises:
        OperationError: a format is none of these.
    """
    x = _boxes(boxes, "box_convert")
    for fmt in (in_fmt, out_fmt):
        if fmt not in _FORMATS:
            raise OperationError(located(f"box_convert: a format is one of {', '.join(_FORMATS)}, got {fmt!r}"))
    if in_fmt == out_fmt:
        return x
    a, b, c, d = _sides(x)
    if in_fmt == "cxcywh":
        a, b = a - c * 0.5, b - d * 0.5
    if in_fmt != "xyxy":
        c, d = a + c, b + d
    if out_fmt != "xyxy":
        c, d = c - a, d - b
    if out_fmt == "cxcywh":
        a, b = a + c * 0.5, b + d * 0.5
    return _joined(a, b, c, d)


def box_area(boxes: Tensor, fmt: str = "xyxy") -> Tensor:
    """The area of each box, shape (…)."""
    x1, y1, x2, y2 = _sides(box_convert(boxes, fmt, "xyxy"))
    return (x2 - x1) * (y2 - y1)


def clip_boxes_to_image(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes cut to an image of size (height, width)."""
    height, width = size
    sides = _sides(_boxes(boxes, "clip_boxes_to_image"))
    limits = (width, height, width, height)
    inside = [at_least_zero(s) for s in sides]
    return _joined(*(select(s > limit, float(limit), s, s) for s, limit in zip(inside, limits, strict=True)))


def remove_small_boxes(boxes: Tensor, min_size: float) -> Tensor:
    """The positions of the boxes (N, 4) whose both sides are at least `min_size` long; int64."""
    x = _boxes(boxes, "remove_small_boxes")._array("remove_small_boxes")
    keep = ((x[:, 2:] - x[:, :2]) >= min_size).all(axis=1)
    return new_tensor(keep.nonzero()[0], None)


def _pairs(boxes1: Tensor, boxes2: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """The boxes with axes that broadcast to every pair: (…, N, 1, 4) and (…, 1, M, 4)."""
    a, b = _boxes(boxes1, name), _boxes(boxes2, name)
    if a.ndim < 2 or b.ndim < 2:
        raise ShapeError(located(f"{name}: expected boxes (…, N, 4) and (…, M, 4), got {a.shape} and {b.shape}"))
    return expand(a, a.ndim - 1), expand(b, b.ndim - 2)


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Areas of intersection and union of boxes whose shapes broadcast."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = _sides(a), _sides(b)
    width = at_least_zero(p.minimum(ax2, bx2) - p.maximum(ax1, bx1))
    height = at_least_zero(p.minimum(ay2, by2) - p.maximum(ay1, by1))
    inside = width * height
    return inside, (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - inside


def _enclosing(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Width and height of the smallest box around two."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = _sides(a), _sides(b)
    return p.maximum(ax2, bx2) - p.minimum(ax1, bx1), p.maximum(ay2, by2) - p.minimum(ay1, by1)


def _distance(a: Tensor, b: Tensor, eps: float) -> Tensor:
    """The squared distance of the centres over that of the enclosing box's corners."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = _sides(a), _sides(b)
    width, height = _enclosing(a, b)
    apart = p.square((ax1 + ax2 - bx1 - bx2) * 0.5) + p.square((ay1 + ay2 - by1 - by2) * 0.5)
    return apart / (p.square(width) + p.square(height) + eps)


def _aspect(a: Tensor, b: Tensor) -> Tensor:
    """How much the aspect ratios differ: 4/π² (atan(w/h) - atan(w'/h'))²."""
    angles = []
    for boxes in (a, b):
        x1, y1, x2, y2 = _sides(boxes)
        angles.append(p.atan((x2 - x1) / (y2 - y1)))
    return p.square(angles[0] - angles[1]) * (4 / math.pi**2)


def box_iou(boxes1: Tensor, boxes2: Tensor, fmt: str = "xyxy") -> Tensor:
    """Intersection over union of every pair.

    Args:
        boxes1, boxes2: shapes (…, N, 4) and (…, M, 4).
        fmt: "xyxy", "xywh" or "cxcywh".

    Returns:
        Shape (…, N, M). NaN for two boxes without area.
    """
    a, b = _pairs(box_convert(boxes1, fmt, "xyxy"), box_convert(boxes2, fmt, "xyxy"), "box_iou")
    inside, union = _overlap(a, b)
    return inside / union


def generalized_box_iou(boxes1: Tensor, boxes2: Tensor) -> Tensor:
    """IoU - (enclosing area - union) / enclosing area of every pair, shape (…, N, M) (Rezatofighi et al. 2019)."""
    a, b = _pairs(boxes1, boxes2, "generalized_box_iou")
    inside, union = _overlap(a, b)
    width, height = _enclosing(a, b)
    around = width * height
    return inside / union - (around - union) / around


def distance_box_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    """IoU - squared distance of the centres over the enclosing diagonal's square, (…, N, M) (Zheng et al. 2020)."""
    a, b = _pairs(boxes1, boxes2, "distance_box_iou")
    inside, union = _overlap(a, b)
    return inside / union - _distance(a, b, eps)


def complete_box_iou(boxes1: Tensor, boxes2: Tensor, eps: float = 1e-7) -> Tensor:
    """`distance_box_iou` - α v, v the difference of the aspect ratios, α = v / (1 - IoU + v) a constant."""
    a, b = _pairs(boxes1, boxes2, "complete_box_iou")
    inside, union = _overlap(a, b)
    iou, v = inside / union, _aspect(a, b)
    return iou - _distance(a, b, eps) - (v / (1 - iou + v + eps)).detach() * v


def _matched(boxes1: Tensor, boxes2: Tensor, name: str) -> tuple[Tensor, Tensor]:
    a, b = _boxes(boxes1, name), _boxes(boxes2, name)
    if a.shape != b.shape:
        raise ShapeError(located(f"{name}: boxes of shapes {a.shape} and {b.shape} must pair up one by one"))
    return a, b


def _loss(loss: Tensor, reduction: str, name: str) -> Tensor:
    # The mean of no boxes is 0 here: an image without objects adds nothing.
    return total(loss) if reduction == "mean" and not loss.size else reduced(loss, reduction, name)


def generalized_box_iou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """1 - generalised IoU of each pair of boxes (…, 4) (Rezatofighi et al. 2019).

    Args:
        boxes1, boxes2: equal shapes.
        reduction: "none", "mean" (0 for no boxes) or "sum".
        eps: added to the areas that are divided by.
    """
    a, b = _matched(boxes1, boxes2, "generalized_box_iou_loss")
    inside, union = _overlap(a, b)
    width, height = _enclosing(a, b)
    around = width * height
    loss = 1 - inside / (union + eps) + (around - union) / (around + eps)
    return _loss(loss, reduction, "generalized_box_iou_loss")


def distance_box_iou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """1 - distance IoU of each pair of boxes (…, 4) (Zheng et al. 2020); arguments of `generalized_box_iou_loss`."""
    a, b = _matched(boxes1, boxes2, "distance_box_iou_loss")
    inside, union = _overlap(a, b)
    loss = 1 - inside / (union + eps) + _distance(a, b, eps)
    return _loss(loss, reduction, "distance_box_iou_loss")


def complete_box_iou_loss(boxes1: Tensor, boxes2: Tensor, reduction: str = "none", eps: float = 1e-7) -> Tensor:
    """1 - complete IoU of each pair of boxes (…, 4) (Zheng et al. 2020); arguments of `generalized_box_iou_loss`."""
    a, b = _matched(boxes1, boxes2, "complete_box_iou_loss")
    inside, union = _overlap(a, b)
    iou, v = inside / (union + eps), _aspect(b, a)
    loss = 1 - iou + _distance(a, b, eps) + (v / (1 - iou + v + eps)).detach() * v
    return _loss(loss, reduction, "complete_box_iou_loss")


def sigmoid_focal_loss(
    inputs: Tensor, targets: Tensor, alpha: float = 0.25, gamma: float = 2, reduction: str = "none"
) -> Tensor:
    """-αₜ (1 - pₜ)^γ ln pₜ, pₜ the probability given to the true class (Lin et al. 2017).

    Args:
        inputs: logits, any shape.
        targets: 1 for objects, 0 for background, of the same shape.
        alpha: weight of objects, 1 - alpha that of background; -1 for no weights.
        gamma: how much easy examples count less.

    Raises:
        OperationError: alpha is neither -1 nor in [0, 1].
    """
    if alpha != -1 and not 0 <= alpha <= 1:
        raise OperationError(located(f"sigmoid_focal_loss: alpha is -1 or in [0, 1], got {alpha}"))
    x, t = floating(inputs, "sigmoid_focal_loss"), floating(targets, "sigmoid_focal_loss (targets)")
    loss = binary_cross_entropy_with_logits(x, t, reduction="none")
    probability = p.sigmoid(x)
    missed = probability + t - 2 * (probability * t)  # 1 - pₜ
    loss = loss * (p.square(missed) if gamma == 2 else missed**gamma)
    if alpha >= 0:
        loss = loss * (alpha * t + (1 - alpha) * (1 - t))
    return mean(loss) if reduction == "mean" else reduced(loss, reduction, "sigmoid_focal_loss")


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression: of boxes that overlap, keep the one with the highest score.

    Args:
        boxes: shape (N, 4).
        scores: shape (N,).
        iou_threshold: a box goes if its IoU with a kept one of higher score is greater.

    Returns:
        The positions of the kept boxes, int64, by decreasing score; of equal scores the first comes first.
    """
    return _suppressed(boxes, scores, None, iou_threshold, "nms")


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_threshold: float) -> Tensor:
    """`nms` within each category: boxes of different categories `idxs`, shape (N,), leave each other alone."""
    return _suppressed(boxes, scores, idxs, iou_threshold, "batched_nms")


def _suppressed(boxes: Tensor, scores: Tensor, idxs: Tensor | None, threshold: float, name: str) -> Tensor:
    b, s = _boxes(boxes, name)._array(name), floating(scores, f"{name} (scores)")._array(name)
    kinds = np.zeros(len(s), np.int64) if idxs is None else idxs._array(name)
    if b.ndim != 2 or s.shape != b.shape[:1] or kinds.shape != s.shape:
        raise ShapeError(
            located(f"{name}: boxes of shape {b.shape} need {b.shape[:1]} scores and categories, got {s.shape}")
        )
    left = np.argsort(-s, kind="stable")
    x1, y1, x2, y2 = b.T
    areas = (x2 - x1) * (y2 - y1)
    kept = []
    while left.size:
        best, rest = left[0], left[1:]
        kept.append(best)
        width = np.minimum(x2[rest], x2[best]) - np.maximum(x1[rest], x1[best])
        height = np.minimum(y2[rest], y2[best]) - np.maximum(y1[rest], y1[best])
        inside = np.maximum(width, 0) * np.maximum(height, 0)
        with np.errstate(divide="ignore", invalid="ignore"):  # two boxes without area: NaN suppresses nothing
            iou = inside / (areas[rest] + areas[best] - inside)
        left = rest[~((iou > np.float64(threshold)) & (kinds[rest] == kinds[best]))]
    return new_tensor(np.array(kept, np.int64), None)
