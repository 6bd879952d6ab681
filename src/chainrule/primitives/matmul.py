"""The matrix product, with both operands optionally transposed, closed under differentiation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.errors import ShapeError
from ..core.node import ShapeDtype
from ..core.primitive import Primitive
from ..core.tensor import Tensor
from .families import align_batched, broadcast_shapes, match
from .pointwise import conj
from .shape import reshape

_F = np.dtype("float32")


def _value(a: np.ndarray, b: np.ndarray, transpose_a: bool, transpose_b: bool) -> np.ndarray:
    if transpose_a:
        a = a.swapaxes(-1, -2)
    if transpose_b:
        b = b.swapaxes(-1, -2)
    if b.ndim == 2 and a.ndim > 2:
        # One product instead of one per batch entry.
        rows = math.prod(a.shape[:-1])
        return np.matmul(a.reshape(rows, a.shape[-1]), b).reshape(*a.shape[:-1], b.shape[-1])
    return np.matmul(a, b)


def _rule(a: Any, b: Any, transpose_a: bool, transpose_b: bool) -> ShapeDtype:
    if len(a.shape) < 2 or len(b.shape) < 2:
        raise ShapeError(f"matrices have at least 2 axes, got shapes {a.shape} and {b.shape}")
    m, k = a.shape[-2:] if not transpose_a else a.shape[:-3:-1]
    k2, n = b.shape[-2:] if not transpose_b else b.shape[:-3:-1]
    if k != k2:
        raise ShapeError(f"{m}×{k} times {k2}×{n}: the inner lengths {k} and {k2} must be equal")
    batch = broadcast_shapes("matmul", a.shape[:-2], b.shape[:-2])
    return ShapeDtype((*batch, m, n), np.result_type(a.dtype, b.dtype))


def _flat(x: Tensor) -> Tensor:
    return reshape(x, shape=(math.prod(x.shape[:-1]), x.shape[-1]))


def _vjp_a(g: Tensor, _y: Any, _a: Any, b: Tensor, transpose_a: bool, transpose_b: bool) -> Tensor:
    b = conj(b) if b.dtype.kind == "c" else b
    if transpose_a:
        return match(matmul(b, g, transpose_a=transpose_b, transpose_b=True), _a)
    return match(matmul(g, b, transpose_a=False, transpose_b=not transpose_b), _a)


def _vjp_b(g: Tensor, _y: Any, a: Tensor, _b: Any, transpose_a: bool, transpose_b: bool) -> Tensor:
    a = conj(a) if a.dtype.kind == "c" else a
    if _b.ndim == 2 and a.ndim > 2 and not transpose_a:
        # The batch is part of the sum: fold it into the rows, one product for all.
        a, g = _flat(a), _flat(g)
    if transpose_b:
        return match(matmul(g, a, transpose_a=True, transpose_b=transpose_a), _b)
    return match(matmul(a, g, transpose_a=not transpose_a, transpose_b=False), _b)


def _jvp(tangents: Sequence[Tensor | None], _y: Tensor, a: Tensor, b: Tensor, **params: Any) -> Tensor | None:
    da, db = tangents
    left = None if da is None else matmul(da, b, **params)
    right = None if db is None else matmul(a, db, **params)
    if left is None or right is None:
        return left if right is None else right
    return left + right


def _notation(transpose_a: bool, transpose_b: bool, mark: str, space: str) -> str:
    a = "{a:4}" + mark if transpose_a else "{a:2}"
    b = "{b:4}" + mark if transpose_b else "{b:3}"
    return a + space + b


matmul = Primitive(
    "matmul", _value, abstract=_rule, vjps=(_vjp_a, _vjp_b), jvp=_jvp,
    batch=lambda _size, batched, inputs, params: matmul(*align_batched(batched, inputs), **params),
    latex=lambda transpose_a, transpose_b: _notation(transpose_a, transpose_b, r"^{{\top}}", r" \, "),
    text=lambda transpose_a, transpose_b: _notation(transpose_a, transpose_b, "ᵀ", " "),
    precedence=2,
    example=([((2, 3), _F), ((3, 4), _F)], {"transpose_a": False, "transpose_b": False}),
)  # fmt: skip
