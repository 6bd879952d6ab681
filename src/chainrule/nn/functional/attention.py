"""Attention: softmax(q kᵀ · scale + bias) v, with masks, causal order, dropout and shared key heads."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from ...core.errors import DTypeError, OperationError, ShapeError, located
from ...core.tensor import Tensor, new_tensor
from ...primitives import pointwise as p
from ...primitives import reduce
from ...primitives.matmul import matmul
from ...primitives.nn import softmax
from ...primitives.shape import reshape
from .common import floating, number, select
from .dropout import dropout

_NAME = "scaled_dot_product_attention"


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(q kᵀ · scale + bias) v for each head (Vaswani et al. 2017).

    Args:
        query: shape (…, L, E).
        key: shape (…, S, E).
        value: shape (…, S, V).
        attn_mask: broadcasts to (…, L, S). Booleans: True takes part. Numbers: added to the scores.
        dropout_p: weights are dropped with this probability whenever it is not 0, in evaluation too.
        is_causal: query i sees the keys 0 … i.
        scale: 1 / √E if None.
        enable_gqa: axis -3 counts heads, and groups of query heads share a head of key and value
            (Ainslie et al. 2023): of Hq query heads and H key heads, Hq / H in a row belong together.

    Returns:
        Shape (…, L, V). A query that sees no key at all gets 0.

    Raises:
        ShapeError: the shapes do not fit, or Hq is no multiple of H.
        DTypeError: an operand is not floating, or the mask neither boolean nor of the query's type.
        OperationError: a mask and is_causal are both given.
    """
    if attn_mask is not None and is_causal:
        raise OperationError(located(f"{_NAME}: give attn_mask or is_causal, not both"))
    return attend(query, key, value, attn_mask, dropout_p, is_causal, scale, enable_gqa)[0]


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    dropout_p: float,
    is_causal: bool,
    scale: float | None = None,
    grouped: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The attention, the weights (…, L, S) that it used, and a mask (…, L, 1) of the queries that see any key.

    Arguments of `scaled_dot_product_attention`. The mask is None where every query sees one; the
    weights of a query that sees none mean nothing.
    """
    q, k, v = (floating(x, _NAME) for x in (query, key, value))
    _check(q, k, v, grouped)
    front, (length, width), keys = q.shape[:-2], q.shape[-2:], k.shape[-2]
    q = q * (1 / math.sqrt(width) if scale is None else scale)
    # The heads of a group are more queries to the same keys: one product with more rows, no copies of the keys.
    group = (*front[:-1], k.shape[-3], front[-1] // k.shape[-3] * length) if grouped else (*front, length)
    if grouped:
        q = reshape(q, shape=(*group, width))
    scores = matmul(q, k, transpose_a=False, transpose_b=True)
    if grouped:
        scores = reshape(scores, shape=(*front, length, keys))
    bias, sees = _causal_bias(length, keys, q.dtype) if is_causal else None, None
    if mask is not None:
        bias, sees = _mask_bias(mask, scores)
    weights = softmax(scores if bias is None else p.add(scores, bias), axis=scores.ndim - 1)
    if dropout_p:
        weights = dropout(weights, dropout_p)
    rows = reshape(weights, shape=(*group, keys)) if grouped else weights
    out = matmul(rows, v, transpose_a=False, transpose_b=False)
    if grouped:
        out = reshape(out, shape=(*front, length, v.shape[-1]))
    return out if sees is None else select(sees, out, 0.0, out), weights, sees


def _check(q: Tensor, k: Tensor, v: Tensor, grouped: bool) -> None:
    least = 3 if grouped else 2
    shapes = f"{_NAME}: query {q.shape}, key {k.shape} and value {v.shape}"
    if min(q.ndim, k.ndim, v.ndim) < least:
        raise ShapeError(located(f"{shapes} need {least} axes at least"))
    if q.shape[-1] != k.shape[-1]:
        raise ShapeError(located(f"{shapes}: query and key differ in width (the last axis)"))
    if k.shape[-2] != v.shape[-2]:
        raise ShapeError(located(f"{shapes}: key and value differ in length (axis -2)"))
    if q.dtype != k.dtype or q.dtype != v.dtype:
        raise DTypeError(located(f"{_NAME}: query, key and value are {q.dtype}, {k.dtype} and {v.dtype}"))
    if grouped:
        heads = k.shape[-3]
        if heads != v.shape[-3] or not heads or q.shape[-3] % heads:
            raise ShapeError(
                located(f"{shapes}: the query's heads (axis -3) must be a multiple of the heads of key and value")
            )


@functools.lru_cache(maxsize=32)
def _causal_array(length: int, keys: int, dtype: np.dtype) -> np.ndarray:
    bias = np.triu(np.full((length, keys), -np.inf, dtype), 1)
    bias.flags.writeable = False
    return bias


def _causal_bias(length: int, keys: int, dtype: np.dtype) -> Tensor:
    return new_tensor(_causal_array(length, keys, dtype), None)


def _mask_bias(mask: Any, scores: Tensor) -> tuple[Tensor, Tensor]:
    """What to add to the scores, and which rows see any key.

    A row that sees none gets no bias: its softmax stays a number, and the caller sets its result to 0.
    """
    if not isinstance(mask, Tensor) or mask.dtype.kind not in "bf":
        raise DTypeError(located(f"{_NAME}: attn_mask holds booleans or floating numbers, got {_kind(mask)}"))
    if mask.dtype.kind == "f" and mask.dtype != scores.dtype:
        raise DTypeError(
            located(f"{_NAME}: attn_mask is {mask.dtype}, the query {scores.dtype}; convert it with astype")
        )
    try:
        fits = mask.ndim and np.broadcast_shapes(mask.shape, scores.shape) == scores.shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(
            located(f"{_NAME}: attn_mask of shape {mask.shape} does not broadcast to the scores' {scores.shape}")
        )
    zero, never = number(0.0, scores), number(-math.inf, scores)
    visible = mask if mask.dtype.kind == "b" else p.not_equal(mask, never)
    sees = reduce.any(visible, axis=(mask.ndim - 1,), keepdims=True)
    if mask.dtype.kind == "f":
        return p.where(sees, mask, zero), sees
    return p.where(p.logical_or(visible, p.logical_not(sees)), zero, never), sees


def _kind(mask: Any) -> str:
    return str(mask.dtype) if isinstance(mask, Tensor) else type(mask).__name__
