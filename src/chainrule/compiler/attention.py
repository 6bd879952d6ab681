"""Primitives that only the compiler makes: attention of blocks of queries and keys, and its gradients.

`passes.attention` puts them in the place of products and softmax, and `code.attention` never has all
scores in memory (Dao et al., "FlashAttention", 2022; Rabe and Staats, "Self-attention does not need O(n²) memory",
2021). Their NumPy values here have.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.node import ShapeDtype
from ..core.primitive import Primitive


def placed(x: np.ndarray) -> np.ndarray:
    """(…, heads, length, width) in memory as (…, length, heads, width), as whoever joins heads wants it."""
    return np.ascontiguousarray(np.swapaxes(x, -3, -2))


def causal_bias(queries: int, keys: int, dtype: Any) -> np.ndarray:
    """What is added to the scores so that query i sees the keys 0 … i."""
    return np.triu(np.full((queries, keys), -np.inf, dtype), 1)


def _scores(q: np.ndarray, k: np.ndarray, bias: tuple[np.ndarray, ...], scale: float, is_causal: bool) -> np.ndarray:
    scores = (q * q.dtype.type(scale)) @ np.swapaxes(k, -1, -2)
    if is_causal:
        scores = scores + causal_bias(scores.shape[-2], scores.shape[-1], scores.dtype)
    return scores + bias[0] if bias else scores


def _attention(q: np.ndarray, k: np.ndarray, v: np.ndarray, *bias: np.ndarray, scale: float, is_causal: bool) -> Any:
    scores = _scores(q, k, bias, scale, is_causal)
    largest = scores.max(-1, keepdims=True)
    weights = np.exp(scores - largest)
    inverse = 1 / weights.sum(-1, keepdims=True)
    return placed(weights @ v * inverse), largest[..., 0], inverse[..., 0]


def _attention_rule(q: Any, k: Any, v: Any, *_bias: Any, **_params: Any) -> Any:
    *batch, heads, length, _ = q.shape
    rows = ShapeDtype((*batch, heads, length), q.dtype)
    return ShapeDtype((*batch, length, heads, v.shape[-1]), q.dtype), rows, rows


def _gradient(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, y: np.ndarray, largest: np.ndarray, inverse: np.ndarray,
    g: np.ndarray, *bias: np.ndarray, scale: float, is_causal: bool,
) -> Any:  # fmt: skip
    scores = _scores(q, k, bias, scale, is_causal)
    weights = np.exp(scores - largest[..., None]) * inverse[..., None]
    along = (g * np.swapaxes(y, -3, -2)).sum(-1, keepdims=True)
    cotangents = weights * (g @ np.swapaxes(v, -1, -2) - along)
    dk = np.swapaxes(cotangents, -1, -2) @ (q * q.dtype.type(scale))
    return placed(cotangents @ k), placed(dk), placed(np.swapaxes(weights, -1, -2) @ g)


def _gradient_rule(q: Any, k: Any, v: Any, *_: Any, **_params: Any) -> Any:
    return tuple(ShapeDtype((*x.shape[:-3], x.shape[-2], x.shape[-3], x.shape[-1]), x.dtype) for x in (q, k, v))


ATTENTION = Primitive(
    "attention", _attention, abstract=_attention_rule, outputs=3, registered=False,
    doc="softmax(scale · q kᵀ + bias) v, placed, and for each query the largest score and one over the sum.",
)  # fmt: skip
ATTENTION_GRADIENT = Primitive(
    "attention_gradient", _gradient, abstract=_gradient_rule, outputs=3, registered=False,
    doc="From q, k, v, what `attention` gave, a cotangent and the bias: those of scale · q, k and v, placed.",
)  # fmt: skip
OWN = {primitive.name: primitive for primitive in (ATTENTION, ATTENTION_GRADIENT)}
"""The compiler's own primitives by name."""
