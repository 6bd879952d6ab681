"""Japanese vowels: recordings of nine men saying /ae/, as 7 to 29 frames of 12 cepstral coefficients.

Kudo, Toyama and Shimbo 1999, "Multidimensional curve classification using passing-through
regions". The task is to tell the speaker. 270 recordings to train on, 370 to test.
"""

from __future__ import annotations

import os
from pathlib import Path

from ..core.errors import DataError
from ..core.folders import cache_folder
from ..core.tensor import Tensor, new_tensor
from .dataset import Dataset
from .sources import data_folder
from .time_series import read_ts

NAME = "japanese-vowels"
FILES = ("JapaneseVowels_TRAIN.ts", "JapaneseVowels_TEST.ts")


def locate(folder: str | os.PathLike[str] | None = None) -> Path:
    """The folder with the two files: `folder`, or NAME under CHAINRULE_DATA or in the cache folder.

    Raises:
        DataError: they are not there; the message says how to get them.
    """
    bases = (data_folder(), cache_folder()) if folder is None else (Path(folder).expanduser(),)
    places = [place for base in bases if base is not None for place in (base / NAME, base)]
    for place in places:
        if all((place / name).is_file() for name in FILES):
            return place
    raise DataError(
        f"Japanese vowels: no {' and '.join(FILES)} in {', '.join(map(str, places))}; they are in the Python package "
        f"aeon==1.6.0, folder aeon/datasets/data/JapaneseVowels: copy them to a folder and name it with --data"
    )


class JapaneseVowels(Dataset):
    """Recordings as float32 tensors (frames, 12), with the speaker 0 … 8.

    Args:
        train: the 270 recordings to train on, or the 370 to test.
        folder: where the two `.ts` files lie; found by `locate` if left out.

    Attributes:
        sequences: the recordings, as arrays.
        labels: int64.
        source: the folder it was read from.

    Raises:
        DataError: a file is missing or damaged.
    """

    channels, classes = 12, 9

    def __init__(self, train: bool = True, folder: str | os.PathLike[str] | None = None) -> None:
        self.source = locate(folder)
        file = self.source / FILES[not train]
        self.sequences, self.labels, names = read_ts(file, limit=2**22)
        if self.sequences[0].shape[1] != self.channels or len(names) != self.classes:
            raise DataError(
                f"{file}: expected {self.channels} channels and {self.classes} speakers, got "
                f"{self.sequences[0].shape[1]} and {len(names)}"
            )

    def __len__(self) -> int:
        return len(self.sequences)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return new_tensor(self.sequences[index], None), int(self.labels[index])
