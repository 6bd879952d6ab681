"""Norms, distances and similarities along one axis."""

from __future__ import annotations

import math

from ...core.errors import ShapeError, located
from ...core.tensor import Tensor
from ...primitives import pointwise as p
from ...primitives import reduce as along
from ...primitives.families import broadcast_shapes
from ...primitives.shape import broadcast_to
from .common import axis_of, floating, number, select, total


def norm_along(x: Tensor, order: float, axis: int, keepdims: bool) -> Tensor:
    """(Σ |x|ᵖ)^(1/p) along one axis, with gradient 0 where the norm is 0."""
    axes = (axis,)
    if order == 1:
        return total(p.abs(x), axes, keepdims)
    if order == math.inf:
        return along.max(p.abs(x), axis=axes, keepdims=keepdims)
    if order == -math.inf:
        return along.min(p.abs(x), axis=axes, keepdims=keepdims)
    if order == 0:
        return total(select(x == 0, 0.0, 1.0, x), axes, keepdims)
    powers = total(p.square(x) if order == 2 else _absolute_power(x, order), axes, keepdims)
    zero = powers == 0
    inside = select(zero, 1.0, powers, powers)
    root = p.sqrt(inside) if order == 2 else p.power(inside, number(1.0 / order, x))
    return select(zero, 0.0, root, root)


def _absolute_power(x: Tensor, order: float) -> Tensor:
    zero = x == 0
    size = p.abs(select(zero, 1.0, x, x))
    return select(zero, 0.0 if order > 0 else math.inf, p.power(size, number(order, x)), x)


def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x / max(‖x‖ₚ, eps) along the axis `dim`."""
    x = floating(input, "normalize")
    size = norm_along(x, p, axis_of(dim, x.ndim, "normalize"), True)
    return x / _at_least(size, eps)


def _at_least(x: Tensor, least: float) -> Tensor:
    return select(x < least, least, x, x)


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x₁·x₂ / (max(‖x₁‖, eps) max(‖x₂‖, eps)) along the axis `dim`, after broadcasting."""
    a, b = floating(x1, "cosine_similarity"), floating(x2, "cosine_similarity")
    axis = axis_of(dim, max(a.ndim, b.ndim), "cosine_similarity")
    if a.shape != b.shape:
        common = broadcast_shapes("cosine_similarity", a.shape, b.shape)
        a, b = broadcast_to(a, shape=common), broadcast_to(b, shape=common)
    first = a / _at_least(norm_along(a, 2, axis, True), eps)
    second = b / _at_least(norm_along(b, 2, axis, True), eps)
    return total(first * second, (axis,))


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """‖x₁ - x₂ + eps‖ₚ along the last axis."""
    difference = floating(x1, "pairwise_distance") - floating(x2, "pairwise_distance") + eps
    if not difference.ndim:
        raise ShapeError(located("pairwise_distance: the inputs are vectors or more, got 0-d tensors"))
    return norm_along(difference, p, difference.ndim - 1, keepdim)
