"""Fashion-MNIST: 28×28 grey images of clothing in 10 classes (Xiao, Rasul and Vollgraf 2017, arXiv:1708.07747).

The package embeds 10,000 training and 2,000 test images, so that everything runs without a
network. The full set (60,000 and 10,000) is used where it is found.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ..core.errors import DataError
from ..core.folders import cache_folder
from ..core.tensor import Tensor
from .dataset import TensorDataset
from .idx import read_idx
from .sources import EMBEDDED, RemoteFile, data_folder, find_file
from .transforms import ToFloat

NAME = "fashion-mnist"
CLASSES = (
    "T-shirt/top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip

FILES = (
    RemoteFile(
        "train-images-idx3-ubyte.gz", 47_040_016, "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888"
    ),
    RemoteFile(
        "train-labels-idx1-ubyte.gz", 60_008, "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9"
    ),
    RemoteFile(
        "t10k-images-idx3-ubyte.gz", 7_840_016, "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b"
    ),
    RemoteFile("t10k-labels-idx1-ubyte.gz", 10_008, "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34"),
)
ADDRESSES = (
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
)
_LIMIT = 70_000 * 28 * 28  # bytes: no file of the set or of a subset is larger


class Source(NamedTuple):
    """A folder with the four files, and why it was chosen."""

    folder: Path
    origin: str

    def __str__(self) -> str:
        return self.origin if self.folder.is_relative_to(EMBEDDED) else f"{self.origin}, {self.folder}"


def locate(folder: str | os.PathLike[str] | None = None) -> Source:
    """The folder that Fashion-MNIST is read from.

    In this order: `folder`; CHAINRULE_DATA (the folder itself or `fashion-mnist` in it) where
    it has this data set; the cache folder; the embedded subset.

    Raises:
        DataError: `folder` lacks files, or CHAINRULE_DATA does not exist or has only some of them.
    """
    if folder is not None:
        return Source(_named(Path(folder).expanduser(), "the folder given"), "the folder given")
    named = data_folder()
    if named is not None and (not named.is_dir() or (named / NAME).is_dir() or len(missing(named)) < len(FILES)):
        return Source(_named(named, "CHAINRULE_DATA"), "CHAINRULE_DATA")
    cached = cache_folder() / NAME
    if not missing(cached):
        return Source(cached, "the cache folder")
    return Source(EMBEDDED / NAME, "the subset inside the package")


def missing(folder: Path) -> list[str]:
    """Names of the files that `folder` lacks."""
    return [f.name for f in FILES if find_file(folder, f.name) is None]


def _named(folder: Path, origin: str) -> Path:
    inner = folder / NAME
    found = inner if inner.is_dir() else folder
    if lacking := missing(found):
        raise DataError(
            f"{origin}, {folder}, holds no complete Fashion-MNIST: {', '.join(lacking)} missing in {found}. "
            f"Correct it, leave it out to use the embedded subset, or run `chainrule data {NAME}`"
        )
    return found


class FashionMNIST(TensorDataset):
    """Images as float32 tensors of shape (1, 28, 28) from 0 to 1, with labels 0 … 9 (int64).

    Args:
        train: the training images, or the test images.
        folder: where the four IDX files lie; found by `locate` if left out.
        transform: applied to the raw bytes (uint8) of an image or a batch instead of `ToFloat`.

    Attributes:
        images, labels: uint8 (n, 1, 28, 28) and int64 (n,).
        source: the folder it was read from and why.

    Raises:
        DataError: a file is missing, damaged, or does not belong to the others.
    """

    classes = CLASSES

    def __init__(
        self,
        train: bool = True,
        folder: str | os.PathLike[str] | None = None,
        transform: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.source = locate(folder)
        part = "train" if train else "t10k"
        images_file, labels_file = (
            find_file(self.source.folder, f"{part}-{kind}-ubyte.gz") for kind in ("images-idx3", "labels-idx1")
        )
        assert images_file is not None and labels_file is not None
        images, labels = read_idx(images_file, limit=_LIMIT), read_idx(labels_file, limit=_LIMIT)
        if images.dtype != "uint8" or images.shape[1:] != (28, 28):
            raise DataError(f"{images_file}: expected bytes of shape (n, 28, 28), got {images.dtype} {images.shape}")
        if labels.dtype != "uint8" or labels.shape != images.shape[:1]:
            raise DataError(f"{labels_file}: {labels.shape} labels for {len(images):,} images in {images_file.name}")
        if not len(images):
            raise DataError(f"{images_file}: holds no images")
        if labels.max() >= len(CLASSES):
            raise DataError(f"{labels_file}: label {labels.max()} is beyond the {len(CLASSES)} classes")
        super().__init__(images[:, None], labels.astype("int64"), transform=transform or ToFloat())

    @property
    def images(self) -> Tensor:
        return self.tensors[0]

    @property
    def labels(self) -> Tensor:
        return self.tensors[1]
