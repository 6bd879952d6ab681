"""The matrix product, with both operands optionally transposed, and the affine map of a dense layer.

The derivatives of the affine map are matrix products, those of matrix products are matrix products.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.errors import ShapeError
from ..core.node import ShapeDtype
from ..core.primitive import Primitive
from ..core.tensor import Tensor
from .families import align_batched, broadcast_shapes, fit_tangent, match
from .pointwise import add, conj
from .shape import reshape

_F = np.dtype("float32")


def _value(a: np.ndarray, b: np.ndarray, transpose_a: bool, transpose_b: bool) -> np.ndarray:
    if transpose_a:
        a = a.mT
    if transpose_b:
        b = b.mT
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


def _affine_value(x: np.ndarray, w: np.ndarray, b: np.ndarray) -> np.ndarray:
    y = np.matmul(x, w.T) if x.ndim == 2 else _value(x, w, False, True)
    return np.add(y, b, out=y) if b.dtype == y.dtype else y + b


def _affine_rule(x: Any, w: Any, b: Any) -> ShapeDtype:
    if len(w.shape) != 2 or len(x.shape) < 2 or b.shape != w.shape[:1]:
        raise ShapeError(
            f"x (…, in), w (out, in) and b (out,) with at least 2 axes of x, got {x.shape}, {w.shape} and {b.shape}"
        )
    product = _rule(x, w, False, True)
    return ShapeDtype(product.shape, np.result_type(product.dtype, b.dtype))


def _affine_x_vjp(g: Tensor, _y: Any, _x: Any, w: Tensor, _b: Any) -> Tensor:
    w = conj(w) if w._value.dtype.kind == "c" else w
    return match(matmul(g, w, transpose_a=False, transpose_b=False), _x)


def _affine_w_vjp(g: Tensor, _y: Any, x: Tensor, _w: Any, _b: Any) -> Tensor:
    value = x._value
    if value.dtype.kind == "c":
        x = conj(x)
    if value.ndim > 2:
        x, g = _flat(x), _flat(g)
    return match(matmul(g, x, transpose_a=True, transpose_b=False), _w)


def _affine_jvp(tangents: Sequence[Tensor | None], y: Tensor, x: Tensor, w: Tensor, _b: Any) -> Tensor | None:
    dx, dw, db = tangents
    product = None
    if dx is not None or dw is not None:
        product = _jvp((dx, dw), y, x, w, transpose_a=False, transpose_b=True)
    total = product if db is None else db if product is None else product + db
    return fit_tangent(total, y)


def _affine_batch(_size: int, batched: Sequence[bool], inputs: Sequence[Tensor], _params: dict[str, Any]) -> Tensor:
    x, w, b = inputs
    if not any(batched[1:]):
        return affine(x, w, b)
    product = matmul(*align_batched(batched[:2], (x, w)), transpose_a=False, transpose_b=True)
    if batched[2]:
        rank = x.ndim - batched[0]
        b = reshape(b, shape=(b.shape[0], *(1,) * (rank - 1), b.shape[1]))
    return add(product, b)


affine = Primitive(
    "affine", _affine_value, abstract=_affine_rule,
    vjps=(_affine_x_vjp, _affine_w_vjp, lambda g, _y, _x, _w, _b: match(g, _b)),
    jvp=_affine_jvp, batch=_affine_batch,
    latex=r"{a:2} \, {b:4}^{{\top}} + {c}", text="{a:2} {b:4}ᵀ + {c}", precedence=1,
    example=([((2, 3), _F), ((4, 3), _F), ((4,), _F)], {}),
    doc="x wᵀ + b along the last axis of x: a dense layer.",
)  # fmt: skip
