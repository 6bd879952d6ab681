"""Random tensors. Numbers are pure functions of a key (the seed) and a counter.

The state is a `Variable`, so a checkpoint can hold it, a resumed run continues it and a
compiled step reads and writes it like any other state. Bits come from Philox4x64-10
(Salmon et al. 2011); the mapping to floats and integers is stated by each function.
"""

from __future__ import annotations

import math
import operator
import os
import threading
from typing import Any

import numpy as np

from .core import dtypes
from .core.errors import DTypeError, OperationError, ShapeError, located
from .core.tensor import Tensor, Variable
from .primitives import pointwise as p
from .primitives.index import index
from .primitives.random import blocks, random_bits
from .primitives.shape import reshape

_drawing = threading.Lock()


class Generator:
    """A stream of random numbers: `state` holds key and counter as uint64[2]."""

    def __init__(self, seed: int | None = None) -> None:
        self.state = Variable(np.zeros(2, np.uint64), name="random state")
        self.manual_seed(int.from_bytes(os.urandom(8), "little") if seed is None else seed)

    def manual_seed(self, seed: int) -> Generator:
        """Restart the stream for `seed` (any integer; taken modulo 2**64)."""
        try:
            key = operator.index(seed) % 2**64
        except TypeError:
            raise DTypeError(located(f"manual_seed: a seed is an integer, got {seed!r}")) from None
        self.state.assign(np.array([key, 0], np.uint64))
        return self

    def bits(self, shape: tuple[int, ...]) -> Tensor:
        """Uniform random uint32 of `shape`; advances the counter by the blocks used."""
        with _drawing:  # two threads must not read the same counter
            drawn = random_bits(self.state, shape=shape)
            self.state.assign(self.state + np.array([0, blocks(shape)], np.uint64))
        return drawn


default_generator = Generator(0)


def manual_seed(seed: int) -> Generator:
    """Restart the default stream; every random function of the library draws from it."""
    return default_generator.manual_seed(seed)


def as_shape(size: tuple[Any, ...]) -> tuple[int, ...]:
    """Lengths given one by one or as one tuple; each an integer that is not negative."""
    lengths = size[0] if len(size) == 1 and isinstance(size[0], tuple | list) else size
    try:
        shape = tuple(operator.index(n) for n in lengths)
    except TypeError:
        raise ShapeError(located(f"a shape is made of integers, got {lengths!r}")) from None
    if any(n < 0 for n in shape):
        raise ShapeError(located(f"lengths cannot be negative: {shape}"))
    return shape


def _floating(dtype: Any, name: str) -> np.dtype:
    wanted = dtypes.default_dtype() if dtype is None else dtypes.as_dtype(dtype)
    if wanted.kind != "f":
        raise DTypeError(located(f"{name}: needs float32 or float64, got {wanted}"))
    return wanted


def _unit(shape: tuple[int, ...], dtype: np.dtype, generator: Generator | None) -> Tensor:
    """Uniform on [0, 1): the top 24 of 32 bits for float32, the top 53 of 64 for float64."""
    source = generator or default_generator
    if dtype == dtypes.float32:
        bits = p.bitwise_right_shift(source.bits(shape), 8)
        return p.astype(bits, dtype=dtype) * 2.0**-24
    words = source.bits((*shape, 2))
    whole = tuple(("s", 0, n, 1) for n in shape)
    low = p.astype(p.bitwise_right_shift(index(words, pattern=(*whole, ("i", 0))), 11), dtype=dtype)
    high = p.astype(index(words, pattern=(*whole, ("i", 1))), dtype=dtype)
    return (high * 2.0**21 + low) * 2.0**-53


def rand(*size: Any, dtype: Any = None, requires_grad: bool = False, generator: Generator | None = None) -> Tensor:
    """Uniform numbers on [0, 1) of the given shape."""
    out = _unit(as_shape(size), _floating(dtype, "rand"), generator)
    return out.requires_grad_() if requires_grad else out


def randn(*size: Any, dtype: Any = None, requires_grad: bool = False, generator: Generator | None = None) -> Tensor:
    """Standard normal numbers of the given shape.

    Box and Muller (1958): sqrt(-2 ln(1 - u)) cos(2π v) and its sine for pairs u, v of
    uniform numbers, cosines first.
    """
    shape = as_shape(size)
    kind = _floating(dtype, "randn")
    count = math.prod(shape)
    half = -(-count // 2)
    uniform = _unit((2, half), kind, generator)
    u = index(uniform, pattern=(("i", 0), ("s", 0, half, 1)))
    v = index(uniform, pattern=(("i", 1), ("s", 0, half, 1)))
    radius = p.sqrt(-2.0 * p.log1p(-u))
    angle = (2.0 * math.pi) * v
    from .primitives.shape import concat

    pairs = concat(radius * p.cos(angle), radius * p.sin(angle), axis=0)
    out = reshape(index(pairs, pattern=(("s", 0, count, 1),)), shape=shape)
    return out.requires_grad_() if requires_grad else out


def randint(
    low: int, high: int | None = None, size: Any = (), *, dtype: Any = None, generator: Generator | None = None
) -> Tensor:
    """Uniform integers in [low, high), or [0, low) for one bound: floor(u · (high - low)) + low, u float64."""
    if high is None:
        low, high = 0, low
    if high <= low:
        raise OperationError(located(f"randint: the range [{low}, {high}) is empty"))
    wanted = dtypes.int64 if dtype is None else dtypes.as_dtype(dtype)
    u = _unit(as_shape((size,) if isinstance(size, int) else tuple(size)), dtypes.float64, generator)
    return p.astype(p.floor(u * float(high - low)), dtype=wanted) + low


def randperm(n: int, *, generator: Generator | None = None) -> Tensor:
    """A random permutation of 0 … n-1: the order of n uniform 64-bit numbers."""
    keys = _unit(as_shape((n,)), dtypes.float64, generator)
    return Tensor(np.argsort(keys.numpy(), kind="stable"))
