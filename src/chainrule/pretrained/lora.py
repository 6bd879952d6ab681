"""LoRA: train a large network by small additions to its linear layers (Hu et al. 2021, arXiv:2106.09685).

A layer y = W x becomes y = W x + α/r · B (A x) with W fixed and only A (r × in) and B (out × r)
trained. B starts at 0, so the network starts as it was.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from .. import nn
from ..core.errors import DataError, OperationError
from ..core.tensor import Tensor
from ..interop import SafetensorsFile, save_safetensors


class LoRA(nn.Module):
    """The addition α/r · B (A x) to one linear layer.

    Shapes: lora_A.weight (r, in), uniform as `nn.Linear` starts; lora_B.weight (out, r), zeros.
    """

    def __init__(self, in_features: int, out_features: int, rank: int, alpha: float) -> None:
        self.scale = alpha / rank
        self.lora_A = nn.Linear(in_features, rank, bias=False)
        self.lora_B = nn.Linear(rank, out_features, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.lora_B(self.lora_A(x)) * self.scale


class AdaptedLinear(nn.Module):
    """A linear layer and its addition, whose parts are `base` and `adapter`."""

    def __init__(self, base: nn.Linear, adapter: LoRA) -> None:
        self.base, self.adapter = base, adapter

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.adapter(x)


class Adapters(nn.Module):
    """All additions to a network, by the paths of the layers they are added to: what is trained and saved.

    Args:
        network: its linear layers at the ends of `targets` become `AdaptedLinear`, in place, and
            everything it has so far stops requiring gradients.
        targets: names of layers, such as ("q_proj", "v_proj").
        rank: r; larger ranks can change more and cost more.
        alpha: α; the addition is scaled by α / r.

    Raises:
        OperationError: no linear layer has one of these names, or r is not positive.
    """

    def __init__(self, network: nn.Module, targets: Iterable[str], rank: int = 8, alpha: float = 16.0) -> None:
        wanted = tuple(targets)
        if rank < 1 or not alpha > 0:
            raise OperationError(f"LoRA needs a rank of 1 or more and a positive alpha, got {rank} and {alpha}")
        found = {
            path: module
            for path, module in network.named_modules()
            if isinstance(module, nn.Linear) and path.rpartition(".")[2] in wanted
        }
        if not found:
            raise OperationError(f"no linear layer of {type(network).__name__} is called {' or '.join(wanted)}")
        network.requires_grad_(False)
        self.rank, self.alpha, self.targets = rank, float(alpha), wanted
        self.layers = nn.ModuleDict()
        self._paths = list(found)
        for path, linear in found.items():
            adapter = LoRA(linear.in_features, linear.out_features, rank, alpha)
            self.layers[path.replace(".", "/")] = adapter
            owner, _, name = path.rpartition(".")
            setattr(network.get_submodule(owner), name, AdaptedLinear(linear, adapter))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the additions, and what they need to be put back, to a safetensors file."""
        about = {"rank": str(self.rank), "alpha": str(self.alpha), "targets": ",".join(self.targets)}
        save_safetensors(path, self.state_dict(), {"format": "chainrule-lora"} | about)

    @classmethod
    def load(cls, network: nn.Module, path: str | os.PathLike[str]) -> Adapters:
        """Put additions that `save` wrote on a network of the same kind.

        Raises:
            DataError: the file is damaged, or holds no additions.
            StateDictError, OperationError: they belong to another network.
        """
        file = SafetensorsFile(path)
        about = file.metadata
        try:
            if about.get("format") != "chainrule-lora":
                raise ValueError("it does not say that it is one")
            targets, rank, alpha = about["targets"].split(","), int(about["rank"]), float(about["alpha"])
        except (KeyError, ValueError) as error:
            raise DataError(f"{file.path}: not a file of LoRA additions ({error})") from error
        largest = max((max(file.shape(name), default=0) for name in file), default=0)
        if rank > largest:
            raise DataError(f"{file.path}: damaged: it states the rank {rank}")
        adapters = cls(network, targets, rank, alpha)
        adapters.load_state_dict(file)
        return adapters

    def merge(self, network: nn.Module) -> None:
        """Add every addition to its layer's weight, W + α/r · B A, and put the plain layer back."""
        for path in self._paths:
            owner, _, name = path.rpartition(".")
            adapted: Any = network.get_submodule(path)
            adapter = adapted.adapter
            a, b = adapter.lora_A.weight.numpy(), adapter.lora_B.weight.numpy()
            adapted.base.weight.assign(adapted.base.weight.numpy() + np.float32(adapter.scale) * (b @ a))
            setattr(network.get_submodule(owner), name, adapted.base)
