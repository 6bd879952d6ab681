"""Text and JSON files from elsewhere, read with a limit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..core.errors import DataError

LIMIT = 2**26


def read_text(path: Path, limit: int = LIMIT) -> str:
    """The text of a file in UTF-8.

    Raises:
        DataError: it cannot be read, has more than `limit` bytes, or is no such text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(data) > limit:
        raise DataError(f"{path}: more than {limit:,} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text in UTF-8 ({error.reason} at byte {error.start:,})") from error


def read_json(path: Path, kind: type[dict[str, Any]] | type[list[Any]] = dict, limit: int = LIMIT) -> Any:
    """What a JSON file holds.

    Args:
        path: the file.
        kind: what it must hold: `dict` for an object, `list` for an array.
        limit: the most bytes it may have.

    Raises:
        DataError: it cannot be read, is larger, no JSON, or holds something else.
    """
    try:
        found = json.loads(read_text(path, limit))
    except (ValueError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(found, kind):
        raise DataError(f"{path}: expected {'an object' if kind is dict else 'an array'}, found {type(found).__name__}")
    return found
