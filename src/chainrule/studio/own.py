"""A visitor's own network in the studio."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import nn
from ..core.autodiff import no_grad
from ..core.errors import ChainruleError
from ..core.tensor import Tensor
from . import plane
from .values import plain

SHOWN = 600  # samples drawn in the plane


class Own:
    """A visitor's own network: its model, the function that computes its loss, and the script's variables."""

    def __init__(self, title: str, model: nn.Module, loss: Callable[[], Tensor], names: dict[str, Any]) -> None:
        self.title = title
        self.model = model
        self.loss = loss
        self.names = names
        self._read: Tensor | None = None
        self._start = {name: p.numpy().copy() for name, p in model.named_parameters()}

    @no_grad()
    def plane(self) -> dict[str, Any]:
        """What the network answers over the plane, if what `forward()` gives it has two columns; nothing otherwise."""
        hook = self.model.register_forward_pre_hook(self._note_input)
        self._read = None
        try:
            self.loss()
        finally:
            hook.remove()
        x = self._read
        if x is None or x.ndim != 2 or x.shape[1] != 2 or not len(x) or x.dtype.kind != "f":
            return {}
        data = x.numpy()
        centre = (data.min(axis=0) + data.max(axis=0)) / 2
        reach = 1.15 * float(np.abs(data - centre).max()) or 1.0
        try:
            cells = plane.field(plane.GRID, centre, reach).astype(data.dtype)
            logistic = self._is_logit()
            labels = self._labels(len(data))
            largest = None if labels is None or logistic else float(np.abs(labels).max()) or None
            found = plane.answers(self.model, cells, logistic, largest)
            hidden = plane.hidden_units(self.model, centre, reach, data.dtype)
        except ChainruleError:
            return {}  # the model takes batches of its own size only
        if found is None or len(found.level) != plane.GRID**2:
            return {}
        colours = list(zip(data, self._colours(len(data), found.among), strict=True))[:SHOWN]
        points = [[plain(a), plain(b), plain(c), False] for (a, b), c in colours]
        return {"plane": plane.shown(found, [plain(v) for v in centre], reach, points, None), "hidden": hidden}

    def _note_input(self, _: Any, args: tuple[Any, ...]) -> None:
        if args and isinstance(args[0], Tensor):
            self._read = args[0]

    def _labels(self, count: int) -> np.ndarray | None:
        """The script's targets for so many samples, by their usual names."""
        for name in ("y", "labels", "targets", "target", "t"):
            value = self.names.get(name)
            array = value.numpy() if isinstance(value, Tensor) else value
            if isinstance(array, np.ndarray) and array.size == count and array.dtype.kind in "iufb":
                return array.reshape(-1).astype(np.float64)
        return None

    def _is_logit(self) -> bool:
        """Whether one output is the logit of a class: the targets are zeros and ones."""
        read = 0 if self._read is None else len(self._read)
        labels = self._labels(read)
        return labels is not None and set(np.unique(labels)) <= {0.0, 1.0}

    def _colours(self, count: int, classes: int) -> np.ndarray:
        """Of each sample its class, where there are three or more, or its place between blue (-1) and orange (1)."""
        labels = self._labels(count)
        if labels is None:
            return np.zeros(count)
        if classes > 2:
            return np.clip(np.round(labels), 0, classes - 1)
        return 2 * labels - 1 if classes else labels / (np.abs(labels).max() or 1.0)

    def restore(self) -> None:
        """Give the parameters the values that the script gave them."""
        for name, p in self.model.named_parameters():
            p.assign(Tensor(self._start[name].copy()))
