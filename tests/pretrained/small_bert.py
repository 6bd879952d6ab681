"""A small encoder of the BERT type with random weights and ten words, as files, for the tests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from chainrule.interop import save_safetensors
from chainrule.pretrained.bert import Bert, BertConfig
from chainrule.random import manual_seed

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "dog", "runs", "##ning", "sea"]
CONFIG = {
    "model_type": "bert",
    "vocab_size": len(WORDS),
    "hidden_size": 12,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 20,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
}


def write_bert(folder: Path, config: dict[str, Any] | None = None, more: dict[str, Any] | None = None) -> Bert:
    """Write config.json, model.safetensors and tokenizer.json; the model that they hold."""
    manual_seed(0)
    model = Bert(BertConfig(**{name: value for name, value in CONFIG.items() if name != "model_type"}))
    (folder / "config.json").write_text(json.dumps(CONFIG | (config or {})))
    pooler = {"pooler.dense.bias": np.zeros(12, np.float32), "embeddings.position_ids": np.zeros((1, 16), np.int64)}
    save_safetensors(folder / "model.safetensors", model.state_dict() | pooler | (more or {}))
    words = tokenizers.models.WordPiece({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]")
    made = tokenizers.Tokenizer(words)
    made.normalizer = tokenizers.normalizers.BertNormalizer()
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.post_processor = tokenizers.processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    made.save(str(folder / "tokenizer.json"))
    return model
