"""Where data sets are found on this machine, and how their files are fetched when asked.

Nothing here touches the network except `download`, which only `chainrule data` calls.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

from ..core.errors import DataError

EMBEDDED = Path(__file__).parent / "embedded"


class RemoteFile(NamedTuple):
    """A file to download: its name, the size of its content and the SHA-256 of its content.

    Size and checksum are those of the uncompressed content: mirrors compress the same
    data with different headers.
    """

    name: str
    size: int
    sha256: str


def data_folder() -> Path | None:
    """The folder that the environment variable CHAINRULE_DATA names, if it is set."""
    value = os.environ.get("CHAINRULE_DATA", "").strip()
    return Path(value).expanduser() if value else None


def find_file(folder: Path, name: str) -> Path | None:
    """`name` in `folder`, compressed or not."""
    for candidate in (folder / name, folder / name.removesuffix(".gz")):
        if candidate.is_file():
            return candidate
    return None


def verify(path: Path, expected: RemoteFile) -> None:
    """Compare a file's uncompressed content with the pinned size and checksum.

    Raises:
        DataError: it differs, or cannot be read.
    """
    digest = hashlib.sha256()
    size = 0
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            while piece := stream.read(1 << 20):
                size += len(piece)
                digest.update(piece)
                if size > expected.size:
                    break
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip data is damaged or truncated ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if size != expected.size or digest.hexdigest() != expected.sha256:
        raise DataError(f"{path}: the content is not the expected one (its SHA-256 differs from the pinned one)")


def download(
    file: RemoteFile, bases: tuple[str, ...], folder: Path, progress: Callable[[str], None] = lambda _: None
) -> Path:
    """Fetch one file into `folder` from the first address that serves it, and check it.

    The file appears under its name only when it is complete and its checksum is right.

    Raises:
        DataError: no address served the right content, or the folder cannot be written.
    """
    reasons = []
    for base in bases:
        address = f"{base.rstrip('/')}/{file.name}"
        progress(f"fetching {address}")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".part.gz", delete=False) as out:
                try:
                    _copy(address, out, file.size)
                    verify(Path(out.name), file)
                    os.replace(out.name, folder / file.name)
                    return folder / file.name
                except BaseException:
                    with contextlib.suppress(OSError):
                        os.unlink(out.name)
                    raise
        except PermissionError as error:
            raise DataError(f"{folder}: cannot be written ({error.strerror}); set CHAINRULE_CACHE") from error
        except (OSError, DataError) as error:
            reasons.append(f"{address}: {getattr(error, 'reason', None) or error}")
    raise DataError(f"{file.name} could not be downloaded:\n  " + "\n  ".join(reasons))


def _copy(address: str, out: IO[bytes], limit: int) -> None:
    import urllib.request

    received = 0
    with urllib.request.urlopen(address, timeout=30) as answer:
        while piece := answer.read(1 << 18):
            received += len(piece)
            if received > limit:
                raise DataError("the server sends more than the file holds")
            out.write(piece)
    out.flush()
    os.fsync(out.fileno())
