"""Reader of IDX files, the format of MNIST and its relatives, plain or gzip-compressed.

Layout: two zero bytes, one byte for the data type, one for the number of axes n, n axis
lengths as big-endian uint32, then the elements, big-endian, row by row. Files come from
outside, so everything a header promises is checked before memory is taken for it.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..core.errors import DataError

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
SIZE_LIMIT = 2**30
_MOST_AXES = 8


def read_idx(path: str | os.PathLike[str], *, limit: int = SIZE_LIMIT) -> np.ndarray:
    """Read one IDX file.

    Args:
        path: the file; gzip compression is recognised by content.
        limit: the most bytes the elements may take; refused before any are read.

    Returns:
        An array in the machine's byte order with the shape and type of the header.

    Raises:
        DataError: the file cannot be read, is no IDX file, is truncated or damaged, holds
            more than its header says, or promises more than `limit` bytes.
    """
    file = Path(path)
    try:
        with open(file, "rb") as raw:
            compressed = raw.read(2) == b"\x1f\x8b"
            raw.seek(0)
            if not compressed:
                return _parse(raw, file, limit)
            with gzip.GzipFile(fileobj=raw) as stream:
                return _parse(stream, file, limit)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{file}: the gzip data is damaged or truncated ({error}); fetch the file again") from error
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from error


def _parse(stream: IO[bytes] | gzip.GzipFile, file: Path, limit: int) -> np.ndarray:
    start = stream.read(4)
    if len(start) < 4:
        raise DataError(f"{file}: {len(start)} bytes are too few for an IDX file")
    zeros, code, axes = struct.unpack(">HBB", start)
    if zeros or code not in DTYPES:
        raise DataError(f"{file}: not an IDX file (it begins with {start.hex(' ')}, expected 00 00, a data type, axes)")
    if not 1 <= axes <= _MOST_AXES:
        raise DataError(f"{file}: the header states {axes} axes, expected 1 to {_MOST_AXES}")
    lengths = stream.read(4 * axes)
    if len(lengths) < 4 * axes:
        raise DataError(f"{file}: truncated inside the header")
    shape = struct.unpack(f">{axes}I", lengths)
    dtype = np.dtype(DTYPES[code])
    size = math.prod(shape) * dtype.itemsize
    if size > limit:
        raise DataError(f"{file}: the header promises {size:,} bytes for shape {shape}, the limit is {limit:,}")
    data = _read_exactly(stream, size, file, shape)
    if stream.read(1):
        raise DataError(f"{file}: there is more data than the {size:,} bytes of shape {shape} that the header states")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _read_exactly(stream: Any, size: int, file: Path, shape: tuple[int, ...]) -> bytearray:
    # Grown piece by piece: a header that lies about a short file costs no memory.
    data = bytearray()
    while len(data) < size:
        piece = stream.read(min(size - len(data), 1 << 24))
        if not piece:
            raise DataError(
                f"{file}: truncated: {len(data):,} of the {size:,} bytes of shape {shape} are there; fetch it again"
            )
        data += piece
    return data
