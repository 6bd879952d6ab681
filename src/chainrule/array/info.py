"""What the standard's inspection interface tells of this library."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core import dtypes as d
from ..core.errors import ArgumentError, located
from .arguments import check_device

__all__ = ["__array_namespace_info__"]

_NAMES = {
    "bool": (d.bool_,),
    "signed integer": (d.int8, d.int16, d.int32, d.int64),
    "unsigned integer": (d.uint8, d.uint16, d.uint32, d.uint64),
    "real floating": (d.float32, d.float64),
    "complex floating": (d.complex64, d.complex128),
}
_GROUPS = {
    "integral": ("signed integer", "unsigned integer"),
    "numeric": ("signed integer", "unsigned integer", "real floating", "complex floating"),
}


class NamespaceInfo:
    """Capabilities, devices and data types, as the standard asks."""

    def capabilities(self) -> dict[str, Any]:
        """What depends on the library: masks as indices and shapes that depend on values work; axes are at most 64."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        """The device of tensors made without one."""
        return "cpu"

    def devices(self) -> list[str]:
        """All devices."""
        return ["cpu"]

    def default_dtypes(self, *, device: Any = None) -> dict[str, np.dtype]:
        """The types of data given without one."""
        check_device(device, "default_dtypes")
        return {
            "real floating": d.default_dtype(),
            "complex floating": d.default_complex(),
            "integral": d.int64,
            "indexing": d.int64,
        }

    def dtypes(self, *, device: Any = None, kind: str | tuple[str, ...] | None = None) -> dict[str, np.dtype]:
        """The supported types by name, of one kind or several (the names of `isdtype`) or all."""
        check_device(device, "dtypes")
        if kind is None:
            kinds = tuple(_NAMES)
        else:
            kinds = kind if isinstance(kind, tuple) else (kind,)
        found: dict[str, np.dtype] = {}
        for name in kinds:
            if name not in _NAMES and name not in _GROUPS:
                raise ArgumentError(located(f"dtypes: no kind {name!r}; there are " + ", ".join((*_NAMES, *_GROUPS))))
            for part in _GROUPS.get(name, (name,)):
                found.update({str(dtype): dtype for dtype in _NAMES[part]})
        return found


def __array_namespace_info__() -> NamespaceInfo:
    """The library's answers to the standard's inspection interface."""
    return NamespaceInfo()
