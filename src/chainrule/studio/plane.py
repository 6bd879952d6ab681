"""The plane of two inputs: what a network answers everywhere on it, and what each hidden unit does there."""

from __future__ import annotations

import base64
from typing import Any, NamedTuple

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


class Answers(NamedTuple):
    """What a network says at some points.

    Attributes:
        level: from -1 (blue) to 1 (orange); of three classes or more, how sure it is, from 0 to 1.
        classes: the likeliest class of each point where there are three or more; None otherwise.
        among: how many classes there are; 0 where the answer is a number.
        largest: the number that is shown as 1.
    """

    level: np.ndarray
    classes: np.ndarray | None
    among: int
    largest: float = 1.0


@no_grad()
def answers(model: nn.Module, points: np.ndarray, logistic: bool, largest: float | None = None) -> Answers | None:
    """What the network says at each point; None where its output is neither a number nor classes.

    One output is a logit (`logistic`) or a number, shown beside `largest` or, without it, the largest
    there is; two are classes and so are more.
    """
    out = model(Tensor(points)).numpy().astype(np.float64)
    out = np.nan_to_num(out.reshape(len(points), -1)) if out.size and out.size % len(points) == 0 else np.zeros((0, 0))
    count = out.shape[1]
    if not count:
        return None
    if count == 1:
        if logistic:
            return Answers(np.tanh(out[:, 0] / 2), None, 2)  # 2 σ(z) - 1
        largest = largest or float(np.abs(out).max()) or 1.0
        return Answers(out[:, 0] / largest, None, 0, largest)
    p = np.exp(out - out.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    if count == 2:
        return Answers(p[:, 1] - p[:, 0], None, 2)
    # So sure as it is beyond chance.
    return Answers((count * p.max(axis=1) - 1) / (count - 1), p.argmax(axis=1), count)


def shown(found: Answers, centre: Any, reach: float, points: list[Any], here: Any) -> dict[str, Any]:
    """The plane as the page reads it.

    size, reach, centre   cells a side; half the length of a side; the middle
    among     number of classes, 0 for numbers
    largest   the number that is shown as 1
    data      what the network answers in every cell, from -1 to 1; base64
    classes   base64 of the likeliest class in every cell, where there are three or more; null otherwise
    points    [x₁, x₂, colour from -1 to 1 or number of the class, whether it is held back to test]
    here      the explained point, or null
    """
    return {
        "size": GRID, "reach": reach, "centre": list(centre), "among": found.among,
        "largest": float(f"{found.largest:.4g}"), "data": levels(found.level),
        "classes": None if found.classes is None
        else base64.b64encode(found.classes.astype(np.int8).tobytes()).decode("ascii"),
        "points": points, "here": here,
    }  # fmt: skip


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
