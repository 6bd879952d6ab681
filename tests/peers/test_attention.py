"""Attention and transformers against PyTorch in float64: values, derivatives, state and signatures."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import chainrule as cr
from chainrule import nn
from chainrule.nn import functional as F
from tests.peers.agreement import agree, noise

D = np.float64
pytestmark = pytest.mark.filterwarnings("ignore:enable_nested_tensor is True:UserWarning")
INF = float("inf")


@pytest.fixture(autouse=True)
def _two_derivatives() -> Iterator[None]:
    """PyTorch's other implementations of attention cannot be differentiated twice."""
    with sdpa_kernel(SDPBackend.MATH):
        yield


LAYERS = {
    "MultiheadAttention", "Transformer", "TransformerDecoder", "TransformerDecoderLayer", "TransformerEncoder",
    "TransformerEncoderLayer",
}  # fmt: skip


def x(*shape: int, seed: int = 0) -> np.ndarray:
    return noise(shape, D, seed)


def hiding(*shape: int, seed: int = 0) -> np.ndarray:
    """A mask that hides some keys of every query, but not all."""
    mask = noise(shape, D, seed) > 0.3
    mask[..., 0] = False
    return mask


def additive(mask: np.ndarray, seed: int = 5) -> np.ndarray:
    return np.where(mask, -INF, noise(mask.shape, D, seed))


def blind(mask: np.ndarray) -> np.ndarray:
    """The same mask, but the second query sees nothing."""
    mask = mask.copy()
    mask[..., 1, :] = True
    return mask


Q, K, V = x(2, 3, 4, 5), x(2, 3, 6, 5, seed=1), x(2, 3, 6, 7, seed=2)
HIDDEN = hiding(2, 1, 4, 6)
ATTENTION: list[tuple[str, tuple[np.ndarray, ...], np.ndarray | None, dict[str, Any]]] = [
    ("plain", (Q, K, V), None, {}),
    ("scale", (Q, K, V), None, {"scale": 0.3}),
    ("causal", (Q, K, V), None, {"is_causal": True}),
    ("causal, more queries", (K, Q, Q), None, {"is_causal": True}),
    ("no heads", (Q[0, 0], K[0, 0], V[0, 0]), None, {}),
    ("one axis of heads", (Q[0], K[0], V[0]), None, {"is_causal": True}),
    ("booleans", (Q, K, V), ~HIDDEN, {}),
    ("booleans, a blind query", (Q, K, V), ~blind(HIDDEN), {}),
    ("booleans (L, S)", (Q, K, V), ~hiding(4, 6), {}),
    ("numbers", (Q, K, V), additive(HIDDEN), {}),
    ("numbers, a blind query", (Q, K, V), additive(blind(HIDDEN)), {}),
    ("numbers (L, S)", (Q, K, V), x(4, 6), {"scale": 1.0}),
    ("grouped", (x(2, 6, 4, 5), K, V), None, {"enable_gqa": True}),
    ("grouped, causal", (x(2, 6, 4, 5), K, V), None, {"enable_gqa": True, "is_causal": True}),
    ("grouped, masked", (x(2, 6, 4, 5), K, V), ~hiding(2, 6, 4, 6), {"enable_gqa": True}),
    ("one key head", (x(2, 4, 3, 5), x(2, 1, 6, 5), x(2, 1, 6, 2)), None, {"enable_gqa": True}),
]


@pytest.mark.parametrize(("inputs", "mask", "options"), [a[1:] for a in ATTENTION], ids=[a[0] for a in ATTENTION])
def test_attention_agrees(inputs: Any, mask: Any, options: Any) -> None:
    agree(
        lambda *t: F.scaled_dot_product_attention(*t, None if mask is None else cr.tensor(mask), **options),
        lambda *t: torch.nn.functional.scaled_dot_product_attention(
            *t, None if mask is None else torch.tensor(mask), **options
        ),
        *inputs,
    )  # fmt: skip


def test_the_gradient_of_a_learned_bias_agrees() -> None:
    agree(F.scaled_dot_product_attention, torch.nn.functional.scaled_dot_product_attention, Q, K, V, x(2, 3, 4, 6))


def both(name: str, *arguments: Any, **options: Any) -> tuple[Any, Any]:
    """The layer in both libraries, in float64, with equal random parameters."""
    theirs = getattr(torch.nn, name)(*arguments, **options).double()
    ours = getattr(nn, name)(*arguments, **options).double()
    with torch.no_grad():
        for i, parameter in enumerate(theirs.parameters()):
            parameter.copy_(torch.tensor(x(*parameter.shape, seed=i) * 0.3))
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    return ours, theirs


def compare(ours: Any, theirs: Any, inputs: tuple[np.ndarray, ...], orders: int = 2, **fixed: Any) -> None:
    """Outputs and derivatives by inputs and parameters; arrays among `fixed` are passed by name."""
    names = [name for name, _ in theirs.named_parameters()]

    def call(library: Any, module: Any, run: Any, tensors: tuple[Any, ...]) -> Any:
        state = dict(zip(names, tensors[len(inputs) :], strict=True))
        given = {k: library.tensor(v) if isinstance(v, np.ndarray) else v for k, v in fixed.items()}
        outputs = run(module, state, tensors[: len(inputs)], given)
        return tuple(y for y in outputs if y is not None) if isinstance(outputs, tuple) else outputs

    agree(
        lambda *tensors: call(cr, ours, nn.functional_call, tensors),
        lambda *tensors: call(torch, theirs, torch.func.functional_call, tensors),
        *inputs, *(p.detach().numpy() for p in theirs.parameters()), orders=orders,
    )  # fmt: skip


LAYER_OPTIONS: list[dict[str, Any]] = [
    {},
    {"bias": False},
    {"add_bias_kv": True},
    {"add_zero_attn": True},
    {"add_bias_kv": True, "add_zero_attn": True, "bias": False},
    {"kdim": 3, "vdim": 5},
    {"kdim": 3, "bias": False, "batch_first": True, "add_bias_kv": True},
    {"batch_first": True},
]
L, S, N, E, H = 4, 5, 3, 6, 2
MASKS: list[dict[str, Any]] = [
    {},
    {"need_weights": False},
    {"average_attn_weights": False},
    {"attn_mask": hiding(L, S)},
    {"attn_mask": additive(hiding(L, S)), "need_weights": False},
    {"attn_mask": hiding(N * H, L, S)},
    {"key_padding_mask": hiding(N, S)},
    {"key_padding_mask": hiding(N, S), "attn_mask": hiding(L, S), "need_weights": False},
    {"key_padding_mask": additive(hiding(N, S)), "attn_mask": additive(hiding(N * H, L, S))},
]


@pytest.mark.parametrize("masks", MASKS, ids=lambda m: ",".join(m) or "plain")
@pytest.mark.parametrize("options", LAYER_OPTIONS, ids=lambda o: ",".join(o) or "plain")
def test_multihead_attention_agrees(options: dict[str, Any], masks: dict[str, Any]) -> None:
    ours, theirs = both("MultiheadAttention", E, H, **options)
    kdim, vdim = options.get("kdim", E), options.get("vdim", E)
    inputs = x(L, N, E), x(S, N, kdim, seed=1), x(S, N, vdim, seed=2)
    if options.get("batch_first"):
        inputs = tuple(np.swapaxes(t, 0, 1).copy() for t in inputs)  # type: ignore[assignment]
    compare(ours, theirs, inputs, orders=1 if options else 2, **masks)


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("masks", [{}, {"key_padding_mask": hiding(S), "attn_mask": hiding(S, S)}])
def test_self_attention_and_unbatched_sequences_agree(masks: dict[str, Any], batch_first: bool) -> None:
    ours, theirs = both("MultiheadAttention", E, H, batch_first=batch_first)
    for module in (ours, theirs):
        attend = module.forward
        module.forward = lambda t, attend=attend, **given: attend(t, t, t, **given)
    compare(ours, theirs, (x(S, E),), **masks)
    batched = {k: v if v.ndim == 2 else np.stack([v, v]) for k, v in masks.items()}
    compare(ours, theirs, (x(2, S, E) if batch_first else x(S, 2, E),), **batched)
    causal = {"attn_mask": np.triu(np.ones((S, S), bool), 1), "is_causal": True, "need_weights": False}
    compare(ours, theirs, (x(2, S, E) if batch_first else x(S, 2, E),), **causal)


STYLES = [
    {}, {"norm_first": True}, {"batch_first": True, "activation": "gelu"}, {"bias": False, "layer_norm_eps": 1e-3},
]  # fmt: skip


@pytest.mark.parametrize("options", STYLES, ids=lambda o: ",".join(o) or "plain")
def test_encoder_layers_agree(options: dict[str, Any]) -> None:
    ours, theirs = both("TransformerEncoderLayer", E, H, 7, 0.0, **options)
    first = options.get("batch_first")
    source = x(N, S, E) if first else x(S, N, E)
    compare(ours, theirs, (source,))
    compare(ours, theirs, (source,), 1, src_mask=hiding(S, S), src_key_padding_mask=hiding(N, S))
    compare(ours, theirs, (source,), 1, src_mask=np.triu(np.full((S, S), -INF), 1), is_causal=True)
    compare(ours.eval(), theirs.eval(), (source,), 1)


@pytest.mark.parametrize("options", STYLES, ids=lambda o: ",".join(o) or "plain")
def test_decoder_layers_agree(options: dict[str, Any]) -> None:
    ours, theirs = both("TransformerDecoderLayer", E, H, 7, 0.0, **options)
    first = options.get("batch_first")
    target, memory = (x(N, L, E), x(N, S, E, seed=1)) if first else (x(L, N, E), x(S, N, E, seed=1))
    compare(ours, theirs, (target, memory))
    compare(
        ours, theirs, (target, memory), 1, tgt_mask=hiding(L, L), memory_mask=hiding(L, S),
        tgt_key_padding_mask=hiding(N, L), memory_key_padding_mask=hiding(N, S),
    )  # fmt: skip


@pytest.mark.parametrize("norm_first", [False, True])
def test_a_whole_transformer_agrees(norm_first: bool) -> None:
    options = {"dropout": 0.0, "norm_first": norm_first, "dim_feedforward": 7, "batch_first": True}
    ours, theirs = both("Transformer", E, H, 2, 2, **options)
    mask = nn.Transformer.generate_square_subsequent_mask(L, dtype=D)
    expected = torch.nn.Transformer.generate_square_subsequent_mask(L, dtype=torch.float64)
    np.testing.assert_array_equal(mask.numpy(), expected.numpy())
    compare(ours, theirs, (x(N, S, E), x(N, L, E, seed=1)), 1, tgt_mask=mask.numpy(), tgt_is_causal=True)
    compare(ours, theirs, (x(S, E), x(L, E, seed=1)), 1, tgt_mask=mask.numpy())


@pytest.mark.parametrize("name", ["TransformerEncoder", "TransformerDecoder"])
def test_stacks_start_as_copies_and_agree(name: str) -> None:
    def make(library: Any) -> Any:
        layer = getattr(library, f"{name}Layer")(E, H, 7, 0.0)
        return getattr(library, name)(layer, 2, library.LayerNorm(E)).double()

    ours, theirs = make(nn), make(torch.nn)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    first, second = (ours.layers[i].linear1.weight for i in (0, 1))
    assert first is not second
    np.testing.assert_array_equal(first.numpy(), second.numpy())
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    inputs = (x(S, N, E),) if name == "TransformerEncoder" else (x(L, N, E), x(S, N, E, seed=1))
    compare(ours, theirs, inputs, 1)


@pytest.mark.parametrize(
    ("name", "arguments", "options"),
    [("MultiheadAttention", (E, H), o) for o in LAYER_OPTIONS]
    + [(f"Transformer{part}Layer", (E, H), {"bias": b}) for part in ("Encoder", "Decoder") for b in (True, False)]
    + [("Transformer", (E, H, 1, 1), {})],
)
def test_state_dict_has_pytorchs_keys_shapes_and_types(name: str, arguments: Any, options: Any) -> None:
    ours, theirs = getattr(nn, name)(*arguments, **options), getattr(torch.nn, name)(*arguments, **options)
    expected = [(k, tuple(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in theirs.state_dict().items()]
    assert [(k, v.shape, str(v.dtype)) for k, v in ours.state_dict().items()] == expected


@pytest.mark.parametrize("name", sorted(LAYERS))
def test_names_order_and_defaults_of_arguments_are_pytorchs(name: str) -> None:
    for method in ("__init__", "forward"):
        pair = [inspect.signature(getattr(getattr(library, name), method)).parameters for library in (nn, torch.nn)]
        ours, theirs = ([(p.name, p.default) for p in parameters.values()] for parameters in pair)
        at = [n for n, _ in theirs].index("activation") if "activation" in pair[1] else None
        if at is not None:  # the function relu, of each library its own
            assert (ours.pop(at)[1], theirs.pop(at)[1]) == (F.relu, torch.nn.functional.relu)
        assert ours == theirs


@pytest.mark.parametrize("options", [{}, {"kdim": 30, "add_bias_kv": True}], ids=["packed", "separate"])
def test_attention_starts_like_pytorchs(options: dict[str, Any]) -> None:
    """The same spread of every parameter, at a size where it can be told."""
    ours, theirs = nn.MultiheadAttention(60, 4, **options), torch.nn.MultiheadAttention(60, 4, **options)
    for name, parameter in theirs.named_parameters():
        expected, found = parameter.detach().numpy(), ours.get_parameter(name).numpy()
        assert found.std() == pytest.approx(expected.std(), rel=0.35, abs=1e-9), name
        if expected.size > 1000:
            assert np.abs(found).max() == pytest.approx(np.abs(expected).max(), rel=0.02), name
