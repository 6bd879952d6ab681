"""Handwritten digits, 8×8: small enough to be embedded whole (Alpaydin and Kaynak 1998, UCI, CC BY 4.0)."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

FILE = Path(__file__).parent / "digits_data" / "digits.csv.gz"
COUNT, SIZE = 1797, 8


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images, float32 of shape (1797, 1, 8, 8) between 0 and 1, and the digits they show, int64 of shape (1797,)."""
    with gzip.open(FILE, "rt", encoding="ascii") as file:
        table = np.loadtxt(file, delimiter=",", dtype=np.float32)
    images = table[:, :-1].reshape(COUNT, 1, SIZE, SIZE) / 16
    return images, table[:, -1].astype(np.int64)
