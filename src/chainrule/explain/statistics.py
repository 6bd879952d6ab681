"""Arrays in few numbers: statistics and small heat maps, of bounded size whatever the array's."""

from __future__ import annotations

import base64
import math
from typing import Any

import numpy as np

VALUES = 16  # entries up to which all of them are listed


def number(value: float) -> Any:
    """A number for JSON: four significant digits; a name where it is not finite."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return float(f"{value:.4g}")


def scalar(value: Any) -> Any:
    """One number of a derivative for JSON, with seven significant digits; text for a complex one."""
    if isinstance(value, complex):
        return f"{value:.7g}"
    return number(value) if not math.isfinite(value) else float(f"{value:.7g}")


def statistics(array: Any, heat: int) -> dict[str, Any] | None:
    """What `chainrule.explain.document` calls STATISTICS; None for several arrays at once.

    Args:
        array: an array of any type and shape.
        heat: largest number of rows and columns of the heat map; 0 for none.
    """
    if array is None or isinstance(array, list | tuple):
        return None
    entries = magnitude(array).ravel()
    good = np.isfinite(entries)
    finite = entries if good.all() else entries[good]
    nan = int(np.isnan(entries).sum()) if finite.size < entries.size else 0
    told: dict[str, Any] = {"size": entries.size}
    if finite.size:
        low, high = float(finite.min()), float(finite.max())
        largest = max(-low, high) or 1.0
        scaled = finite / largest
        mean = float(scaled.sum()) / scaled.size
        spread = scaled - mean
        norm = float(np.sqrt(scaled @ scaled)) * largest if finite.size == entries.size else math.nan
        told |= {
            "mean": number(mean * largest),
            "std": number(float(np.sqrt(spread @ spread / scaled.size)) * largest),
            "min": number(low),
            "max": number(high),
            "norm": number(norm),
        }
    else:
        told |= dict.fromkeys(("mean", "std", "min", "max", "norm"), "NaN")
    return told | {
        "zeros": number(1 - np.count_nonzero(entries) / entries.size) if entries.size else 0.0,
        "nan": nan,
        "inf": entries.size - finite.size - nan,
        "values": [number(float(v)) for v in entries] if entries.size <= VALUES else None,
        "heat": heat_map(magnitude(array), heat) if heat and entries.size > 1 else None,
    }


def magnitude(array: np.ndarray) -> np.ndarray:
    """The entries as float64; of complex numbers the magnitude."""
    return np.abs(array).astype(np.float64) if array.dtype.kind == "c" else array.astype(np.float64)


def cells(array: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """The array as a matrix of at most rows × columns, each cell the mean of the entries it stands for."""
    matrix = as_matrix(array)
    for axis, limit in enumerate((rows, columns)):
        length = matrix.shape[axis]
        if length > limit:
            starts = np.linspace(0, length, limit, endpoint=False).astype(int)
            counts = np.diff([*starts, length])
            sums = np.add.reduceat(matrix, starts, axis=axis)
            matrix = sums / (counts[:, None] if axis == 0 else counts)
    return matrix


def as_matrix(array: np.ndarray) -> np.ndarray:
    """Rows and columns to look at: the last axis across, the others down; images one above the other."""
    if array.ndim < 2:
        return array.reshape(1, -1)
    return array.reshape(-1, array.shape[-1])


def heat_map(array: np.ndarray, size: int) -> dict[str, Any]:
    """What `chainrule.explain.document` calls "heat"."""
    with np.errstate(invalid="ignore", over="ignore"):
        matrix = cells(array, size, size)
    good = np.isfinite(matrix)
    scale = float(np.abs(matrix[good]).max(initial=0.0))
    levels = np.full(matrix.shape, -128, np.int8)
    levels[good] = np.round(matrix[good] / (scale or 1.0) * 127).astype(np.int8)
    return {
        "rows": matrix.shape[0],
        "columns": matrix.shape[1],
        "scale": number(scale),
        "data": base64.b64encode(levels.tobytes()).decode("ascii"),
    }
