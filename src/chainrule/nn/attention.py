"""Multi-head attention and rotary positions as layers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.errors import DTypeError, ShapeError, located
from ..core.tensor import Tensor, new_tensor
from ..primitives import pointwise as p
from ..primitives.shape import broadcast_to, concat, pad, permute_dims, reshape
from . import functional as F
from . import init
from .functional.attention import attend
from .functional.common import mean, number, select, take
from .functional.rotary import apply_rotary, rotary_angles
from .linear import Linear, size_of
from .module import Module, in_module
from .parameter import Parameter, empty, parameter_dtype


class MultiheadAttention(Module):
    """Attention of several heads side by side (Vaswani et al. 2017): project, attend, join, project.

    Args:
        embed_dim: width E of queries and output; each head has E / num_heads of it.
        num_heads: number of heads, a divisor of E.
        dropout: probability with which attention weights are dropped in training.
        bias: whether the projections have biases (they start at 0).
        add_bias_kv: append a trained key and value to those of every sequence.
        add_zero_attn: append a key and a value of zeros.
        kdim, vdim: widths of keys and values; E if None.
        batch_first: inputs are (N, L, E) instead of (L, N, E).

    Shapes: in_proj_weight (3E, E) holds the projections of query, key and value one below the
    other; with kdim or vdim there are q_proj_weight (E, E), k_proj_weight (E, kdim) and
    v_proj_weight (E, vdim) instead. All start Xavier uniform.

    Raises:
        ShapeError: embed_dim is no multiple of num_heads.
    """

    in_proj_weight: Parameter | None
    q_proj_weight: Parameter | None
    k_proj_weight: Parameter | None
    v_proj_weight: Parameter | None
    in_proj_bias: Parameter | None
    bias_k: Parameter | None
    bias_v: Parameter | None

    def __init__(
        self, embed_dim: int, num_heads: int, dropout: float = 0.0, bias: bool = True, add_bias_kv: bool = False,
        add_zero_attn: bool = False, kdim: int | None = None, vdim: int | None = None, batch_first: bool = False,
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        kind = parameter_dtype(device, dtype)
        self.embed_dim, self.num_heads = size_of("embed_dim", embed_dim), size_of("num_heads", num_heads)
        if not num_heads or not embed_dim or embed_dim % num_heads:
            raise ShapeError(
                located(f"MultiheadAttention: embed_dim {embed_dim} is not divisible by num_heads {num_heads}")
            )
        self.kdim = embed_dim if kdim is None else size_of("kdim", kdim)
        self.vdim = embed_dim if vdim is None else size_of("vdim", vdim)
        self.dropout, self.batch_first, self.add_zero_attn = dropout, batch_first, add_zero_attn
        self.head_dim = embed_dim // num_heads
        packed = self.kdim == embed_dim and self.vdim == embed_dim
        self.in_proj_weight = empty((3 * embed_dim, embed_dim), kind) if packed else None
        self.q_proj_weight = None if packed else empty((embed_dim, embed_dim), kind)
        self.k_proj_weight = None if packed else empty((embed_dim, self.kdim), kind)
        self.v_proj_weight = None if packed else empty((embed_dim, self.vdim), kind)
        self.in_proj_bias = empty((3 * embed_dim,), kind) if bias else None
        self.out_proj = Linear(embed_dim, embed_dim, bias=bias, dtype=kind)
        self.bias_k = empty((1, 1, embed_dim), kind) if add_bias_kv else None
        self.bias_v = empty((1, 1, embed_dim), kind) if add_bias_kv else None
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for weight in (self.in_proj_weight, self.q_proj_weight, self.k_proj_weight, self.v_proj_weight):
            if weight is not None:
                init.xavier_uniform_(weight)
        for bias in (self.in_proj_bias, self.out_proj.bias):
            if bias is not None:
                init.zeros_(bias)
        for appended in (self.bias_k, self.bias_v):
            if appended is not None:
                init.xavier_normal_(appended)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend from each query to the keys.

        Args:
            query: shape (L, N, E), (N, L, E) if batch_first, or (L, E) without a batch.
            key, value: shapes (S, N, kdim) and (S, N, vdim), in the query's layout.
            key_padding_mask: shape (N, S), or (S,). Booleans: True hides a key, the opposite of
                `scaled_dot_product_attention`. Numbers are added to the scores.
            need_weights: also return the attention weights.
            attn_mask: shape (L, S) or (N · heads, L, S), of the same meaning.
            average_attn_weights: the mean of the weights over the heads, not each head's.
            is_causal: attn_mask is causal; without one, query i sees the keys 0 … i.

        Returns:
            The output, in the query's layout, and the weights (N, L, S), (N, heads, L, S) for
            each head, or None. A query that sees no key has weights 0.
        """
        try:
            return self._attend(
                query, key, value, key_padding_mask, need_weights, attn_mask, average_attn_weights, is_causal
            )
        except (ShapeError, DTypeError) as error:
            raise error if hasattr(error, "module_path") else in_module(self, error) from None

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, padding: Tensor | None, need_weights: bool,
        mask: Tensor | None, average: bool, is_causal: bool,
    ) -> tuple[Tensor, Tensor | None]:  # fmt: skip
        batched = self._check(query, key, value)
        batch_axis = 0 if self.batch_first and batched else 1
        q, k, v = (self._heads(x, batched, batch_axis) for x in self._project(query, key, value))
        batch, length = q.shape[0], q.shape[2]
        if not batched and padding is not None:
            padding = reshape(padding, shape=(1, *padding.shape))
        hidden = self._merged(mask, padding, (batch, length, k.shape[2]), is_causal, q)
        k, v = self._appended(k, self.bias_k), self._appended(v, self.bias_v)
        added = k.shape[2] - key.shape[0 if batch_axis else 1]
        if hidden is not None and added:
            widths = (*((0, 0),) * (hidden.ndim - 1), (0, added))
            hidden = pad(hidden, widths=widths)
        if hidden is not None and hidden.dtype.kind == "b":
            hidden = p.logical_not(hidden)
        causal = is_causal and hidden is None
        out, weights, sees = attend(q, k, v, hidden, self.dropout if self.training else 0.0, causal)
        out = self.out_proj(self._joined(out, batched, batch_axis))
        if not need_weights:
            return out, None
        if sees is not None:
            weights = select(sees, weights, 0.0, weights)
        if average:
            weights = mean(weights, (1,))
        return out, weights if batched else reshape(weights, shape=weights.shape[1:])

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> bool:
        given = f"query {query.shape}, key {key.shape} and value {value.shape}"
        if query.ndim not in (2, 3) or not query.ndim == key.ndim == value.ndim:
            raise ShapeError(located(f"{given} must all have 3 axes, or 2 without a batch"))
        widths = (self.embed_dim, self.kdim, self.vdim)
        if (query.shape[-1], key.shape[-1], value.shape[-1]) != widths:
            raise ShapeError(located(f"{given} must have widths {widths} (the last axis)"))
        batch = -1 if query.ndim == 2 else (0 if self.batch_first else 1)
        if key.shape[:-1] != value.shape[:-1] or (batch >= 0 and query.shape[batch] != key.shape[batch]):
            raise ShapeError(located(f"{given} must agree in batch, key and value also in length"))
        return query.ndim == 3

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> list[Tensor]:
        """Queries, keys and values of all heads; one of shape (…, 3E) for all of them where the inputs are one."""
        weight, bias, width = self.in_proj_weight, self.in_proj_bias, self.embed_dim
        biases = [None] * 3 if bias is None else [take(bias, 0, i * width, (i + 1) * width) for i in range(3)]
        if weight is None:
            weights: list[Any] = [self.q_proj_weight, self.k_proj_weight, self.v_proj_weight]
        elif query is key and key is value:
            whole = F.linear(query, weight, bias)
            return [take(whole, whole.ndim - 1, i * width, (i + 1) * width) for i in range(3)]
        else:
            weights = [take(weight, 0, i * width, (i + 1) * width) for i in range(3)]
        return [F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)]

    def _heads(self, x: Tensor, batched: bool, batch_axis: int) -> Tensor:
        """(…, E) as (N, heads, L, E / heads)."""
        shape = x.shape if batched else (x.shape[0], 1, x.shape[1])
        split = reshape(x, shape=(*shape[:2], self.num_heads, self.head_dim))
        return permute_dims(split, axes=(1, 2, 0, 3) if batch_axis else (0, 2, 1, 3))

    def _joined(self, out: Tensor, batched: bool, batch_axis: int) -> Tensor:
        """(N, heads, L, E / heads) as the query was laid out."""
        turned = permute_dims(out, axes=(2, 0, 1, 3) if batch_axis else (0, 2, 1, 3))
        front = turned.shape[:2] if batched else turned.shape[:1]
        return reshape(turned, shape=(*front, self.embed_dim))

    def _appended(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Keys or values with the trained one and the one of zeros behind them."""
        batch, heads, _, width = x.shape
        if bias is not None:
            row = reshape(bias, shape=(1, heads, 1, width))
            x = concat(x, broadcast_to(row, shape=(batch, heads, 1, width)), axis=2)
        return pad(x, widths=((0, 0), (0, 0), (0, 1), (0, 0))) if self.add_zero_attn else x

    def _merged(
        self, mask: Tensor | None, padding: Tensor | None, sizes: tuple[int, int, int], is_causal: bool, like: Tensor
    ) -> Tensor | None:
        """Both masks as one that broadcasts to (N, heads, L, S): what is hidden, or what is added."""
        batch, length, keys = sizes
        if mask is None and is_causal and (padding is not None or self._appends):
            mask = new_tensor(np.triu(np.ones((length, keys), np.bool_), 1), None)
        if mask is not None:
            if mask.shape == (batch * self.num_heads, length, keys):
                mask = reshape(mask, shape=(batch, self.num_heads, length, keys))
            elif mask.shape != (length, keys):
                raise ShapeError(
                    located(
                        f"attn_mask of shape {mask.shape} must be {(length, keys)} or "
                        f"{(batch * self.num_heads, length, keys)}"
                    )
                )
        if padding is None:
            return mask
        if padding.shape != (batch, keys):
            raise ShapeError(located(f"key_padding_mask of shape {padding.shape} must be {(batch, keys)}"))
        padding = reshape(padding, shape=(batch, 1, 1, keys))
        if mask is None:
            return padding
        if mask.dtype.kind == padding.dtype.kind == "b":
            return p.logical_or(mask, padding)
        zero, never = number(0.0, like), number(-np.inf, like)
        added = [m if m.dtype.kind != "b" else p.where(m, never, zero) for m in (mask, padding)]
        return p.add(*added)

    @property
    def _appends(self) -> bool:
        return self.bias_k is not None or self.add_zero_attn

    def extra_repr(self) -> str:
        return f"embed_dim={self.embed_dim}, num_heads={self.num_heads}, batch_first={self.batch_first}"


class RotaryEmbedding(Module):
    """Turn queries or keys by angles that grow with their positions (Su et al. 2021).

    Args:
        dim: even width D of a head.
        base: the slowest pair turns by about 1 / base radians a position.
        interleaved: pairs are (x[2i], x[2i + 1]), as in RoFormer and GGUF files of Llama, instead
            of (x[i], x[i + D/2]), as in GPT-NeoX and in Llama's checkpoints at Hugging Face.

    There are no parameters. Formula: `nn.functional.rotary`.
    """

    def __init__(self, dim: int, base: float = 10000.0, interleaved: bool = False) -> None:
        self.dim, self.base, self.interleaved = size_of("dim", dim), float(base), interleaved
        if not dim or dim % 2:
            raise ShapeError(located(f"RotaryEmbedding: dim {dim} must be even and positive"))

    def forward(self, input: Tensor, positions: Tensor | None = None) -> Tensor:
        """The turned vectors.

        Args:
            input: shape (…, T, dim).
            positions: integers that broadcast to (…, T), such as `offset + arange(T)` behind cached
                keys; 0 … T - 1 if None.
        """
        at = input.shape[-2] if positions is None and input.ndim > 1 else positions
        cos, sin = rotary_angles(0 if at is None else at, self.dim, self.base, input.dtype)
        return apply_rotary(input, cos, sin, self.interleaved)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, base={self.base:g}, interleaved={self.interleaved}"
