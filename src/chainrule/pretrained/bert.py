"""Encoders of the BERT type (Devlin et al. 2019, arXiv:1810.04805), and sentence embeddings from them.

Names of modules, and so the keys of the state dict, are those of the checkpoints that Hugging
Face's `transformers` writes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import nn
from ..core.autodiff import no_grad
from ..core.errors import DataError, OperationError
from ..core.tensor import Tensor
from ..data.packages import require_package
from ..interop import open_safetensors, read_tokenizer
from ..interop.text_files import read_json
from ..nn import functional as F
from ..train.compiling import compiled_if
from .weights import load_weights

if TYPE_CHECKING:
    import tokenizers


@dataclass(frozen=True)
class BertConfig:
    """The sizes of an encoder, under the names of `config.json`."""

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0

    def __post_init__(self) -> None:
        for name, kind in BertConfig.__annotations__.items():
            value = getattr(self, name)
            if kind == "int" and (type(value) is not int or not 1 <= value <= 2**20):
                raise OperationError(f"{name} is {value!r}, which no encoder has")
        pad = self.pad_token_id
        if pad is not None and not (type(pad) is int and 0 <= pad < self.vocab_size):
            raise OperationError(f"pad_token_id is {pad!r}, which is no token")
        if self.hidden_size % self.num_attention_heads:
            raise OperationError(
                f"a width of {self.hidden_size} cannot be divided among {self.num_attention_heads} heads"
            )

    @property
    def weights(self) -> int:
        """How many numbers the encoder has."""
        d, m = self.hidden_size, self.intermediate_size
        layer = 4 * (d * d + d) + 2 * d * m + m + d + 4 * d
        return (
            self.vocab_size + self.max_position_embeddings + self.type_vocab_size + 2
        ) * d + self.num_hidden_layers * layer


class Embeddings(nn.Module):
    """Each token's vector, its position's and its segment's, added and normalised."""

    def __init__(self, config: BertConfig) -> None:
        self.word_embeddings = nn.Embedding(config.vocab_size, config.hidden_size, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, config.hidden_size)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = self.position_embeddings.weight[: tokens.shape[1]]
        return self.LayerNorm(self.word_embeddings(tokens) + positions + self.token_type_embeddings.weight[0])


class SelfAttention(nn.Module):
    """Attention of every token to every real token, several heads side by side."""

    def __init__(self, config: BertConfig) -> None:
        self.heads = config.num_attention_heads
        self.query, self.key, self.value = (nn.Linear(config.hidden_size, config.hidden_size) for _ in range(3))

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = (
            project(x).reshape(batch, length, self.heads, -1).permute(0, 2, 1, 3)
            for project in (self.query, self.key, self.value)
        )
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=real)
        return out.permute(0, 2, 1, 3).reshape(batch, length, width)


class Output(nn.Module):
    """norm(x + dense(y))."""

    def __init__(self, config: BertConfig, width: int) -> None:
        self.dense = nn.Linear(width, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def forward(self, y: Tensor, x: Tensor) -> Tensor:
        return self.LayerNorm(x + self.dense(y))


class Attention(nn.Module):
    """norm(x + dense(attention(x)))."""

    def __init__(self, config: BertConfig) -> None:
        self.self = SelfAttention(config)
        self.output = Output(config, config.hidden_size)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        return self.output(self.self(x, real), x)


class Intermediate(nn.Module):
    """gelu(dense(x))."""

    def __init__(self, config: BertConfig) -> None:
        self.dense = nn.Linear(config.hidden_size, config.intermediate_size)

    def forward(self, x: Tensor) -> Tensor:
        return F.gelu(self.dense(x))


class Layer(nn.Module):
    """Attention, then norm(x + dense(gelu(dense(x))))."""

    def __init__(self, config: BertConfig) -> None:
        self.attention = Attention(config)
        self.intermediate = Intermediate(config)
        self.output = Output(config, config.intermediate_size)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        x = self.attention(x, real)
        return self.output(self.intermediate(x), x)


class Encoder(nn.Module):
    """All layers, one after the other."""

    def __init__(self, config: BertConfig) -> None:
        self.layer = nn.ModuleList([Layer(config) for _ in range(config.num_hidden_layers)])

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        for layer in self.layer:
            x = layer(x, real)
        return x


class Bert(nn.Module):
    """Token numbers (batch, length) and which are real, not padding, to vectors (batch, length, hidden_size)."""

    def __init__(self, config: BertConfig) -> None:
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)

    def forward(self, tokens: Tensor, real: Tensor) -> Tensor:
        return self.encoder(self.embeddings(tokens), real.reshape(real.shape[0], 1, 1, real.shape[1]))


@dataclass(frozen=True)
class SentenceEncoder:
    """Sentences to vectors of length 1, whose products are cosines.

    Attributes:
        model: in evaluation mode.
        tokenizer: text to token numbers.
        path: where it was read from.
    """

    model: Bert
    tokenizer: tokenizers.Tokenizer
    path: Path

    def encode(self, sentences: Sequence[str], batch_size: int = 32) -> np.ndarray:
        """The mean of each sentence's token vectors, scaled to length 1: float32 (sentences, hidden_size).

        A sentence longer than the model's context (256 tokens for MiniLM in use) is cut off.
        """
        rows = [self._batch(sentences[i : i + batch_size]) for i in range(0, len(sentences), batch_size)]
        return np.concatenate(rows) if rows else np.zeros((0, self.model.config.hidden_size), np.float32)

    def _batch(self, sentences: Sequence[str]) -> np.ndarray:
        encoded = self.tokenizer.encode_batch(list(sentences))
        tokens, real = np.array([e.ids for e in encoded]), np.array([e.attention_mask for e in encoded]).astype(bool)
        with no_grad():
            vectors = self.model(Tensor(tokens), Tensor(real)).numpy()
        mean = (vectors * real[..., None]).sum(1) / real.sum(1, keepdims=True, dtype=np.float32)
        return mean / np.linalg.norm(mean, axis=1, keepdims=True)


def load_sentence_encoder(folder: str | os.PathLike[str] | None = None, *, compile: bool = False) -> SentenceEncoder:
    """A sentence encoder of the BERT type that averages token vectors, such as all-MiniLM-L6-v2.

    Args:
        folder: with config.json, model.safetensors and tokenizer.json; all-MiniLM-L6-v2, as
            `chainrule data minilm` gets it, if None.
        compile: compile the model; batches are then padded to a multiple of 16 tokens (or of what divides
            16 and the context), so that few programs serve all.

    Raises:
        DataError: a file is missing, damaged, or of another kind of model.
        MissingExtra: the tokeniser's library is not installed.
    """
    place = require_package("minilm") if folder is None else Path(folder).expanduser()
    config = bert_config(read_json(place / "config.json"), place)
    model = load_weights(
        lambda: Bert(config), config.weights, open_safetensors(place), place, r"pooler\..*|.*position_ids"
    )
    tokenizer = read_tokenizer(place)
    context = min(256, config.max_position_embeddings)
    tokenizer.enable_truncation(context)
    tokenizer.enable_padding(pad_to_multiple_of=math.gcd(16, context) if compile else None)
    return SentenceEncoder(compiled_if(compile, model), tokenizer, place)


def bert_config(values: dict[str, Any], path: Path) -> BertConfig:
    """The sizes that a `config.json` states.

    Raises:
        DataError: an entry is missing or wrong, or the model is of another kind.
    """
    usual = {"model_type": "bert", "hidden_act": "gelu", "position_embedding_type": "absolute"}
    for name, value in usual.items():
        if values.get(name, "" if name == "model_type" else value) != value:
            raise DataError(f"{path}: config.json states {name} {values.get(name)!r}, this reads {value!r}")
    try:
        sizes = {name: values[name] for name, kind in BertConfig.__annotations__.items() if kind == "int"}
        eps = float(values.get("layer_norm_eps", 1e-12))
        return BertConfig(**sizes, layer_norm_eps=eps, pad_token_id=values.get("pad_token_id", 0))
    except KeyError as error:
        raise DataError(f"{path}: config.json lacks {error}") from error
    except (OperationError, TypeError, ValueError) as error:
        raise DataError(f"{path}: config.json: {error}") from error
