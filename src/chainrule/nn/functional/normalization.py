"""Normalisation: subtract a mean, divide by a standard deviation, over one choice of axes or another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...core.autodiff import unrecorded
from ...core.errors import ShapeError, located
from ...core.node import Interpreted
from ...core.tensor import Tensor, Variable, new_tensor
from ...primitives import pointwise as p
from ...primitives.shape import reshape
from ...primitives.standardise import moments, standardise
from .common import floating, mean


def _standardised(x: Tensor, axis: tuple[int, ...], eps: float) -> Tensor:
    """(x - mean) / √(var + eps) with the biased variance."""
    if _is_plain(x):
        return standardise(x, axis=axis, eps=eps)
    # A transformation gets the parts, which it can take apart or fuse.
    centred = x - mean(x, axis, True)
    return centred * p.reciprocal(p.sqrt(mean(p.square(centred), axis, True) + eps))


def _is_plain(x: Tensor) -> bool:
    return type(x._value) is np.ndarray and x._value.dtype.kind == "f"


def _moments(x: Tensor, axis: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The mean and the biased variance with axes of length 1."""
    if _is_plain(x):
        _, *found = moments(x._value, axis)
        return new_tensor(found[0], None), new_tensor(found[1], None)
    centre = mean(x, axis, True)
    return centre, mean(p.square(x - centre), axis, True)


def _affine(y: Tensor, weight: Tensor | None, bias: Tensor | None, shape: tuple[int, ...] | None = None) -> Tensor:
    if weight is not None:
        y = y * (weight if shape is None else reshape(weight, shape=shape))
    if bias is not None:
        y = y + (bias if shape is None else reshape(bias, shape=shape))
    return y


def _trailing_axes(x: Tensor, normalized_shape: Any, name: str) -> tuple[int, ...]:
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or len(shape) > x.ndim or x.shape[-len(shape) :] != shape:
        raise ShapeError(located(f"{name}: normalized_shape {shape} must be the end of the input's shape {x.shape}"))
    return tuple(range(x.ndim - len(shape), x.ndim))


def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """(x - mean) / √(var + eps) · weight + bias over the last axes (Ba et al. 2016).

    Args:
        input: shape (…, *normalized_shape).
        normalized_shape: lengths of the axes to normalise over.
        weight, bias: shape normalized_shape.

    Raises:
        ShapeError: the input does not end with normalized_shape.
    """
    x = floating(input, "layer_norm")
    y = _standardised(x, _trailing_axes(x, normalized_shape, "layer_norm"), eps)
    return _affine(y, weight, bias)


def rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """x / √(mean(x²) + eps) · weight over the last axes (Zhang and Sennrich 2019).

    `eps` is the machine epsilon of the input's data type if None.
    """
    x = floating(input, "rms_norm")
    axis = _trailing_axes(x, normalized_shape, "rms_norm")
    small = float(np.finfo(x.dtype).eps) if eps is None else eps
    y = x * p.reciprocal(p.sqrt(mean(p.square(x), axis, True) + small))
    return _affine(y, weight, None)


def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Standardise each of `num_groups` groups of channels of each sample (Wu and He 2018).

    Args:
        input: shape (N, C, …).
        weight, bias: shape (C,).

    Raises:
        ShapeError: C is no multiple of num_groups.
    """
    x = floating(input, "group_norm")
    if x.ndim < 2 or num_groups < 1 or x.shape[1] % num_groups:
        raise ShapeError(
            located(f"group_norm: the channels (axis 1) of shape {x.shape} do not divide into {num_groups} groups")
        )
    samples, channels = x.shape[:2]
    length = math.prod(x.shape[1:]) // num_groups
    grouped = reshape(x, shape=(samples, num_groups, length))
    y = _standardised(grouped, (2,), eps)
    return _affine(reshape(y, shape=x.shape), weight, bias, (channels, *(1,) * (x.ndim - 2)))


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Standardise each channel over the batch and all positions (Ioffe and Szegedy 2015).

    Args:
        input: shape (N, C) or (N, C, …).
        running_mean, running_var: shape (C,). Read in evaluation; in training set to
            (1 - momentum) · running + momentum · batch, with the unbiased batch variance.
        weight, bias: shape (C,).
        training: use the batch's own mean and (biased) variance.
        momentum: weight of the batch in the running statistics; a number or 0-d tensor.

    Raises:
        ShapeError: there are fewer than 2 axes, in training only one value for each
            channel, or a shape other than (C,).
    """
    x = floating(input, "batch_norm")
    if x.ndim < 2:
        raise ShapeError(located(f"batch_norm: the input has shape (N, C, …), got {x.shape}"))
    channels = x.shape[1]
    shape = (channels, *(1,) * (x.ndim - 2))
    for name, given in (
        ("running_mean", running_mean),
        ("running_var", running_var),
        ("weight", weight),
        ("bias", bias),
    ):
        if given is not None and given.shape != (channels,):
            raise ShapeError(
                located(f"batch_norm: {name} of shape {given.shape} for {channels} channels (input shape {x.shape})")
            )
    if not training:
        if running_mean is None or running_var is None:
            raise ShapeError(located("batch_norm: evaluation needs running_mean and running_var"))
        scale = p.reciprocal(p.sqrt(running_var + eps))
        y = (x - reshape(running_mean, shape=shape)) * reshape(scale, shape=shape)
        return _affine(y, weight, bias, shape)
    count = x.size // channels if channels else 0
    if count == 1:
        raise ShapeError(
            located(f"batch_norm: training needs more than one value for each channel, got shape {x.shape}")
        )
    axis = (0, *range(2, x.ndim))
    y = _standardised(x, axis, eps)
    with unrecorded():
        centre, variance = _moments(x, axis)
        if running_mean is not None:
            _move(running_mean, reshape(centre, shape=(channels,)), momentum)
        if running_var is not None and count:
            _move(running_var, reshape(variance, shape=(channels,)) * (count / (count - 1)), momentum)
    return _affine(y, weight, bias, shape)


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Standardise each channel of each sample over its positions (Ulyanov et al. 2016).

    Args:
        input: shape (N, C, …) with at least one axis of positions.
        running_mean, running_var: shape (C,); used if not `use_input_stats`, and otherwise
            moved towards the mean over the samples.
    """
    x = floating(input, "instance_norm")
    if not use_input_stats:
        return batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    if x.ndim < 3:
        raise ShapeError(located(f"instance_norm: the input has shape (N, C, …) with positions, got {x.shape}"))
    channels = x.shape[1]
    count = math.prod(x.shape[2:])
    if count == 1:
        raise ShapeError(located(f"instance_norm: more than one position is needed, got shape {x.shape}"))
    axis = tuple(range(2, x.ndim))
    y = _standardised(x, axis, eps)
    with unrecorded():
        centre, variance = _moments(x, axis)
        flat = (x.shape[0], channels)
        if running_mean is not None:
            _move(running_mean, mean(reshape(centre, shape=flat), (0,)), momentum)
        if running_var is not None and count:
            unbiased = mean(reshape(variance, shape=flat), (0,)) * (count / (count - 1))
            _move(running_var, unbiased, momentum)
    return _affine(y, weight, bias, (channels, *(1,) * (x.ndim - 2)))


def _move(running: Tensor, batch: Tensor, momentum: Any) -> None:
    value = batch._value
    if isinstance(value, Interpreted) and not value.always_recorded:
        # The running statistics are state: they take the number behind a dual number, never the dual.
        batch = new_tensor(batch._array("updating running statistics"), None)
    moved = running * (1 - momentum) + batch * momentum
    if moved.dtype != running.dtype:
        moved = p.astype(moved, dtype=running.dtype)
    if isinstance(running, Variable):
        running.assign(moved)
    else:
        running._value, running._node = moved._value, None
