"""Weights from PyTorch and to it. PyTorch is loaded only by `to_torch`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..core.errors import ArgumentError, located
from ..core.tensor import Tensor
from ..nn.module import Module


def from_torch(source: Any) -> dict[str, Tensor]:
    """A PyTorch module's state dict as tensors of chainrule.

    Layers have PyTorch's names and shapes here, so `model.load_state_dict(from_torch(module))`
    is all that a port needs. Values are copied; float16 and bfloat16 become float32.

    Args:
        source: a `torch.nn.Module`, or a mapping of names to PyTorch tensors, on any device.

    Raises:
        ArgumentError: `source` is neither.
    """
    state = source.state_dict() if hasattr(source, "state_dict") else source
    if not isinstance(state, Mapping):
        raise ArgumentError(
            located(f"from_torch: expected a torch.nn.Module or a state dict, got {type(source).__name__}")
        )
    converted = {}
    for name, value in state.items():
        if not hasattr(value, "detach"):
            raise ArgumentError(located(f"from_torch: {name!r} is a {type(value).__name__}, not a tensor of PyTorch"))
        value = value.detach().cpu()
        if str(value.dtype) in ("torch.bfloat16", "torch.float16"):
            value = value.float()
        converted[name] = Tensor(np.array(value.numpy()))
    return converted


def to_torch(source: Any) -> dict[str, Any]:
    """A module's state dict, or a mapping of names to tensors, as PyTorch tensors of the same data types.

    The values are copied, so PyTorch may train them: `torch_module.load_state_dict(to_torch(model))`.

    Raises:
        ArgumentError: PyTorch is not installed, or `source` is neither.
    """
    try:
        import torch
    except ImportError as error:
        raise ArgumentError("to_torch needs PyTorch, which is not installed: pip install torch") from error
    state = source.state_dict() if isinstance(source, Module) else source
    if not isinstance(state, Mapping):
        raise ArgumentError(located(f"to_torch: expected a Module or a state dict, got {type(source).__name__}"))
    return {name: torch.from_numpy(np.array(value)) for name, value in state.items()}
