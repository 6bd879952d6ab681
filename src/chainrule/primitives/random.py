"""Random bits: the one source of randomness, a pure function of a key and a counter."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.errors import DTypeError
from ..core.node import ShapeDtype
from ..core.primitive import Primitive


def blocks(shape: tuple[int, ...]) -> int:
    """Counter steps that a draw of this shape uses: one Philox block gives eight 32-bit words."""
    return -(-math.prod(shape) // 8)


def _value(state: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    generator = np.random.Philox(counter=int(state[1]), key=int(state[0]))
    words = generator.random_raw(4 * blocks(shape)).view(np.uint32)
    return words[: math.prod(shape)].reshape(shape)


def _rule(state: Any, shape: tuple[int, ...]) -> ShapeDtype:
    if state.shape != (2,) or state.dtype != np.uint64:
        raise DTypeError("the state is uint64[2]: key and counter")
    return ShapeDtype(tuple(shape), np.dtype("uint32"))


random_bits = Primitive(
    "random_bits", _value, abstract=_rule, latex=r"\mathrm{{bits}}({x:0})",
    example=([((2,), np.dtype("uint64"))], {"shape": (3,)}),
    doc=(
        "32 uniform random bits per element, uint32: the words of Philox4x64-10 (Salmon et al. 2011, "
        "'Parallel random numbers: as easy as 1, 2, 3') for key state[0], from counter state[1] + 1 on, "
        "the low half of each 64-bit word first."
    ),
)  # fmt: skip
