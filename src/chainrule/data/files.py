"""Writing files so that a crash, a full disk or a kill never leaves half of one."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..core.errors import ChainruleError

_TEMPORARY = ".part"


class OutputError(ChainruleError, OSError):
    """Something could not be written: no permission, no space, no folder."""


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write `path` into an `OutputError` that says what to do."""
    try:
        yield
    except OutputError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            advice = "free some space or choose another place"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            advice = "choose a folder that you may write to"
        else:
            advice = "choose another place"
        raise OutputError(f"cannot write {path}: {error.strerror or error}; {advice}") from error


def write_atomically(path: Path, pieces: Iterable[bytes | memoryview]) -> None:
    """Write a file that appears under its name only when all of it is on the disk.

    The pieces go to a temporary file in the same folder, which is flushed to the disk and
    then renamed; an earlier file of that name stays intact until that moment.

    Raises:
        OutputError: it cannot be written; the earlier file, if any, is unharmed.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=_TEMPORARY)
        try:
            with open(descriptor, "wb") as out:
                for piece in pieces:
                    out.write(piece)
                out.flush()
                os.fsync(out.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        _flush_folder(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files that a killed process left in `folder`."""
    for leftover in folder.glob(f".*{_TEMPORARY}"):
        with contextlib.suppress(OSError):
            leftover.unlink()


def _umask() -> int:
    # There is no way to read the mask but to set it.
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def _flush_folder(folder: Path) -> None:
    # The rename itself must survive a power failure; Windows has no such call.
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
