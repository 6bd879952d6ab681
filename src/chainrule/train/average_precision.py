"""Average precision: how well a detector finds and ranks objects.

Everingham, Van Gool, Williams, Winn and Zisserman 2010, "The Pascal visual object classes (VOC)
challenge": the area under precision by recall, with precision made monotone, over all points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..core.errors import ShapeError
from ..core.tensor import Tensor
from ..nn.functional.detection import box_iou


class Boxes(NamedTuple):
    """Boxes of one image, found or true.

    Attributes:
        corners: float (n, 4), x₁ y₁ x₂ y₂ in pixels.
        labels: int (n,).
        scores: float (n,), how sure the detector is; ones for true boxes.
    """

    corners: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


def overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of every box (n, 4) with every other (m, 4), corners x₁ y₁ x₂ y₂: (n, m).

    Boxes without area overlap nothing.
    """
    return np.nan_to_num(box_iou(Tensor(a), Tensor(b)).numpy())


def average_precision(
    found: Sequence[Boxes], true: Sequence[Boxes], classes: int, threshold: float = 0.5
) -> np.ndarray:
    """Average precision of each class; NaN for a class that no image shows.

    In the order of their scores, over all images, each found box takes the true box of its
    class and image that it overlaps most among those not yet taken. It is right if that
    overlap (intersection over union) reaches the threshold.

    Args:
        found, true: boxes of the same images in the same order.
        classes: labels are 0 … classes - 1.
        threshold: the least overlap that counts.

    Returns:
        float64 (classes,).

    Raises:
        ShapeError: the two lists have different lengths.
    """
    if len(found) != len(true):
        raise ShapeError(f"average_precision: {len(found)} images with found boxes, {len(true)} with true ones")
    return np.array([_of_class(found, true, label, threshold) for label in range(classes)])


def _of_class(found: Sequence[Boxes], true: Sequence[Boxes], label: int, threshold: float) -> float:
    scores, right = [], []
    total = 0
    for mine, real in zip(found, true, strict=True):
        of_class = mine.labels == label
        wanted = real.corners[real.labels == label]
        total += len(wanted)
        order = np.argsort(-mine.scores[of_class], kind="stable")
        iou = overlaps(mine.corners[of_class][order], wanted)
        free = np.ones(len(wanted), bool)
        scores.append(mine.scores[of_class][order])
        for row in iou:
            best = int(np.argmax(np.where(free, row, -1))) if free.any() else -1
            hit = best >= 0 and row[best] >= threshold
            right.append(hit)
            if hit:
                free[best] = False
    if not total:
        return float("nan")
    ranked = np.array(right, bool)[np.argsort(-np.concatenate(scores), kind="stable")]
    return _area(ranked, total)


def _area(right: np.ndarray, total: int) -> float:
    """The area under monotone precision by recall of a ranked list of hits and misses."""
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    # Recall rises by 1/total at each hit.
    return float(envelope[right].sum() / total)
