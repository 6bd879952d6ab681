"""What convolution, pooling and resizing share: sizes given as one number or several, and optional batch axes."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ...core.errors import DTypeError, OperationError, ShapeError, located
from ...core.tensor import Tensor, new_tensor
from ...primitives.matmul import matmul
from ...primitives.shape import reshape

Sizes = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


def sizes(value: Any, rank: int, name: str, argument: str, least: int = 0) -> Sizes:
    """One integer per spatial axis from an integer or a sequence of them.

    Raises:
        DTypeError: an entry is no integer.
        OperationError: there are too few or too many, or one is less than `least`.
    """
    entries = list(value) if isinstance(value, tuple | list) else [value] * rank
    if len(entries) == 1:
        entries *= rank
    if len(entries) != rank:
        raise OperationError(
            located(f"{name}: {argument} is one integer or {rank} (one per spatial axis), got {value!r}")
        )
    try:
        found = tuple(operator.index(entry) for entry in entries)
    except TypeError:
        raise DTypeError(located(f"{name}: {argument} is made of integers, got {value!r}")) from None
    if min(found) < least:
        raise OperationError(located(f"{name}: {argument} must be at least {least}, got {value!r}"))
    return found


def batched(input: Tensor, rank: int, name: str) -> Tensor:
    """The input with a batch axis: (N, C, spatial…), from that or from (C, spatial…).

    Raises:
        ShapeError: it has another number of axes.
    """
    if input.ndim == rank + 2:
        return input
    if input.ndim == rank + 1:
        return reshape(input, shape=(1, *input.shape))
    layout = ", ".join(("L",) if rank == 1 else ("D", "H", "W")[3 - rank :])
    raise ShapeError(
        located(
            f"{name}: the input has {rank + 2} axes (N, C, {layout}), or {rank + 1} for a single image "
            f"(C, {layout}), got shape {input.shape}"
        )
    )


def like_given(output: Tensor, input: Tensor) -> Tensor:
    """The output without the batch axis that `batched` added."""
    return output if output.ndim == input.ndim else reshape(output, shape=output.shape[1:])


def apply_along(matrix: np.ndarray, x: Tensor, axis: int) -> Tensor:
    """The matrix (new length, length) applied to every line of x along an axis."""
    weights = new_tensor(np.ascontiguousarray(matrix, dtype=x.dtype), None)
    shape = x.shape
    if axis == x.ndim - 1:
        return matmul(x, weights, transpose_a=False, transpose_b=True)
    behind = 1
    for length in shape[axis + 1 :]:
        behind *= length
    lines = reshape(x, shape=(*shape[: axis + 1], behind))
    y = matmul(weights, lines, transpose_a=False, transpose_b=False)
    return reshape(y, shape=(*shape[:axis], matrix.shape[0], *shape[axis + 1 :]))
