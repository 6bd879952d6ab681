"""Models of the Llama type: files give the same model, the cache the same scores, and bad files are named."""

import json

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.errors import OperationError
from chainrule.data import DataError
from chainrule.interop import save_safetensors
from chainrule.pretrained import Cache, LlamaConfig, load_llm
from tests.pretrained.small_llama import CONFIG, METADATA, small_model, some_tokens, write_folder, write_gguf


@pytest.mark.parametrize("tied", [True, False])
def test_a_gguf_file_and_a_checkpoint_give_the_model_they_were_written_from(tmp_path, tied):
    model = small_model(tied)
    expected = model(some_tokens()).numpy()
    for path in (write_gguf(tmp_path / "m.gguf", model), write_folder(tmp_path / "folder", model)):
        language = load_llm(path)
        np.testing.assert_allclose(language.model(some_tokens()).numpy(), expected, rtol=1e-4, atol=1e-5)
        assert language.stops == {0} and language.special["eos_token"] == "<|end|>"
        assert language.chat_template == METADATA["tokenizer.chat_template"]
        assert language.tokenizer.encode("hello the").tokens == ["hell", "o", "Ġthe"]
        assert not any(p.requires_grad for p in language.model.parameters())
        assert language.model.config.weights == sum(p.size for p in language.model.parameters())


@pytest.mark.parametrize("cuts", [(5,), (1, 2, 3), (4, 8)])
def test_reading_in_pieces_with_a_cache_gives_the_same_scores(cuts):
    model, tokens = small_model(), some_tokens()
    cache = Cache(model.config, batch=2)
    pieces = np.split(tokens.numpy(), cuts, axis=1)
    with cr.no_grad():
        found = np.concatenate([model(cr.tensor(p), cache).numpy() for p in pieces], axis=1)
    np.testing.assert_allclose(found, model(tokens).numpy(), rtol=1e-4, atol=1e-5)
    assert cache.length == tokens.shape[1]


def test_a_token_sees_none_that_come_later():
    model, tokens = small_model(), some_tokens().numpy()
    changed = tokens.copy()
    changed[:, 6:] = (changed[:, 6:] + 1) % CONFIG["vocab_size"]
    before, after = model(cr.tensor(tokens)).numpy(), model(cr.tensor(changed)).numpy()
    np.testing.assert_allclose(before[:, :6], after[:, :6], rtol=1e-5, atol=1e-6)
    assert np.abs(before[:, 6:] - after[:, 6:]).max() > 0.01


def test_computing_layers_twice_changes_no_gradient():
    gradients = []
    for checkpointed in (False, True):
        model = small_model()
        model.model.checkpointed = checkpointed
        tokens = some_tokens()
        scores = model(tokens[:, :-1])
        nn.functional.cross_entropy(scores.reshape(-1, scores.shape[-1]), tokens[:, 1:].reshape(-1)).backward()
        gradients.append({name: p.grad.numpy() for name, p in model.named_parameters()})
    for name, g in gradients[0].items():
        np.testing.assert_allclose(gradients[1][name], g, rtol=1e-4, atol=1e-7, err_msg=name)


def test_more_positions_than_the_model_was_made_for_are_refused():
    with pytest.raises(OperationError, match="97 tokens are more than the 96"):
        small_model()(some_tokens(1, 97))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "gpt2"}, "of type 'gpt2'"),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "rotary positions of type 'llama3'"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rotary positions of type 'yarn'"),
        ({"num_attention_heads": 7}, "cannot be divided among 7 heads"),
        ({"num_attention_heads": 0}, "among 0 heads"),
        ({"num_attention_heads": "6"}, "among '6' heads"),
        ({"vocab_size": 10**12}, "vocab_size is 1000000000000"),
        ({"num_hidden_layers": -1}, "num_hidden_layers is -1"),
        ({"num_key_value_heads": 4}, "a multiple of heads of keys"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps is 'small'"),
        ({"rms_norm_eps": 0}, "must be positive"),
        ({"hidden_size": 2**20 - 16, "head_dim": 4}, "ask for"),
        ({"num_hidden_layers": 3}, "ask for"),
        ({"num_hidden_layers": 1}, r"it holds model\.layers\.1"),
        ({"intermediate_size": 32}, "does not fit Llama"),
    ],
)
def test_a_config_that_lies_is_named(tmp_path, change, message):
    folder = write_folder(tmp_path / "m", small_model(), change)
    with pytest.raises((DataError, nn.StateDictError), match=message):
        load_llm(folder)


def test_the_chat_template_may_be_a_file_of_its_own_or_one_of_several(tmp_path):
    folder = write_folder(tmp_path / "m", small_model())
    several = [{"name": "tools", "template": "x"}, {"name": "default", "template": "y"}]
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": several}))
    assert load_llm(folder).chat_template == "y"
    (folder / "chat_template.jinja").write_text("z")
    assert load_llm(folder).chat_template == "z"
    (folder / "chat_template.jinja").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"chat_template\.jinja: not a text in UTF-8"):
        load_llm(folder)


def test_a_config_without_a_size_is_named(tmp_path):
    folder = write_folder(tmp_path / "m", small_model())
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 3}))
    with pytest.raises(DataError, match="lacks hidden_size, intermediate_size"):
        load_llm(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"general.architecture": "bert"}, "of kind 'bert'"),
        ({"llama.rope.scaling.type": "linear"}, r"scaled \('linear'\)"),
        ({"llama.attention.head_count": 5}, "cannot be divided among 5 heads"),
        ({"llama.attention.layer_norm_rms_epsilon": "x"}, "layer_norm_rms_epsilon is 'x'"),
        ({"llama.embedding_length": 1.5}, r"a width of 1\.5"),
        ({"llama.attention.key_length": 8}, "heads of 8 rows|ask for|does not fit"),
        ({"tokenizer.ggml.pre": "unheard-of"}, "'unheard-of'"),
        ({"tokenizer.ggml.bos_token_id": 10**6}, "bos_token_id"),
        ({"tokenizer.ggml.eos_token_id": "x"}, "eos_token_id"),
    ],
)
def test_gguf_keys_that_lie_are_named(tmp_path, change, message):
    path = write_gguf(tmp_path / "m.gguf", small_model(), change)
    with pytest.raises(DataError, match=message) as caught:
        load_llm(path)
    assert str(caught.value).startswith(str(path))


def test_missing_weights_and_missing_files_are_named(tmp_path):
    folder = write_folder(tmp_path / "m", small_model())
    state = {n: v for n, v in small_model().state_dict().items() if "layers.1.mlp.up" not in n}
    save_safetensors(folder / "model.safetensors", state | {"extra": np.zeros(10_000, np.float32)})
    with pytest.raises(DataError, match=r"it lacks model\.layers\.1\.mlp\.up_proj\.weight, it holds extra"):
        load_llm(folder)
    with pytest.raises(DataError, match="no such file or folder"):
        load_llm(tmp_path / "none")


def test_the_usual_model_is_asked_for_where_it_is_not_on_the_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path))
    monkeypatch.delenv("CHAINRULE_DATA", raising=False)
    with pytest.raises(DataError, match="`chainrule data smollm2` gets it"):
        load_llm()


def test_the_sizes_of_a_model_are_checked():
    with pytest.raises(OperationError, match="width even"):
        LlamaConfig(10, 6, 8, 1, 2, 2, 3, 16)
