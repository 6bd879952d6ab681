"""Tree crowns on aerial photographs: real pictures, 0.1 m a pixel, with boxes drawn by people.

The pictures come with DeepForest (Weinstein, Marconi, Bohlman, Zare and White 2019, "Individual
tree-crown detection in RGB imagery using semi-supervised deep learning neural networks"; MIT
licence). Two thirds of the large one, from Yellowstone, are trained on. Held out are its last
third and the pictures of two other sites.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from ..core.folders import cache_folder
from ..core.tensor import Tensor
from ..data import DataError, Dataset
from ..data.pictures import read_picture
from ..data.sources import data_folder
from ..data.voc import read_voc
from ..random import default_generator
from .scenes import resize_to

NAME = "tree-crowns"
LARGE, OTHERS = "2019_YELL_2_541000_4977000_image_crop", ("OSBS_029", "SOAP_061")
TRAINED_ON = 832  # columns of the large picture
PIXELS_LIMIT = 50_000_000

Sample = tuple[Tensor, Tensor, Tensor]


class TreeCrowns:
    """The pictures with their boxes, read from a folder.

    Attributes:
        train: the part to train on: picture float32 (3, H, W) from 0 to 1, boxes (n, 4), labels (n,).
        held_out: lists of samples of the same form, by name.

    Raises:
        DataError: the files are not there or damaged, or Pillow, which decodes them, is missing.
    """

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        place = locate(folder)
        picture, corners = _read(place, LARGE)
        self.train = _part(picture, corners, 0, TRAINED_ON)
        rest = _part(picture, corners, TRAINED_ON, picture.shape[2])
        self.held_out = {"Yellowstone held-out third": [rest]}
        for name in OTHERS:
            other, boxes = _read(place, name)
            self.held_out[f"site {name[:4]}"] = [_part(other, boxes, 0, other.shape[2])]
        self.source = f"{len(self.train[2])} tree crowns to train on, {place}"


class Crops(Dataset):
    """`count` random windows of one picture an epoch, scaled, turned and mirrored.

    Drawn from the default generator: always new ones, and a resumed run continues with the
    same. The largest number of boxes in a window is fixed; empty places have the label -1.
    """

    MOST = 60

    def __init__(self, sample: Sample, count: int, size: int = 128) -> None:
        self.picture, self.corners = sample[0].numpy(), sample[1].numpy()
        self.count, self.size = count, size

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(default_generator.bits((4,)).tolist())
        side = int(rng.integers(self.size * 3 // 4, self.size * 5 // 4 + 1))
        top, left = (int(rng.integers(0, n - side + 1)) for n in self.picture.shape[1:])
        window = resize_to(self.picture[:, top : top + side, left : left + side], self.size)
        corners = cut(self.corners - np.array([left, top, left, top]), side, side) * (self.size / side)
        for _ in range(rng.integers(4)):
            window = window[:, :, ::-1].transpose(0, 2, 1)  # a quarter turn: (x, y) → (y, size - x)
            corners = np.stack([corners[:, 1], self.size - corners[:, 2], corners[:, 3], self.size - corners[:, 0]], 1)
        if rng.random() < 0.5:
            window = window[:, :, ::-1]
            corners = np.stack([self.size - corners[:, 2], corners[:, 1], self.size - corners[:, 0], corners[:, 3]], 1)
        window = np.clip(window * rng.uniform(0.7, 1.3), 0, 1)
        boxes, labels = np.zeros((self.MOST, 4), np.float32), np.full(self.MOST, -1, np.int64)
        boxes[: len(corners)], labels[: len(corners)] = corners[: self.MOST], 0
        return Tensor(np.ascontiguousarray(window, np.float32)), Tensor(boxes), Tensor(labels)


def cut(corners: np.ndarray, width: int, height: int, least: float = 0.4) -> np.ndarray:
    """The boxes as far as they lie in a window, without those of which less than `least` does."""
    inside = np.clip(corners, 0, [width, height, width, height])
    areas, before = (np.clip(b[:, 2:] - b[:, :2], 0, None).prod(-1) for b in (inside, corners))
    return inside[areas > least * before]


def locate(folder: str | os.PathLike[str] | None = None) -> Path:
    """The folder with the pictures: `folder`, or `tree-crowns` under CHAINRULE_DATA or in the cache.

    Raises:
        DataError: none of them has the files.
    """
    asked = [Path(folder).expanduser()] if folder is not None else []
    for base in [] if asked else [data_folder(), cache_folder()]:
        asked += [] if base is None else [base, base / NAME]
    for place in asked:
        if all((place / f"{name}{ending}").is_file() for name in (LARGE, *OTHERS) for ending in (".png", ".xml")):
            return place
    raise DataError(
        f"the tree crowns are not in {', '.join(map(str, asked))}: copy deepforest/data/*.png and *.xml out of the "
        "package deepforest 2.1.0 (pip download --no-deps deepforest==2.1.0) to a folder, and name it with --data"
    )


def _read(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray]:
    """A picture, float32 (3, H, W), and its boxes."""
    pixels = read_picture(folder / f"{name}.png", PIXELS_LIMIT)
    return pixels.transpose(2, 0, 1).astype(np.float32) / 255, read_voc(folder / f"{name}.xml").corners


def _part(picture: np.ndarray, corners: np.ndarray, left: int, right: int) -> Sample:
    """Some columns of a picture and the boxes in them; height and width are cut to multiples of 8."""
    height, width = picture.shape[1] // 8 * 8, (right - left) // 8 * 8
    boxes = cut(corners - np.array([left, 0, left, 0]), width, height)
    part = np.ascontiguousarray(picture[:, :height, left : left + width])
    return Tensor(part), Tensor(boxes.astype(np.float32)), Tensor(np.zeros(len(boxes), np.int64))
