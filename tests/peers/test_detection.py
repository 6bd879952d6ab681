"""Overlaps and losses of boxes against the same formulas in PyTorch, in float64 and to the second derivative."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule.nn.functional import detection as ops
from tests.peers.agreement import agree


def boxes(count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 1, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(0.1, 0.8, (count, 2))], axis=1)


def overlap(a: Any, b: Any, kind: str, eps: float) -> Any:
    """IoU and its refinements of boxes that broadcast; eps where the losses have it."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    inside = (high - low).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inside
    around = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    iou = inside / (union + eps)
    if kind == "generalized":
        area = around.prod(-1)
        return iou - (area - union) / (area + eps)
    centres = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    distance = iou - centres.square().sum(-1) / (around.square().sum(-1) + 1e-7)
    if kind == "distance":
        return distance
    ratios = [torch.atan((t[..., 2] - t[..., 0]) / (t[..., 3] - t[..., 1])) for t in (a, b)]
    v = (ratios[0] - ratios[1]).square() * 4 / math.pi**2
    return distance - (v / (1 - iou + v + 1e-7)).detach() * v


@pytest.mark.parametrize("kind", ["generalized", "distance", "complete"])
def test_overlaps_and_losses_agree(kind: str) -> None:
    a, b = boxes(30, 0), boxes(30, 1)
    agree(
        getattr(ops, f"{kind}_box_iou"), lambda x, y: overlap(x[:, None], y[None], kind, 0.0), a[:6], b[:7]
    )  # fmt: skip
    for reduction in ("none", "mean", "sum"):
        loss = getattr(ops, f"{kind}_box_iou_loss")
        reduce = {"none": lambda t: t, "mean": torch.mean, "sum": torch.sum}[reduction]
        agree(
            lambda x, y, loss=loss, r=reduction: loss(x, y, r),
            lambda x, y, reduce=reduce: reduce(1 - overlap(x, y, kind, 1e-7)), a, b,
        )  # fmt: skip


@pytest.mark.parametrize("gamma", [0, 1.5, 2])
@pytest.mark.parametrize("alpha", [-1, 0.25])
def test_focal_loss_agrees(alpha: float, gamma: float) -> None:
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(5, 3)), (rng.uniform(size=(5, 3)) > 0.5).astype(float)

    def peer(x: Any) -> Any:
        target = torch.tensor(t)
        right = torch.where(target == 1, x.sigmoid(), 1 - x.sigmoid())
        weight = torch.where(target == 1, alpha, 1 - alpha) if alpha >= 0 else 1.0
        return -weight * (1 - right) ** gamma * right.log()

    agree(lambda x: ops.sigmoid_focal_loss(x, cr.tensor(t), alpha, gamma), peer, x)
