"""`metrics.jsonl`: one JSON object a line, appended while training.

A killed process may leave half a line, or lines of work that the last checkpoint does not
hold. Reading passes over the former; resuming cuts both off, at the length of the file that
the checkpoint remembers.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from ..data.files import OutputError, writing


class MetricsLog:
    """The open file of a run.

    Args:
        path: the file, made if it is not there.
        length: keep this many bytes of what is there and drop the rest; None keeps every
            complete line.

    Raises:
        OutputError: the file cannot be written, or another process has it open here.
    """

    def __init__(self, path: Path, length: int | None = None) -> None:
        self.path = path
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+b")  # noqa: SIM115 (closed by close)
            _lock(self._file, path)
            keep = self._complete_lines()
            if length is not None:
                keep = min(keep, length)
            self._file.truncate(keep)
            self._file.seek(0, os.SEEK_END)

    def _complete_lines(self) -> int:
        self._file.seek(0)
        return self._file.read().rfind(b"\n") + 1

    def append(self, **values: Any) -> None:
        """Add one line. NaN and infinity, which JSON lacks, are written as null."""
        line = json.dumps({k: _finite(v) for k, v in values.items()}, allow_nan=False)
        with writing(self.path):
            self._file.write(line.encode() + b"\n")
            self._file.flush()

    def sync(self) -> int:
        """Wait until all lines are on the disk; the length of the file."""
        with writing(self.path):
            self._file.flush()
            os.fsync(self._file.fileno())
            return self._file.tell()

    def close(self) -> None:
        """Close the file; lines that a full disk refused were reported by `append`."""
        try:
            self._file.close()
        except OSError as error:
            raise OutputError(f"cannot write {self.path}: {error.strerror or error}") from error


def _lock(file: IO[bytes], path: Path) -> None:
    """Hold the file until it is closed or the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise OutputError(f"{path.parent}: another process is training in this folder") from None
    except OSError:
        pass  # a file system without locks


def read_metrics(path: Path, event: str | None = None) -> list[dict[str, Any]]:
    """The complete lines of a metrics file, or those of one kind of event; none if there is no file."""
    if not path.exists():
        return []
    return [line for line in _lines(path) if event is None or line.get("event") == event]


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, "rb") as file:
        for line in file:
            try:
                values = json.loads(line)
            except ValueError:
                continue
            if isinstance(values, dict):
                yield values


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return value
