"""Files of machine code: named by a digest, written whole, checked when read, bounded in all.

A file is written beside its place and moved there, so that nobody sees half of it; what is damaged, or
was written by another format, is not there. The folder is used only if it belongs to the user alone: its content
is executed. The files that were not used for longest go when the folder outgrows its limit.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import llvmlite

from ..core.folders import cache_folder
from .code.target import Target

LIMIT = 512 << 20
"""Bytes that the files may take."""
_MAGIC = b"chainrule compiled 3\n"
_SUFFIX = ".program"


def folder() -> Path:
    """Where the files are."""
    return cache_folder() / "compiled"


def digest(target: Target, *parts: str) -> str:
    """The name of a file that depends on these parts, the target, LLVM and the compiler's own source."""
    found = hashlib.sha256()
    for part in (_sources(), llvmlite.__version__, target.key, target.name, *parts):
        found.update(part.encode() + b"\0")
    return found.hexdigest()


@cache
def _sources() -> str:
    """A digest of the compiler's own source, so that no version of it runs another's code."""
    found = hashlib.sha256()
    root = Path(__file__).parent
    for path in sorted(root.rglob("*.py")):
        found.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return found.hexdigest()


def read(name: str) -> bytes | None:
    """The content of a file, or None."""
    path = folder() / (name + _SUFFIX)
    try:
        if not _is_private(folder()):
            return None
        content = path.read_bytes()
        os.utime(path)
    except OSError:
        return None
    start = len(_MAGIC) + 32
    body = content[start:]
    if content[: len(_MAGIC)] != _MAGIC or hashlib.sha256(body).digest() != content[len(_MAGIC) : start]:
        return None
    return body


def write(name: str, body: bytes) -> None:
    """Keep a file. That it cannot be written (a full disk, a read-only home) is no error."""
    with contextlib.suppress(OSError):
        place = folder()
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not _is_private(place):
            return
        descriptor, temporary = tempfile.mkstemp(dir=place, prefix=name, suffix=".part")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(_MAGIC + hashlib.sha256(body).digest() + body)
            os.replace(temporary, place / (name + _SUFFIX))
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        _prune(place)


def kept(name: str, make: Callable[[], bytes]) -> bytes:
    """The content of a file, which is made and written if it is not there."""
    content = read(name)
    if content is None:
        content = make()
        write(name, content)
    return content


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
