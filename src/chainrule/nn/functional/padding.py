"""Borders: constant, mirrored, repeated, or continued from the opposite side."""

from __future__ import annotations

import operator
from typing import Any

from ...core.errors import DTypeError, OperationError, ShapeError, located
from ...core.tensor import Tensor, new_tensor, to_array
from ...primitives.shape import broadcast_to, concat, flip
from ...primitives.shape import pad as pad_widths
from .common import take


def pad(input: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Tensor:
    """The input with borders put around its last axes.

    Args:
        input: any shape; (N, C, spatial…) or (C, spatial…) with a border on every spatial axis
            for modes other than "constant".
        pad: widths (before, after) of the last axis, then of the one before it, and so on;
            a negative width takes lines away.
        mode: "constant" fills with `value`; "reflect" mirrors without repeating the edge;
            "replicate" repeats the edge; "circular" continues from the other side.
        value: what "constant" fills with; 0 if None.

    Raises:
        OperationError: an odd number of widths, more than there are axes, or an unknown mode.
        ShapeError: a border is longer than what is there to mirror or continue.
    """
    x = input if isinstance(input, Tensor) else new_tensor(to_array(input), None)
    widths = _widths(x, pad)
    if mode not in ("constant", "reflect", "replicate", "circular"):
        raise OperationError(located(f"pad: mode is 'constant', 'reflect', 'replicate' or 'circular', got {mode!r}"))
    if mode != "constant":
        if value is not None and value != 0:
            raise OperationError(located(f"pad: mode {mode!r} takes no value, got {value!r}"))
        if x.ndim - len(widths) not in (1, 2) or not 1 <= len(widths) <= 3:
            raise ShapeError(
                located(
                    f"pad: mode {mode!r} takes a border for every spatial axis of (N, C, spatial…) or "
                    f"(C, spatial…); got {len(widths)} for shape {x.shape}"
                )
            )
    first = x.ndim - len(widths)
    for axis, (before, after) in enumerate(widths, first):
        x = _cropped(x, axis, max(-before, 0), max(-after, 0))
    around = [(max(before, 0), max(after, 0)) for before, after in widths]
    if mode == "constant":
        if not any(map(any, around)):
            return x
        return pad_widths(x, widths=((0, 0),) * first + tuple(around), value=value or 0)
    for axis, (before, after) in enumerate(around, first):
        if before or after:
            x = _continued(x, axis, before, after, mode)
    return x


def _widths(x: Tensor, pad: Any) -> list[tuple[int, int]]:
    """Pairs (before, after) for the last axes, in their order."""
    try:
        numbers = [operator.index(n) for n in pad]
    except TypeError:
        raise DTypeError(located(f"pad: the widths are a sequence of integers, got {pad!r}")) from None
    if len(numbers) % 2 or len(numbers) > 2 * x.ndim:
        raise OperationError(
            located(f"pad: two widths for each of the last axes, at most {2 * x.ndim} for shape {x.shape}, got {pad!r}")
        )
    return list(zip(numbers[::2], numbers[1::2], strict=True))[::-1]


def _cropped(x: Tensor, axis: int, before: int, after: int) -> Tensor:
    if not before and not after:
        return x
    length = x.shape[axis]
    if before + after > length:
        raise ShapeError(located(f"pad: cannot take {before} + {after} lines from axis {axis} of shape {x.shape}"))
    return take(x, axis, before, length - after)


def _continued(x: Tensor, axis: int, before: int, after: int, mode: str) -> Tensor:
    length = x.shape[axis]
    limit = {"reflect": length - 1, "circular": length, "replicate": max(before, after) if length else 0}[mode]
    if max(before, after) > limit:
        raise ShapeError(
            located(
                f"pad: mode {mode!r} can add at most {max(limit, 0)} lines to axis {axis} of shape {x.shape}, "
                f"asked for {before} and {after}"
            )
        )
    if mode == "reflect":
        front = flip(take(x, axis, 1, before + 1), axis=(axis,))
        back = flip(take(x, axis, length - 1 - after, length - 1), axis=(axis,))
    elif mode == "circular":
        front, back = take(x, axis, length - before, length), take(x, axis, 0, after)
    else:
        front, back = (
            broadcast_to(take(x, axis, at, at + 1), shape=(*x.shape[:axis], count, *x.shape[axis + 1 :]))
            for at, count in ((0, before), (length - 1, after))
        )
    parts = [part for part, count in ((front, before), (x, 1), (back, after)) if count]
    return concat(*parts, axis=axis)
