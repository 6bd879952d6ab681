"""Order: the permutation that sorts, and where a value belongs among sorted ones. Integers come out: no derivative."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ..core.errors import ShapeError
from ..core.node import ShapeDtype
from ..core.primitive import Primitive

_F = np.dtype("float32")
_INT = np.dtype("int64")


def _argsort(x: np.ndarray, axis: int, descending: bool, stable: bool) -> np.ndarray:
    kind: Literal["stable"] | None = "stable" if stable else None
    if not descending:
        return np.argsort(x, axis=axis, kind=kind)
    # Descending is the reverse of ascending; among equals a stable sort keeps the original
    # order, so they are reversed beforehand and counted from the end.
    order = np.argsort(np.flip(x, axis), axis=axis, kind=kind)
    return x.shape[axis] - 1 - np.flip(order, axis)


argsort = Primitive(
    "argsort", _argsort, abstract=lambda x, axis, descending, stable: ShapeDtype(x.shape, _INT),
    batch=lambda _s, _b, inputs, p: argsort(inputs[0], **{**p, "axis": p["axis"] + 1}),
    latex=r"\mathrm{{argsort}} \, {x}", example=([((2, 3), _F)], {"axis": 1, "descending": False, "stable": True}),
)  # fmt: skip


def _searchsorted_rule(sorted_values: Any, x: Any, side: str) -> ShapeDtype:
    if len(sorted_values.shape) != 1:
        raise ShapeError(f"the sorted values have one axis, got shape {sorted_values.shape}")
    return ShapeDtype(x.shape, _INT)


searchsorted = Primitive(
    "searchsorted", lambda values, x, side: np.searchsorted(values, x, side=side), abstract=_searchsorted_rule,
    latex=r"\mathrm{{searchsorted}}({a:0}, {b:0})", example=([((4,), _F), ((2, 3), _F)], {"side": "left"}),
)  # fmt: skip
