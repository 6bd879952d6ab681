"""Datasets: indexed collections of samples, and ways to cut them.

A sample is a tensor, a number, or a tuple or dict of those. Datasets that can fetch many
samples at once say so in `batch`, which saves a Python call a sample.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..core.errors import IndexingError, OperationError, ShapeError
from ..core.tensor import Tensor, new_tensor
from ..random import Generator, randperm


class Dataset:
    """Base class: define `__getitem__` and `__len__`."""

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define __getitem__")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} must define __len__")

    def __iter__(self) -> Iterator[Any]:
        return (self[i] for i in range(len(self)))

    def batch(self, indices: np.ndarray) -> Any:
        """The samples at `indices` (int64, 1-d), collated."""
        return default_collate([self[int(i)] for i in indices])


class TensorDataset(Dataset):
    """Tensors with the same length; sample i is the tuple of their i-th rows.

    Args:
        tensors: tensors or arrays of shape (n, …).
        transform: applied to the first element of a sample and, all at once, to that of a
            batch; it must therefore act on the last axes only.

    Raises:
        ShapeError: a tensor is 0-d, or the lengths differ.
    """

    def __init__(self, *tensors: Any, transform: Callable[[Tensor], Tensor] | None = None) -> None:
        if not tensors:
            raise OperationError("TensorDataset: give at least one tensor")
        self.tensors = tuple(t if isinstance(t, Tensor) else Tensor(t) for t in tensors)
        shapes = [t.shape for t in self.tensors]
        if any(not s or s[0] != shapes[0][0] for s in shapes):
            raise ShapeError(f"TensorDataset: tensors must have the same first length, got shapes {shapes}")
        self.transform = transform

    def __len__(self) -> int:
        return self.tensors[0].shape[0]

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        i = _position(index, len(self))
        return self._pick(i)

    def batch(self, indices: np.ndarray) -> tuple[Tensor, ...]:
        return self._pick(indices)

    def _pick(self, index: Any) -> tuple[Tensor, ...]:
        first, *rest = (new_tensor(np.asarray(t._array("a dataset's samples")[index]), None) for t in self.tensors)
        return (first if self.transform is None else self.transform(first), *rest)


class Subset(Dataset):
    """Some samples of another dataset, in the order of `indices`."""

    def __init__(self, dataset: Any, indices: Sequence[int] | np.ndarray) -> None:
        self.dataset = dataset
        self.indices = np.asarray(indices, np.int64)
        beyond = self.indices[(self.indices < -len(dataset)) | (self.indices >= len(dataset))]
        if beyond.size:
            raise IndexingError(f"Subset: index {beyond[0]} is out of range for {len(dataset)} samples")

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Any:
        return self.dataset[int(self.indices[_position(index, len(self))])]

    def batch(self, indices: np.ndarray) -> Any:
        return fetch(self.dataset, self.indices[indices])


def random_split(dataset: Any, lengths: Sequence[int | float], generator: Generator | None = None) -> list[Subset]:
    """Split at random into subsets that do not overlap.

    Args:
        dataset: what to split.
        lengths: how many samples each part gets; or fractions that sum to 1, rounded down,
            with the remainder handed out one by one from the first part on (PyTorch's rule).
        generator: the source of randomness; the default one if left out.

    Raises:
        OperationError: a length is negative, or they do not sum to `len(dataset)` or to 1.
    """
    total = len(dataset)
    if any(not n >= 0 for n in lengths):
        raise OperationError(f"random_split: lengths cannot be negative, got {list(lengths)}")
    fractions = any(isinstance(n, float) for n in lengths) and abs(sum(lengths) - 1) < 1e-9
    counts = [int(total * n) if fractions else int(n) for n in lengths]
    if fractions:
        for i in range(total - sum(counts)):
            counts[i % len(counts)] += 1
    if sum(counts) != total:
        raise OperationError(
            f"random_split: lengths {list(lengths)} sum to {sum(lengths)}, the dataset has {total} samples"
        )
    order = randperm(total, generator=generator).numpy()
    ends = np.cumsum(counts)
    return [Subset(dataset, order[end - n : end]) for end, n in zip(ends, counts, strict=True)]


def fetch(dataset: Any, indices: np.ndarray) -> Any:
    """The collated samples of any indexable collection."""
    if isinstance(dataset, Dataset):
        return dataset.batch(indices)
    return default_collate([dataset[int(i)] for i in indices])


def default_collate(samples: Sequence[Any]) -> Any:
    """Join samples into a batch: tensors and numbers are stacked, tuples and dicts joined element by element.

    Raises:
        ShapeError: tensors of different shapes; give the loader a `collate_fn` that pads them.
    """
    first = samples[0]
    if isinstance(first, tuple | list):
        if any(len(s) != len(first) for s in samples):
            raise ShapeError(
                f"collate: samples have different numbers of elements: {sorted({len(s) for s in samples})}"
            )
        joined = [default_collate(column) for column in zip(*samples, strict=True)]
        return type(first)(*joined) if hasattr(first, "_fields") else type(first)(joined)
    if isinstance(first, dict):
        return {key: default_collate([s[key] for s in samples]) for key in first}
    if isinstance(first, str | bytes):
        return list(samples)
    if not isinstance(first, Tensor | np.ndarray):
        return Tensor(list(samples))
    arrays = [s._array("collate") if isinstance(s, Tensor) else s for s in samples]
    shapes = {a.shape for a in arrays}
    if len(shapes) > 1:
        listed = ", ".join(map(str, sorted(shapes)[:4]))
        raise ShapeError(f"collate: samples have different shapes ({listed}); give a collate_fn that pads or cuts them")
    return Tensor(np.stack(arrays))


def _position(index: int, length: int) -> int:
    i = operator.index(index)
    if not -length <= i < length:
        raise IndexingError(f"index {i} is out of range for {length} samples")
    return i % length
