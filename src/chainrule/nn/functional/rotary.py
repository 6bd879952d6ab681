"""Rotary position embedding (Su et al. 2021, "RoFormer"): queries and keys turned by an angle for each position.

A vector of even width D is D/2 pairs of numbers; pair i at position t turns by t · base^(-2i/D),
so that a product of a query and a key depends on the distance of their positions only. Which
numbers make a pair differs between models, and weights are trained for one of the two:

- half-split: pair i is (x[i], x[i + D/2]). GPT-NeoX, and Llama in Hugging Face checkpoints.
- interleaved: pair i is (x[2i], x[2i + 1]). RoFormer, GPT-J, and Llama in Meta's own and in GGUF files.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from ...core.errors import DTypeError, ShapeError, located
from ...core.tensor import Tensor, new_tensor
from ...primitives import pointwise as p
from ...primitives.shape import concat, flip, reshape
from .common import expand, floating


def rotary_angles(positions: Any, width: int, base: float = 10000.0, dtype: Any = None) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every pair's angle.

    Args:
        positions: a length T, for the positions 0 … T - 1, or integers of any shape.
        width: the even width D of the vectors to turn.
        base: the slowest pair turns by about 1 / base radians a position.
        dtype: float32 if None. Angles are computed in float64, for positions far out.

    Returns:
        cos and sin, each of shape (*positions.shape, D / 2).
    """
    kind = np.dtype(np.float32 if dtype is None else dtype)
    if width < 2 or width % 2:
        raise ShapeError(located(f"rotary embedding: the width {width} must be even and positive"))
    if not isinstance(positions, Tensor):
        cosine, sine = _table(int(positions), width, float(base), kind)
        return new_tensor(cosine, None), new_tensor(sine, None)
    if positions.dtype.kind not in "iu":
        raise DTypeError(located(f"rotary embedding: positions are integers, got {positions.dtype}"))
    speeds = new_tensor(_speeds(width, float(base)), None)
    angles = expand(p.astype(positions, dtype=np.dtype(np.float64)), positions.ndim) * speeds
    return p.astype(p.cos(angles), dtype=kind), p.astype(p.sin(angles), dtype=kind)


def _speeds(width: int, base: float) -> np.ndarray:
    return base ** (-np.arange(0, width, 2) / width)


@functools.lru_cache(maxsize=32)
def _table(length: int, width: int, base: float, dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    angles = np.arange(length)[:, None] * _speeds(width, base)
    tables = np.cos(angles).astype(dtype), np.sin(angles).astype(dtype)
    for table in tables:
        table.flags.writeable = False
    return tables


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor, interleaved: bool = False) -> Tensor:
    """Turn each pair (a, b) of the last axis to (a cos - b sin, b cos + a sin).

    Args:
        x: shape (…, T, D).
        cos, sin: shape (T, D / 2), or any that broadcasts to (…, T, D / 2): `rotary_angles`.
        interleaved: pairs are neighbours; otherwise the first half goes with the second.

    Raises:
        ShapeError: D is odd, or the tables do not fit.
    """
    x = floating(x, "apply_rotary")
    shape = x.shape
    if len(shape) < 2 or shape[-1] % 2 or cos.shape != sin.shape or cos.shape[-1:] != (shape[-1] // 2,):
        raise ShapeError(
            located(f"apply_rotary: cos {cos.shape} and sin {sin.shape} must end with half the width of x {shape}")
        )
    half = shape[-1] // 2
    # As (a, b): y = (a, b) cos + (b, a) (-sin, sin).
    axis, pairs = (len(shape), (half, 2)) if interleaved else (len(shape) - 1, (2, half))
    split = reshape(x, shape=(*shape[:-1], *pairs))
    at = cos.ndim if interleaved else cos.ndim - 1
    sine = expand(sin, at)
    turned = split * expand(cos, at) + flip(split, axis=(axis,)) * concat(p.negative(sine), sine, axis=at)
    try:
        return reshape(turned, shape=shape)
    except ShapeError:
        raise ShapeError(
            located(f"apply_rotary: cos and sin of shape {cos.shape} do not broadcast to x of shape {shape}")
        ) from None
