"""Models of the Llama type from files: a GGUF file, or a folder with config.json and safetensors."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.errors import DataError, OperationError
from ..data.packages import PACKAGES, require_package
from ..interop import GGUFFile, TensorFile, gguf_tokenizer, open_safetensors, read_tokenizer
from ..interop.text_files import read_json, read_text
from ..interop.tokenizers import token_number
from .llama import Llama, LlamaConfig
from .weights import load_weights

if TYPE_CHECKING:
    import tokenizers

_OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_SURPLUS = r".*rotary_emb\.inv_freq|lm_head\.weight"
"""What some files hold besides: fixed tables, and a copy of embeddings that are tied."""
_INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


@dataclass(frozen=True)
class LanguageModel:
    """A model with what is needed to talk to it.

    Attributes:
        model: in evaluation mode.
        tokenizer: text to token numbers and back.
        stops: token numbers that end a text.
        chat_template: Jinja source for conversations, or None.
        special: texts of special tokens for the template, such as `bos_token`.
        path: where it was read from.
    """

    model: Llama
    tokenizer: tokenizers.Tokenizer
    stops: frozenset[int]
    chat_template: str | None
    special: Mapping[str, str]
    path: Path


def load_llm(path: str | os.PathLike[str] | None = None) -> LanguageModel:
    """Read a language model of the Llama type.

    Args:
        path: a `.gguf` file, or a folder with config.json, tokenizer.json and model.safetensors
            (or its shards); SmolLM2-135M-Instruct, as `chainrule data smollm2` gets it, if None.

    Raises:
        DataError: a file is missing, damaged, or of another kind of model; the message names it.
        MissingExtra: the tokeniser's library is not installed.
    """
    if path is None:
        return _from_gguf(require_package("smollm2") / PACKAGES["smollm2"].files[0].name)
    found = Path(path).expanduser()
    if not found.exists():
        raise DataError(f"{found}: there is no such file or folder")
    return _from_folder(found) if found.is_dir() else _from_gguf(found)


def _from_gguf(path: Path) -> LanguageModel:
    file = GGUFFile(path)
    metadata = file.metadata
    try:
        config = gguf_config(metadata, "output.weight" not in file)
        model = build(config, GGUFWeights(file, config.head_dim), path)
        tokenizer = gguf_tokenizer(metadata)
        numbers = {
            kind: token_number(metadata, kind, tokenizer.get_vocab_size())
            for kind in ("bos", "eos", "eot")
            if f"tokenizer.ggml.{kind}_token_id" in metadata
        }
    except (DataError, OperationError) as error:
        raise _named(path, error) from error
    special = {f"{kind}_token": tokenizer.id_to_token(n) or "" for kind, n in numbers.items()}
    stops = {n for kind, n in numbers.items() if kind != "bos"}
    template = metadata.get("tokenizer.chat_template")
    return LanguageModel(
        model, tokenizer, frozenset(stops), template if isinstance(template, str) else None, special, path
    )


def _from_folder(folder: Path) -> LanguageModel:
    values = read_json(folder / "config.json")
    try:
        model = build(json_config(values), open_safetensors(folder), folder)
    except (DataError, OperationError) as error:
        raise _named(folder, error) from error
    tokenizer = read_tokenizer(folder)
    about = folder / "tokenizer_config.json"
    described = read_json(about) if about.exists() else {}
    special = {k: _token_text(described[k]) for k in ("bos_token", "eos_token") if described.get(k)}
    stops = values.get("eos_token_id")
    numbers = {n for n in (stops if isinstance(stops, list) else [stops]) if isinstance(n, int)}
    ending = tokenizer.token_to_id(special.get("eos_token", ""))
    own = folder / "chat_template.jinja"
    source = read_text(own) if own.exists() else described.get("chat_template")
    if isinstance(source, list):  # several by name
        source = next((t.get("template") for t in source if isinstance(t, dict) and t.get("name") == "default"), None)
    return LanguageModel(
        model,
        tokenizer,
        frozenset(numbers | ({ending} if ending is not None else set())),
        source if isinstance(source, str) else None,
        special,
        folder,
    )


def gguf_config(metadata: Mapping[str, Any], tied: bool) -> LlamaConfig:
    """The sizes that a GGUF file's keys state.

    Raises:
        DataError: a key is missing, or the model is of another kind.
    """
    kind = metadata.get("general.architecture")
    if kind != "llama":
        raise DataError(f"a model of kind {kind!r}, this reads 'llama'")
    if "llama.rope.scaling.type" in metadata and metadata["llama.rope.scaling.type"] != "none":
        raise DataError(f"its rotary positions are scaled ({metadata['llama.rope.scaling.type']!r}): not supported")

    def key(name: str, default: Any = None) -> Any:
        value = metadata.get(f"llama.{name}", default)
        if value is None:
            raise DataError(f"the key llama.{name} is missing")
        return value

    heads = key("attention.head_count")
    width = _divided(key("embedding_length"), heads)
    tokens = metadata.get("tokenizer.ggml.tokens")
    vocabulary = key("vocab_size", len(tokens) if isinstance(tokens, list) else None)
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=key("embedding_length"),
        intermediate_size=key("feed_forward_length"),
        num_hidden_layers=key("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=key("attention.head_count_kv", heads),
        head_dim=key("attention.key_length", width),
        max_position_embeddings=key("context_length"),
        rms_norm_eps=_number(key("attention.layer_norm_rms_epsilon"), "layer_norm_rms_epsilon"),
        rope_theta=_number(key("rope.freq_base", 10000.0), "rope.freq_base"),
        tie_word_embeddings=tied,
    )


def json_config(values: Mapping[str, Any]) -> LlamaConfig:
    """The sizes that a `config.json` states.

    Raises:
        DataError: an entry is missing, or the model is of another kind.
    """
    if values.get("model_type") != "llama":
        raise DataError(f"config.json describes a model of type {values.get('model_type')!r}, this reads 'llama'")
    rope = values.get("rope_parameters") or values.get("rope_scaling") or {}
    scaling = rope.get("rope_type", rope.get("type", "default"))
    if scaling != "default":
        raise DataError(f"config.json asks for rotary positions of type {scaling!r}: not supported")
    if values.get("hidden_act", "silu") != "silu":
        raise DataError(f"config.json asks for the activation {values['hidden_act']!r}, this kind has 'silu'")
    required = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    if lacking := [name for name in required if name not in values]:
        raise DataError(f"config.json lacks {', '.join(lacking)}")
    heads = values["num_attention_heads"]
    return LlamaConfig(
        **{name: values[name] for name in required},
        num_key_value_heads=values.get("num_key_value_heads") or heads,
        head_dim=values.get("head_dim") or _divided(values["hidden_size"], heads),
        max_position_embeddings=values.get("max_position_embeddings", 2048),
        rms_norm_eps=_number(values.get("rms_norm_eps", 1e-6), "rms_norm_eps"),
        rope_theta=_number(rope.get("rope_theta", values.get("rope_theta", 10000.0)), "rope_theta"),
        tie_word_embeddings=bool(values.get("tie_word_embeddings", False)),
        attention_bias=bool(values.get("attention_bias", False)),
        mlp_bias=bool(values.get("mlp_bias", False)),
    )


def build(config: LlamaConfig, weights: TensorFile, path: Path) -> Llama:
    """A model with these weights, in evaluation mode; see `load_weights` for errors."""
    return load_weights(lambda: Llama(config), config.weights, weights, path, _SURPLUS)


class GGUFWeights(TensorFile):
    """The tensors of a GGUF file of a Llama model under the names, and in the order of rows, of a checkpoint.

    The converter of llama.cpp brings the rows of each head's queries and keys into the order that
    goes with rotary pairs of neighbours; here a pair is a half apart, as in the checkpoint.
    """

    def __init__(self, file: GGUFFile, head_dim: int) -> None:
        self._file, self._head_dim = file, head_dim
        self._sources = {_checkpoint_name(name): name for name in file}
        super().__init__(self._sources)

    def __getitem__(self, name: str) -> np.ndarray:
        array = self._file[self._sources[name]]
        if not re.fullmatch(r".*\.[qk]_proj\.(weight|bias)", name):
            return array
        if array.shape[0] % self._head_dim:
            raise DataError(f"{self._file.path}: {name} does not consist of heads of {self._head_dim} rows")
        pairs = array.reshape(-1, self._head_dim // 2, 2, *array.shape[1:])
        return pairs.swapaxes(1, 2).reshape(array.shape)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._file.shape(self._sources[name])


def _checkpoint_name(name: str) -> str:
    layer = re.fullmatch(r"blk\.(\d{1,6})\.(\w+)\.(weight|bias)", name)
    if layer and layer[2] in _INNER:
        return f"model.layers.{int(layer[1])}.{_INNER[layer[2]]}.{layer[3]}"
    outer, _, kind = name.rpartition(".")
    return f"{_OUTER[outer]}.{kind}" if outer in _OUTER else name


def _divided(size: Any, heads: Any) -> int:
    if not (isinstance(size, int) and isinstance(heads, int) and heads > 0 and size % heads == 0):
        raise DataError(f"a width of {size!r} cannot be divided among {heads!r} heads")
    return size // heads


def _number(value: Any, name: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise DataError(f"{name} is {value!r}, expected a number")
    return float(value)


def _token_text(described: Any) -> str:
    return str(described.get("content", "")) if isinstance(described, dict) else str(described)


def _named(path: Path, error: Exception) -> DataError:
    text = str(error)
    return DataError(text if text.startswith(str(path)) else f"{path}: {text}")
