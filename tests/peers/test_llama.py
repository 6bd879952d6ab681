"""Language models of the Llama type give the scores that `transformers` gives, from random weights and SmolLM2's."""

from __future__ import annotations

import contextlib
import os
import tracemalloc
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before the library is loaded: nothing is fetched from a hub

import hypothesis
import numpy as np
import pytest
import torch
import transformers
from hypothesis import strategies as st

import chainrule as cr
from chainrule.data import DataError
from chainrule.data.packages import PACKAGES
from chainrule.interop import GGUFFile, open_safetensors
from chainrule.interop.safetensors import read_json
from chainrule.pretrained import Cache, LanguageModel, Sampling, generate, load_llm
from chainrule.pretrained.llama_files import build, json_config
from tests.peers.packages import package

pytestmark = pytest.mark.peers
FILE = PACKAGES["smollm2"].files[0].name
TEXT = (
    "Call me Ishmael. Some years ago, never mind how long precisely, having little or no money in my purse, "
    "and nothing particular to interest me on shore, I thought I would sail about a little.\n\n"
    "It's 1851; 12,345 whales — « où » — были here.  Two  spaces\tand a tab."
)


@pytest.fixture(scope="module")
def smollm2() -> Path:
    return package("smollm2")


@pytest.fixture(scope="module")
def ours(smollm2: Path) -> LanguageModel:
    return load_llm(smollm2 / FILE)


@pytest.fixture(scope="module")
def theirs(smollm2: Path) -> Any:
    return transformers.AutoModelForCausalLM.from_pretrained(smollm2, gguf_file=FILE, dtype=torch.float32).eval()


def test_smollm2_gives_the_scores_of_transformers(ours: LanguageModel, theirs: Any) -> None:
    tokens = ours.tokenizer.encode(TEXT).ids
    with cr.no_grad():
        found = ours.model(cr.tensor([tokens])).numpy()[0]
    with torch.no_grad():
        expected = theirs(torch.tensor([tokens])).logits[0].numpy()
    size = np.abs(expected).max()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5 * size)
    assert (found.argmax(-1) == expected.argmax(-1)).all()


def test_smollm2_writes_what_transformers_writes(ours: LanguageModel, theirs: Any) -> None:
    tokens = ours.tokenizer.encode("The capital of France is").ids
    found = list(generate(ours, tokens, 24, Sampling(0)))
    with torch.no_grad():
        expected = theirs.generate(torch.tensor([tokens]), max_new_tokens=24, do_sample=False, num_beams=1)
    assert found == expected[0, len(tokens) :].tolist()[: len(found)]
    assert ours.tokenizer.decode(found).startswith(" Paris")


def test_smollm2_cuts_text_as_transformers_does(ours: LanguageModel, smollm2: Path) -> None:
    theirs = transformers.AutoTokenizer.from_pretrained(smollm2, gguf_file=FILE)
    assert ours.tokenizer.encode(TEXT).ids == theirs(TEXT).input_ids
    assert ours.tokenizer.decode(ours.tokenizer.encode(TEXT).ids) == TEXT


@pytest.fixture(scope="module")
def header(smollm2: Path) -> bytes:
    """All of SmolLM2's file before its tensors: 33 keys, a vocabulary of 49,152 tokens, 272 descriptions."""
    file = GGUFFile(smollm2 / FILE)
    with (smollm2 / FILE).open("rb") as stream:
        return stream.read(min(info.offset for info in file.tensors.values()))


@hypothesis.settings(max_examples=40, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(st.data())
def test_a_damaged_header_of_a_real_file_gives_an_error_or_its_keys(header: bytes, tmp_path: Path, data: Any) -> None:
    changed = bytearray(header)
    for _ in range(data.draw(st.integers(1, 4))):
        # Keys and descriptions stand at the two ends, the vocabulary between them.
        end = data.draw(st.sampled_from([2_000, len(changed)]))
        place = data.draw(st.integers(max(0, end - 20_000), end - 8))
        changed[place : place + 8] = data.draw(st.binary(min_size=0, max_size=12))
    path = tmp_path / "damaged.gguf"
    with path.open("wb") as out:
        out.write(changed)
        out.truncate(data.draw(st.sampled_from([len(changed) // 2, len(changed), 98_362_432])))
    tracemalloc.start()
    try:
        with contextlib.suppress(DataError):
            assert len(GGUFFile(path).metadata) < 100
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tie_word_embeddings": True, "num_key_value_heads": 1},
        {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 8, "rope_parameters": None},
        {"head_dim": 10, "rms_norm_eps": 1e-3, "rope_parameters": {"rope_type": "default", "rope_theta": 321.0}},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_checkpoints_of_transformers_give_the_same_scores_and_gradients(
    tmp_path: Path, options: dict[str, Any], dtype: torch.dtype
) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3}
    heads = {
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "max_position_embeddings": 64,
        "initializer_range": 0.3,
    }
    config = transformers.LlamaConfig(**sizes | heads | {k: v for k, v in options.items() if v is not None})
    transformers.LlamaForCausalLM(config).to(dtype).save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ours = build(json_config(read_json(tmp_path / "config.json")), open_safetensors(tmp_path), tmp_path)
    tokens = np.random.default_rng(1).integers(0, 97, (2, 11))
    logits = theirs(torch.tensor(tokens)).logits
    ours.requires_grad_()
    scores = ours(cr.tensor(tokens))
    np.testing.assert_allclose(scores.numpy(), logits.numpy(force=True), rtol=1e-4, atol=1e-5)

    weights = np.random.default_rng(2).standard_normal(scores.shape).astype(np.float32)
    (scores * cr.tensor(weights)).sum().backward()
    (logits * torch.tensor(weights)).sum().backward()
    expected = {name: p.grad for name, p in theirs.named_parameters()}
    for name, p in ours.named_parameters():
        size = float(expected[name].abs().max())
        np.testing.assert_allclose(p.grad.numpy(), expected[name].numpy(), rtol=1e-3, atol=1e-5 * size, err_msg=name)

    cache = Cache(ours.config, batch=2)
    with cr.no_grad():
        pieces = [ours(cr.tensor(part), cache).numpy() for part in np.split(tokens, (4, 5, 9), axis=1)]
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), logits.numpy(force=True), rtol=1e-4, atol=1e-5)
