"""Operations in double precision, without a trace in the graph that they belong to."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.primitive import Primitive


def double(array: np.ndarray) -> np.ndarray:
    """The array in double precision; integers and booleans as they are."""
    if array.dtype.kind == "f":
        return array.astype(np.float64)
    return array.astype(np.complex128) if array.dtype.kind == "c" else array


def double_params(params: dict[str, Any]) -> dict[str, Any]:
    """Parameters that name a floating type name the double one."""
    wide = {"f": np.dtype(np.float64), "c": np.dtype(np.complex128)}
    return {k: wide.get(v.kind, v) if isinstance(v, np.dtype) else v for k, v in params.items()}


def apart(primitive: Primitive) -> Primitive:
    """The primitive; in place of one that remembers its last call (a recurrent layer) another like it."""
    again = getattr(primitive, "again", None)
    return primitive if again is None else again()
