"""Layers: their state and modes, what they start from, and how they name themselves in errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.errors import DTypeError, IndexingError, OperationError, ShapeError


@pytest.mark.parametrize("shape", [(3,), (5, 3), (2, 5, 3), (0, 3), (2, 0, 3)])
def test_linear_acts_on_the_last_axis(shape: tuple[int, ...]) -> None:
    layer, x = nn.Linear(3, 4), cr.randn(*shape)
    expected = x.numpy() @ layer.weight.numpy().T + layer.bias.numpy()
    np.testing.assert_allclose(layer(x).numpy(), expected, rtol=1e-5, atol=1e-6)
    layer(x).sum().backward()
    assert layer.weight.grad.shape == (4, 3) and layer.bias.grad.shape == (4,)


def test_linear_starts_within_its_bounds() -> None:
    layer = nn.Linear(100, 50)
    for p in (layer.weight, layer.bias):
        assert np.abs(p.numpy()).max() <= 0.1 and np.abs(p.numpy()).max() > 0.09


def test_layers_of_one_seed_are_equal() -> None:
    states = []
    for _ in range(2):
        cr.manual_seed(3)
        states.append(nn.Sequential(nn.Linear(4, 5), nn.Embedding(3, 2)).state_dict())
    for name in states[0]:
        np.testing.assert_array_equal(states[0][name].numpy(), states[1][name].numpy())


def test_the_default_dtype_decides_that_of_parameters() -> None:
    assert nn.Linear(2, 3).weight.dtype == np.float32
    assert nn.Linear(2, 3, dtype=np.float64).weight.dtype == np.float64
    with pytest.raises(DTypeError, match="int64"):
        nn.Linear(2, 3, dtype=np.int64)
    with pytest.raises(OperationError, match="CPU"):
        nn.Linear(2, 3, device="cuda")


@pytest.mark.parametrize(
    ("layer", "x", "kind"),
    [
        (nn.Linear(4, 2), cr.ones((3, 5)), ShapeError),
        (nn.Linear(4, 2), cr.ones((3, 4), dtype=np.int64), DTypeError),
        (nn.LayerNorm(4), cr.ones((3, 5)), ShapeError),
        (nn.RMSNorm(4), cr.ones((3, 5)), ShapeError),
        (nn.BatchNorm1d(4), cr.ones((3, 5)), ShapeError),
        (nn.BatchNorm1d(4), cr.ones((1, 4)), ShapeError),
        (nn.BatchNorm1d(4), cr.ones(4), ShapeError),
        (nn.BatchNorm2d(4), cr.ones((3, 4)), ShapeError),
        (nn.GroupNorm(2, 4), cr.ones((3, 5)), ShapeError),
        (nn.InstanceNorm1d(4), cr.ones((2, 4, 1)), ShapeError),
        (nn.Embedding(4, 2), cr.tensor([4]), IndexingError),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_an_input_that_does_not_fit_names_layer_and_path(layer: nn.Module, x: Any, kind: type[Exception]) -> None:
    model = nn.Sequential(nn.Identity(), nn.Sequential(layer))
    with pytest.raises(kind) as caught:
        model(x)
    assert str(caught.value).startswith(f"1.0 = {type(layer).__name__}(")


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: nn.Linear(-1, 2), ShapeError),
        (lambda: nn.Linear(2.5, 2), DTypeError),  # type: ignore[arg-type]
        (lambda: nn.Dropout(1.5), OperationError),
        (lambda: nn.GroupNorm(3, 4), ShapeError),
        (lambda: nn.Embedding(4, 2, padding_idx=4), IndexingError),
        (lambda: nn.Embedding(4, 2, sparse=True), OperationError),
        (lambda: nn.Embedding(4, 2, _weight=cr.ones((2, 2))), ShapeError),
    ],
)
def test_impossible_settings_are_refused_when_the_layer_is_made(make: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        make()


def test_flatten_and_unflatten_are_inverse() -> None:
    x = cr.randn(2, 3, 4, 5)
    y = nn.Flatten()(x)
    assert y.shape == (2, 60)
    np.testing.assert_array_equal(nn.Unflatten(1, (3, 4, 5))(y).numpy(), x.numpy())
    assert nn.Flatten(0)(x).shape == (120,) and nn.Flatten(1, 2)(x).shape == (2, 12, 5)
    assert nn.Unflatten(-1, (-1, 6))(y).shape == (2, 10, 6) and nn.Flatten()(cr.ones((0, 3, 2))).shape == (0, 6)
    with pytest.raises(ShapeError):
        nn.Unflatten(1, (7, -1))(y)
    with pytest.raises(IndexingError):
        nn.Flatten(4)(x)


def test_batch_norm_standardises_the_batch_and_remembers_it_for_evaluation() -> None:
    norm, x = nn.BatchNorm1d(3, momentum=0.5), cr.randn(50, 3) * 4.0 + 2.0
    y = norm(x).numpy()
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(axis=0), 1, rtol=1e-4)
    np.testing.assert_allclose(norm.running_mean.numpy(), 0.5 * x.numpy().mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(norm.running_var.numpy(), 0.5 + 0.5 * x.numpy().var(axis=0, ddof=1), rtol=1e-5)
    assert norm.num_batches_tracked.item() == 1
    before = norm.running_mean.numpy().copy()
    alone = norm.eval()(x[:1])
    assert alone.shape == (1, 3) and not norm.running_mean.requires_grad
    np.testing.assert_array_equal(norm.running_mean.numpy(), before)


def test_running_statistics_under_forward_mode_take_plain_numbers() -> None:
    norm = nn.BatchNorm1d(3)
    cr.func.jvp(norm, (cr.randn(5, 3),), (cr.ones((5, 3)),))
    assert isinstance(norm.running_mean._value, np.ndarray)


def test_embedding_rows_get_the_gradient_of_their_occurrences_and_padding_none() -> None:
    layer = nn.Embedding(5, 2, padding_idx=0)
    assert not layer.weight.numpy()[0].any()
    layer(cr.tensor([[0, 1], [3, 1]])).sum().backward()
    np.testing.assert_array_equal(layer.weight.grad.numpy(), [[0, 0], [2, 2], [0, 0], [1, 1], [0, 0]])
    fixed = nn.Embedding.from_pretrained(cr.ones((3, 2)))
    assert not fixed.weight.requires_grad and fixed(cr.tensor([2])).numpy().tolist() == [[1, 1]]


def test_losses_keep_their_weights_as_buffers() -> None:
    loss = nn.CrossEntropyLoss(weight=cr.tensor([1.0, 2.0]))
    assert list(loss.state_dict()) == ["weight"] and loss.double().weight.dtype == np.float64
    assert repr(nn.SmoothL1Loss(beta=0.5)) == "SmoothL1Loss(reduction=mean, beta=0.5)"


def test_second_order_optimisation_sees_through_a_whole_network() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.GELU(), nn.Linear(4, 2)).double()
    x, t = cr.tensor(np.random.default_rng(0).normal(size=(5, 3))), cr.tensor([0, 1, 1, 0, 1])
    weights = {name: p.numpy() for name, p in model.named_parameters()}

    def loss(*tensors: Any) -> Any:
        return nn.functional.cross_entropy(nn.functional_call(model, dict(zip(weights, tensors, strict=True)), x), t)

    cr.check_grad(loss, *weights.values(), order=2)
