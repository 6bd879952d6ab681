"""Text from a language model: one token after the other, drawn from the model's distribution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ..core.autodiff import no_grad
from ..core.errors import OperationError
from ..core.tensor import Tensor
from ..interop import render_chat
from ..random import Generator, rand
from .decoding import Reader
from .llama import Cache
from .llama_files import LanguageModel


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen.

    Attributes:
        temperature: scores are divided by it; 0 takes the most probable token.
        top_k: only so many of the most probable tokens; 0 for all.
        top_p: only the most probable tokens that have this probability together
            (Holtzman et al. 2020, "The curious case of neural text degeneration").
        seed: the same seed gives the same text.

    Raises:
        OperationError: a value is out of range.
    """

    temperature: float = 0.2
    top_k: int = 40
    top_p: float = 0.9
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < np.inf:
            raise OperationError(f"temperature must be 0 or more, got {self.temperature}")
        if self.top_k < 0:
            raise OperationError(f"top_k must be 0 or more, got {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise OperationError(f"top_p must be more than 0 and at most 1, got {self.top_p}")


def probabilities(scores: np.ndarray, sampling: Sampling) -> tuple[np.ndarray, np.ndarray]:
    """The tokens that may follow, the most probable first, and the probability of each.

    Args:
        scores: shape (vocabulary,).
        sampling: a temperature above 0, top_k and top_p.
    """
    order = np.argsort(-scores, kind="stable")[: sampling.top_k or None]
    p = np.exp((scores[order].astype(np.float64) - scores[order[0]]) / sampling.temperature)
    p /= p.sum()
    kept = int(np.searchsorted(np.cumsum(p), sampling.top_p)) + 1
    return order[:kept], p[:kept] / p[:kept].sum()


def generate(
    language: LanguageModel,
    tokens: Sequence[int],
    most: int,
    sampling: Sampling,
    cache: Cache | None = None,
    reader: Reader | None = None,
) -> Iterator[int]:
    """Token numbers that continue `tokens`, each as soon as it is drawn.

    Ends before a token that ends the text, after `most` tokens, or where the model's context is full.

    Args:
        language: the model.
        tokens: what it reads first; at least one.
        most: the most tokens to draw.
        sampling: how to draw.
        cache: of earlier turns, whose tokens `tokens` continue; it takes all that is read here.
        reader: of this model, `Reader(language.model, compile=True)` for a compiled one.
    """
    if not tokens:
        raise OperationError("there is no text to continue: give at least one token")
    model, generator = language.model, Generator(sampling.seed)
    cache = Cache(model.config) if cache is None else cache
    reader = Reader(model) if reader is None else reader
    read = list(tokens)
    cache.reserve(min(cache.length + len(read) + most, model.config.max_position_embeddings))
    for _ in range(most):
        if cache.length + len(read) > model.config.max_position_embeddings:
            return
        with no_grad():
            scores = reader(Tensor(np.array([read])), cache)[0]
        if sampling.temperature == 0:
            token = int(scores.argmax())
        else:
            candidates, p = probabilities(scores, sampling)
            drawn = rand(1, dtype=np.float64, generator=generator).item()
            token = int(candidates[min(int(np.searchsorted(np.cumsum(p), drawn, side="right")), len(p) - 1)])
        if token in language.stops:
            return
        yield token
        read = [token]


def stream(language: LanguageModel, tokens: Iterator[int]) -> Iterator[str]:
    """The text of tokens in pieces, each as soon as its characters are whole."""
    from tokenizers.decoders import DecodeStream

    decoder = DecodeStream(skip_special_tokens=True)
    for token in tokens:
        piece = decoder.step(language.tokenizer, token)
        if piece:
            yield piece


class Chat:
    """A conversation: what was said before stays in the cache.

    Args:
        language: a model with a chat template.
        sampling: how answers are drawn; each turn has a seed of its own.
        most: the most tokens of an answer.
        system: what the model is told first, if not what its template says.
        compile: read the tokens of answers by a compiled function.

    Raises:
        OperationError: the model has no chat template.
    """

    def __init__(
        self,
        language: LanguageModel,
        sampling: Sampling,
        most: int = 256,
        system: str | None = None,
        compile: bool = False,
    ) -> None:
        if language.chat_template is None:
            raise OperationError(f"{language.path} has no chat template; let it continue a text instead (--raw)")
        self.language, self.sampling, self.most = language, sampling, most
        self.messages = [{"role": "system", "content": system}] if system else []
        self._cache, self._reader = Cache(language.model.config), Reader(language.model, compile)
        self._read: list[int] = []

    def answer(self, message: str) -> Iterator[str]:
        """The model's answer in pieces of text."""
        language = self.language
        assert language.chat_template is not None
        self.messages.append({"role": "user", "content": message})
        text = render_chat(language.chat_template, self.messages, **language.special)
        tokens = language.tokenizer.encode(text, add_special_tokens=False).ids
        # What the cache holds must be what the template writes now. Where they part, or an answer was
        # broken off, all is read anew.
        known = len(self._read)
        if tokens[:known] != self._read or len(tokens) == known or self._cache.length != known:
            self._cache, self._read = Cache(language.model.config), []
        turn = Sampling(
            self.sampling.temperature, self.sampling.top_k, self.sampling.top_p, self.sampling.seed + len(self.messages)
        )
        new, answered = tokens[len(self._read) :], []

        def kept() -> Iterator[int]:
            for token in generate(language, new, self.most, turn, self._cache, self._reader):
                answered.append(token)
                yield token

        pieces = []
        for piece in stream(language, kept()):
            pieces.append(piece)
            yield piece
        self._read = (tokens + answered)[: self._cache.length]
        self.messages.append({"role": "assistant", "content": "".join(pieces)})
