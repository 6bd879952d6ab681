"""Layers are explained by the textbook's closed form, and by no form that does not fit their numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.tensor import Tensor
from chainrule.explain.forms import cells
from chainrule.explain.layers import Layer
from chainrule.nn import functional as F
from chainrule.nn.functional.detection import generalized_box_iou_loss, sigmoid_focal_loss
from chainrule.nn.functional.rotary import apply_rotary, rotary_angles
from chainrule.nn.utils.rnn import pack_padded_sequence


def only(loss: Tensor, kind: str, wrt: Any = None) -> Layer:
    """The one layer of that kind."""
    (layer,) = [x for x in cr.explain(loss, wrt=wrt).layers if x.group.kind == kind]
    return layer


def weighted_sum(y: Tensor) -> Tensor:
    return cr.sum(y * Tensor(np.linspace(-1, 1.5, y.size).reshape(y.shape).astype(y.dtype)))


def trained(norm: Any) -> nn.Module:
    """A batch norm with statistics that it kept, and weights that are not 1 and 0."""
    norm.running_mean.assign(Tensor(np.linspace(-1, 1, norm.num_features).astype(np.float32)))
    norm.running_var.assign(Tensor(np.linspace(0.5, 2, norm.num_features).astype(np.float32)))
    for number, parameter in enumerate(norm.parameters()):
        parameter.assign(Tensor(np.linspace(number, 2, norm.num_features).astype(np.float32)))
    return norm.eval()


LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "Linear": (lambda: nn.Linear(5, 3), (4, 5)),
    "Linear without bias": (lambda: nn.Linear(5, 3, bias=False), (4, 5)),
    "Linear of one sample": (lambda: nn.Linear(5, 3), (5,)),
    "Linear over time": (lambda: nn.Linear(5, 3), (2, 4, 5)),
    "Conv1d": (lambda: nn.Conv1d(2, 3, 3, padding=1), (2, 2, 7)),
    "Conv2d": (lambda: nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2), groups=2), (2, 4, 7, 6)),
    "Conv1d, circular": (lambda: nn.Conv1d(2, 4, 3, padding=1, stride=2, groups=2, padding_mode="circular"), (2, 2, 7)),
    "Conv2d, circular": (lambda: nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode="circular"), (2, 2, 7, 6)),
    "Conv2d, reflect": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"), (2, 2, 7, 6)),
    "Conv2d, replicate": (lambda: nn.Conv2d(2, 3, 3, padding=2, padding_mode="replicate"), (2, 2, 5, 6)),
    "ConvTranspose2d": (
        lambda: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2),
        (2, 4, 5, 6),
    ),
    "AvgPool2d": (lambda: nn.AvgPool2d(2), (2, 3, 6, 8)),
    "AdaptiveAvgPool2d": (lambda: nn.AdaptiveAvgPool2d(1), (2, 3, 6, 8)),
    "MaxPool1d": (lambda: nn.MaxPool1d(3), (2, 3, 9)),
    "MaxPool2d": (lambda: nn.MaxPool2d((2, 3)), (2, 3, 6, 9)),
    "MaxPool2d with windows that overlap": (lambda: nn.MaxPool2d(3, 2, 1), (2, 3, 7, 8)),
    "MaxPool2d with gaps": (lambda: nn.MaxPool2d(2, 3, dilation=2, ceil_mode=True), (2, 3, 7, 8)),
    "MaxPool1d with windows that overlap": (lambda: nn.MaxPool1d(3, 1), (2, 3, 9)),
    "AvgPool2d with windows that overlap": (lambda: nn.AvgPool2d(3, 2, 1), (2, 3, 7, 8)),
    "AvgPool2d without its border": (lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False), (2, 3, 7, 8)),
    "AdaptiveAvgPool2d of uneven parts": (lambda: nn.AdaptiveAvgPool2d((3, 4)), (2, 3, 7, 6)),
    "AdaptiveMaxPool2d of uneven parts": (lambda: nn.AdaptiveMaxPool2d((3, 4)), (2, 3, 7, 6)),
    "ConvTranspose1d": (lambda: nn.ConvTranspose1d(4, 6, 3, stride=2), (2, 4, 5)),
    "BatchNorm1d after training": (lambda: trained(nn.BatchNorm1d(5)), (8, 5)),
    "BatchNorm2d after training": (lambda: trained(nn.BatchNorm2d(3)), (4, 3, 5, 5)),
    "BatchNorm2d after training, without parameters": (lambda: trained(nn.BatchNorm2d(3, affine=False)), (4, 3, 5, 5)),
    "RMSNorm over two axes": (lambda: nn.RMSNorm((3, 5)), (4, 3, 5)),
    "RMSNorm that is not trained": (lambda: nn.RMSNorm(5).requires_grad_(False), (4, 5)),
    "LogSoftmax": (lambda: nn.LogSoftmax(-1), (4, 5)),
    "LeakyReLU with a slope": (lambda: nn.LeakyReLU(0.2), (4, 5)),
    "PReLU": (lambda: nn.PReLU(5), (4, 5, 2)),
    "Softplus": (lambda: nn.Softplus(), (4, 5)),
    "PixelShuffle": (lambda: nn.PixelShuffle(2), (2, 8, 3, 3)),
    "Upsample": (lambda: nn.Upsample(scale_factor=2), (2, 3, 3, 3)),
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
    "GLU": (lambda: nn.GLU(), (4, 6)),
    "GLU of channels": (lambda: nn.GLU(1), (2, 6, 3, 3)),
    "GELU by tanh": (lambda: nn.GELU("tanh"), (4, 5)),
    "Hardswish": (lambda: nn.Hardswish(), (40, 5)),
    "Hardsigmoid": (lambda: nn.Hardsigmoid(), (40, 5)),
    "Hardtanh": (lambda: nn.Hardtanh(), (4, 5)),
    "ReLU6": (lambda: nn.ReLU6(), (4, 5)),
    "SELU": (lambda: nn.SELU(), (4, 5)),
    "CELU": (lambda: nn.CELU(), (4, 5)),
    "Mish": (lambda: nn.Mish(), (4, 5)),
    "Softsign": (lambda: nn.Softsign(), (4, 5)),
    "Tanhshrink": (lambda: nn.Tanhshrink(), (4, 5)),
    "LogSigmoid": (lambda: nn.LogSigmoid(), (4, 5)),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_shows_its_closed_form_which_is_autodiff_s_gradient(name: str, dtype: Any) -> None:
    cr.manual_seed(2)
    make, shape = LAYERS[name]
    layer = make().to(dtype)
    x = Tensor(np.random.default_rng(1).standard_normal(shape).astype(dtype), requires_grad=True)
    found = only(weighted_sum(layer(x)), re.split(r"[ ,]", name)[0])
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


@pytest.mark.parametrize("options", [{"is_causal": True}, {"dropout_p": 0.3}, {}])
def test_heads_of_queries_that_share_keys_add_up_their_gradients(options: Any) -> None:
    cr.manual_seed(4)
    q, k, v = (Tensor(np.random.default_rng(i).standard_normal((2, n, 5, 4)), requires_grad=True)
               for i, n in enumerate((6, 2, 2)))  # fmt: skip
    found = only(weighted_sum(F.scaled_dot_product_attention(q, k, v, enable_gqa=True, **options)),
                 "scaled_dot_product_attention")  # fmt: skip
    assert found.agreement is not None and found.agreement < 1e-12
    assert "6 heads of queries share 2 heads of k and v" in found.equations[0].meaning
    assert ("part set to 0" in found.equations[0].meaning) == ("dropout_p" in options)


def test_attention_of_one_tensor_to_itself_whose_weights_are_read_too() -> None:
    cr.manual_seed(4)
    x = cr.randn(2, 5, 8, dtype="float64", requires_grad=True)
    layer = nn.MultiheadAttention(8, 2, batch_first=True).double()
    out, weights = layer(x, x, x)
    found = only(weighted_sum(out) + weighted_sum(weights), "MultiheadAttention")
    assert found.agreement is not None and found.agreement < 1e-12
    found = only(weighted_sum(F.scaled_dot_product_attention(x, x, x)), "scaled_dot_product_attention")
    assert found.agreement is not None and found.agreement < 1e-12


A, P, N = (np.random.default_rng(i).standard_normal((4, 3)) for i in range(3))
LOSSES: dict[str, Callable[..., Any]] = {
    "l1_loss": lambda a, p, n: F.l1_loss(a, p),
    "smooth_l1_loss": lambda a, p, n: F.smooth_l1_loss(a, p, beta=0.5),
    "huber_loss": lambda a, p, n: F.huber_loss(a, p, delta=0.7, reduction="sum"),
    "nll_loss": lambda a, p, n: F.nll_loss(a, Tensor(np.array([0, 2, 1, 1]))),
    "cosine_similarity": lambda a, p, n: weighted_sum(F.cosine_similarity(a, p)),
    "triplet_margin_loss": lambda a, p, n: F.triplet_margin_loss(a, p, n, margin=0.4),
}


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_between_the_parts_of_a_transformer_s_layer_operations_are_named_by_what_they_are(activation: str) -> None:
    cr.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True, dropout=0.0, activation=activation)
    x = cr.randn(2, 5, 8, requires_grad=True)
    titles = [y.title.split(" = ")[0] for y in cr.explain(weighted_sum(layer(x)), wrt=x).layers[3:]]
    assert titles == ["linear2", activation, "linear1", "norm2", "add", "self_attn", "norm1"]


def test_a_function_keeps_its_name_and_a_length_has_its_form() -> None:
    z = Tensor(A, requires_grad=True)
    unit = z / cr.linalg.vector_norm(z, axis=-1, keepdims=True)
    both = cr.stack([unit, unit * 2.0], axis=1)
    layers = cr.explain(weighted_sum(both)).layers
    named = {y.title.split(" = ")[-1]: y.agreement for y in layers}
    assert named["stack"] == 0.0 and named["vector_norm"] is not None and named["vector_norm"] < 1e-12


@pytest.mark.parametrize("log_target", [True, False])
@pytest.mark.parametrize(
    ("reduction", "written"), [("mean", " / n"), ("sum", ""), ("batchmean", " / N"), ("none", " · δ")]
)
def test_a_divergence_pulls_with_the_target_alone(reduction: str, written: str, log_target: bool) -> None:
    x, t = F.log_softmax(Tensor(A), -1).numpy(), F.softmax(Tensor(P), -1).numpy()
    scores = Tensor(x, requires_grad=True)
    target = Tensor(np.log(t) if log_target else t, requires_grad=True)
    y = F.kl_div(scores, target, reduction=reduction, log_target=log_target)
    found = only(weighted_sum(y) if reduction == "none" else y, "kl_div")
    assert found.agreement is not None and found.agreement < 1e-12
    assert found.equations[1].formula.text == f"∂L/∂x = −{'p' if log_target else 't'}{written}"


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2), (0.6, 2), (-1, 2), (0.25, 1.5), (0.4, 3)])
def test_a_focal_loss_says_how_little_the_easy_count(alpha: float, gamma: float, reduction: str) -> None:
    x = Tensor(A, requires_grad=True)
    y = sigmoid_focal_loss(x, Tensor((P > 0).astype(float)), alpha, gamma, reduction)
    found = only(weighted_sum(y) if reduction == "none" else y, "sigmoid_focal_loss")
    assert found.agreement is not None and found.agreement < 1e-12
    assert ("α[t]" in found.equations[0].formula.text) == (alpha != -1)
    assert f"γ = {gamma:g}" in found.equations[0].meaning


@pytest.mark.parametrize("both", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_loss_of_overlap_moves_the_sides_of_boxes(reduction: str, both: bool) -> None:
    rng = np.random.default_rng(0)
    middles, sizes = rng.random((2, 2, 15, 2)) * 4, rng.random((2, 2, 15, 2)) * 3 + 0.1  # some overlap, some do not
    boxes = np.concatenate([middles - sizes, middles + sizes], -1)
    boxes[1, 0, :4, :2] = boxes[0, 0, :4, :2]  # a corner in common
    a, b = (Tensor(boxes[k], requires_grad=both or k == 0) for k in (0, 1))
    y = generalized_box_iou_loss(a, b, reduction)
    found = only(weighted_sum(y) if reduction == "none" else y, "generalized_box_iou_loss")
    assert found.agreement is not None and found.agreement < 1e-12


@pytest.mark.parametrize(
    ("criterion", "kind"),
    [
        (F.mse_loss, "mse_loss"),
        (F.l1_loss, "l1_loss"),
        (lambda a, b: F.huber_loss(a, b, delta=0.4), "huber_loss"),
        (F.binary_cross_entropy_with_logits, "binary_cross_entropy_with_logits"),
    ],
)
def test_a_loss_under_another_name_is_called_what_it_is(criterion: Any, kind: str) -> None:
    names: dict[str, Any] = {"criterion": criterion, "a": Tensor(A, requires_grad=True), "b": Tensor((P > 0) * 1.0)}
    exec(compile("L = criterion(a, b)", "<own>", "exec"), names)
    (found,) = [y for y in cr.explain(names["L"], names=names).layers if y.agreement is not None]
    assert found.title == f"L = {kind}"


@pytest.mark.parametrize("loss", [F.huber_loss, F.smooth_l1_loss, F.l1_loss, F.mse_loss])
def test_a_loss_of_one_number_in_two_axes_is_explained(loss: Any) -> None:
    x, t = Tensor(A[:1, :1], requires_grad=True), Tensor(np.abs(P[:1, :1]))
    assert any(layer.agreement is not None for layer in cr.explain(loss(x, t)).layers)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_have_closed_forms(name: str) -> None:
    a, p, n = (Tensor(values, requires_grad=True) for values in (A, P, N))
    found = only(LOSSES[name](a, p, n), name)
    assert found.agreement is not None and found.agreement < 1e-12


@pytest.mark.parametrize("interleaved", [True, False])
def test_a_rotation_by_positions_turns_the_gradient_back(interleaved: bool) -> None:
    x = Tensor(np.random.default_rng(1).standard_normal((2, 5, 8)), requires_grad=True)
    y = apply_rotary(x, *rotary_angles(5, 8, dtype="float64"), interleaved=interleaved)
    found = only(weighted_sum(y), "apply_rotary")
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


ARRANGED: dict[str, Callable[[], Any]] = {
    "LSTM, stacked, both ways": lambda: nn.LSTM(3, 4, num_layers=2, bidirectional=True, batch_first=True),
    "LSTM, both ways": lambda: nn.LSTM(3, 4, bidirectional=True, bias=False),
    "GRU, stacked": lambda: nn.GRU(3, 4, num_layers=3),
    "GRU, both ways": lambda: nn.GRU(3, 4, bidirectional=True, bias=False),
    "RNN, stacked, with dropout": lambda: nn.RNN(3, 4, num_layers=2, dropout=0.3),
    "LSTM, projected": lambda: nn.LSTM(3, 4, proj_size=2),
    "LSTM, projected, stacked, both ways": lambda: nn.LSTM(3, 4, 2, bidirectional=True, proj_size=3, bias=False),
}


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("name", ARRANGED)
def test_stacked_and_bidirectional_layers_with_states_and_sequences_of_all_lengths(
    name: str, packed: bool, states: bool, fused: bool
) -> None:
    cr.manual_seed(1)
    layer = ARRANGED[name]().double()
    layer.fused = fused
    rng = np.random.default_rng(1)
    x = Tensor(rng.standard_normal((3, 5, 3) if layer.batch_first else (5, 3, 3)), requires_grad=True)
    given: Any = pack_padded_sequence(x, [5, 4, 2], batch_first=layer.batch_first) if packed else x
    ways = layer.num_layers * (2 if layer.bidirectional else 1)
    widths = [layer.proj_size or 4, 4][: 1 + (layer.mode == "LSTM")]
    first = [Tensor(rng.standard_normal((ways, 3, width)), requires_grad=True) for width in widths]
    hx: Any = None if not states else tuple(first) if layer.mode == "LSTM" else first[0]
    sequence, last = layer(given, hx)
    ends = last if isinstance(last, tuple) else (last,)
    loss = sum((weighted_sum(s) for s in ends), weighted_sum(sequence.data if packed else sequence))
    found = only(loss, name.split(",")[0])
    assert found.agreement is not None and found.agreement < 1e-12
    texts = [q.formula.text for q in found.equations]
    assert ("h[t] = (h⁺[t], h⁻[t])" in texts) == layer.bidirectional
    assert ("h′[t] = P h[t]" in texts) == bool(layer.proj_size)
    assert all(q.formula.mathml for q in found.equations)


CELLS: dict[str, Callable[[], Any]] = {
    "LSTMCell": lambda: nn.LSTMCell(3, 4),
    "LSTMCell without biases": lambda: nn.LSTMCell(3, 4, bias=False),
    "GRUCell": lambda: nn.GRUCell(3, 4),
    "RNNCell": lambda: nn.RNNCell(3, 4),
    "RNNCell with relu": lambda: nn.RNNCell(3, 4, nonlinearity="relu"),
}


@pytest.mark.parametrize("single", [True, False])
@pytest.mark.parametrize("only_memory", [True, False])
@pytest.mark.parametrize("name", CELLS)
def test_a_cell_shows_its_step_every_time_it_runs(name: str, only_memory: bool, single: bool) -> None:
    cr.manual_seed(1)
    layer = CELLS[name]().double()
    x = Tensor(np.random.default_rng(1).standard_normal((3,) if single else (2, 3)), requires_grad=True)
    states = layer(x)
    after = layer(x, states)
    ends = after if isinstance(after, tuple) else (after,)
    loss = sum((weighted_sum(s) for s in (ends[-1:] if only_memory else ends)), weighted_sum(x))
    found = [y for y in cr.explain(loss).layers if y.group.kind == name.split()[0]]
    assert len(found) == 2
    assert all(y.agreement is not None and y.agreement < 1e-12 for y in found)


def test_a_form_with_one_wrong_sign_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    step = cells.CELLS["LSTM"]

    def wrong(carry: Any, kept: Any) -> Any:
        da, du, back = step.backward(carry, kept)
        return -da, du, back

    monkeypatch.setitem(cells.CELLS, "LSTM", step._replace(backward=wrong))
    layer = nn.LSTM(3, 4, num_layers=2).double()
    x = Tensor(np.random.default_rng(1).standard_normal((5, 2, 3)), requires_grad=True)
    assert only(weighted_sum(layer(x)[0]), "LSTM").agreement is None


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
