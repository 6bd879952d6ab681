"""Networks and losses of the recipes, built from the same source for PyTorch."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import torch


class _Module(torch.nn.Module):
    """A module of PyTorch for classes that do not call `super().__init__()`."""

    def __new__(cls, *args: Any, **kwargs: Any) -> _Module:
        module = super().__new__(cls)
        torch.nn.Module.__init__(module)
        return module


class _Layers:
    """`torch.nn` with that base class."""

    Module = _Module
    __getattr__ = staticmethod(lambda name: getattr(torch.nn, name))


def in_pytorch(*parts: Any, **names: Any) -> dict[str, Any]:
    """Run the source of classes and functions again with PyTorch's modules and functions.

    Args:
        parts: what to define again, in an order in which each finds what it needs.
        names: whatever else the source refers to.

    Returns:
        The new definitions by name, among others.
    """
    space: dict[str, Any] = {
        "nn": _Layers(), "F": torch.nn.functional, "Any": Any, "np": np, "Tensor": torch.tensor,
        "concat": torch.concat, "cos": torch.cos, "where": torch.where, "randn": torch.randn, "rand": torch.rand,
        "sigmoid_focal_loss": sigmoid_focal_loss, "generalized_box_iou_loss": generalized_box_iou_loss, **names,
    }  # fmt: skip
    for part in parts:
        exec(inspect.getsource(part), space)
    return space


def sigmoid_focal_loss(inputs: Any, targets: Any, alpha: float = 0.25, gamma: float = 2, reduction: str = "sum") -> Any:
    """That of `torchvision.ops`, which is not installed here: summed."""
    p = torch.sigmoid(inputs)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(inputs, targets, reduction="none")
    true = p * targets + (1 - p) * (1 - targets)
    return (loss * (1 - true) ** gamma * (alpha * targets + (1 - alpha) * (1 - targets))).sum()


def generalized_box_iou_loss(a: Any, b: Any, eps: float = 1e-7) -> Any:
    """That of `torchvision.ops`, for each pair."""
    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    inside = (high - low).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inside
    least, most = torch.minimum(a[..., :2], b[..., :2]), torch.maximum(a[..., 2:], b[..., 2:])
    around = (most - least).prod(-1)
    return 1 - inside / (union + eps) + (around - union) / (around + eps)
