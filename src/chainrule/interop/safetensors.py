"""safetensors files both ways: one file, or a model in several with an index.

The `safetensors` library checks a file's header and reads its tensors; what lives here is the
bound on the header's size, the half-precision types, sharded models, and errors that name the file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError
from ..data.files import write_atomically
from .blocks import widen_bfloat16
from .tensor_file import TensorFile
from .text_files import LIMIT as _HEADER_LIMIT
from .text_files import read_json

SIZE_LIMIT = 2**36
_INDEX = ".index.json"


class SafetensorsFile(TensorFile):
    """The tensors of one file by name, each read from the disk when it is asked for.

    float16 and bfloat16 come as float32, which holds them exactly.

    Args:
        path: the file.
        limit: the most bytes the file may have.

    Attributes:
        metadata: the strings of the header's `__metadata__`.

    Raises:
        DataError: there is no such file, it is larger than `limit`, damaged, truncated, or
            not a safetensors file. Reading a tensor of a type that NumPy lacks raises it, too.
    """

    def __init__(self, path: str | os.PathLike[str], limit: int = SIZE_LIMIT) -> None:
        from safetensors import SafetensorError, safe_open

        self.path = Path(path)
        try:
            _check_size(self.path, limit)
            opened: Any = safe_open(self.path, framework="numpy")
        except SafetensorError as error:
            raise DataError(f"{self.path}: damaged, truncated, or not a safetensors file ({error})") from error
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read ({error.strerror or error})") from error
        self._file = opened
        self.metadata: dict[str, str] = opened.metadata() or {}
        super().__init__(opened.keys())

    def __getitem__(self, name: str) -> np.ndarray:
        array = self.stored(name)
        return array.astype(np.float32) if array.dtype == np.float16 else array

    def stored(self, name: str) -> np.ndarray:
        """One tensor in the type that it has in the file, but bfloat16 as float32."""
        if name not in self:
            raise KeyError(name)
        kind = self._file.get_slice(name).get_dtype()
        if kind == "BF16":
            return self._bfloat16(name)
        try:
            return self._file.get_tensor(name)
        except (TypeError, AttributeError) as error:
            raise DataError(f"{self.path}: {name} is of type {kind}, which is not supported") from error

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._file.get_slice(name).get_shape())

    def _bfloat16(self, name: str) -> np.ndarray:
        # NumPy has no such type, so the library cannot hand it over. Its checks of the header have passed.
        with self.path.open("rb") as file:
            start = int.from_bytes(file.read(8), "little")
            entry = json.loads(file.read(start))[name]
            begin, end = entry["data_offsets"]
            file.seek(8 + start + begin)
            data = file.read(end - begin)
        if len(data) < end - begin:
            raise DataError(f"{self.path}: truncated while it was being read")
        return widen_bfloat16(np.frombuffer(data, "<u2")).reshape(entry["shape"])


class ShardedSafetensors(TensorFile):
    """The tensors of a model that is spread over several files, as its index says.

    Args:
        index: a file `*.safetensors.index.json`, whose `weight_map` names the file of each tensor.

    Raises:
        DataError: the index is no index, names a file outside its folder, or a file lacks a tensor.
    """

    def __init__(self, index: str | os.PathLike[str], limit: int = SIZE_LIMIT) -> None:
        self.path = Path(index)
        places = read_json(self.path).get("weight_map")
        if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
            raise DataError(f"{self.path}: not an index of safetensors files (no `weight_map` of names to files)")
        files: dict[str, SafetensorsFile] = {}
        for file in sorted(set(places.values())):
            if Path(file).name != file:
                raise DataError(f"{self.path}: names {file!r}, which is not a file beside it")
            files[file] = SafetensorsFile(self.path.parent / file, limit)
        for name, file in places.items():
            if name not in files[file]:
                raise DataError(f"{self.path}: says that {name} is in {file}, which does not hold it")
        super().__init__(places)
        self._places = {name: files[file] for name, file in places.items()}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._places[name][name]

    def shape(self, name: str) -> tuple[int, ...]:
        return self._places[name].shape(name)


def open_safetensors(path: str | os.PathLike[str]) -> TensorFile:
    """The tensors of a safetensors file, of an index, or of a folder that holds either.

    A folder is searched for `model.safetensors`, `model.safetensors.index.json`, and then for
    the only file of one of the two kinds.

    Raises:
        DataError: nothing is found, or what is found cannot be read.
    """
    found = Path(path)
    if found.is_dir():
        found = _in_folder(found)
    if found.name.endswith(_INDEX):
        return ShardedSafetensors(found)
    return SafetensorsFile(found)


def save_safetensors(
    path: str | os.PathLike[str], state: Mapping[str, Any], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors or arrays to a file that any other library can open.

    Args:
        path: an earlier file there is replaced only by a complete new one.
        state: name to tensor or array, such as a module's `state_dict()`.
        metadata: strings to store beside them.

    Raises:
        DataError: an entry is no tensor, or of a type that the format lacks (complex128).
        OutputError: the file cannot be written.
    """
    from safetensors.numpy import save

    arrays = {}
    for name, value in state.items():
        array = np.asarray(value, order="C")
        if array.dtype.kind not in "biufc" or array.dtype in (np.complex128, np.longdouble):
            raise DataError(f"{name}: a safetensors file cannot hold {array.dtype}")
        arrays[name] = array
    write_atomically(Path(path), [save(arrays, dict(metadata) if metadata else None)])


def _in_folder(folder: Path) -> Path:
    for name in ("model.safetensors", "model.safetensors.index.json"):
        if (folder / name).is_file():
            return folder / name
    for pattern in ("*.safetensors", f"*.safetensors{_INDEX}"):
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
    raise DataError(f"{folder}: holds neither model.safetensors nor an index of several such files")


def _check_size(path: Path, limit: int) -> None:
    size = path.stat().st_size
    if size > limit:
        raise DataError(f"{path}: {size:,} bytes, the limit is {limit:,}")
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > min(_HEADER_LIMIT, size):
        raise DataError(
            f"{path}: damaged, truncated, or not a safetensors file (it states a header of {header:,} bytes)"
        )
