"""Changes to samples on their way into a batch; each acts on one image or on a whole batch alike.

Random changes are drawn from the default generator, image by image, so a checkpoint holds them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..core.dtypes import float32
from ..core.errors import OperationError
from ..core.tensor import Tensor, new_tensor
from ..primitives.pointwise import astype
from ..random import rand, randint


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


class RandomHorizontalFlip:
    """Mirror an image (…, H, W) left to right with probability `p`, each image of a batch (N, C, H, W) by itself."""

    def __init__(self, p: float = 0.5) -> None:
        if not 0 <= p <= 1:
            raise OperationError(f"RandomHorizontalFlip: p is a probability, got {p}")
        self.p = p

    def __call__(self, x: Tensor) -> Tensor:
        images = x._array("RandomHorizontalFlip")
        chosen = rand(*_each(images)).numpy() < self.p
        return new_tensor(np.where(chosen[..., None, None, None], images[..., ::-1], images), None)


class RandomCrop:
    """Cut a window of `size` × `size` at a random place out of an image that zeros surround.

    Args:
        size: height and width of the result.
        padding: zeros on each side of the image (C, H, W), or of each of a batch (N, C, H, W).

    Raises:
        OperationError: the image with its padding is smaller than the window.
    """

    def __init__(self, size: int, padding: int = 0) -> None:
        self.size, self.padding = size, padding

    def __call__(self, x: Tensor) -> Tensor:
        images = x._array("RandomCrop")
        margin = (self.padding, self.padding)
        padded = np.pad(images, [(0, 0)] * (images.ndim - 2) + [margin, margin])
        room = [n - self.size + 1 for n in padded.shape[-2:]]
        if min(room) < 1:
            raise OperationError(f"RandomCrop: {self.size}×{self.size} does not fit in {padded.shape[-2:]}")
        windows = np.lib.stride_tricks.sliding_window_view(padded, (self.size, self.size), (-2, -1))
        top, left = (randint(0, n, _each(images)).numpy() for n in room)
        if images.ndim == 3:
            return new_tensor(np.ascontiguousarray(windows[:, top, left]), None)
        return new_tensor(np.ascontiguousarray(windows[np.arange(len(images)), :, top, left]), None)


def _each(images: np.ndarray) -> tuple[int, ...]:
    """One random number an image: (N,) for a batch, () for one image (C, H, W)."""
    return images.shape[:-3]
