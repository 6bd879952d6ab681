"""Reading token by token: the function that gives the scores of the next one, compiled where it is wanted.

The shapes of a compiled function are fixed, so it is given the cache with all its room, and how much
of that has been read; it returns the new keys and values, which are put into the cache afterwards.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..array.creation import arange, ones
from ..array.manipulation import concat, reshape
from ..core.tensor import Tensor
from ..nn.functional.rotary import rotary_angles
from ..train.compiling import compiler_of
from .llama import Cache, Llama, LlamaConfig, Place


class _RoomOfLayer:
    """A `LayerCache` inside the compiled function."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.keys, self.values = keys, values
        self.new: tuple[Tensor, Tensor] = keys, values

    def extend(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        self.new = keys, values
        return concat([self.keys, keys], axis=2), concat([self.values, values], axis=2)


class _Room:
    """A `Cache` inside the compiled function: one new position stands behind all the room."""

    def __init__(self, length: Tensor, layers: list[tuple[Tensor, Tensor]]) -> None:
        self.length, self.layers = length, [_RoomOfLayer(*arrays) for arrays in layers]

    def place(self, config: LlamaConfig, _length: int) -> Place:
        cos, sin = rotary_angles(reshape(self.length, (1,)), config.head_dim, config.rope_theta)
        is_read = arange(self.layers[0].keys.shape[2]) < self.length
        return Place(cos, sin, reshape(concat([is_read, ones(1, dtype=bool)], axis=0), (1, -1)))


class Reader:
    """Reads tokens with a model.

    Args:
        model: the model.
        compile: read single tokens by a compiled function; longer parts, the beginning of a text, are read as they are.
    """

    def __init__(self, model: Llama, compile: bool = False) -> None:
        self.model = model
        compiler = compiler_of(compile)
        self._read_one = None if compiler is None else compiler(self._one)

    def __call__(self, tokens: Tensor, cache: Cache) -> np.ndarray:
        """Scores (batch, vocab_size) of the token after `tokens` (batch, length), which the cache takes."""
        if self._read_one is None or tokens.shape[1] != 1 or not cache.length:
            return self.model.next_scores(tokens, cache)
        cache.reserve(cache.length + 1)
        scores, new = self._read_one(tokens, np.array(cache.length), [layer.arrays for layer in cache.layers])
        for layer, (keys, values) in zip(cache.layers, new, strict=True):
            layer.extend(keys, values)
        return scores.numpy()

    def _one(self, token: Tensor, length: Tensor, layers: list[tuple[Tensor, Tensor]]) -> Any:
        room = _Room(length, layers)
        scores = self.model.scores(self.model.model(token, room)[:, -1])
        return scores, [layer.new for layer in room.layers]
