"""`DataLoader`: batches of a dataset, in an order that a checkpoint can hold.

Each epoch draws one number, the seed of its order. That number and how many batches have
been handed out are all it takes to continue an epoch exactly where it stopped.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ..core.errors import OperationError
from ..random import Generator, default_generator, randperm
from .dataset import fetch


class DataLoader:
    """Iterate over a dataset in batches.

    Args:
        dataset: anything with `__getitem__` and `__len__`.
        batch_size: samples a batch; the last one of an epoch may be smaller.
        shuffle: a new random order each epoch, instead of the dataset's own.
        drop_last: leave out a last batch that is smaller than the others.
        generator: the source of the orders; if left out, one of the loader's own, seeded
            from the default generator (so `manual_seed` fixes it).
        collate_fn: joins a list of samples into a batch, instead of `default_collate`.

    Every `iter(loader)` starts an epoch. After `load_state_dict` the next one continues the
    epoch that `state_dict` was taken in, at the next batch; it starts a new one if that
    epoch had ended.

    Raises:
        OperationError: batch_size is no positive integer, or the dataset is empty.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        *,
        drop_last: bool = False,
        generator: Generator | None = None,
        collate_fn: Callable[[list[Any]], Any] | None = None,
    ) -> None:
        try:
            self.batch_size = operator.index(batch_size)
        except TypeError:
            raise OperationError(f"DataLoader: batch_size must be an integer, got {batch_size!r}") from None
        if self.batch_size < 1:
            raise OperationError(f"DataLoader: batch_size must be at least 1, got {batch_size}")
        if len(dataset) == 0:
            raise OperationError("DataLoader: the dataset is empty")
        self.dataset = dataset
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.collate_fn = collate_fn
        if generator is None and shuffle:
            generator = Generator(_draw_seed(default_generator))
        self.generator = generator
        self._seed: int | None = None  # of the running epoch's order
        self._position = 0  # batches handed out in it
        self._running = False  # an epoch has begun and not ended
        self._resuming = False

    def __len__(self) -> int:
        """Number of batches in an epoch."""
        full, rest = divmod(len(self.dataset), self.batch_size)
        return full + (1 if rest and not self.drop_last else 0)

    def __iter__(self) -> Iterator[Any]:
        if self._resuming:
            self._resuming = False
        else:
            self._position = 0
            self._running = True
            self._seed = _draw_seed(self.generator) if self.shuffle and self.generator is not None else None
        return self._batches(self._order())

    def _order(self) -> np.ndarray:
        if self._seed is None:
            return np.arange(len(self.dataset))
        return randperm(len(self.dataset), generator=Generator(self._seed)).numpy()

    def _batches(self, order: np.ndarray) -> Iterator[Any]:
        size = self.batch_size
        for number in range(self._position, len(self)):
            indices = order[number * size : (number + 1) * size]
            if self.collate_fn is None:
                batch = fetch(self.dataset, indices)
            else:
                batch = self.collate_fn([self.dataset[int(i)] for i in indices])
            self._position = number + 1
            yield batch
        self._running = False

    def state_dict(self) -> dict[str, Any]:
        """Where the running epoch stands, as plain numbers."""
        state = None if self.generator is None else [int(n) for n in self.generator.state.numpy()]
        epoch = {"seed": self._seed, "position": self._position} if self._running else None
        return {"epoch": epoch, "samples": len(self.dataset), "generator": state}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict()` at the next `iter()`.

        Raises:
            OperationError: the state belongs to a dataset of another size, or to a loader
                that shuffles where this one does not (or the other way round).
        """
        if state["samples"] != len(self.dataset):
            raise OperationError(
                f"DataLoader: the saved state is of {state['samples']} samples, this dataset has {len(self.dataset)}"
            )
        if (state["generator"] is None) != (self.generator is None):
            raise OperationError("DataLoader: the saved state and this loader differ in `shuffle`")
        if self.generator is not None:
            self.generator.state.assign(np.array(state["generator"], np.uint64))
        self._running = self._resuming = state["epoch"] is not None
        if self._resuming:
            self._seed, self._position = state["epoch"]["seed"], state["epoch"]["position"]


def _draw_seed(generator: Generator) -> int:
    high, low = generator.bits((2,)).tolist()
    return high << 32 | low
