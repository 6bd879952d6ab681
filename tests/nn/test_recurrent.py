"""Recurrent layers: the sweep over a whole sequence is its steps one by one, packed or padded, and misuse is named."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import func, nn
from chainrule.core.errors import DTypeError, OperationError, ShapeError
from chainrule.nn.utils.rnn import pack_padded_sequence, pack_sequence, pad_packed_sequence, pad_sequence

KINDS = {"tanh": (nn.RNN, {}), "relu": (nn.RNN, {"nonlinearity": "relu"}), "gru": (nn.GRU, {}), "lstm": (nn.LSTM, {})}


def randn(*shape: int, seed: int = 0) -> Any:
    return cr.tensor(np.random.default_rng([seed, *shape]).normal(size=shape))


def layer(kind: str, *sizes: int, **options: Any) -> Any:
    make, own = KINDS[kind]
    return make(*sizes, dtype=np.float64, **own, **options)


def first_states(kind: str, *shape: int) -> Any:
    states = tuple(randn(*shape, seed=s).requires_grad_() for s in (1, 2))
    return states if kind == "lstm" else states[0]


def everything(out: Any, last: Any) -> list[Any]:
    return [out.data if isinstance(out, tuple) else out, *(last if isinstance(last, tuple) else (last,))]


def gradients(model: Any, x: Any, states: Any, lengths: list[int] | None, seed: int, skip: int) -> list[Any]:
    """Values, and the gradients by input, states and weights of a random sum of the outputs, but the one to skip."""
    model.zero_grad()
    x = x.detach().requires_grad_()
    hx = states if isinstance(states, tuple) else (states,)
    for s in hx:
        s.grad = None
    given = x if lengths is None else pack_padded_sequence(x, lengths, enforce_sorted=False)
    outputs = everything(*model(given, states))
    kept = [y for i, y in enumerate(outputs) if i != skip]
    loss = sum((y * randn(*y.shape, seed=seed)).sum() for y in kept)
    loss.backward()
    found = [x.grad, *(s.grad for s in hx), *(p.grad for p in model.parameters())]
    return [y.numpy() for y in outputs] + [None if g is None else g.numpy() for g in found]


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(sorted(KINDS)), layers=st.integers(1, 2), both=st.booleans(), bias=st.booleans(),
    lengths=st.none() | st.lists(st.integers(1, 6), min_size=1, max_size=4),
    skip=st.integers(-1, 2), seed=st.integers(0, 99),
)  # fmt: skip
def test_the_sweep_is_its_steps_one_by_one(
    kind: str, layers: int, both: bool, bias: bool, lengths: list[int] | None, skip: int, seed: int
) -> None:
    batch = len(lengths) if lengths else 3
    model = layer(kind, 2, 3, layers, bidirectional=both, bias=bias)
    x, states = randn(6, batch, 2, seed=seed), first_states(kind, layers * (1 + both), batch, 3)
    fused = gradients(model, x, states, lengths, seed, skip)
    model.fused = False
    for ours, wanted in zip(fused, gradients(model, x, states, lengths, seed, skip), strict=True):
        assert (ours is None or not ours.any()) if wanted is None else True
        if wanted is not None:
            np.testing.assert_allclose(np.zeros_like(wanted) if ours is None else ours, wanted, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_layer_is_its_cell_in_a_loop(kind: str) -> None:
    model = layer(kind, 2, 3)
    cells = {"gru": nn.GRUCell, "lstm": nn.LSTMCell}
    cell = cells.get(kind, nn.RNNCell)(2, 3, **KINDS[kind][1], dtype=np.float64)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in model.state_dict().items()})
    x, state, outputs = randn(5, 4, 2), None, []
    for step in x:
        state = cell(step, state)
        outputs.append((state[0] if kind == "lstm" else state).numpy())
    np.testing.assert_allclose(model(x)[0].numpy(), np.stack(outputs), rtol=1e-12)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_packed_sequence_is_run_as_if_alone(kind: str) -> None:
    model = layer(kind, 2, 3, 2, bidirectional=True, batch_first=True)
    pieces = [randn(n, 2, seed=n) for n in (2, 5, 1)]
    out, last = model(pack_sequence(pieces, enforce_sorted=False))
    padded, lengths = pad_packed_sequence(out, batch_first=True)
    assert lengths.tolist() == [2, 5, 1] and not padded.numpy()[0, 2:].any()
    h = last[0] if kind == "lstm" else last
    for i, piece in enumerate(pieces):
        alone, end = model(piece[None])
        np.testing.assert_allclose(padded.numpy()[i, : len(piece)], alone.numpy()[0], rtol=1e-12)
        np.testing.assert_allclose(h.numpy()[:, i], (end[0] if kind == "lstm" else end).numpy()[:, 0], rtol=1e-12)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_derivatives_of_every_kind_agree(kind: str) -> None:
    """Against finite differences to the second order, forward mode, batches, and a gradient under vmap."""
    model, x = layer(kind, 2, 3), randn(4, 2, 2)
    weights = {name: p.numpy() for name, p in model.named_parameters()}

    def loss(x: Any, *tensors: Any) -> Any:
        out, _ = nn.functional_call(model, dict(zip(weights, tensors, strict=True)), (x,))
        return (out * out).sum()

    cr.check_grad(loss, x, *weights.values(), order=2)
    given = (x, *map(cr.tensor, weights.values()))
    directions = tuple(randn(*t.shape, seed=9) for t in given)
    slope = sum(
        float((g * d).sum())
        for g, d in zip(func.grad(loss, argnums=tuple(range(len(given))))(*given), directions, strict=True)
    )
    assert func.jvp(loss, given, directions)[1].item() == pytest.approx(slope, rel=1e-10)
    stacked = cr.stack([x, x * 2.0])
    each = func.vmap(lambda t: func.grad(loss)(t, *given[1:]))(stacked)
    np.testing.assert_allclose(each.numpy()[1], func.grad(loss)(x * 2.0, *given[1:]).numpy(), rtol=1e-10, atol=1e-12)
    rows = func.jacrev(lambda t: model(t)[1][0] if kind == "lstm" else model(t)[1])(x)
    forward = func.jacfwd(lambda t: model(t)[1][0] if kind == "lstm" else model(t)[1])(x)
    np.testing.assert_allclose(rows.numpy(), forward.numpy(), rtol=1e-10, atol=1e-12)


def test_a_sequence_is_one_node_and_each_step_its_own_on_request() -> None:
    def names(model: Any) -> list[str]:
        found, stack = [], [model(randn(6, 1, 2))[0].sum()._node]
        while stack:
            node = stack.pop()
            found.append(node.primitive.name if node.primitive else "leaf")
            stack.extend(node.inputs)
        return found

    model = layer("lstm", 2, 3)
    assert names(model).count("lstm") == 1 and "tanh" not in names(model)
    model.fused = False
    assert "lstm" not in names(model) and len(names(model)) > 6 * 10


def test_backward_twice_and_after_other_work() -> None:
    model, x = layer("gru", 2, 3), randn(4, 2, 2)
    out, _ = model(x)
    loss = (out**2).sum()
    loss.backward()
    once = model.weight_hh_l0.grad.numpy().copy()
    model(randn(4, 2, 2, seed=1))
    loss.backward()
    np.testing.assert_allclose(model.weight_hh_l0.grad.numpy(), 2 * once, rtol=1e-12)


def test_gates_far_out_do_not_overflow() -> None:
    for kind in ("lstm", "gru"):
        model = layer(kind, 1, 2)
        x = cr.tensor(np.array([1e4, -1e4, 1e308]).reshape(3, 1, 1)).requires_grad_()
        with np.errstate(all="ignore"):
            out, _ = model(x)
            out.sum().backward()
        assert np.isfinite(out.numpy()).all() and np.isfinite(x.grad.numpy()).all()


def test_dropout_acts_between_layers_in_training_only() -> None:
    cr.manual_seed(0)
    model, x = layer("lstm", 2, 8, 2, dropout=0.5), randn(4, 2, 2)
    assert not np.allclose(model(x)[0].numpy(), model(x)[0].numpy())
    model.eval()
    np.testing.assert_array_equal(model(x)[0].numpy(), model(x)[0].numpy())
    with pytest.warns(UserWarning, match="one layer"):
        nn.GRU(2, 3, dropout=0.1)


def test_mistakes_are_named() -> None:
    model = nn.Sequential(nn.LSTM(4, 3, batch_first=True))
    with pytest.raises(ShapeError, match=r"^0 = LSTM\(4, 3, batch_first=True\): the input has width 5, expected 4"):
        model(cr.randn(2, 6, 5))
    lstm = model[0]
    with pytest.raises(ShapeError, match="no steps"):
        lstm(cr.randn(2, 0, 4))
    with pytest.raises(ShapeError, match="3 axes"):
        lstm(cr.randn(2, 1, 1, 4))
    with pytest.raises(ShapeError, match=r"first states of shapes .*expected \[\(1, 2, 3\), \(1, 2, 3\)\]"):
        lstm(cr.randn(2, 6, 4), (cr.zeros((1, 1, 3)), cr.zeros((1, 2, 3))))
    with pytest.raises(DTypeError, match="float64"):
        lstm(randn(2, 6, 4))
    with pytest.raises(ShapeError, match="proj_size"):
        nn.LSTM(2, 3, proj_size=3)
    with pytest.raises(OperationError, match="'elu'"):
        nn.RNN(2, 3, nonlinearity="elu")
    with pytest.raises(ShapeError, match="states of shapes"):
        nn.GRUCell(2, 3)(cr.randn(4, 2), cr.zeros((4, 2)))
    x = cr.randn(5, 3, 2)
    with pytest.raises(OperationError, match="enforce_sorted=False"):
        pack_padded_sequence(x, [1, 3, 2])
    for lengths in ([6, 2, 1], [3, 2, 0], [3, 2]):
        with pytest.raises(ShapeError, match="length"):
            pack_padded_sequence(x, lengths)
    with pytest.raises(DTypeError, match="integers"):
        pack_padded_sequence(x, [3.0, 2.0, 1.0])
    with pytest.raises(ShapeError, match="total_length"):
        pad_packed_sequence(pack_padded_sequence(x, [5, 2, 1]), total_length=4)
    with pytest.raises(ShapeError, match="agree"):
        pad_sequence([cr.ones((2, 3)), cr.ones((2, 4))])
    with pytest.raises(ShapeError, match="no sequences"):
        pack_sequence([])
