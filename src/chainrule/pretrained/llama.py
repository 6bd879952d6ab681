"""Language models of the Llama type (Touvron et al. 2023, arXiv:2302.13971): SmolLM2, TinyLlama, Llama 2 and others.

A decoder-only transformer with RMSNorm before each part, rotary positions, grouped-query
attention and a gated feed-forward part. Names of modules, and so the keys of the state dict,
are those of the checkpoints that Hugging Face's `transformers` writes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import func, nn
from ..array.creation import arange, ones, tril
from ..core.errors import OperationError, located
from ..core.tensor import Tensor, new_tensor
from ..nn import functional as F
from ..nn.functional.rotary import apply_rotary, rotary_angles

_MOST = {"vocab_size": 2**22, "num_hidden_layers": 1024, "num_attention_heads": 2**12}
_MOST_OTHERS = 2**20


@dataclass(frozen=True)
class LlamaConfig:
    """The sizes of a model, under the names of `config.json`.

    Raises:
        OperationError: a size is not positive or beyond all reason, or the sizes contradict each other.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    tie_word_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False

    def __post_init__(self) -> None:
        for name, kind in LlamaConfig.__annotations__.items():
            value = getattr(self, name)
            if kind == "int" and (type(value) is not int or not 1 <= value <= _MOST.get(name, _MOST_OTHERS)):
                raise OperationError(f"{name} is {value!r}, which no model of this kind has")
        if self.num_attention_heads % self.num_key_value_heads or self.head_dim % 2:
            raise OperationError(
                f"{self.num_attention_heads} heads of {self.head_dim} with {self.num_key_value_heads} heads of keys: "
                "heads must be a multiple of heads of keys, and their width even"
            )
        if not (self.rms_norm_eps > 0 and self.rope_theta > 0):
            raise OperationError(
                f"rms_norm_eps {self.rms_norm_eps!r} and rope_theta {self.rope_theta!r} must be positive"
            )

    @property
    def weights(self) -> int:
        """How many numbers the model has, biases aside."""
        attention = 2 * (self.num_attention_heads + self.num_key_value_heads) * self.head_dim * self.hidden_size
        layer = attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size
        embeddings = (1 if self.tie_word_embeddings else 2) * self.vocab_size * self.hidden_size
        return self.num_hidden_layers * layer + embeddings + self.hidden_size


class LayerCache:
    """Keys and values of one layer for the positions read so far.

    The arrays have room to grow; what tensors have seen of them is never written again.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.length = 0
        self.arrays = np.zeros(shape, np.float32), np.zeros(shape, np.float32)

    def reserve(self, positions: int) -> None:
        """Have room for so many positions."""
        room = self.arrays[0].shape[-2]
        if positions > room:
            grown = ((0, 0), (0, 0), (0, positions - room), (0, 0))
            self.arrays = np.pad(self.arrays[0], grown), np.pad(self.arrays[1], grown)

    def extend(self, keys: Any, values: Any) -> tuple[Tensor, Tensor]:
        """All keys and values, of shape (batch, heads, positions, width), with new ones at the end."""
        start, self.length = self.length, self.length + keys.shape[-2]
        room = self.arrays[0].shape[-2]
        if self.length > room:
            self.reserve(max(self.length, 2 * room, 64))
        for array, new in zip(self.arrays, (keys, values), strict=True):
            array[:, :, start : self.length] = new.numpy()
        k, v = (new_tensor(array[:, :, : self.length], None) for array in self.arrays)
        return k, v


class Cache:
    """What a model has read so far, so that a new token costs one position. Not for training."""

    def __init__(self, config: LlamaConfig, batch: int = 1) -> None:
        shape = (batch, config.num_key_value_heads, 0, config.head_dim)
        self.layers = [LayerCache(shape) for _ in range(config.num_hidden_layers)]

    @property
    def length(self) -> int:
        """How many positions."""
        return self.layers[0].length

    def reserve(self, positions: int) -> None:
        """Have room for so many positions: the next power of two."""
        for layer in self.layers:
            layer.reserve(max(64, 1 << (positions - 1).bit_length()))

    def place(self, config: LlamaConfig, length: int) -> Place:
        """Where `length` new positions are."""
        return place_after(config, length, self.length)


class Attention(nn.Module):
    """Attention in which groups of query heads share keys and values (Ainslie et al. 2023)."""

    def __init__(self, config: LlamaConfig) -> None:
        self.head_dim = config.head_dim
        queries, keys = (n * config.head_dim for n in (config.num_attention_heads, config.num_key_value_heads))
        self.q_proj = nn.Linear(config.hidden_size, queries, bias=config.attention_bias)
        self.k_proj = nn.Linear(config.hidden_size, keys, bias=config.attention_bias)
        self.v_proj = nn.Linear(config.hidden_size, keys, bias=config.attention_bias)
        self.o_proj = nn.Linear(queries, config.hidden_size, bias=config.attention_bias)

    def forward(self, x: Tensor, place: Place, past: Any = None) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = (
            project(x).reshape(batch, length, -1, self.head_dim).permute(0, 2, 1, 3)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = apply_rotary(q, place.cos, place.sin), apply_rotary(k, place.cos, place.sin)
        if past is not None:
            k, v = past.extend(k, v)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=place.mask, is_causal=place.is_causal, enable_gqa=True)
        return self.o_proj(out.permute(0, 2, 1, 3).reshape(batch, length, -1))


class MLP(nn.Module):
    """down(silu(gate(x)) * up(x)) (Shazeer 2020, "GLU variants improve transformer")."""

    def __init__(self, config: LlamaConfig) -> None:
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=config.mlp_bias)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=config.mlp_bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, config: LlamaConfig) -> None:
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, place: Place, past: Any = None) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), place, past)
        return x + self.mlp(self.post_attention_layernorm(x))


class Decoder(nn.Module):
    """Token numbers (batch, length) to vectors (batch, length, hidden_size)."""

    def __init__(self, config: LlamaConfig) -> None:
        self.config = config
        self.checkpointed = False
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([Layer(config) for _ in range(config.num_hidden_layers)])
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(self, tokens: Tensor, cache: Any = None) -> Tensor:
        length = tokens.shape[1]
        place = place_after(self.config, length, 0) if cache is None else cache.place(self.config, length)
        x = self.embed_tokens(tokens)
        for number, layer in enumerate(self.layers):
            if cache is not None:
                x = layer(x, place, cache.layers[number])
            else:
                x = func.checkpoint(layer, x, place) if self.checkpointed else layer(x, place)
        return self.norm(x)


@dataclass(frozen=True)
class Place:
    """What all layers share in one pass over some positions: angles, and who sees whom."""

    cos: Tensor
    sin: Tensor
    mask: Tensor | None = None
    is_causal: bool = False


def place_after(config: LlamaConfig, length: int, start: int) -> Place:
    """The place of `length` positions from `start` on.

    Raises:
        OperationError: the model was made for fewer.
    """
    end = start + length
    if end > config.max_position_embeddings:
        raise OperationError(
            located(f"{end} tokens are more than the {config.max_position_embeddings} the model was made for")
        )
    cos, sin = rotary_angles(arange(start, end) if start else length, config.head_dim, config.rope_theta)
    mask = tril(ones((length, end), dtype=bool), k=start) if length > 1 and start else None
    return Place(cos, sin, mask, length > 1 and not start)


class Llama(nn.Module):
    """Token numbers (batch, length) to the scores (batch, length, vocab_size) of the token that follows each.

    Attributes:
        model.checkpointed: compute each layer again in the backward pass instead of keeping its values.
    """

    def __init__(self, config: LlamaConfig) -> None:
        self.config = config
        self.model = Decoder(config)
        self.lm_head = None if config.tie_word_embeddings else nn.Linear(config.hidden_size, config.vocab_size, False)

    def forward(self, tokens: Tensor, cache: Cache | None = None) -> Tensor:
        return self.scores(self.model(tokens, cache))

    def scores(self, hidden: Tensor) -> Tensor:
        """The last step: scores from the decoder's vectors."""
        return F.linear(hidden, self.model.embed_tokens.weight) if self.lm_head is None else self.lm_head(hidden)

    def next_scores(self, tokens: Any, cache: Cache) -> np.ndarray:
        """Scores (batch, vocab_size) of the token after the last one; the cache holds those before and takes these."""
        return self.scores(self.model(tokens, cache)[:, -1]).numpy()
