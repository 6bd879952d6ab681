"""Machine code on disk: compiled once for a graph, a machine and a version of this library.

An entry is one file, named by a digest of everything that determines its content. It is written beside
its place and moved there, so that nobody sees half of it; what is damaged, or was written by another
format, is made again. The folder is used only if it belongs to the user alone: its content is executed.
The entries that were not used for longest go when the folder outgrows its limit.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
from functools import cache
from pathlib import Path

import llvmlite
import numpy as np

from ...core.folders import cache_folder
from ...core.primitive import table
from ..code.target import Target
from ..graph import Graph, Value
from ..nested import Nested
from .image import Image

LIMIT = 512 << 20
"""Bytes that the entries may take."""
_MAGIC = b"chainrule compiled 2\n"
_SUFFIX = ".program"


def folder() -> Path:
    """Where entries are kept."""
    return cache_folder() / "compiled"


def key(graph: Graph, target: Target, threads: int) -> str | None:
    """A digest of what a program depends on; None for a graph that this process alone understands."""
    digest = hashlib.sha256()
    for part in (_sources(), np.__version__, llvmlite.__version__, target.key, target.name, str(threads)):
        digest.update(part.encode() + b"\0")
    lines = _described(graph)
    if lines is None:
        return None
    digest.update("\n".join(lines).encode())
    return digest.hexdigest()


def _described(graph: Graph) -> list[str] | None:
    """A graph as text, which determines what it computes."""
    numbers: dict[Value, int] = {}
    lines = []
    for value in graph.inputs:
        lines.append(f"{value.shape} {value.dtype.str}")
        numbers[value] = len(numbers)
    for value, array in graph.constants.items():
        content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        lines.append(f"{value.shape} {value.dtype.str} {content}")
        numbers[value] = len(numbers)
    for op in graph.ops:
        primitive = op.primitive
        if isinstance(primitive, Nested):
            inside = [_described(part) for part in primitive.graphs]
            if None in inside:
                return None
            lines.append(f"{primitive.key} {[numbers[v] for v in op.inputs]} {inside}")
        elif table.get(primitive.name) is primitive:
            params = sorted((name, repr(value)) for name, value in op.params.items())
            lines.append(f"{primitive.name} {[numbers[v] for v in op.inputs]} {params} {op.postponed}")
        else:
            return None
        for value in op.outputs:
            numbers[value] = len(numbers)
    lines.append(f"{[numbers[v] for v in graph.outputs]} {sorted(graph.updates.items())}")
    return lines


@cache
def _sources() -> str:
    """A digest of the compiler's own source, so that no version of it runs another's code."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return digest.hexdigest()


def read(name: str) -> tuple[Image, bytes] | None:
    """The entry of a key, or None."""
    path = folder() / (name + _SUFFIX)
    try:
        if not _is_private(folder()):
            return None
        content = path.read_bytes()
        os.utime(path)
        return _decoded(content)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(name: str, image: Image, code: bytes) -> None:
    """Keep an entry. That it cannot be written (a full disk, a read-only home) is no error."""
    document = image.document()
    if document is None:
        return
    with contextlib.suppress(OSError):
        place = folder()
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _is_private(place):
            return
        descriptor, temporary = tempfile.mkstemp(dir=place, prefix=name, suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(_encoded(document, code))
            os.replace(temporary, place / (name + _SUFFIX))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        _prune(place)


def _encoded(document: dict[str, object], code: bytes) -> bytes:
    plan = json.dumps(document, separators=(",", ":")).encode()
    body = len(plan).to_bytes(8, "little") + plan + code
    return _MAGIC + hashlib.sha256(body).digest() + body


def _decoded(content: bytes) -> tuple[Image, bytes] | None:
    start = len(_MAGIC) + 32
    body = content[start:]
    if content[: len(_MAGIC)] != _MAGIC or hashlib.sha256(body).digest() != content[len(_MAGIC) : start]:
        return None
    length = int.from_bytes(body[:8], "little")
    return Image.of(json.loads(body[8 : 8 + length])), body[8 + length :]


def _is_private(place: Path) -> bool:
    """Whether nobody but the user can have written what is in a folder."""
    if not hasattr(os, "getuid"):
        return True
    found = place.stat()
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _prune(place: Path) -> None:
    entries = []
    for path in place.iterdir():
        with contextlib.suppress(OSError):
            entries.append((path.stat().st_mtime, path.stat().st_size, path))
    total = sum(size for _, size, _ in entries)
    for _, size, path in sorted(entries, key=lambda entry: entry[0]):
        if total <= LIMIT:
            break
        with contextlib.suppress(OSError):
            path.unlink()
            total -= size
