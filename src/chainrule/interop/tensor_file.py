"""`TensorFile`: the tensors of a file by name, read one by one."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping

import numpy as np


class TensorFile(Mapping[str, np.ndarray]):
    """A mapping from names to arrays that reads an array when it is asked for it, and only then.

    So a model larger than half the memory can be loaded: `model.load_state_dict(file)`.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = dict.fromkeys(names)

    @abstractmethod
    def __getitem__(self, name: str) -> np.ndarray:
        """Read one tensor."""

    @abstractmethod
    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, without reading it."""

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names
