"""Reader of GGUF files (versions 2 and 3), in which llama.cpp and its relatives keep language models.

Layout, all little-endian: the magic "GGUF", a version, two counts, as many key-value pairs, as
many descriptions of tensors, then the tensors, each aligned. Files come from strangers: every
length is checked against the bytes that are left and against a limit before memory is taken for
it, and a tensor's place and size against the file before it is read.

Specification: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from ..core.errors import DataError
from .blocks import FORMATS, BlockFormat
from .tensor_file import TensorFile

HEADER_LIMIT = 2**26
"""The most bytes that key-value pairs and descriptions may take; a vocabulary of 256,000 has about 10 MB."""

_MAGIC = b"GGUF"
_STRING, _ARRAY = 8, 9
_NUMBERS = {0: "u1", 1: "i1", 2: "<u2", 3: "<i2", 4: "<u4", 5: "<i4", 6: "<f4", 7: "?", 10: "<u8", 11: "<i8", 12: "<f8"}
_NAME_LIMIT = 2**16
_MOST_AXES = 4
_DEEPEST = 4
_MOST_WEIGHTS = 2**40


class TensorInfo(NamedTuple):
    """Where a tensor is in the file and how it is stored. `shape` is in NumPy's order, the fastest axis last."""

    shape: tuple[int, ...]
    format: BlockFormat
    offset: int
    size: int


class GGUFFile(TensorFile):
    """The tensors of a GGUF file by name, each read and converted when it is asked for.

    Floating types and blocks of small integers come as float32, float64 and integers as they are.

    Args:
        path: the file.

    Attributes:
        metadata: key to value: numbers, booleans, strings, lists of strings, arrays of numbers.
        tensors: name to `TensorInfo`.
        version: 2 or 3.

    Raises:
        DataError: the file cannot be read, is no GGUF file, is truncated, or its header
            contradicts itself or the size of the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        try:
            with self.path.open("rb") as file:
                header = _Header(file, self.path)
                self.version = header.version()
                tensors = header.count("tensors", 24, most=2**18)
                pairs = header.count("key-value pairs", 13, most=2**16)
                self.metadata = header.pairs(pairs)
                self.tensors = header.tensors(tensors, _alignment(self.metadata, self.path))
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror or error})") from error
        super().__init__(self.tensors)

    def __getitem__(self, name: str) -> np.ndarray:
        shape, form, offset, size = self.tensors[name]
        try:
            with self.path.open("rb") as file:
                file.seek(offset)
                data = file.read(size)
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror or error})") from error
        if len(data) < size:
            raise DataError(f"{self.path}: truncated after it was opened, inside {name}")
        numbers = form.decode(np.frombuffer(data, np.uint8).reshape(-1, form.size))
        if numbers.dtype == np.float16:
            numbers = numbers.astype(np.float32)
        return numbers.reshape(shape)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.tensors[name].shape


class _Header:
    """Reads what comes before the tensors, never more than is there and never more than the limit."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self.file, self.path = file, path
        self.file_size = os.fstat(file.fileno()).st_size
        self.left = min(self.file_size, HEADER_LIMIT)

    def fail(self, what: str) -> DataError:
        return DataError(f"{self.path}: {what}")

    def take(self, size: int, what: str) -> bytes:
        if size > self.left:
            position = self.file.tell()
            if position + size > self.file_size:
                raise self.fail(
                    f"truncated or damaged: {what} would need {size:,} bytes at {position:,}, beyond its end"
                )
            raise self.fail(f"the header exceeds the limit of {HEADER_LIMIT:,} bytes at {what}")
        self.left -= size
        data = self.file.read(size)
        if len(data) < size:
            raise self.fail(f"truncated inside {what}")
        return data

    def number(self, size: int, what: str) -> int:
        return int.from_bytes(self.take(size, what), "little")

    def text(self, what: str, limit: int = HEADER_LIMIT) -> str:
        size = self.number(8, what)
        if size > limit:
            raise self.fail(f"damaged: {what} states a length of {size:,} bytes, the limit is {limit:,}")
        try:
            return self.take(size, what).decode()
        except UnicodeDecodeError as error:
            raise self.fail(f"damaged: {what} is not UTF-8 ({error.reason} at byte {error.start})") from error

    def version(self) -> int:
        start = self.take(4, "the magic number") if self.file_size >= 8 else b""
        if start != _MAGIC:
            raise self.fail("not a GGUF file (it does not begin with GGUF)")
        version = self.number(4, "the version")
        if version not in (2, 3):
            hint = "; its byte order is big-endian" if version and not version & 0xFFFF else ""
            raise self.fail(f"GGUF version {version} is not supported, 2 and 3 are{hint}")
        return version

    def count(self, what: str, smallest: int, most: int) -> int:
        found = self.number(8, f"the number of {what}")
        if found * smallest > self.left:
            raise self.fail(f"damaged: it states {found:,} {what}, more than fit into its {self.file_size:,} bytes")
        if found > most:
            raise self.fail(f"it states {found:,} {what}, the limit is {most:,}")
        return found

    def pairs(self, count: int) -> dict[str, Any]:
        metadata: dict[str, Any] = {}
        for number in range(count):
            key = self.text(f"key {number + 1} of {count}", _NAME_LIMIT)
            if key in metadata:
                raise self.fail(f"damaged: the key {key!r} comes twice")
            metadata[key] = self.value(self.number(4, f"the type of {key!r}"), f"the value of {key!r}")
        return metadata

    def value(self, kind: int, what: str, depth: int = 0) -> Any:
        if kind == _STRING:
            return self.text(what)
        if kind == _ARRAY:
            return self.array(what, depth)
        return self.numbers(kind, 1, what)[0].item()

    def numbers(self, kind: int, count: int, what: str) -> np.ndarray:
        if kind not in _NUMBERS:
            raise self.fail(f"damaged: {what} is of the unknown type {kind}")
        dtype = np.dtype(_NUMBERS[kind])
        data = self.take(count * dtype.itemsize, what)
        if dtype.kind == "b" and not set(data) <= {0, 1}:
            raise self.fail(f"damaged: {what} holds a truth value that is neither 0 nor 1")
        return np.frombuffer(data, dtype)

    def array(self, what: str, depth: int) -> Any:
        kind, count = self.number(4, what), self.number(8, what)
        if kind not in (_STRING, _ARRAY):
            return self.numbers(kind, count, what)
        if depth == _DEEPEST:
            raise self.fail(f"{what} nests arrays more than {_DEEPEST} deep")
        if count * 8 > self.left:
            raise self.fail(f"damaged: {what} states {count:,} elements, more than are there")
        return [self.value(kind, f"element {i} of {what}", depth + 1) for i in range(count)]

    def tensors(self, count: int, alignment: int) -> dict[str, TensorInfo]:
        described: dict[str, TensorInfo] = {}
        for number in range(count):
            name = self.text(f"the name of tensor {number + 1} of {count}", _NAME_LIMIT)
            if name in described:
                raise self.fail(f"damaged: the tensor {name!r} comes twice")
            described[name] = self.tensor(name)
        start = -(-self.file.tell() // alignment) * alignment
        placed = {name: info._replace(offset=start + info.offset) for name, info in described.items()}
        end, last = start, "the header"
        for name, info in sorted(placed.items(), key=lambda item: item[1].offset):
            if (info.offset - start) % alignment:
                raise self.fail(f"damaged: the tensor {name!r} is not aligned to {alignment} bytes")
            if info.offset < end:
                raise self.fail(f"damaged: the tensor {name!r} overlaps {last!r}")
            end, last = info.offset + info.size, name
            if end > self.file_size:
                raise self.fail(
                    f"truncated or damaged: the tensor {name!r} would end at byte {end:,}, "
                    f"the file has {self.file_size:,}"
                )
        return placed

    def tensor(self, name: str) -> TensorInfo:
        what = f"the tensor {name!r}"
        axes = self.number(4, what)
        if axes > _MOST_AXES:
            raise self.fail(f"damaged: {what} has {axes:,} axes, the most are {_MOST_AXES}")
        lengths = [self.number(8, what) for _ in range(axes)]
        kind, offset = self.number(4, what), self.number(8, what)
        if kind not in FORMATS:
            raise self.fail(f"{what} is stored in type {kind}, which is not supported")
        form = FORMATS[kind]
        weights = math.prod(lengths)
        if max(lengths, default=0) > _MOST_WEIGHTS or weights > _MOST_WEIGHTS:
            raise self.fail(f"damaged: {what} has the lengths {lengths}, too many numbers")
        row = lengths[0] if lengths else 1
        if row % form.weights:
            raise self.fail(f"damaged: {what} of type {form.name} has rows of {row}, no multiple of {form.weights}")
        return TensorInfo(tuple(reversed(lengths)), form, offset, weights // form.weights * form.size)


def _alignment(metadata: dict[str, Any], path: Path) -> int:
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 2**16 or alignment & (alignment - 1):
        raise DataError(f"{path}: damaged: its alignment is {alignment!r}, expected a power of two")
    return alignment
