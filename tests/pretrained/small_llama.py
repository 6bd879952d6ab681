"""A language model of the Llama type with random weights and a vocabulary of bytes, as files, for the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from chainrule import Tensor
from chainrule.interop import gguf_tokenizer, save_safetensors
from chainrule.pretrained.llama import Llama, LlamaConfig
from chainrule.random import manual_seed
from tests.interop.gguf_files import float32, gguf_bytes

ALPHABET = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
TOKENS = ["<|end|>", *ALPHABET, "he", "ll", "hell", "Ġt", "Ġthe"]
MERGES = ["h e", "l l", "he ll", "Ġ t", "Ġt he"]
TEMPLATE = (
    "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
)
CONFIG = {
    "model_type": "llama",
    "vocab_size": len(TOKENS),
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "max_position_embeddings": 96,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500.0,
    "tie_word_embeddings": True,
    "hidden_act": "silu",
    "eos_token_id": 0,
}
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
METADATA = {
    "general.architecture": "llama",
    "llama.block_count": 2,
    "llama.context_length": 96,
    "llama.embedding_length": 24,
    "llama.feed_forward_length": 40,
    "llama.attention.head_count": 6,
    "llama.attention.head_count_kv": 2,
    "llama.rope.freq_base": 500.0,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "gpt-2",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.merges": MERGES,
    "tokenizer.ggml.token_type": [3] + [1] * (len(TOKENS) - 1),
    "tokenizer.ggml.eos_token_id": 0,
    "tokenizer.ggml.bos_token_id": 0,
    "tokenizer.chat_template": TEMPLATE,
}


def small_model(tied: bool = True) -> Llama:
    """The model that the files hold."""
    manual_seed(1)
    sizes: dict[str, Any] = {name: CONFIG[name] for name in LlamaConfig.__annotations__ if name in CONFIG}
    model = Llama(LlamaConfig(**sizes | {"head_dim": 4, "tie_word_embeddings": tied}))
    for number, (name, p) in enumerate(model.named_parameters()):
        noise = np.random.default_rng(number).standard_normal(p.shape).astype(np.float32)
        p.assign(1 + 0.1 * noise if "norm" in name else noise / np.sqrt(p.shape[-1]))
    return model.eval()


def write_gguf(path: Path, model: Llama, metadata: dict[str, Any] | None = None) -> Path:
    """The model as the converter of llama.cpp writes it: queries and keys with the pairs of each head side by side."""
    tensors = []
    for name, value in model.state_dict().items():
        array = value.numpy()
        inner = name.removesuffix(".weight")
        if ".layers." in inner:
            _, _, number, part = inner.split(".", 3)
            stored = f"blk.{number}.{NAMES[part]}.weight"
        else:
            stored = f"{NAMES[inner]}.weight"
        if inner.endswith(("q_proj", "k_proj")):
            halves = array.reshape(-1, 2, model.config.head_dim // 2, array.shape[1])
            array = halves.swapaxes(1, 2).reshape(array.shape)
        tensors.append(float32(stored, array))
    path.write_bytes(gguf_bytes(METADATA | (metadata or {}), tensors))
    return path


def write_folder(folder: Path, model: Llama, config: dict[str, Any] | None = None) -> Path:
    """The model as `transformers` keeps it."""
    folder.mkdir(parents=True, exist_ok=True)
    tied = {"tie_word_embeddings": model.config.tie_word_embeddings}
    (folder / "config.json").write_text(json.dumps(CONFIG | tied | (config or {})))
    save_safetensors(folder / "model.safetensors", model.state_dict())
    kinds = {"tokenizer.ggml.token_type": np.array(METADATA["tokenizer.ggml.token_type"])}
    gguf_tokenizer(METADATA | kinds).save(str(folder / "tokenizer.json"))
    about = {"eos_token": "<|end|>", "bos_token": {"content": "<|end|>"}, "chat_template": TEMPLATE}
    (folder / "tokenizer_config.json").write_text(json.dumps(about))
    return folder


def some_tokens(batch: int = 2, length: int = 9) -> Tensor:
    """Token numbers of shape (batch, length)."""
    return Tensor(np.random.default_rng(0).integers(0, len(TOKENS), (batch, length)))
