"""The plane of two inputs: what a network answers everywhere on it, and what each hidden unit does there."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np

from .. import nn
from ..core.autodiff import no_grad
from ..core.tensor import Tensor
from ..nn import activation

GRID = 40  # cells a side of the decision boundary
THUMB = 16  # and of the picture of one hidden unit
UNITS, LAYERS = 8, 6  # pictures of a layer, layers with pictures


def field(size: int, centre: Any, reach: float) -> np.ndarray:
    """The middles of size × size cells of a square, row by row from the top: float32 (size², 2)."""
    axis = (np.arange(size, dtype=np.float64) + 0.5) / size * 2 * reach - reach
    across, down = np.meshgrid(axis + centre[0], axis[::-1] + centre[1])
    return np.stack([across, down], -1).reshape(-1, 2).astype(np.float32)


@no_grad()
def answers(model: nn.Module, points: np.ndarray, logistic: bool) -> np.ndarray | None:
    """What the network says at each point, from -1 (blue) to 1 (orange).

    One output is a logit (`logistic`) or a number, shown beside the largest; two are classes; of more,
    the likeliest class gives the colour. None where the output is none of these.
    """
    out = model(Tensor(points)).numpy().astype(np.float64)
    out = np.nan_to_num(out.reshape(len(points), -1)) if out.size and out.size % len(points) == 0 else np.zeros((0, 0))
    classes = out.shape[1]
    if not classes:
        return None
    if classes == 1:
        if logistic:
            return np.tanh(out[:, 0] / 2)  # 2 σ(z) - 1
        return out[:, 0] / (np.abs(out).max() or 1.0)
    p = np.exp(out - out.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return p[:, 1] - p[:, 0] if classes == 2 else class_colour(p.argmax(axis=1), classes) * p.max(axis=1)


def class_colour(labels: np.ndarray, classes: int) -> np.ndarray:
    """Classes 0 … n - 1 as places between -1 and 1."""
    return 2 * labels / max(classes - 1, 1) - 1


def hidden_units(model: nn.Module, centre: Any, reach: float, dtype: Any) -> list[dict[str, Any]]:
    """For each hidden layer the response of its first units over the plane, each scaled to its largest.

    The units are the outputs of activation layers; of a network without any, those of dense layers but the last.
    """
    leaves = [(path, m) for path, m in model.named_modules() if not any(True for _ in m.children())]
    chosen = [(path, m) for path, m in leaves if type(m).__module__ == activation.__name__]
    if not chosen:
        chosen = [leaf for leaf in leaves if isinstance(leaf[1], nn.Linear)][:-1]
    seen: dict[str, np.ndarray] = {}
    hooks = []
    for path, module in chosen[:LAYERS]:

        def keep(_: Any, __: Any, output: Any, path: str = path) -> None:
            if isinstance(output, Tensor) and output.ndim == 2 and output.shape[0] == THUMB**2:
                seen[path] = output.numpy()

        hooks.append(module.register_forward_hook(keep))
    try:
        with no_grad():
            model(Tensor(field(THUMB, centre, reach).astype(dtype)))
    finally:
        for hook in hooks:
            hook.remove()
    found = []
    for path, values in seen.items():
        scaled = np.nan_to_num(values[:, :UNITS].T / np.maximum(np.abs(values[:, :UNITS]).max(axis=0), 1e-12)[:, None])
        found.append({"layer": path, "count": values.shape[1], "size": THUMB, "units": [levels(v) for v in scaled]})
    return found


def levels(values: np.ndarray) -> str:
    """Numbers from -1 to 1 as base64 of signed bytes."""
    return base64.b64encode(np.round(np.clip(values, -1, 1) * 127).astype(np.int8).tobytes()).decode("ascii")
