"""Recurrent layers, attention and rotary positions inside a compiled step: the same losses and weights as outside."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule import nn, optim
from chainrule.nn.utils.rnn import pack_padded_sequence
from chainrule.recipes import gpt

LENGTHS = [4, 2, 3]
RNG = np.random.default_rng(0)
SEQUENCES = cr.tensor(RNG.normal(size=(3, 4, 6)).astype(np.float32))
LABELS = cr.tensor(RNG.integers(0, 5, 3))


class Recurrent(nn.Module):
    def __init__(self, kind: type, packed: bool = False) -> None:
        self.rnn = kind(6, 5, batch_first=True, bidirectional=True)
        self.output = nn.Linear(10, 5)
        self.packed = packed

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        if self.packed:
            x = pack_padded_sequence(x, LENGTHS, batch_first=True, enforce_sorted=False)
        _, state = self.rnn(x)
        h = state[0] if isinstance(state, tuple) else state
        return self.output(cr.concat([h[0], h[1]], axis=1))


class Attentive(nn.Module):
    def __init__(self) -> None:
        self.turn = nn.RotaryEmbedding(6)
        self.layer = nn.TransformerEncoderLayer(6, 2, 8, 0.1, "gelu", batch_first=True, norm_first=True)
        self.output = nn.Linear(6, 5)
        self.hidden = cr.tensor(np.arange(4) >= np.array(LENGTHS)[:, None])

    def forward(self, x: cr.Tensor) -> cr.Tensor:
        return self.output(self.layer(self.turn(x), src_key_padding_mask=self.hidden, is_causal=True)[:, 0])


CASES = {
    "rnn": lambda: Recurrent(nn.RNN),
    "gru": lambda: Recurrent(nn.GRU),
    "lstm": lambda: Recurrent(nn.LSTM),
    "packed lstm": lambda: Recurrent(nn.LSTM, True),
    "encoder layer": Attentive,
}


def steps(make, loss, x, target, compiled):
    cr.manual_seed(1)
    model = make()
    optimizer = optim.AdamW(model.parameters(), lr=1e-2)

    def step(x, target):
        optimizer.zero_grad()
        value = loss(model(x), target)
        value.backward()
        optimizer.step()
        return value

    run = cr.compile(step) if compiled else step
    return [run(x, target).item() for _ in range(4)], [p.numpy() for p in model.parameters()]


def agree(make, loss, x, target):
    (eager, weights), (compiled, others) = (steps(make, loss, x, target, c) for c in (False, True))
    np.testing.assert_allclose(compiled, eager, rtol=1e-5)
    assert eager[-1] < eager[0]
    for a, b in zip(weights, others, strict=True):
        # Adam divides by the size of the gradient: one that is rounding noise moves a weight all the same.
        np.testing.assert_allclose(b, a, rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize("name", CASES)
def test_layers_over_sequences(name):
    agree(CASES[name], F.cross_entropy, SEQUENCES, LABELS)


def test_a_small_gpt():
    settings = gpt.Settings.make({"fast": True, "width": 8, "context": 6})
    codes = RNG.integers(0, 11, (3, 7))
    agree(
        lambda: gpt.GPT(11, settings), gpt.next_character_loss, cr.tensor(codes[:, :-1]), cr.tensor(codes[:, 1:])
    )  # fmt: skip
