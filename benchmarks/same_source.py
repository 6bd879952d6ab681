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
        "minimum": torch.minimum, "maximum": torch.maximum, "cos": torch.cos, "where": torch.where,
        "randn": torch.randn, "rand": torch.rand, **names,
    }  # fmt: skip
    for part in parts:
        exec(inspect.getsource(part), space)
    return space
