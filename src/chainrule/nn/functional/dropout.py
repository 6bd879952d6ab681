"""Dropout: random zeros while training, drawn from the library's stream.

An element is kept where a uniform 32-bit number is at least p · 2³²; kept ones are scaled
by 1 / (1 - p), so that the expected value stays (Srivastava et al. 2014).
"""

from __future__ import annotations

import math

import numpy as np

from ... import random
from ...core.errors import OperationError, ShapeError, located
from ...core.tensor import Tensor, constant
from ...primitives import pointwise as pw
from .common import floating, number, select

_UINT32 = np.dtype(np.uint32)


def _kept(shape: tuple[int, ...], p: float) -> Tensor:
    least = min(round(p * 2**32), 2**32 - 1)
    return pw.greater_equal(random.default_generator.bits(shape), constant(least, _UINT32))


def _check(p: float, name: str) -> None:
    if not 0 <= p <= 1:
        raise OperationError(located(f"{name}: p is a probability in [0, 1], got {p}"))


def _dropped(x: Tensor, shape: tuple[int, ...], p: float) -> Tensor:
    if p == 1:
        return x * 0.0
    return select(_kept(shape, p), x * (1 / (1 - p)), 0.0, x)


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Each element 0 with probability p, or else divided by 1 - p; the input itself in evaluation.

    Raises:
        OperationError: p is not in [0, 1].
    """
    _check(p, "dropout")
    x = floating(input, "dropout")
    return _dropped(x, x.shape, p) if training and p else x


def _channel_dropout(input: Tensor, p: float, training: bool, ndims: tuple[int, ...], name: str) -> Tensor:
    _check(p, name)
    x = floating(input, name)
    if x.ndim not in ndims:
        raise ShapeError(located(f"{name}: the input has {' or '.join(map(str, ndims))} axes, got shape {x.shape}"))
    if not training or not p:
        return x
    channels = x.ndim - (max(ndims) - 2)
    return _dropped(x, (*x.shape[:channels], *(1,) * (x.ndim - channels)), p)


def dropout1d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout of whole channels of an input of shape (N, C, L) or (C, L)."""
    return _channel_dropout(input, p, training, (2, 3), "dropout1d")


def dropout2d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout of whole channels of an input of shape (N, C, H, W) or (C, H, W)."""
    return _channel_dropout(input, p, training, (3, 4), "dropout2d")


def dropout3d(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout of whole channels of an input of shape (N, C, D, H, W) or (C, D, H, W)."""
    return _channel_dropout(input, p, training, (4, 5), "dropout3d")


def alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Dropout that keeps mean 0 and variance 1 of SELU networks (Klambauer et al. 2017).

    Dropped elements become α' = -λα; the result is then a x + b with
    a = ((1 - p) (1 + p α'²))^(-1/2) and b = -a p α'.
    """
    _check(p, "alpha_dropout")
    x = floating(input, "alpha_dropout")
    if not training or not p:
        return x
    if p == 1:
        return x * 0.0
    low = -1.7580993408473766
    scale = 1 / math.sqrt((1 - p) * (1 + p * low**2))
    return select(_kept(x.shape, p), x, number(low, x), x) * scale - scale * p * low
