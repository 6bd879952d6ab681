"""Layers are explained by the textbook's closed form, and by no form that does not fit their numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.tensor import Tensor
from chainrule.explain.layers import Layer
from chainrule.nn import functional as F


def only(loss: Tensor, kind: str, wrt: Any = None) -> Layer:
    """The one layer of that kind."""
    (layer,) = [x for x in cr.explain(loss, wrt=wrt).layers if x.group.kind == kind]
    return layer


def weighted_sum(y: Tensor) -> Tensor:
    return cr.sum(y * Tensor(np.linspace(-1, 1.5, y.size).reshape(y.shape).astype(y.dtype)))


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Linear": (lambda: nn.Linear(5, 3), (4, 5)),
    "Linear without bias": (lambda: nn.Linear(5, 3, bias=False), (4, 5)),
    "Linear of one sample": (lambda: nn.Linear(5, 3), (5,)),
    "Linear over time": (lambda: nn.Linear(5, 3), (2, 4, 5)),
    "Conv1d": (lambda: nn.Conv1d(2, 3, 3, padding=1), (2, 2, 7)),
    "Conv2d": (lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2), (2, 4, 7, 6)),
    "ConvTranspose2d": (
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        (2, 4, 5, 6),
    ),
    "AvgPool2d": (lambda: nn.AvgPool2d(2), (2, 3, 6, 8)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(1), (2, 3, 6, 8)),
    "MaxPool1d": (lambda: nn.MaxPool1d(3), (2, 3, 9)),
    "MaxPool2d": (lambda: nn.MaxPool2d((2, 3)), (2, 3, 6, 9)),
    "LayerNorm": (lambda: nn.LayerNorm((3, 5)), (4, 3, 5)),
    "LayerNorm without parameters": (lambda: nn.LayerNorm(5, elementwise_affine=False), (4, 5)),
    "RMSNorm": (lambda: nn.RMSNorm(5), (4, 5)),
    "BatchNorm1d": (lambda: nn.BatchNorm1d(5), (8, 5)),
    "BatchNorm2d": (lambda: nn.BatchNorm2d(3), (4, 3, 5, 5)),
    "GroupNorm": (lambda: nn.GroupNorm(2, 6), (4, 6, 3)),
    "InstanceNorm2d": (lambda: nn.InstanceNorm2d(3), (2, 3, 4, 4)),
    "Softmax": (lambda: nn.Softmax(-1), (4, 5)),
    "GELU": (lambda: nn.GELU(), (4, 5)),
    "SiLU": (lambda: nn.SiLU(), (4, 5)),
    "LeakyReLU": (lambda: nn.LeakyReLU(), (4, 5)),
    "ELU": (lambda: nn.ELU(), (4, 5)),
    "Dropout": (lambda: nn.Dropout(0.4), (4, 5)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_shows_its_closed_form_which_is_autodiff_s_gradient(name: str, dtype: Any) -> None:
    cr.manual_seed(2)
    make, shape = LAYERS[name]
    layer = make().to(dtype)
    x = Tensor(np.random.default_rng(1).standard_normal(shape).astype(dtype), requires_grad=True)
    found = only(weighted_sum(layer(x)), name.split()[0])
    assert found.equations, found
    assert found.agreement is not None
    assert found.agreement < (1e-12 if dtype is np.float64 else 1e-5)


def test_the_dense_layer_reads_as_in_the_textbook() -> None:
    layer = nn.Linear(5, 3)
    x = Tensor(np.ones((4, 5), np.float32), requires_grad=True)
    found = only(weighted_sum(layer(x)), "Linear")
    assert [q.formula.text for q in found.equations] == ["y = x Wᵀ + b", "∂L/∂W = δᵀ x", "∂L/∂b = Σ δ", "∂L/∂x = δ W"]
    assert "δ xᵀ" in found.equations[1].meaning
    assert found.equations[1].formula.latex == r"\frac{\partial L}{\partial W} = \delta^{\top} x"
    shapes = {row.symbol.text: row.shape for row in found.legend}
    assert shapes == {"x": (4, 5), "W": (3, 5), "b": (3,), "y": (4, 3), "δ": (4, 3)}


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("shape", [(5, 3), (4, 3, 2), (3,)])
def test_cross_entropy_is_probability_minus_truth(reduction: str, shape: tuple[int, ...]) -> None:
    s = Tensor(np.random.default_rng(1).standard_normal(shape), requires_grad=True)
    classes = Tensor(np.random.default_rng(2).integers(0, 3, (*shape[:1], *shape[2:]) if len(shape) > 1 else ()))
    found = only(F.cross_entropy(s, classes, reduction=reduction), "cross_entropy")
    assert found.agreement is not None and found.agreement < 1e-12
    assert found.equations[1].formula.text == ("∂L/∂s = (p − y) / N" if reduction == "mean" and classes.size > 1 else
                                               found.equations[1].formula.text)  # fmt: skip
    assert "(p − y)" in found.equations[1].formula.text


@pytest.mark.parametrize("options", [{"weight": Tensor([1.0, 2.0, 3.0])}, {"label_smoothing": 0.1}])
def test_a_variant_that_the_form_does_not_cover_is_not_described_by_it(options: Any) -> None:
    s = Tensor(np.random.default_rng(1).standard_normal((5, 3)).astype(np.float32), requires_grad=True)
    found = only(F.cross_entropy(s, Tensor(np.array([0, 1, 2, 2, 1])), **options), "cross_entropy")
    assert found.agreement is None
    assert not any("(p − y)" in q.formula.text for q in found.equations)


@pytest.mark.parametrize(
    ("function", "target", "written"),
    [
        (F.mse_loss, [[0.5, -1.0], [2.0, 0.0]], "∂L/∂x = 2 (x − t) / n"),
        (F.binary_cross_entropy_with_logits, [[0.0, 1.0], [1.0, 0.25]], "∂L/∂x = (p − t) / n"),
        (lambda x, t: F.mse_loss(x, t, reduction="sum"), [[0.5, -1.0], [2.0, 0.0]], "∂L/∂x = 2 (x − t)"),
    ],
)
def test_losses_of_numbers_are_known_by_what_they_compute(function: Any, target: Any, written: str) -> None:
    x = Tensor(np.array([[0.3, -0.7], [1.1, 2.0]]), requires_grad=True)
    loss = function(x, Tensor(np.array(target)))
    (found,) = [y for y in cr.explain(loss, wrt=x).layers if y.agreement is not None]
    assert found.agreement is not None and found.agreement < 1e-12
    assert found.equations[1].formula.text == written


def test_attention_and_embedding_are_explained_as_wholes() -> None:
    cr.manual_seed(0)
    table, attention = nn.Embedding(11, 8), nn.MultiheadAttention(8, 2, batch_first=True)
    tokens = cr.randint(0, 11, (3, 7))
    h = table(tokens)
    layers = {x.group.kind: x for x in cr.explain(weighted_sum(attention(h, h, h)[0]), wrt=table.weight).layers}
    for kind in ("MultiheadAttention", "Embedding"):
        assert layers[kind].agreement is not None and layers[kind].agreement < 1e-5
    assert "∂L/∂v = Aᵀ δ" in [q.formula.text for q in layers["MultiheadAttention"].equations]


def test_causal_attention_of_the_user_s_own_function() -> None:
    q, k, v = (Tensor(np.random.default_rng(i).standard_normal((2, 6, 4)), requires_grad=True) for i in range(3))
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    found = only(weighted_sum(out), "scaled_dot_product_attention")
    assert found.agreement is not None and found.agreement < 1e-12


RECURRENT = {
    "LSTM": lambda: nn.LSTM(3, 4),
    "LSTM with the batch first": lambda: nn.LSTM(3, 4, batch_first=True),
    "LSTM without biases": lambda: nn.LSTM(3, 4, bias=False),
    "GRU": lambda: nn.GRU(3, 4),
    "RNN": lambda: nn.RNN(3, 4),
    "RNN with relu": lambda: nn.RNN(3, 4, nonlinearity="relu"),
}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_show_backpropagation_through_time(name: str, fused: bool, last: bool) -> None:
    cr.manual_seed(1)
    layer = RECURRENT[name]().to(np.float64)
    layer.fused = fused
    x = Tensor(np.random.default_rng(1).standard_normal((5, 2, 3)), requires_grad=True)
    sequence, states = layer(x)
    hidden = states[0] if isinstance(states, tuple) else states
    found = only(weighted_sum(hidden if last else sequence), name.split()[0])
    assert found.agreement is not None and found.agreement < 1e-12
    assert "∂L/∂U = Σ δ[t]ᵀ h[t−1]" in [q.formula.text for q in found.equations]


def test_layers_open_into_the_steps_they_consist_of() -> None:
    cr.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1))
    e = cr.explain(cr.mean(model(cr.randn(3, 4))), wrt="0.weight")
    assert [x.group.path for x in e.layers] == ["", "2", "1", "0"]
    opened = [s.node for x in e.layers for s in x.steps]
    assert sorted(s.index for s in opened) == sorted(s.node.index for s in e.steps)


def test_a_bias_whose_gradient_cancels_does_not_hide_the_form() -> None:
    cr.manual_seed(0)
    conv, norm = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)
    x = cr.randn(4, 2, 8, 8)
    found = only(weighted_sum(norm(conv(x))), "Conv2d")
    assert found.agreement is not None and found.agreement < 1e-5
