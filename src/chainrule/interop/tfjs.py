"""Weights of TensorFlow.js: a manifest in JSON and the files of bytes that it names.

A weight may be quantised: whole numbers q of 8 or 16 bits that stand for q · scale + min.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError
from .text_files import read_json

SIZE_LIMIT = 2**30
_TYPES = {"float32": "<f4", "int32": "<i4", "uint8": "u1", "bool": "?"}
_QUANTISED = {"uint8": "u1", "uint16": "<u2", "float16": "<f2"}


def read_tfjs(manifest: str | os.PathLike[str], limit: int = SIZE_LIMIT) -> dict[str, np.ndarray]:
    """All weights by name, in the shapes that TensorFlow.js uses (a convolution's filter is (h, w, in, out)).

    Args:
        manifest: the file `…weights_manifest.json`; what it names lies beside it.
        limit: the most bytes that the weights may take together.

    Raises:
        DataError: a file is missing, damaged, too large, or has another size than the manifest says.
    """
    path = Path(manifest)
    weights: dict[str, np.ndarray] = {}
    for group in read_json(path, list):
        if not isinstance(group, dict):
            raise DataError(f"{path}: a group of weights is {type(group).__name__}, not an object")
        entries = [_entry(path, entry) for entry in _list(path, group, "weights")]
        wanted = sum(math.prod(shape) * np.dtype(stored).itemsize for _, shape, stored, _ in entries)
        if wanted > limit:
            raise DataError(f"{path}: weights of {wanted:,} bytes, the limit is {limit:,}")
        limit -= wanted
        data = _bytes(path, [str(name) for name in _list(path, group, "paths")], wanted)
        start = 0
        for name, shape, stored, finish in entries:
            if name in weights:
                raise DataError(f"{path}: names {name!r} twice")
            count = math.prod(shape)
            array = np.frombuffer(data, stored, count, start)
            start += array.nbytes
            weights[name] = finish(array).reshape(shape)
    return weights


def _list(path: Path, group: dict[str, Any], key: str) -> list[Any]:
    found = group.get(key)
    if not isinstance(found, list):
        raise DataError(f"{path}: not a manifest of weights (a group has no list {key!r})")
    return found


def _entry(path: Path, entry: Any) -> tuple[str, tuple[int, ...], str, Any]:
    """Name, shape, type in the file, and what makes weights of the numbers there."""
    try:
        name, shape, kind = entry["name"], tuple(entry["shape"]), entry["dtype"]
        if not isinstance(name, str) or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"name {name!r} and shape {shape}")
        wanted, quantisation = np.dtype(_TYPES[kind]), entry.get("quantization")
        if quantisation is None:
            return name, shape, wanted.str, lambda array: array
        stored = _QUANTISED[quantisation["dtype"]]
        if stored == "<f2":
            return name, shape, stored, lambda array: array.astype(wanted)
        scale, least = float(quantisation["scale"]), float(quantisation["min"])
        return name, shape, stored, lambda array: (array * scale + least).astype(wanted)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: a weight is described as {str(entry)[:200]}: {error!r}") from error


def _bytes(path: Path, names: list[str], wanted: int) -> bytes:
    pieces, size = [], 0
    for name in names:
        if Path(name).name != name:
            raise DataError(f"{path}: names {name!r}, which is not a file beside it")
        try:
            with (path.parent / name).open("rb") as file:
                pieces.append(file.read(wanted - size + 1))
        except OSError as error:
            raise DataError(f"{path.parent / name}: cannot be read ({error.strerror or error})") from error
        size += len(pieces[-1])
        if size > wanted:
            break
    if size != wanted:
        more = "more" if size > wanted else f"only {size:,}"
        raise DataError(f"{path}: says that {', '.join(names)} have {wanted:,} bytes, there are {more}")
    return b"".join(pieces)
