"""nn.init against torch.nn.init: gains, exact structures, and the distributions by their quantiles."""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule import nn

FUNCTIONS = [
    name
    for name in vars(nn.init)
    if name.endswith("_") and not name.startswith("_") and callable(getattr(nn.init, name))
]
OPTIONS: dict[str, dict[str, Any]] = {
    "constant_": {"val": 0.3}, "sparse_": {"sparsity": 0.3}, "uniform_": {"a": -1.0, "b": 4.0},
    "normal_": {"mean": 2.0, "std": 0.1}, "kaiming_uniform_": {"a": 0.3, "mode": "fan_out"},
    "kaiming_normal_": {"nonlinearity": "tanh"}, "xavier_uniform_": {"gain": 1.7},
    "trunc_normal_": {"mean": 0.5, "std": 1.5, "a": -1.0, "b": 3.0},
}  # fmt: skip


def test_every_function_of_pytorch_is_here() -> None:
    theirs = [n for n in vars(torch.nn.init) if n.endswith("_") and not n.startswith("_")]
    assert set(FUNCTIONS) == set(theirs)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_names_order_and_defaults_of_arguments_are_pytorchs(name: str) -> None:
    ours = [(p.name, p.default) for p in inspect.signature(getattr(nn.init, name)).parameters.values()]
    theirs = [(p.name, p.default) for p in inspect.signature(getattr(torch.nn.init, name)).parameters.values()]
    assert ours == theirs


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_distribution_is_pytorchs(name: str) -> None:
    shape = (16, 8, 3) if name == "dirac_" else (300, 200)
    torch.manual_seed(0)
    cr.manual_seed(0)
    options = OPTIONS.get(name, {})
    theirs = getattr(torch.nn.init, name)(torch.empty(shape, dtype=torch.float64), **options).numpy()
    ours = getattr(nn.init, name)(nn.Parameter(cr.tensor(np.zeros(shape))), **options).numpy()
    if name in ("constant_", "zeros_", "ones_", "eye_", "dirac_"):
        np.testing.assert_array_equal(ours, theirs)
        return
    levels = np.linspace(0.02, 0.98, 25)
    scale = theirs.std()
    np.testing.assert_allclose(np.quantile(ours, levels), np.quantile(theirs, levels), atol=0.04 * scale)
    np.testing.assert_allclose(ours.std(), scale, rtol=0.02)
    if "uniform" in name or name == "trunc_normal_":
        np.testing.assert_allclose([ours.min(), ours.max()], [theirs.min(), theirs.max()], atol=0.01 * scale)


@pytest.mark.parametrize(
    "name", ["linear", "conv2d", "conv_transpose3d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]
)
def test_gains_are_equal(name: str) -> None:
    assert nn.init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert nn.init.calculate_gain("leaky_relu", 0.2) == torch.nn.init.calculate_gain("leaky_relu", 0.2)


@pytest.mark.parametrize("name", ["Linear", "Bilinear", "Embedding", "PReLU", "LayerNorm", "BatchNorm1d", "RMSNorm"])
def test_layers_start_from_pytorchs_distributions(name: str) -> None:
    arguments = {"Linear": (400, 200), "Bilinear": (50, 20, 40), "Embedding": (300, 100)}.get(name, (64,))
    cr.manual_seed(1)
    torch.manual_seed(1)
    theirs, ours = getattr(torch.nn, name)(*arguments), getattr(nn, name)(*arguments)
    for key, value in theirs.state_dict().items():
        expected, found = value.double().numpy(), ours.state_dict()[key].numpy().astype(float)
        if expected.size < 2 or np.ptp(expected) == 0:
            np.testing.assert_array_equal(found, expected)
            continue
        np.testing.assert_allclose(found.std(), expected.std(), rtol=0.15)
        np.testing.assert_allclose(found.mean(), expected.mean(), atol=0.2 * expected.std())
