"""What one training step did to every layer: activations, gradients, and the size of the update.

The update-to-weight ratio ‖Δθ‖/‖θ‖ near 1e-3 is the usual sign of a learning rate that fits;
layers whose activations are mostly zero or whose gradients vanish show up as rows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import TracebackType
from typing import Any

import numpy as np

from ..core.tensor import Tensor
from ..nn.module import Module


class Probe:
    """Measures one step of training, as a context manager around it.

        with Probe(model) as probe:
            loss = …; loss.backward(); optimizer.step()
        probe.rows

    Attributes:
        rows: after the block, one dict a layer (a module without submodules), in the order
            they first ran, of all its calls together: `name`, `kind`; `mean`, `std`, `zeros`
            (share of exact zeros) and `grad` (root mean square of ∂L/∂output) of the output; and,
            for layers with parameters, `weight_norm`, `grad_norm` and `update_ratio` = ‖Δθ‖/‖θ‖.
    """

    def __init__(self, model: Module) -> None:
        self._layers = [(name, m) for name, m in model.named_modules() if not any(True for _ in m.children())]
        self._outputs: dict[str, tuple[Module, list[Tensor]]] = {}
        self._handles: list[Any] = []
        self._before: dict[str, list[np.ndarray]] = {}
        self.rows: list[dict[str, Any]] = []

    def __enter__(self) -> Probe:
        for name, layer in self._layers:
            self._before[name] = [p.numpy() for p in layer.parameters()]
            self._handles.append(layer.register_forward_hook(self._recorder(name)))
        return self

    def _recorder(self, name: str) -> Any:
        def record(module: Module, _inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                if output.requires_grad:
                    output.retain_grad()
                self._outputs.setdefault(name, (module, []))[1].append(output)

        return record

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        for handle in self._handles:
            handle.remove()
        if kind is None:
            self.rows = [self._row(name, layer, outputs) for name, (layer, outputs) in self._outputs.items()]
        self._outputs = {}

    def _row(self, name: str, layer: Module, outputs: list[Tensor]) -> dict[str, Any]:
        y = np.concatenate([output.numpy() for output in outputs], axis=None)
        row = {
            "name": name,
            "kind": type(layer).__name__,
            "mean": float(y.mean(dtype=np.float64)),
            "std": float(y.std(dtype=np.float64)),
            "zeros": float(np.mean(y == 0)),
        }
        gradients = [output.grad for output in outputs if output.grad is not None]
        if gradients:
            row["grad"] = norm(gradients) / math.sqrt(sum(g.size for g in gradients))
        before, after = self._before[name], list(layer.parameters())
        if after:
            size = norm(before)
            row["weight_norm"] = size
            row["grad_norm"] = norm([p.grad for p in after if p.grad is not None])
            change = [np.subtract(p.numpy(), b) for p, b in zip(after, before, strict=True)]
            row["update_ratio"] = norm(change) / size if size else math.inf
        return row


def norm(arrays: Sequence[Any]) -> float:
    """The Euclidean norm of several tensors or arrays taken together."""
    total = 0.0
    for array in arrays:
        flat = np.asarray(array).reshape(-1)
        total += float(np.vdot(flat, flat).real)
    return math.sqrt(total) if math.isfinite(total) and total >= 0 else math.nan
