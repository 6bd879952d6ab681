"""Packed sequences in a compiled function: lengths are an argument like any other, and one program serves all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.core.errors import ShapeError
from chainrule.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

KINDS = {
    "tanh": (nn.RNN, {}), "relu": (nn.RNN, {"nonlinearity": "relu"}), "gru": (nn.GRU, {}), "lstm": (nn.LSTM, {}),
    "lstm, projected": (nn.LSTM, {"proj_size": 2}),
}  # fmt: skip


@settings(max_examples=12, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)), layers=st.integers(1, 2), both=st.booleans(), first=st.booleans(),
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=4), states=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_packed_in_a_compiled_function(kind, layers, both, first, lengths, states, seed):
    """Outputs, last states and gradients are those of the packed sequences."""
    make, options = KINDS[kind]
    cr.manual_seed(seed)
    model = make(3, 4, layers, bidirectional=both, batch_first=first, dtype=np.float64, **options)
    ends, batch = (2 if both else 1) * layers, len(lengths)
    rng = np.random.default_rng(seed)
    x = cr.asarray(rng.normal(size=(batch, 6, 3) if first else (6, batch, 3)))
    h = cr.asarray(rng.normal(size=(ends, batch, options.get("proj_size") or 4)))
    hx = (h, cr.asarray(rng.normal(size=(ends, batch, 4)))) if kind.startswith("lstm") else h

    def run(x, lengths):
        packed = pack_padded_sequence(x, lengths, batch_first=first, enforce_sorted=False)
        out, last = model(packed, hx if states else None)
        out, ended = pad_packed_sequence(out, batch_first=first, total_length=7)
        last = last if isinstance(last, tuple) else (last,)
        loss = (out * cr.cos(out)).sum() + sum((s**2).sum() for s in last)
        return out, ended, *last, *cr.grad(loss, [x, *model.parameters()])

    x.requires_grad_()
    wanted = run(x, cr.asarray(np.array(lengths)))
    compiled = cr.compile(run)
    for other in (lengths, lengths[::-1]):
        found = compiled(x, cr.asarray(np.array(other)))
        wanted = run(x, cr.asarray(np.array(other)))
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-11)
    assert len(compiled._executables) == 1


def test_what_lies_behind_the_end_is_the_padding_value_and_changes_nothing():
    model = nn.GRU(2, 3, bidirectional=True)
    x = np.random.default_rng(0).normal(size=(5, 2, 2)).astype(np.float32)

    @cr.compile
    def run(x, lengths):
        out, _ = model(pack_padded_sequence(x, lengths, enforce_sorted=False))
        return pad_packed_sequence(out, padding_value=-7.0)[0]

    lengths = cr.asarray(np.array([2, 5]))
    out = run(cr.asarray(x), lengths).numpy()
    assert (out[2:, 0] == -7).all()
    assert (np.abs(out[:, 1]) < 1).all()
    x[2:, 0] = 1000
    np.testing.assert_array_equal(run(cr.asarray(x), lengths).numpy(), out)


@pytest.mark.parametrize("lengths", [np.array([1, 2, 3]), np.array([1.0, 2.0])])
def test_lengths_that_cannot_be_are_named(lengths):
    @cr.compile
    def run(x, lengths):
        return pack_padded_sequence(x, lengths, enforce_sorted=False).data

    with pytest.raises(ShapeError, match=r"pack_padded_sequence: lengths of .* for 2 sequences"):
        run(cr.zeros((4, 2, 1)), cr.asarray(lengths))


def test_no_less_than_the_padding_can_be_asked_for():
    @cr.compile
    def run(x, lengths):
        return pad_packed_sequence(pack_padded_sequence(x, lengths, enforce_sorted=False), total_length=3)[0]

    with pytest.raises(ShapeError, match="total_length 3 is less than the padding's 4"):
        run(cr.zeros((4, 2, 1)), cr.asarray(np.array([1, 2])))
