"""Sentence embeddings agree with those that `transformers` gives, from random weights and MiniLM's."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before the library is loaded: nothing is fetched from a hub

import numpy as np
import pytest
import torch
import transformers

from chainrule import Tensor
from chainrule.interop import open_safetensors
from chainrule.interop.text_files import read_json
from chainrule.pretrained import load_sentence_encoder
from chainrule.pretrained.bert import Bert, bert_config
from tests.peers.packages import package

pytestmark = pytest.mark.peers
SENTENCES = [
    "A man is eating food.",
    "Someone eats a piece of bread.",
    "The girl is carrying a baby.",
    "Ein Mann ißt — naïve tokens, numbers 12,345 & punctuation!",
    "word " * 400,
]


def test_minilm_gives_the_embeddings_of_transformers() -> None:
    folder = package("minilm")
    theirs = transformers.BertModel.from_pretrained(folder).eval()
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    tokenizer.pad_token = "[PAD]"
    encoded = tokenizer(SENTENCES, padding=True, truncation=True, max_length=256, return_tensors="pt")
    with torch.no_grad():
        vectors = theirs(input_ids=encoded.input_ids, attention_mask=encoded.attention_mask).last_hidden_state
    real = encoded.attention_mask[..., None]
    expected = torch.nn.functional.normalize((vectors * real).sum(1) / real.sum(1)).numpy()
    found = load_sentence_encoder(folder).encode(SENTENCES)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-6)
    cosines = found @ found.T
    assert cosines[0, 1] > 0.5 > 0.3 > cosines[0, 2]


@pytest.mark.parametrize("options", [{}, {"layer_norm_eps": 1e-3, "type_vocab_size": 1}, {"num_attention_heads": 8}])
def test_checkpoints_of_transformers_give_the_same_vectors_and_gradients(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 50, "hidden_size": 24, "num_hidden_layers": 3, "num_attention_heads": 4}
    sizes |= {"intermediate_size": 40, "max_position_embeddings": 20}
    theirs = transformers.BertModel(transformers.BertConfig(initializer_range=0.3, **sizes | options)).eval()
    theirs.save_pretrained(tmp_path)
    theirs.double()  # some gradients are sums that cancel to 0
    ours = Bert(bert_config(read_json(tmp_path / "config.json"), tmp_path)).eval()
    ours.load_state_dict({k: v for k, v in open_safetensors(tmp_path).items() if not k.startswith("pooler")})
    ours.double()
    tokens = np.random.default_rng(0).integers(0, 50, (3, 7))
    real = np.arange(7) < np.array([[7], [4], [1]])
    expected = theirs(input_ids=torch.tensor(tokens), attention_mask=torch.tensor(real)).last_hidden_state
    found = ours(Tensor(tokens), Tensor(real))
    np.testing.assert_allclose(found.numpy()[real], expected.detach().numpy()[real], rtol=1e-10, atol=1e-10)
    weights = np.random.default_rng(1).standard_normal(tuple(expected.shape)) * real[..., None]
    (found * Tensor(weights)).sum().backward()
    (expected * torch.tensor(weights)).sum().backward()
    gradients = dict(theirs.named_parameters())
    for name, p in ours.named_parameters():
        wanted = gradients[name].grad.numpy()
        assert p.grad is not None
        np.testing.assert_allclose(p.grad.numpy(), wanted, rtol=1e-8, atol=1e-9, err_msg=name)
