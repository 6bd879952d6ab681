"""Checkpoints: one safetensors file that holds tensors, plain values and a checksum of both.

A state is nested dicts, lists and tuples of tensors, arrays, numbers, strings, booleans and
None. Tensors become safetensors entries named by their path; the rest is JSON in the file's
metadata. Nothing in a file is ever executed, so files from strangers are safe to open.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ChainruleError, DataError
from ..core.tensor import Tensor
from ..data.files import write_atomically
from ..interop.safetensors import SIZE_LIMIT, SafetensorsFile

FORMAT = 1


class CheckpointError(ChainruleError, ValueError):
    """A checkpoint is missing, damaged, or of another program."""


def save_checkpoint(path: str | os.PathLike[str], state: Any) -> None:
    """Write `state` to `path`; an earlier file there is replaced only by a complete new one.

    Raises:
        OutputError: the file cannot be written; the earlier one is unharmed.
        CheckpointError: the state holds something other than tensors and plain values.
    """
    from safetensors.numpy import save

    arrays: dict[str, np.ndarray] = {}
    text = json.dumps(_pack(state, "", arrays))
    metadata = {"chainrule": text, "format": str(FORMAT), "sha256": _checksum(text, arrays)}
    write_atomically(Path(path), [save({n: np.asarray(a, order="C") for n, a in arrays.items()}, metadata)])


def load_checkpoint(path: str | os.PathLike[str], *, limit: int = SIZE_LIMIT) -> Any:
    """Read what `save_checkpoint` wrote: the same structure, with NumPy arrays for tensors.

    Raises:
        CheckpointError: there is no such file, it is larger than `limit` bytes, damaged,
            truncated, not a checkpoint of chainrule, or of a newer version.
    """
    file = Path(path)
    try:
        opened = SafetensorsFile(file, limit)
        metadata = opened.metadata
        if "chainrule" not in metadata:
            raise CheckpointError(f"{file}: a safetensors file, but not a checkpoint of chainrule")
        if metadata.get("format") != str(FORMAT):
            raise CheckpointError(
                f"{file}: written in checkpoint format {metadata.get('format')}, this version reads {FORMAT}"
            )
        arrays = {name: opened.stored(name) for name in opened}
    except DataError as error:
        raise CheckpointError(str(error)) from error
    text = metadata["chainrule"]
    if metadata.get("sha256") != _checksum(text, arrays):
        raise CheckpointError(f"{file}: damaged: its checksum does not fit its content")
    try:
        return _unpack(json.loads(text), arrays)
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{file}: its content is not a checkpoint's ({error})") from error


def _checksum(text: str, arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


# JSON has neither tuples nor keys that are no strings, and safetensors no complex128: what
# JSON cannot say is an object with one key that begins with "$".


def _pack(value: Any, path: str, arrays: dict[str, np.ndarray]) -> Any:
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, np.generic)):
        return value
    if isinstance(value, Tensor | np.ndarray | np.generic):
        array = value._array("a checkpoint") if isinstance(value, Tensor) else np.asarray(value)
        if array.dtype == np.complex128:
            return {"$complex128": _pack(np.stack([array.real, array.imag], -1), path, arrays)}
        arrays[path] = array
        return {"$tensor": path}
    if isinstance(value, list):
        return [_pack(v, _below(path, i), arrays) for i, v in enumerate(value)]
    if isinstance(value, tuple):
        return {"$tuple": [_pack(v, _below(path, i), arrays) for i, v in enumerate(value)]}
    if isinstance(value, dict):
        if all(isinstance(k, str) and not k.startswith("$") for k in value):
            return {k: _pack(v, _below(path, k), arrays) for k, v in value.items()}
        if all(isinstance(k, str | int) for k in value):
            return {"$pairs": [[k, _pack(v, _below(path, k), arrays)] for k, v in value.items()]}
    raise CheckpointError(f"a checkpoint holds tensors and plain values, not {type(value).__name__} (at {path!r})")


def _below(path: str, key: Any) -> str:
    return f"{path}/{key}" if path else str(key)


def _unpack(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_unpack(v, arrays) for v in value]
    if not isinstance(value, dict):
        return value
    if "$tensor" in value:
        return arrays[value["$tensor"]]
    if "$complex128" in value:
        pair = _unpack(value["$complex128"], arrays)
        return pair[..., 0] + 1j * pair[..., 1]
    if "$tuple" in value:
        return tuple(_unpack(v, arrays) for v in value["$tuple"])
    if "$pairs" in value:
        return {k: _unpack(v, arrays) for k, v in value["$pairs"]}
    return {k: _unpack(v, arrays) for k, v in value.items()}
