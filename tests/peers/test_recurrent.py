"""Recurrent layers, cells and packed sequences against PyTorch in float64: values, derivatives, state, signatures."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule import nn
from tests.peers.agreement import agree, noise

D = np.float64
T, N, INPUT, H = 5, 4, 3, 2
LAYERS = {"GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNBase", "RNNCell", "RNNCellBase"}
ours_rnn, theirs_rnn = nn.utils.rnn, torch.nn.utils.rnn


def x(*shape: int, seed: int = 0) -> np.ndarray:
    return noise(shape, D, seed)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_layers": 2},
    {"bidirectional": True},
    {"num_layers": 3, "bidirectional": True, "batch_first": True},
    {"bias": False, "num_layers": 2},
    {"dropout": 1.0, "num_layers": 2},
]
CASES = [(name, o) for name in ("RNN", "GRU", "LSTM") for o in OPTIONS] + [
    ("RNN", {"nonlinearity": "relu", "bidirectional": True}),
    ("LSTM", {"proj_size": 1}),
    ("LSTM", {"proj_size": 1, "num_layers": 2, "bidirectional": True, "bias": False}),
]


def label(value: Any) -> str:
    return value if isinstance(value, str) else ",".join(f"{k}={v}" for k, v in value.items()) or "plain"


def both(name: str, *arguments: Any, **options: Any) -> tuple[Any, Any]:
    theirs, ours = (getattr(library, name)(*arguments, **options).double() for library in (torch.nn, nn))
    with torch.no_grad():
        for i, parameter in enumerate(theirs.parameters()):
            parameter.copy_(torch.tensor(x(*parameter.shape, seed=i) * 0.7))
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    return ours, theirs


def flat(outputs: Any) -> tuple[Any, ...]:
    """The floating tensors in nested tuples."""
    if isinstance(outputs, tuple):
        return tuple(t for part in outputs for t in flat(part))
    return (outputs,) if outputs is not None and str(outputs.dtype).endswith(("float64", "float32")) else ()


def compare(ours: Any, theirs: Any, call: Any, *inputs: np.ndarray, orders: int = 2) -> None:
    """`call(library, run, tensors)` in both libraries, differentiated by the tensors and all parameters."""
    names = [name for name, _ in theirs.named_parameters()]
    parameters = [p.detach().numpy() for p in theirs.parameters()]

    def computing(library: Any, module: Any, functional_call: Any) -> Any:
        def compute(*tensors: Any) -> Any:
            state = dict(zip(names, tensors[len(inputs) :], strict=True))
            return flat(call(library, lambda *a: functional_call(module, state, a), tensors[: len(inputs)]))

        return compute

    mine, peer = computing(cr, ours, nn.functional_call), computing(torch, theirs, torch.func.functional_call)
    agree(mine, peer, *inputs, *parameters, orders=orders, rtol=1e-9)


def states(name: str, options: dict[str, Any], batch: int = N) -> list[np.ndarray]:
    count = options.get("num_layers", 1) * (1 + options.get("bidirectional", False))
    shapes = [(count, batch, options.get("proj_size") or H), (count, batch, H)]
    return [x(*shape, seed=20 + i) for i, shape in enumerate(shapes[: 2 if name == "LSTM" else 1])]


def hx(tensors: Any) -> Any:
    return tuple(tensors) if len(tensors) > 1 else tensors[0]


@pytest.mark.parametrize(("name", "options"), CASES, ids=label)
def test_layers_agree(name: str, options: dict[str, Any]) -> None:
    ours, theirs = both(name, INPUT, H, **options)
    sequence = x(N, T, INPUT) if options.get("batch_first") else x(T, N, INPUT)
    compare(ours, theirs, lambda _lib, run, t: run(*t), sequence)
    compare(ours, theirs, lambda _lib, run, t: run(t[0], hx(t[1:])), sequence, *states(name, options))
    ours.fused = False
    compare(ours, theirs, lambda _lib, run, t: run(t[0], hx(t[1:])), sequence, *states(name, options), orders=1)


@pytest.mark.parametrize(("name", "options"), CASES, ids=label)
def test_sequences_without_a_batch_agree(name: str, options: dict[str, Any]) -> None:
    ours, theirs = both(name, INPUT, H, **options)
    first = [s[:, 0] for s in states(name, options)]
    compare(ours, theirs, lambda _lib, run, t: run(*t), x(T, INPUT), orders=1)
    compare(ours, theirs, lambda _lib, run, t: run(t[0], hx(t[1:])), x(T, INPUT), *first, orders=1)


@pytest.mark.parametrize("lengths", [(5, 3, 3, 1), (2, 5, 1, 4), (1, 1, 1, 1), (5, 5, 5, 5)])
@pytest.mark.parametrize(("name", "options"), CASES, ids=label)
def test_packed_sequences_agree(name: str, options: dict[str, Any], lengths: tuple[int, ...]) -> None:
    ours, theirs = both(name, INPUT, H, **options)
    is_sorted = lengths == tuple(sorted(lengths, reverse=True))

    def call(library: Any, run: Any, t: Any) -> Any:
        rnn = library.nn.utils.rnn if library is torch else ours_rnn
        packed = rnn.pack_padded_sequence(t[0], library.tensor(lengths), enforce_sorted=is_sorted)
        out, last = run(packed, hx(t[1:])) if len(t) > 1 else run(packed)
        padded, _ = rnn.pad_packed_sequence(out)
        return out.data, padded, last

    compare(ours, theirs, call, x(T, N, INPUT), *states(name, options))
    compare(ours, theirs, call, x(T, N, INPUT), orders=1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM"])
def test_long_sequences_in_both_precisions_agree(name: str, dtype: Any) -> None:
    """Sizes of practice: the gradient through 100 steps."""
    theirs = getattr(torch.nn, name)(12, 32, 2, bidirectional=True).to(torch.float64 if dtype == D else torch.float32)
    ours = getattr(nn, name)(12, 32, 2, bidirectional=True, dtype=dtype)
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    sequence = noise((100, 8, 12), dtype, 0)
    (out, _), (expected, _) = ours(cr.tensor(sequence)), theirs(torch.tensor(sequence))
    tolerance = 1e-10 if dtype == D else 2e-4
    np.testing.assert_allclose(out.numpy(), expected.detach().numpy(), rtol=tolerance, atol=tolerance * 0.1)
    (out**2).sum().backward()
    (expected**2).sum().backward()
    for (key, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        wanted = q.grad.numpy()
        np.testing.assert_allclose(
            p.grad.numpy(), wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max(), err_msg=key
        )


CELLS = [("RNNCell", {}), ("RNNCell", {"nonlinearity": "relu", "bias": False}), ("GRUCell", {}), ("LSTMCell", {}),
         ("GRUCell", {"bias": False}), ("LSTMCell", {"bias": False})]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), CELLS, ids=label)
def test_cells_agree(name: str, options: dict[str, Any]) -> None:
    ours, theirs = both(name, INPUT, H, **options)
    for shape in ((N,), ()):
        first = [x(*shape, H, seed=20 + i) for i in range(2 if name == "LSTMCell" else 1)]
        compare(ours, theirs, lambda _lib, run, t: run(*t), x(*shape, INPUT))
        compare(ours, theirs, lambda _lib, run, t: run(t[0], hx(t[1:])), x(*shape, INPUT), *first)


@pytest.mark.parametrize(("name", "options"), [*CASES, *CELLS], ids=label)
def test_state_dict_has_pytorchs_keys_shapes_types_and_spread(name: str, options: dict[str, Any]) -> None:
    ours, theirs = (
        (getattr(library, name)(13, 40, **options).state_dict() for library in (nn, torch.nn))
        if ("proj_size" not in options)
        else (getattr(library, name)(13, 40, **{**options, "proj_size": 7}).state_dict() for library in (nn, torch.nn))
    )
    assert [(k, v.shape, str(v.dtype)) for k, v in ours.items()] == [
        (k, tuple(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in theirs.items()
    ]
    for key, value in ours.items():
        if value.size > 100:
            assert np.abs(value.numpy()).max() == pytest.approx(theirs[key].abs().max().item(), rel=0.1)
            assert value.numpy().std() == pytest.approx(theirs[key].std().item(), rel=0.2)


def test_names_order_and_defaults_of_arguments_are_pytorchs() -> None:
    def signature(function: Any) -> list[tuple[str, Any]]:
        return [(p.name, p.default) for p in inspect.signature(function).parameters.values()]

    for name in sorted(LAYERS):
        expected = signature(getattr(torch.nn, name).__init__)
        if name in ("RNN", "GRU", "LSTM"):  # PyTorch's own take *args; the base has the names
            expected = [e for e in signature(torch.nn.RNNBase.__init__) if e[0] not in ("mode", "proj_size")]
            if name == "LSTM":
                expected.insert(-2, ("proj_size", 0))
            if name == "RNN":
                expected.insert(4, ("nonlinearity", "tanh"))
        assert signature(getattr(nn, name).__init__) == expected, name
        if "Base" not in name:
            assert [n for n, _ in signature(getattr(nn, name).forward)] == [
                n for n, _ in signature(getattr(torch.nn, name).forward)
            ]
    for name in ("pack_padded_sequence", "pad_packed_sequence", "pad_sequence", "pack_sequence", "unpad_sequence",
                 "unpack_sequence", "invert_permutation"):  # fmt: skip
        assert signature(getattr(ours_rnn, name)) == signature(getattr(theirs_rnn, name)), name
    assert ours_rnn.PackedSequence._fields == theirs_rnn.PackedSequence_._fields


def same(ours: Any, theirs: Any) -> None:
    """Nested results, with their integers."""
    if isinstance(theirs, tuple | list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            same(a, b)
    elif theirs is None:
        assert ours is None
    else:
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
        assert str(ours.dtype) == str(theirs.dtype).removeprefix("torch.")


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("lengths", [[6, 4, 4, 1], [2, 2], [3]])
def test_packing_and_padding_are_pytorchs(lengths: list[int], batch_first: bool) -> None:
    for order in (lengths, lengths[::-1]):
        pieces = [x(n, 2, seed=i) for i, n in enumerate(order)]
        mine, peer = [cr.tensor(p) for p in pieces], [torch.tensor(p) for p in pieces]
        unsorted = order != sorted(order, reverse=True)
        packed = ours_rnn.pack_sequence(mine, enforce_sorted=not unsorted)
        expected = theirs_rnn.pack_sequence(peer, enforce_sorted=not unsorted)
        same(tuple(packed), tuple(expected))
        for options in ({}, {"padding_value": 3.5}, {"total_length": 8, "padding_value": -1.0}):
            got = ours_rnn.pad_packed_sequence(packed, batch_first, **options)
            same(got, theirs_rnn.pad_packed_sequence(expected, batch_first, **options))
        same(ours_rnn.unpack_sequence(packed), theirs_rnn.unpack_sequence(expected))
        for side in ("left", "right"):
            got = ours_rnn.pad_sequence(mine, batch_first, 2.0, side)
            same(got, theirs_rnn.pad_sequence(peer, batch_first, 2.0, side))


def test_gradients_of_packing_and_padding_agree() -> None:
    def call(rnn: Any, t: Any, lengths: Any) -> Any:
        packed = rnn.pack_padded_sequence(t * t, lengths, batch_first=True, enforce_sorted=False)
        padded, _ = rnn.pad_packed_sequence(packed._replace(data=packed.data * 2), padding_value=1.0)
        return padded * padded

    agree(
        lambda t: call(ours_rnn, t, [2, 4, 1]), lambda t: call(theirs_rnn, t, torch.tensor([2, 4, 1])), x(3, 5, 2)
    )  # fmt: skip
