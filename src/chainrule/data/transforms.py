"""Changes to samples on their way into a batch; each acts on one image or on a whole batch alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..core.dtypes import float32
from ..core.errors import OperationError
from ..core.tensor import Tensor
from ..primitives.pointwise import astype


class Compose:
    """Apply several transforms, the first one first."""

    def __init__(self, transforms: Sequence[Callable[[Tensor], Tensor]]) -> None:
        self.transforms = list(transforms)

    def __call__(self, x: Tensor) -> Tensor:
        for transform in self.transforms:
            x = transform(x)
        return x


class ToFloat:
    """Bytes 0 … 255 to float32 numbers 0 … 1: x / 255."""

    def __call__(self, x: Tensor) -> Tensor:
        return astype(x, dtype=float32) * (1 / 255)


class Normalize:
    """(x - mean) / std, for x of shape (…, C, H, W) with one mean and std a channel, or any x with one of each.

    Raises:
        OperationError: a standard deviation is not positive.
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float]) -> None:
        centre, width = (np.asarray(v, np.float32) for v in (mean, std))
        if not np.all(width > 0):
            raise OperationError(f"Normalize: standard deviations must be positive, got {std}")
        self.mean, self.std = (Tensor(v[:, None, None] if v.ndim else v) for v in (centre, width))

    def __call__(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std
