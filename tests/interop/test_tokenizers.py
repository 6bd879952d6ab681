"""Tokenisers and chat templates of pretrained models: exact round trips, and bad files named."""

import builtins

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from chainrule.data import DataError
from chainrule.interop import MissingExtra, gguf_tokenizer, read_tokenizer, render_chat

BYTES = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
MERGES = ["h e", "l l", "he ll", "Ġ t", "Ġt he", "1 2"]
TOKENS = ["<|end|>", *BYTES, "he", "ll", "hell", "Ġt", "Ġthe", "12"]
METADATA = {
    "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
    "tokenizer.ggml.tokens": TOKENS,
    "tokenizer.ggml.merges": MERGES,
    "tokenizer.ggml.token_type": np.array([3] + [1] * (len(TOKENS) - 1), np.int32),
}
TOKENIZER = gguf_tokenizer(METADATA)


def test_merges_apply_in_order_and_special_tokens_are_whole():
    assert TOKENIZER.encode("hello the<|end|>").tokens == ["hell", "o", "Ġthe", "<|end|>"]
    assert TOKENIZER.encode("<|end|>").ids == [0]


def test_numbers_are_cut_into_digits_where_the_model_wants_it():
    assert TOKENIZER.encode("112").tokens == ["1", "1", "2"]
    whole = gguf_tokenizer(METADATA | {"tokenizer.ggml.pre": "gpt-2"})
    assert whole.encode("112").tokens == ["1", "12"]


@given(st.text())
def test_any_text_comes_back(text):
    assert TOKENIZER.decode(TOKENIZER.encode(text).ids, skip_special_tokens=False) == text


def test_a_first_token_is_put_before_a_text_where_the_model_wants_it():
    made = gguf_tokenizer(METADATA | {"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": 0})
    assert made.encode("hell").tokens == ["<|end|>", "hell"]
    assert made.encode("hell", add_special_tokens=False).tokens == ["hell"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokenizer.ggml.model": "llama"}, "kind 'llama'"),
        ({"tokenizer.ggml.pre": "other"}, r"'other', known are gpt-2 and smollm; use the model's tokenizer\.json"),
        ({"tokenizer.ggml.tokens": 3}, r"no list of strings tokenizer\.ggml\.tokens"),
        ({"tokenizer.ggml.tokens": ["a", "a"]}, "names a token twice"),
        ({"tokenizer.ggml.merges": ["ab"]}, "'ab', expected two tokens"),
        ({"tokenizer.ggml.add_bos_token": True}, "bos_token_id is None"),
        ({"tokenizer.ggml.add_bos_token": True, "tokenizer.ggml.bos_token_id": 999}, "999, which is no token"),
        ({"tokenizer.ggml.merges": ["q z"]}, "make no tokeniser"),
        ({"tokenizer.ggml.token_type": np.array([1])}, "a kind for every token"),
    ],
)
def test_damaged_keys_are_named(change, message):
    with pytest.raises(DataError, match=message):
        gguf_tokenizer(METADATA | change)


def test_a_tokenizer_json_is_read_from_its_folder(tmp_path):
    TOKENIZER.save(str(tmp_path / "tokenizer.json"))
    for path in (tmp_path, tmp_path / "tokenizer.json"):
        assert read_tokenizer(path).encode("hello the").ids == TOKENIZER.encode("hello the").ids


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"model": {"type": "BPE"}}'])
def test_a_tokenizer_json_that_is_none_is_named(tmp_path, content):
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(DataError, match=r"tokenizer\.json: not"):
        read_tokenizer(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_tokenizer(tmp_path / "none")


CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def test_a_chat_is_written_up_to_the_answer():
    text = render_chat(CHATML, [{"role": "user", "content": "Hi {{ 1 + 1 }}"}])
    assert text == "<|im_start|>user\nHi {{ 1 + 1 }}<|im_end|>\n<|im_start|>assistant\n"


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{% for i in range(10 ** 9) %}x{% endfor %}",
        "{{ raise_exception('roles must alternate') }}",
        "{% if %}",
        "{{ messages[0].content + 1 }}",
    ],
)
def test_a_template_that_does_what_it_should_not_is_refused(template):
    with pytest.raises(DataError, match="the chat template cannot be used"):
        render_chat(template, [{"role": "user", "content": "Hi"}])


def test_without_the_libraries_the_extra_is_named(monkeypatch):
    load = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.split(".")[0] in ("tokenizers", "jinja2"):
            raise ImportError(name)
        return load(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtra, match=r"chainrule\[text\]"):
        gguf_tokenizer(METADATA)
    with pytest.raises(MissingExtra, match=r"chainrule\[text\]"):
        render_chat("", [])
