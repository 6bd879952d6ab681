"""A small set in the format of the Japanese vowels: nine speakers with a mean of their own each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

HEADER = "# made up\n@problemName JapaneseVowels\n@equalLength false\n@classLabel true 1 2 3 4 5 6 7 8 9\n@data\n"


def line(sequence: np.ndarray, label: int) -> str:
    channels = [",".join(f"{value:.4f}" for value in channel) for channel in sequence.T]
    return ":".join([*channels, str(label)])


def write_vowels(folder: Path, each: int = 4) -> Path:
    """Two files with `each` recordings of every speaker."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(9, 12))
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("TRAIN", "TEST"):
        lines = [
            line(means[speaker] + 0.5 * rng.normal(size=(rng.integers(7, 30), 12)), speaker + 1)
            for _ in range(each)
            for speaker in range(9)
        ]
        (folder / f"JapaneseVowels_{part}.ts").write_text(HEADER + "\n".join(lines) + "\n")
    return folder
