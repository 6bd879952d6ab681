"""Scenes with garments of Fashion-MNIST pasted on photographs: unlimited pictures with exact boxes.

The photographs are scikit-image's (the extra `chainrule[photos]`); where it is missing,
textures are made. Garments and photographs of training and of held-out scenes are different ones.
"""

from __future__ import annotations

import numpy as np

from ..core.tensor import Tensor
from ..data import Dataset, FashionMNIST
from ..random import default_generator
from ..train.average_precision import Boxes, overlaps

PHOTOGRAPHS = {
    True: ("chelsea", "coffee", "rocket", "stereo_motorcycle", "hubble_deep_field", "brick", "grass", "moon"),
    False: ("astronaut", "gravel"),
}
MOST = 12  # garments in a scene
SMALLEST, LARGEST = 24, 48  # side of a garment's square, pixels


class Scenes(Dataset):
    """Scenes of `size` × `size` pixels, each with 1 to 12 garments.

    A sample is an image, float32 (3, size, size) from 0 to 1, with its boxes, float32
    (12, 4), corners x₁ y₁ x₂ y₂ in pixels, and labels, int64 (12,), -1 where there is no box.

    Args:
        garments: images and labels to choose from.
        train: use the photographs for training, or the held-out ones.
        count: how many scenes an epoch has.
        size: height and width.
        seed: with a seed scene i is always the same one; without, scenes are drawn from the
            default generator, always new ones, and a resumed run continues with the same.
    """

    def __init__(
        self, garments: FashionMNIST, train: bool, count: int, size: int = 128, seed: int | None = None
    ) -> None:
        self.images, self.labels = garments.images.numpy()[:, 0], garments.labels.numpy()
        self.backgrounds, self.source = backgrounds(train)
        self.train, self.count, self.size, self.seed = train, count, size, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        seed = [self.seed, index] if self.seed is not None else default_generator.bits((4,)).tolist()
        return tuple(map(Tensor, self.scene(np.random.default_rng(seed))))  # type: ignore[return-value]

    def scene(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """One scene from a source of random numbers."""
        picture = self._background(rng)
        boxes = np.zeros((MOST, 4), np.float32)
        labels = np.full(MOST, -1, np.int64)
        placed = 0
        for _ in range(rng.integers(MOST // 2 if self.train else 1, MOST + 1)):
            chosen = rng.integers(len(self.images))
            side = int(rng.integers(SMALLEST, LARGEST + 1))
            garment = resize_to(self.images[chosen].astype(np.float32) / 255, side)
            if rng.random() < 0.5:
                garment = garment[:, ::-1]
            box = extent(garment)
            offset = rng.integers(0, self.size - side + 1, 2)  # x, y
            corners = box + np.tile(offset, 2)
            if (
                box[2] - box[0] < 4
                or overlaps(corners[None].astype(float), boxes[:placed].astype(float)).max(initial=0.0) > 0.05
            ):
                continue
            paste(picture, garment, offset, rng)
            boxes[placed], labels[placed] = corners, self.labels[chosen]
            placed += 1
        return picture, boxes, labels

    def _background(self, rng: np.random.Generator) -> np.ndarray:
        photograph = self.backgrounds[rng.integers(len(self.backgrounds))]
        side = int(rng.integers(self.size, min(photograph.shape[:2]) + 1))
        top, left = (rng.integers(0, n - side + 1) for n in photograph.shape[:2])
        step = side / self.size
        at = (np.arange(self.size) * step).astype(int)
        crop = photograph[top + at[:, None], left + at[None, :]]
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        if self.train:
            crop = crop[..., rng.permutation(3)]  # few photographs: more colours
        light = rng.uniform(0.5, 1.1)
        return np.ascontiguousarray(np.clip(crop.astype(np.float32) / 255 * light, 0, 1).transpose(2, 0, 1))


def paste(picture: np.ndarray, garment: np.ndarray, offset: np.ndarray, rng: np.random.Generator) -> None:
    """Lay a garment of a random tint over a picture (3, H, W), opaque where it is not black."""
    x, y = offset
    side = len(garment)
    opaque = np.clip(garment * 8, 0, 1)
    tint = rng.uniform(0.5, 1.0, (3, 1, 1)).astype(np.float32)
    under = picture[:, y : y + side, x : x + side]
    under[:] = under * (1 - opaque) + (0.15 + 0.85 * garment) * tint * opaque


def resize_to(image: np.ndarray, side: int) -> np.ndarray:
    """Square images (…, n, n) at another size, by bilinear interpolation."""
    weights = _bilinear(image.shape[-1], side)
    return weights @ image @ weights.T


def _bilinear(old: int, new: int) -> np.ndarray:
    """The matrix (new, old) whose rows interpolate between two neighbours each."""
    at = np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)
    low = np.minimum(at.astype(int), old - 2)
    share = (at - low).astype(np.float32)
    weights = np.zeros((new, old), np.float32)
    weights[np.arange(new), low] = 1 - share
    weights[np.arange(new), low + 1] = share
    return weights


def extent(garment: np.ndarray, least: float = 0.06) -> np.ndarray:
    """The smallest box x₁ y₁ x₂ y₂ around all pixels brighter than `least`; zeros if there are none."""
    rows, columns = (np.flatnonzero((garment > least).any(axis)) for axis in (1, 0))
    if not len(rows):
        return np.zeros(4, int)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


def backgrounds(train: bool) -> tuple[list[np.ndarray], str]:
    """Colour pictures (H, W, 3) of bytes to paste on, and what they are."""
    try:
        from skimage import data
    except ImportError:
        rng = np.random.default_rng(1 if train else 2)
        return [texture(rng) for _ in range(12)], "made textures; pip install 'chainrule[photos]' for photographs"
    loaded = [getattr(data, name)() for name in PHOTOGRAPHS[train]]
    pictures = [np.asarray(p[0] if isinstance(p, tuple) else p) for p in loaded]  # of a stereo pair, the left one
    pictures = [np.repeat(p[..., None], 3, -1) if p.ndim == 2 else p[..., :3] for p in pictures]
    return pictures, f"photographs of scikit-image: {', '.join(PHOTOGRAPHS[train])}"


def texture(rng: np.random.Generator, size: int = 256) -> np.ndarray:
    """A cloudy colour texture (size, size, 3) of bytes: noise of five scales, each of half the contrast."""
    total = np.zeros((size, size, 3), np.float32)
    for octave in range(5):
        coarse = rng.random((4 * 2**octave, 4 * 2**octave, 3)).astype(np.float32)
        total += (resize_to(coarse.transpose(2, 0, 1), size).transpose(1, 2, 0) - 0.5) / 2**octave
    total = (total - total.min()) / (total.max() - total.min())
    return (255 * total).astype(np.uint8)


def true_boxes(corners: np.ndarray, labels: np.ndarray) -> Boxes:
    """The boxes of a sample without the empty places."""
    there = labels >= 0
    return Boxes(corners[there].astype(float), labels[there], np.ones(there.sum()))
