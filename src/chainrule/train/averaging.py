"""A running average of a model's weights, which often works better than the last weights."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..nn.module import Module


class WeightAverage:
    """The exponential moving average of all parameters of a model.

        average ← d · average + (1 - d) · weight,    d = min(decay, (1 + n) / (10 + n)) after n updates,

    so that the random first weights are forgotten quickly. Polyak and Juditsky 1992,
    "Acceleration of stochastic approximation by averaging". Buffers, such as the means that
    normalisation keeps, are not averaged.
    """

    def __init__(self, model: Module, decay: float) -> None:
        self.model, self.decay = model, decay
        self.updates = 0
        self.averages = {name: p.numpy().copy() for name, p in model.named_parameters()}

    def update(self) -> None:
        """Take the present weights into the average."""
        self.updates += 1
        rest = 1 - min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, p in self.model.named_parameters():
            average = self.averages[name]
            average += rest * (p.numpy() - average)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model has the averaged weights; afterwards its own again."""
        own = {name: p.numpy() for name, p in self.model.named_parameters()}
        self.apply()
        try:
            yield
        finally:
            self._assign(own)

    def apply(self) -> None:
        """Give the model the averaged weights for good."""
        self._assign(self.averages)

    def _assign(self, values: dict[str, np.ndarray]) -> None:
        for name, p in self.model.named_parameters():
            p.assign(values[name])

    def state_dict(self) -> dict[str, Any]:
        """The averages and how many updates they hold."""
        return {"averages": self.averages, "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
        self.averages = {name: np.array(value) for name, value in state["averages"].items()}
        self.updates = state["updates"]
