"""JSON files from elsewhere, read with a limit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..data.idx import DataError

LIMIT = 2**26


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
        with path.open("rb") as file:
            text = file.read(limit + 1)
        if len(text) > limit:
            raise DataError(f"{path}: more than {limit:,} bytes")
        found = json.loads(text)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON file ({error})") from error
    if not isinstance(found, kind):
        raise DataError(f"{path}: expected {'an object' if kind is dict else 'an array'}, found {type(found).__name__}")
    return found
