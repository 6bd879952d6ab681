"""Writes small GGUF files, valid and otherwise, for the tests of the reader."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

UINT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 4, 6, 7, 8, 9, 10


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(data)) + data


def typed(value: Any) -> bytes:
    """A value with its type before it."""
    if isinstance(value, bytes):
        return value  # already packed, by a test that wants something odd
    if isinstance(value, bool):
        return struct.pack("<I?", BOOL, value)
    if isinstance(value, int):
        return struct.pack("<II", UINT32, value)
    if isinstance(value, float):
        return struct.pack("<If", FLOAT32, value)
    if isinstance(value, str):
        return struct.pack("<I", STRING) + text(value)
    items = [typed(v) for v in value]
    kind = items[0][:4] if items else struct.pack("<I", UINT32)
    return struct.pack("<I", ARRAY) + kind + struct.pack("<Q", len(items)) + b"".join(i[4:] for i in items)


def gguf_bytes(
    metadata: Mapping[str, Any],
    tensors: Sequence[tuple[str, Sequence[int], int, bytes]],
    *,
    version: int = 3,
    alignment: int = 32,
    offsets: Sequence[int] | None = None,
    counts: tuple[int, int] | None = None,
) -> bytes:
    """A file with these keys and tensors (name, lengths with the fastest first, type, data)."""
    given = counts or (len(tensors), len(metadata))
    head = b"GGUF" + struct.pack("<IQQ", version, *given)
    head += b"".join(text(k) + typed(v) for k, v in metadata.items())
    body = b""
    for number, (name, lengths, kind, data) in enumerate(tensors):
        offset = len(body) if offsets is None else offsets[number]
        head += text(name) + struct.pack(f"<I{len(lengths)}QIQ", len(lengths), *lengths, kind, offset)
        body += data + b"\0" * (-len(data) % alignment)
    return head + b"\0" * (-len(head) % alignment) + body


def float32(name: str, array: np.ndarray) -> tuple[str, list[int], int, bytes]:
    """A tensor of type F32 as `gguf_bytes` takes it."""
    return name, list(array.shape[::-1]), 0, array.astype("<f4").tobytes()
