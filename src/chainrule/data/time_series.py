"""Reader of `.ts` files, the format of the UEA archive of time series (Bagnall et al. 2018, arXiv:1811.00075).

Comments begin with `#`, statements about the data with `@`. After `@data`, each line is one case:
its channels separated by colons, the values of a channel by commas, and the class label last.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..core.errors import DataError

SIZE_LIMIT = 2**26  # bytes


class TimeSeries(NamedTuple):
    """Labelled sequences.

    Attributes:
        sequences: one float32 array (steps, channels) a case; the numbers of steps may differ.
        labels: int64, positions in `classes`.
        classes: the names of the classes, in the order of the file's header.
    """

    sequences: list[np.ndarray]
    labels: np.ndarray
    classes: tuple[str, ...]


def read_ts(path: str | os.PathLike[str], *, limit: int = SIZE_LIMIT) -> TimeSeries:
    """Read one `.ts` file with class labels.

    Args:
        path: the file.
        limit: the most bytes it may have.

    Raises:
        DataError: it cannot be read, is too large, lacks a header or a case, or a case has
            channels of different lengths, another number of channels than the first, a value
            that is no finite number, or an unknown label; the message names the line.
    """
    file = Path(path)
    try:
        size = file.stat().st_size
        if size > limit:
            raise DataError(f"{file}: {size:,} bytes, the limit is {limit:,}")
        lines = file.read_bytes().decode("utf-8").splitlines()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: not a text file ({error.reason} at byte {error.start})") from None
    classes, start = _header(lines, file)
    sequences: list[np.ndarray] = []
    labels: list[int] = []
    for number, line in enumerate(lines[start:], start + 1):
        if not line.strip() or line.startswith("#"):
            continue
        *channels, label = line.split(":")
        label = label.strip()
        if label not in classes:
            raise DataError(f"{file}, line {number}: label {label[:40]!r} is none of {', '.join(classes)}")
        sequence = _sequence(channels, file, number)
        if sequences and sequence.shape[1] != sequences[0].shape[1]:
            raise DataError(
                f"{file}, line {number}: {sequence.shape[1]} channels, the first case has {sequences[0].shape[1]}"
            )
        sequences.append(sequence)
        labels.append(classes.index(label))
    if not sequences:
        raise DataError(f"{file}: there is no case after @data")
    return TimeSeries(sequences, np.array(labels, np.int64), classes)


def _header(lines: list[str], file: Path) -> tuple[tuple[str, ...], int]:
    """The classes, and where the cases begin."""
    classes: tuple[str, ...] = ()
    for number, line in enumerate(lines, 1):
        key, *values = line.split() or [""]
        if key.lower() == "@data":
            if not classes:
                raise DataError(f"{file}: no line `@classLabel true …` names the classes")
            return classes, number
        if key.lower() == "@classlabel" and values[:1] == ["true"]:
            classes = tuple(dict.fromkeys(values[1:]))
        elif key and key[0] not in "#@":
            raise DataError(
                f"{file}, line {number}: expected a line that begins with # or @, or @data; is it a .ts file?"
            )
    raise DataError(f"{file}: there is no line @data; is it a .ts file?")


def _sequence(channels: list[str], file: Path, number: int) -> np.ndarray:
    try:
        rows = [np.array(channel.split(","), np.float32) for channel in channels]
    except ValueError as error:
        raise DataError(f"{file}, line {number}: {error}") from None
    if not rows or len({len(row) for row in rows}) != 1:
        raise DataError(f"{file}, line {number}: channels of {sorted({len(row) for row in rows})} steps; must be equal")
    sequence = np.stack(rows, axis=1)
    if not np.isfinite(sequence).all():
        raise DataError(f"{file}, line {number}: a value is not finite")
    return sequence
