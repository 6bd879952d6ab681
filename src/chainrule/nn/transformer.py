"""The transformer of Vaswani et al. (2017): layers of encoder and decoder, stacks of them, and both together."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.errors import OperationError, ShapeError, located
from ..core.tensor import Tensor, new_tensor
from . import functional as F
from . import init
from .attention import MultiheadAttention
from .containers import ModuleList
from .dropout import Dropout
from .linear import Linear
from .module import Module
from .normalization import LayerNorm
from .parameter import parameter_dtype

Activation = str | Callable[[Tensor], Tensor]


def _activation(given: Activation) -> Callable[[Tensor], Tensor]:
    if callable(given):
        return given
    named: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}
    if given not in named:
        raise OperationError(located(f"activation is 'relu', 'gelu' or a function, got {given!r}"))
    return named[given]


class TransformerEncoderLayer(Module):
    """Self-attention and a two-layer perceptron, each with a residual connection and a layer norm.

    Args:
        d_model: width E of the sequence.
        nhead: number of attention heads, a divisor of E.
        dim_feedforward: width of the perceptron's hidden layer.
        dropout: probability, for attention weights, hidden layer and both residual branches.
        activation: of the hidden layer: "relu", "gelu" or a function.
        layer_norm_eps: added to the variance.
        batch_first: sequences are (N, L, E) instead of (L, N, E).
        norm_first: normalise the input of each branch (x + f(norm(x))) instead of the sum (norm(x + f(x))).
        bias: whether linear layers and norms have biases.
    """

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
        activation: Activation = F.relu, layer_norm_eps: float = 1e-5, batch_first: bool = False,
        norm_first: bool = False, bias: bool = True, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        kind = parameter_dtype(device, dtype)
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=kind)
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype=kind)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype=kind)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=kind)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=kind)
        self.dropout1, self.dropout2 = Dropout(dropout), Dropout(dropout)
        self.activation = _activation(activation)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """The sequence, transformed; masks as in `MultiheadAttention`."""

        def attention(x: Tensor) -> Tensor:
            found, _ = self.self_attn(x, x, x, src_key_padding_mask, False, src_mask, is_causal=is_causal)
            return self.dropout1(found)

        def perceptron(x: Tensor) -> Tensor:
            return self.dropout2(self.linear2(self.dropout(self.activation(self.linear1(x)))))

        if self.norm_first:
            x = src + attention(self.norm1(src))
            return x + perceptron(self.norm2(x))
        x = self.norm1(src + attention(src))
        return self.norm2(x + perceptron(x))


class TransformerDecoderLayer(Module):
    """Self-attention, attention to the encoder's output and a two-layer perceptron.

    Each of the three has a residual connection and a layer norm. Arguments of
    `TransformerEncoderLayer`.
    """

    def __init__(
        self, d_model: int, nhead: int, dim_feedforward: int = 2048, dropout: float = 0.1,
        activation: Activation = F.relu, layer_norm_eps: float = 1e-5, batch_first: bool = False,
        norm_first: bool = False, bias: bool = True, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        kind = parameter_dtype(device, dtype)
        self.self_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=kind)
        self.multihead_attn = MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, dtype=kind)
        self.linear1 = Linear(d_model, dim_feedforward, bias, dtype=kind)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, dtype=kind)
        self.norm_first = norm_first
        self.norm1 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=kind)
        self.norm2 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=kind)
        self.norm3 = LayerNorm(d_model, layer_norm_eps, bias=bias, dtype=kind)
        self.dropout1, self.dropout2, self.dropout3 = Dropout(dropout), Dropout(dropout), Dropout(dropout)
        self.activation = _activation(activation)

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The sequence `tgt`, transformed with a view of the encoder's output `memory`."""

        def attention(x: Tensor) -> Tensor:
            found, _ = self.self_attn(x, x, x, tgt_key_padding_mask, False, tgt_mask, is_causal=tgt_is_causal)
            return self.dropout1(found)

        def to_memory(x: Tensor) -> Tensor:
            found, _ = self.multihead_attn(
                x, memory, memory, memory_key_padding_mask, False, memory_mask, is_causal=memory_is_causal
            )
            return self.dropout2(found)

        def perceptron(x: Tensor) -> Tensor:
            return self.dropout3(self.linear2(self.dropout(self.activation(self.linear1(x)))))

        if self.norm_first:
            x = tgt + attention(self.norm1(tgt))
            x = x + to_memory(self.norm2(x))
            return x + perceptron(self.norm3(x))
        x = self.norm1(tgt + attention(tgt))
        x = self.norm2(x + to_memory(x))
        return self.norm3(x + perceptron(x))


class TransformerEncoder(Module):
    """A stack of copies of one encoder layer, and a norm behind it.

    Args:
        encoder_layer: copied num_layers times, weights included: reset them where the layers
            should start apart.
        num_layers: number of copies.
        norm: applied to the result.
        enable_nested_tensor, mask_check: accepted for compatibility; padding is always masked.
    """

    norm: Module | None

    def __init__(
        self, encoder_layer: Module, num_layers: int, norm: Module | None = None,
        enable_nested_tensor: bool = True, mask_check: bool = True,
    ) -> None:  # fmt: skip
        self.layers = ModuleList([copy.deepcopy(encoder_layer) for _ in range(num_layers)])
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """The sequence, transformed by each layer in turn."""
        x = src
        for layer in self.layers:
            x = layer(x, src_mask=mask, src_key_padding_mask=src_key_padding_mask, is_causal=bool(is_causal))
        return x if self.norm is None else self.norm(x)


class TransformerDecoder(Module):
    """A stack of copies of one decoder layer, and a norm behind it; arguments of `TransformerEncoder`."""

    norm: Module | None

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        self.layers = ModuleList([copy.deepcopy(decoder_layer) for _ in range(num_layers)])
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The sequence `tgt`, transformed by each layer in turn."""
        x = tgt
        for layer in self.layers:
            x = layer(
                x, memory, tgt_mask=tgt_mask, memory_mask=memory_mask, tgt_key_padding_mask=tgt_key_padding_mask,
                memory_key_padding_mask=memory_key_padding_mask, tgt_is_causal=bool(tgt_is_causal),
                memory_is_causal=memory_is_causal,
            )  # fmt: skip
        return x if self.norm is None else self.norm(x)


class Transformer(Module):
    """Encoder and decoder together, for sequences of vectors; all weight matrices start Xavier uniform.

    Args:
        num_encoder_layers, num_decoder_layers: depths of the two stacks.
        custom_encoder, custom_decoder: modules to use in their place.

    The other arguments are those of `TransformerEncoderLayer`.
    """

    def __init__(
        self, d_model: int = 512, nhead: int = 8, num_encoder_layers: int = 6, num_decoder_layers: int = 6,
        dim_feedforward: int = 2048, dropout: float = 0.1, activation: Activation = F.relu,
        custom_encoder: Any = None, custom_decoder: Any = None, layer_norm_eps: float = 1e-5,
        batch_first: bool = False, norm_first: bool = False, bias: bool = True, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        shared: Any = (
            d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias,
            device, dtype,
        )  # fmt: skip

        def norm() -> LayerNorm:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, device=device, dtype=dtype)

        self.encoder = custom_encoder or TransformerEncoder(
            TransformerEncoderLayer(*shared), num_encoder_layers, norm()
        )
        self.decoder = custom_decoder or TransformerDecoder(
            TransformerDecoderLayer(*shared), num_decoder_layers, norm()
        )
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter)

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Encode `src`, decode `tgt` with a view of it.

        Args:
            src: shape (S, N, E), (N, S, E) if batch_first, or (S, E).
            tgt: shape (T, N, E), in the same layout.

        Masks are those of `MultiheadAttention`.

        Raises:
            ShapeError: widths or batches differ.
        """
        batch = 0 if self.batch_first else 1
        if src.ndim == 3 == tgt.ndim and src.shape[batch] != tgt.shape[batch]:
            raise ShapeError(located(f"Transformer: src {src.shape} and tgt {tgt.shape} differ in batch"))
        if {src.shape[-1], tgt.shape[-1]} != {self.d_model}:
            raise ShapeError(
                located(f"Transformer: src {src.shape} and tgt {tgt.shape} must have width {self.d_model}")
            )
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        return self.decoder(
            tgt, memory, tgt_mask, memory_mask, tgt_key_padding_mask, memory_key_padding_mask, tgt_is_causal,
            memory_is_causal,
        )  # fmt: skip

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Tensor:
        """The causal mask as numbers to add: 0 on and below the diagonal, -∞ above; shape (sz, sz)."""
        return new_tensor(np.triu(np.full((sz, sz), -np.inf, parameter_dtype(device, dtype)), 1), None)
