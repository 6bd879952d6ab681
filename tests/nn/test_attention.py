"""Attention, transformers and rotary positions: what they promise, at the edges and in misuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import func, nn
from chainrule.core.errors import DTypeError, OperationError, ShapeError
from chainrule.nn import functional as F
from chainrule.nn.functional.rotary import apply_rotary, rotary_angles

D = np.float64


def randn(*shape: int, seed: int = 0) -> Any:
    return cr.tensor(np.random.default_rng([seed, *shape]).normal(size=shape))


def by_hand(q: np.ndarray, k: np.ndarray, v: np.ndarray, visible: np.ndarray) -> np.ndarray:
    scores = np.where(visible, q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1]), -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


@settings(max_examples=30, deadline=None)
@given(
    heads=st.integers(1, 3), group=st.integers(1, 3), queries=st.integers(1, 4), keys=st.integers(1, 4),
    width=st.integers(1, 3), causal=st.booleans(),
)  # fmt: skip
def test_attention_is_the_formula_with_each_key_head_repeated(
    heads: int, group: int, queries: int, keys: int, width: int, causal: bool
) -> None:
    q, k, v = randn(2, heads * group, queries, width), randn(2, heads, keys, width), randn(2, heads, keys, 2)
    got = F.scaled_dot_product_attention(q, k, v, is_causal=causal, enable_gqa=True)
    visible = np.tril(np.ones((queries, keys), bool)) if causal else np.ones((queries, keys), bool)
    repeated = [np.repeat(t.numpy(), group, axis=1) for t in (k, v)]
    np.testing.assert_allclose(got.numpy(), by_hand(q.numpy(), *repeated, visible), rtol=1e-12)


def test_the_future_has_no_influence_under_a_causal_mask() -> None:
    layer = nn.TransformerEncoderLayer(6, 2, 8, 0.0, batch_first=True).double()
    x = randn(2, 5, 6).requires_grad_()
    mask = nn.Transformer.generate_square_subsequent_mask(5, dtype=D)
    for masked in ({"src_mask": mask}, {"is_causal": True}):
        y = layer(x, **masked)
        (g,) = cr.grad((y[:, 2] ** 3).sum(), [x])
        assert np.abs(g.numpy()[:, :3]).max() > 0 and not g.numpy()[:, 3:].any()


def test_a_query_that_sees_nothing_gets_zero_and_no_gradient() -> None:
    q, k, v = (randn(3, 4, seed=s).requires_grad_() for s in range(3))
    mask = cr.tensor([[True, False, True], [False] * 3, [True] * 3])
    y = F.scaled_dot_product_attention(q, k, v, mask)
    assert not y.numpy()[1].any() and np.isfinite(y.numpy()).all()
    g = cr.grad(y.sum(), [q, k, v])
    assert not g[0].numpy()[1].any() and all(np.isfinite(t.numpy()).all() for t in g)
    layer = nn.MultiheadAttention(4, 2, batch_first=True).double()
    out, weights = layer(q[None], k[None], v[None], attn_mask=cr.logical_not(mask))
    assert np.isfinite(out.numpy()).all() and not weights.numpy()[0, 1].any()
    np.testing.assert_allclose(weights.numpy()[0, [0, 2]].sum(-1), 1)


def test_padding_does_not_change_a_sequence() -> None:
    layer = nn.MultiheadAttention(6, 3, batch_first=True).double()
    x = randn(1, 4, 6)
    longer = cr.concat([x, randn(1, 3, 6, seed=1)], axis=1)
    hidden = cr.tensor([[False] * 4 + [True] * 3])
    alone, padded = layer(x, x, x)[0], layer(longer, longer, longer, key_padding_mask=hidden)[0]
    np.testing.assert_allclose(padded.numpy()[:, :4], alone.numpy(), rtol=1e-12, atol=1e-14)


def test_dropout_of_weights_keeps_the_mean_and_acts_in_training_only() -> None:
    cr.manual_seed(0)
    q, k, v = randn(1, 4), randn(50, 4), randn(50, 3)
    exact = F.scaled_dot_product_attention(q, k, v).numpy()
    draws = [F.scaled_dot_product_attention(q, k, v, dropout_p=0.3).numpy() for _ in range(3000)]
    np.testing.assert_allclose(np.mean(draws, axis=0), exact, atol=4 * np.std(draws) / 3000**0.5)
    layer = nn.MultiheadAttention(4, 2, dropout=0.9)
    x = cr.randn(5, 1, 4)
    assert not np.allclose(layer(x, x, x)[0].numpy(), layer(x, x, x)[0].numpy())
    layer.eval()
    np.testing.assert_array_equal(layer(x, x, x)[0].numpy(), layer(x, x, x)[0].numpy())


def test_derivatives_are_those_of_finite_differences_and_of_forward_mode() -> None:
    q, k, v = randn(2, 3, 4), randn(2, 5, 4, seed=1), randn(2, 5, 2, seed=2)
    cr.check_grad(lambda *t: F.scaled_dot_product_attention(*t, is_causal=True).sum(), q, k, v, order=2)
    stacked = func.vmap(F.scaled_dot_product_attention)(q, k, v)
    np.testing.assert_allclose(stacked.numpy(), F.scaled_dot_product_attention(q, k, v).numpy(), rtol=1e-12)


@pytest.mark.parametrize("shape", [(0, 4, 2), (3, 0, 2)])
def test_empty_batches_and_queries(shape: tuple[int, ...]) -> None:
    q, k = randn(*shape).requires_grad_(), randn(shape[0], 5, 2)
    y = F.scaled_dot_product_attention(q, k, k)
    assert y.shape == shape and cr.grad(y.sum(), q).shape == shape


def test_mistakes_are_named() -> None:
    q, k = randn(2, 3, 4), randn(2, 5, 4)
    attend = F.scaled_dot_product_attention
    with pytest.raises(ShapeError, match="width"):
        attend(q, randn(2, 5, 3), randn(2, 5, 3))
    with pytest.raises(ShapeError, match="length"):
        attend(q, k, randn(2, 6, 4))
    with pytest.raises(ShapeError, match=r"attn_mask of shape \(5, 3\)"):
        attend(q, k, k, cr.ones((5, 3), dtype=bool))
    with pytest.raises(DTypeError, match="int64"):
        attend(q, k, k, cr.ones((3, 5), dtype=np.int64))
    with pytest.raises(DTypeError, match="float32"):
        attend(q, k, k, cr.ones((3, 5)))
    with pytest.raises(OperationError, match="not both"):
        attend(q, k, k, cr.ones((3, 5), dtype=bool), is_causal=True)
    with pytest.raises(ShapeError, match="multiple"):
        attend(randn(3, 3, 4), k, k, enable_gqa=True)
    with pytest.raises(ShapeError, match="divisible"):
        nn.MultiheadAttention(6, 4)
    model = nn.Sequential(nn.TransformerEncoderLayer(6, 2, 8))
    with pytest.raises(ShapeError, match=r"^0\.self_attn = MultiheadAttention\("):
        model(cr.randn(4, 1, 5))
    layer = nn.MultiheadAttention(6, 2)
    x = cr.randn(4, 1, 6)
    with pytest.raises(ShapeError, match="key_padding_mask"):
        layer(x, x, x, key_padding_mask=cr.ones((4, 1), dtype=bool))
    with pytest.raises(OperationError, match="'swish'"):
        nn.TransformerEncoderLayer(6, 2, activation="swish")


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_products_depend_on_distances_only(interleaved: bool) -> None:
    turn = nn.RotaryEmbedding(6, interleaved=interleaved)
    q, k = randn(6), randn(6, seed=1)
    at = [(3, 1), (10, 8), (1002, 1000)]
    products = [
        float(turn(q[None], cr.tensor([i]))[0] @ turn(k[None], cr.tensor([j]))[0]) for i, j in at
    ]  # fmt: skip
    np.testing.assert_allclose(products, products[0], rtol=1e-9)
    assert products[0] != pytest.approx(float(q @ k), rel=1e-3)
    x = randn(2, 5, 6)
    np.testing.assert_allclose((turn(x) ** 2).sum(axis=-1).numpy(), (x**2).sum(axis=-1).numpy(), rtol=1e-12)


def test_the_two_pairings_are_one_map_of_reordered_numbers() -> None:
    x = randn(2, 3, 5, 8)
    order = np.arange(8).reshape(2, 4).T.ravel()  # (x0, x4, x1, x5, …): halves side by side
    split, side_by_side = nn.RotaryEmbedding(8)(x), nn.RotaryEmbedding(8, interleaved=True)(x[..., order])
    np.testing.assert_allclose(side_by_side.numpy(), split.numpy()[..., order], rtol=1e-12)


def test_rotary_is_a_rotation_of_complex_numbers() -> None:
    x, base = randn(7, 6), 500.0
    pairs = x.numpy()[:, :3] + 1j * x.numpy()[:, 3:]
    turned = pairs * np.exp(1j * np.arange(7)[:, None] * base ** (-np.arange(3) / 3))
    got = nn.RotaryEmbedding(6, base)(x).numpy()
    np.testing.assert_allclose(got, np.concatenate([turned.real, turned.imag], axis=1), rtol=1e-12, atol=1e-14)
    cr.check_grad(nn.RotaryEmbedding(6), x, order=2)


def test_positions_continue_behind_a_cache() -> None:
    turn, x = nn.RotaryEmbedding(4), randn(2, 3, 6, 4)
    late = turn(x[:, :, 4:], 4 + cr.arange(2))
    np.testing.assert_allclose(late.numpy(), turn(x).numpy()[:, :, 4:], rtol=1e-12)
    each = cr.tensor([[[0, 1]], [[4, 5]]])  # other positions for each sequence of the batch
    np.testing.assert_allclose(turn(x[:, :, 4:], each).numpy()[1], late.numpy()[1], rtol=1e-12)


def test_rotary_mistakes_are_named() -> None:
    with pytest.raises(ShapeError, match="even"):
        nn.RotaryEmbedding(5)
    with pytest.raises(DTypeError, match="integers"):
        nn.RotaryEmbedding(4)(randn(3, 4), randn(3))
    cos, sin = rotary_angles(3, 4)
    with pytest.raises(ShapeError, match="half the width"):
        apply_rotary(randn(3, 6), cos, sin)
    with pytest.raises(ShapeError, match="broadcast"):
        apply_rotary(randn(4, 4), cos, sin)
