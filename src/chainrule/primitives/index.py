"""Indexing: reading, adding into and replacing the elements that an index selects.

A pattern has one entry per axis of the operand, and new axes: `("s", start, stop, step)`
for a slice, `("i", position)` for an integer, `("n",)` for a new axis, and `("a", k)` for
the k-th index array, which follows as an operand. Patterns are hashable and hold no values.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.errors import IndexingError, ShapeError
from ..core.node import ShapeDtype
from ..core.primitive import Primitive
from ..core.tensor import Tensor, new_tensor
from .families import match

_F = np.dtype("float32")
Pattern = tuple[tuple[Any, ...], ...]


def numpy_index(pattern: Pattern, arrays: Sequence[np.ndarray]) -> tuple[Any, ...]:
    """The pattern as NumPy's index."""
    parts: list[Any] = []
    for entry in pattern:
        kind = entry[0]
        if kind == "s":
            _, start, stop, step = entry
            # A negative step runs past the first element, to -1: NumPy writes that stop as None. A start of -1
            # lies before the first element already: nothing is selected.
            parts.append(slice(start, stop if stop >= 0 else None, step) if start >= 0 else slice(0, 0, step))
        elif kind == "i":
            parts.append(entry[1])
        elif kind == "a":
            parts.append(arrays[entry[1]])
        else:
            parts.append(None)
    return tuple(parts)


def _is_basic(pattern: Pattern) -> bool:
    return not any(entry[0] == "a" for entry in pattern)


def _index_value(x: np.ndarray, *arrays: np.ndarray, pattern: Pattern) -> np.ndarray:
    return x[numpy_index(pattern, arrays)]


def _index_rule(x: Any, *arrays: Any, pattern: Pattern) -> ShapeDtype:
    # NumPy's own rules on a view without memory.
    hollow = np.broadcast_to(np.zeros((), np.bool_), x.shape)
    zeros = [np.zeros(a.shape, np.int64) for a in arrays]
    try:
        return ShapeDtype(hollow[numpy_index(pattern, zeros)].shape, x.dtype)
    except IndexError as error:
        raise IndexingError(str(error)) from None


def _index_vjp(g: Tensor, _y: Any, _x: Any, *arrays: Tensor, pattern: Pattern) -> Tensor:
    return index_add(g, *arrays, pattern=pattern, shape=_x.shape)


def _indices_first(rule: Any) -> Any:
    """A vjp for the first operand only: index arrays have no derivative."""

    def vjp(position: int, g: Tensor, _y: Any, *inputs: Tensor, **params: Any) -> Tensor | None:
        return rule(g, _y, *inputs, **params) if position == 0 else None

    # Integer operands are constants of the graph, whose values are always kept.
    vjp.reads = (False, ())  # type: ignore[attr-defined]
    return vjp


def _index_jvp(tangents: Sequence[Tensor | None], _y: Any, _x: Any, *arrays: Tensor, pattern: Pattern) -> Tensor | None:
    return None if tangents[0] is None else index(tangents[0], *arrays, pattern=pattern)


index = Primitive(
    "index", _index_value, abstract=_index_rule, vjps=_indices_first(_index_vjp), jvp=_index_jvp,
    latex="{x:4}[{pattern}]", text="{x:4}[{pattern}]",
    example=([((4, 3), _F), ((2,), np.dtype("int64"))], {"pattern": (("a", 0), ("s", 0, 3, 1))}),
)  # fmt: skip


def _index_add_value(g: np.ndarray, *arrays: np.ndarray, pattern: Pattern, shape: tuple[int, ...]) -> np.ndarray:
    out = np.zeros(shape, g.dtype)
    where = numpy_index(pattern, arrays)
    if _is_basic(pattern):
        out[where] = g
    elif arrays[0].size and pattern == (("a", 0), *(("s", 0, n, 1) for n in shape[1:])):
        _add_rows(out, arrays[0].reshape(-1), g)
    else:
        np.add.at(out, where, g)
    return out


def _add_rows(out: np.ndarray, rows: np.ndarray, g: np.ndarray) -> None:
    """out[rows] += g for rows that may repeat and an `out` of zeros, several times as fast as `np.add.at`."""
    rows = rows.astype(np.int64)  # a small type might not hold the number of rows
    rows = np.where(rows < 0, rows + len(out), rows)
    # NumPy sorts 16-bit integers by their digits, in linear time.
    order = np.argsort(rows.astype(np.uint16) if len(out) <= 1 << 16 else rows, kind="stable")
    ordered, g = rows[order], g.reshape(len(rows), *out.shape[1:])
    new = ordered[1:] != ordered[:-1]  # equal rows form runs
    first, last = np.flatnonzero(np.concatenate(([True], new))), np.flatnonzero(np.concatenate((new, [True])))
    lengths = last - first + 1
    longest = int(lengths.max())
    if 16 * longest > len(first):  # a few long runs: each is summed
        out[ordered[first]] = np.add.reduceat(g[order], first, axis=0, dtype=g.dtype)
        return
    out[ordered[first]] = g[order[first]]  # many short runs: all first members at once, all second ones, …
    for k in range(1, longest):
        member = first[lengths > k] + k
        out[ordered[member]] += g[order[member]]


def _index_add_vjp(g: Tensor, _y: Any, _g: Any, *arrays: Tensor, pattern: Pattern, shape: Any) -> Tensor:
    return index(g, *arrays, pattern=pattern)


def _index_add_rule(g: Any, *arrays: Any, pattern: Pattern, shape: tuple[int, ...]) -> ShapeDtype:
    whole = ShapeDtype(tuple(shape), g.dtype)
    region = _index_rule(whole, *arrays, pattern=pattern).shape
    if tuple(g.shape) != region:
        raise ShapeError(f"values of shape {g.shape} for a region of shape {region}")
    return whole


index_add = Primitive(
    "index_add", _index_add_value, abstract=_index_add_rule,
    vjps=_indices_first(_index_add_vjp),
    jvp=lambda tangents, _y, _g, *arrays, **params: (
        None if tangents[0] is None else index_add(tangents[0], *arrays, **params)
    ),
    latex=r"\mathrm{{scatter}}({x:0})", text="scatter({x:0})",
    example=([((2, 3), _F), ((2,), np.dtype("int64"))], {"pattern": (("a", 0), ("s", 0, 3, 1)), "shape": (4, 3)}),
)  # fmt: skip


def _index_set_value(x: np.ndarray, v: np.ndarray, *arrays: np.ndarray, pattern: Pattern) -> np.ndarray:
    out = x.copy()
    out[numpy_index(pattern, arrays)] = v
    return out


def _index_set_rule(x: Any, v: Any, *arrays: Any, pattern: Pattern) -> ShapeDtype:
    region = _index_rule(x, *arrays, pattern=pattern).shape
    fits = len(v.shape) <= len(region) and all(a in (b, 1) for a, b in zip(v.shape[::-1], region[::-1], strict=False))
    if not fits:
        raise ShapeError(f"a value of shape {v.shape} does not fit the region of shape {region}")
    return ShapeDtype(x.shape, x.dtype)


def _index_set_vjp(
    position: int, g: Tensor, _y: Any, _x: Any, _v: Any, *arrays: Tensor, pattern: Pattern
) -> Tensor | None:
    if position == 0:
        zero = new_tensor(np.zeros((), g.dtype), None)
        return match(index_set(g, zero, *arrays, pattern=pattern), _x)
    if position > 1:
        return None
    # Where an index occurs twice, each of the values written there gets the cotangent (PyTorch's rule).
    return match(index(g, *arrays, pattern=pattern), _v)


_index_set_vjp.reads = (False, ())  # type: ignore[attr-defined]


def _index_set_jvp(
    tangents: Sequence[Tensor | None], y: Tensor, x: Tensor, v: Tensor, *arrays: Tensor, pattern: Pattern
) -> Tensor:
    dx, dv = (
        new_tensor(np.zeros(of.shape, y.dtype), None) if t is None else t
        for t, of in zip(tangents[:2], (x, v), strict=True)
    )
    return index_set(dx, dv, *arrays, pattern=pattern)


index_set = Primitive(
    "index_set", _index_set_value, abstract=_index_set_rule, vjps=_index_set_vjp, jvp=_index_set_jvp,
    latex=r"{a:0} \mathrm{{\ with\ }} {b:0}", text="({a:0} with {b:0})",
    example=([((4, 3), _F), ((3,), _F), ((), np.dtype("int64"))], {"pattern": (("a", 0), ("s", 0, 3, 1))}),
)  # fmt: skip
