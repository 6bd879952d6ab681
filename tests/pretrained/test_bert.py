"""Sentence encoders of the BERT type: padding changes nothing, and files that do not fit are named."""

import numpy as np
import pytest

from chainrule import nn
from chainrule.data import DataError
from chainrule.pretrained import load_sentence_encoder
from tests.pretrained.small_bert import write_bert


def test_vectors_have_length_1_and_do_not_depend_on_their_neighbours(tmp_path):
    model = write_bert(tmp_path)
    encoder = load_sentence_encoder(tmp_path)
    sentences = ["the cat", "The dog runs the sea the cat", "dog"]
    together = encoder.encode(sentences)
    assert together.shape == (3, 12) and together.dtype == "float32"
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(together, np.concatenate([encoder.encode([s]) for s in sentences]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(together, encoder.encode(sentences, batch_size=2), rtol=1e-4, atol=1e-5)
    compiled = load_sentence_encoder(tmp_path, compile=True)
    np.testing.assert_allclose(together, compiled.encode(sentences), rtol=1e-4, atol=1e-5)
    assert encoder.encode([]).shape == (0, 12)
    assert model.config.weights == sum(p.size for p in model.parameters())


def test_a_long_text_is_cut_to_the_context(tmp_path):
    write_bert(tmp_path)
    encoder = load_sentence_encoder(tmp_path)
    np.testing.assert_array_equal(encoder.encode(["the " * 500]), encoder.encode(["the " * 40]))


@pytest.mark.parametrize(
    ("config", "more", "message"),
    [
        ({"model_type": "roberta"}, {}, "model_type 'roberta', this reads 'bert'"),
        ({"hidden_act": "relu"}, {}, "hidden_act 'relu'"),
        ({"position_embedding_type": "relative_key"}, {}, "relative_key"),
        ({"hidden_size": "12"}, {}, "hidden_size is '12'"),
        ({"pad_token_id": 10}, {}, "pad_token_id is 10"),
        ({"num_attention_heads": 5}, {}, "cannot be divided among 5 heads"),
        ({"num_hidden_layers": 9}, {}, "ask for"),
        ({"num_hidden_layers": 1}, {}, "it holds encoder.layer.1"),
        ({"intermediate_size": 10}, {}, "does not fit Bert"),
        ({}, {"classifier.weight": np.zeros(2, np.float32)}, "it holds classifier.weight"),
    ],
)
def test_files_that_do_not_fit_are_named(tmp_path, config, more, message):
    write_bert(tmp_path, config, more)
    with pytest.raises((DataError, nn.StateDictError), match=message):
        load_sentence_encoder(tmp_path)


def test_a_config_that_lacks_a_size_and_a_missing_model_are_named(tmp_path, monkeypatch):
    write_bert(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(DataError, match="lacks 'vocab_size'"):
        load_sentence_encoder(tmp_path)
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CHAINRULE_DATA", raising=False)
    with pytest.raises(DataError, match="`chainrule data minilm` gets it"):
        load_sentence_encoder()
