"""Generation: the distribution is the one asked for, seeds repeat, chats reuse what was read."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule.core.errors import OperationError
from chainrule.pretrained import Cache, Chat, Reader, Sampling, generate, load_llm, stream
from chainrule.pretrained.generation import probabilities
from tests.pretrained.small_llama import small_model, write_gguf


@pytest.fixture(scope="module")
def language(tmp_path_factory):
    return load_llm(write_gguf(tmp_path_factory.mktemp("llm") / "m.gguf", small_model()))


scores = st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=30).map(lambda s: np.array(s, np.float32))


@given(scores, st.floats(0.1, 5), st.integers(0, 40), st.floats(0.05, 1))
def test_the_candidates_are_the_most_probable_ones_with_their_share(values, temperature, top_k, top_p):
    tokens, p = probabilities(values, Sampling(temperature, top_k, top_p))
    softmax = np.exp((values.astype(float) - values.max()) / temperature)
    softmax /= softmax.sum()
    assert np.isclose(p.sum(), 1) and (np.diff(p) <= 1e-12).all()
    assert values[tokens].min() >= np.delete(values, tokens).max(initial=-np.inf)
    np.testing.assert_allclose(p, softmax[tokens] / softmax[tokens].sum(), rtol=1e-6)
    among = softmax[np.argsort(-values, kind="stable")[: top_k or None]]
    assert among[: len(tokens)].sum() / among.sum() >= top_p - 1e-9 or len(tokens) == len(among)
    assert among[: len(tokens) - 1].sum() / among.sum() < top_p + 1e-9


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1}, {"temperature": np.inf}, {"top_k": -1}, {"top_p": 0}, {"top_p": 1.1}]
)
def test_settings_that_mean_nothing_are_refused(wrong):
    with pytest.raises(OperationError, match=next(iter(wrong))):
        Sampling(**wrong)


def test_temperature_0_takes_the_most_probable_token_with_and_without_a_cache(language):
    read = language.tokenizer.encode("hello the").ids
    found = list(generate(language, read, 12, Sampling(0)))
    expected = list(read)
    for _ in range(len(found)):
        expected.append(int(language.model(cr.tensor([expected])).numpy()[0, -1].argmax()))
    assert found == expected[len(read) :] and len(found) == 12


def test_a_compiled_reader_gives_the_same_tokens(language):
    """Also behind a beginning of one token, in a cache that must grow, and in the second turn of a chat."""
    reader = Reader(language.model, compile=True)
    for read in ([3], [4, 5, 6]):
        plain = list(generate(language, read, 80, Sampling(0)))
        assert list(generate(language, read, 80, Sampling(0), reader=reader)) == plain and len(plain) == 80
    cache, scores = Cache(language.model.config), []
    for token in range(1, 71):
        scores.append(reader(cr.tensor([[token]]), cache))
    expected = language.model(cr.tensor([list(range(1, 71))])).numpy()[0]
    np.testing.assert_allclose(np.concatenate(scores), expected, rtol=1e-4, atol=1e-4)
    chats = [Chat(language, Sampling(0), 10, compile=compiled) for compiled in (False, True)]
    for message in ("the", "a hello"):
        answers = ["".join(chat.answer(message)) for chat in chats]
        assert answers[0] == answers[1]


def test_the_seed_decides(language):
    texts = ["".join(stream(language, generate(language, [1, 2], 20, Sampling(1.5, 0, 1, seed)))) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_draws_follow_the_probabilities(language):
    read = [5, 6, 7]
    tokens, p = probabilities(language.model(cr.tensor([read])).numpy()[0, -1], Sampling(1.0, 3, 1))
    counts = dict.fromkeys(tokens.tolist(), 0)
    for seed in range(300):
        counts[next(generate(language, read, 1, Sampling(1.0, 3, 1, seed)))] += 1
    np.testing.assert_allclose(np.array(list(counts.values())) / 300, p, atol=0.1)


def test_it_ends_at_a_stop_token_and_where_the_context_is_full(language):
    read = list(range(1, 91))
    assert len(list(generate(language, read, 50, Sampling(0)))) == 7  # up to the 96 positions, and one token more
    first = next(generate(language, [1, 2], 1, Sampling(0)))
    assert list(generate(replace(language, stops=frozenset({first})), [1, 2], 5, Sampling(0))) == []
    with pytest.raises(OperationError, match="no text to continue"):
        list(generate(language, [], 5, Sampling(0)))


def test_a_stream_gives_whole_characters(language):
    text = "é the ☃"
    pieces = list(stream(language, iter(language.tokenizer.encode(text).ids)))
    assert "".join(pieces) == text and "☃" in pieces[-1]


def test_a_conversation_answers_as_if_it_were_read_anew(language):
    chat = Chat(language, Sampling(0), most=6, system="be brief")
    answers = ["".join(chat.answer(question)) for question in ("hello", "the hell")]
    assert [m["role"] for m in chat.messages] == ["system", "user", "assistant", "user", "assistant"]
    text = "system: be brief\nuser: hello\nassistant: " + answers[0] + "\nuser: the hell\nassistant: "
    read = language.tokenizer.encode(text, add_special_tokens=False).ids
    fresh = "".join(stream(language, generate(language, read, 6, Sampling(0), Cache(language.model.config))))
    assert answers[1] == fresh


def test_an_answer_that_is_broken_off_spoils_no_later_one(language):
    chat = Chat(language, Sampling(0), most=6)
    next(chat.answer("hello"))
    later = "".join(chat.answer("the hell"))
    text = "user: hello\nuser: the hell\nassistant: "
    read = language.tokenizer.encode(text, add_special_tokens=False).ids
    assert later == "".join(stream(language, generate(language, read, 6, Sampling(0))))


def test_a_model_without_a_template_says_so(tmp_path):
    bare = load_llm(write_gguf(tmp_path / "m.gguf", small_model(), {"tokenizer.chat_template": 3}))
    assert bare.chat_template is None
    with pytest.raises(OperationError, match=r"no chat template.*--raw"):
        Chat(bare, Sampling())
