"""Optimisers, schedules and clipping follow PyTorch's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule import optim
from chainrule.core.tensor import Variable

pytestmark = pytest.mark.peers
SHAPES = [(3, 4), (4,), (2, 3, 5), ()]
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "SGD": [
        {}, {"lr": 0.1, "momentum": 0.9}, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
        {"lr": 0.05, "momentum": 0.8, "nesterov": True, "weight_decay": 0.01}, {"maximize": True, "momentum": 0.5},
        {"momentum": 0.9, "dampening": 0.5, "maximize": True, "weight_decay": 0.2},
    ],
    "Adam": [
        {}, {"lr": 0.01, "betas": (0.8, 0.95), "eps": 1e-4}, {"amsgrad": True, "weight_decay": 0.1}, {"maximize": True},
        {"betas": (0.0, 0.9)}, {"weight_decay": 0.1, "decoupled_weight_decay": True},
    ],
    "AdamW": [{}, {"lr": 0.1, "weight_decay": 0.3, "amsgrad": True}, {"maximize": True}],
    "Adamax": [{}, {"lr": 0.1, "betas": (0.5, 0.9), "weight_decay": 0.1}, {"maximize": True}],
    "NAdam": [
        {}, {"lr": 0.1, "momentum_decay": 0.1, "weight_decay": 0.1}, {"maximize": True},
        {"decoupled_weight_decay": True, "weight_decay": 0.1},
    ],
    "RMSprop": [
        {}, {"momentum": 0.9}, {"centered": True}, {"momentum": 0.5, "centered": True, "weight_decay": 0.1},
        {"alpha": 0.8, "eps": 1e-3, "maximize": True},
    ],
    "Adagrad": [{}, {"lr": 0.1, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.5}],
    "Adadelta": [{}, {"lr": 0.5, "rho": 0.5, "weight_decay": 0.1}, {"maximize": True}],
    "Muon": [{}, {"nesterov": False, "lr": 0.1}, {"adjust_lr_fn": "match_rms_adamw", "ns_steps": 3}],
}  # fmt: skip
CASES = [(name, options) for name, sets in OPTIONS.items() for options in sets]


@pytest.fixture(autouse=True)
def double_precision() -> Iterator[None]:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    cr.set_default_dtype("float64")
    yield
    cr.set_default_dtype("float32")
    torch.set_default_dtype(torch.float32)


def pair(shapes: list[tuple[int, ...]], dtype: str = "float64") -> tuple[list[Variable], list[torch.nn.Parameter]]:
    rng = np.random.default_rng(3)
    values = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    if dtype == "complex128":
        values = [np.asarray(v + 1j * rng.standard_normal(v.shape)) for v in values]
    ours = [Variable(v, requires_grad=True) for v in values]
    theirs = [torch.nn.Parameter(torch.tensor(v)) for v in values]
    return ours, theirs


def set_gradients(step: int, ours: list[Variable], theirs: list[torch.nn.Parameter]) -> None:
    """Gradients of a quadratic with noise, from our weights, the same for both."""
    rng = np.random.default_rng(step)
    for p, q in zip(ours, theirs, strict=True):
        g = np.asarray(p.numpy() * 0.5 + rng.standard_normal(p.shape)).astype(p.dtype)
        p.grad, q.grad = cr.Tensor(g), torch.tensor(g)


def assert_equal_values(ours: list[Variable], theirs: list[torch.nn.Parameter]) -> None:
    for p, q in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(p.numpy(), q.detach().numpy(), rtol=1e-10, atol=1e-12)


@pytest.fixture
def exact_muon(monkeypatch: pytest.MonkeyPatch) -> None:
    # PyTorch's Muon iterates in bfloat16; in full precision the two can be compared.
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_optimiser_follows_pytorch_for_50_steps(name: str, options: dict[str, Any], exact_muon: None) -> None:
    shapes = [(3, 4), (5, 2), (4, 4)] if name == "Muon" else SHAPES
    ours, theirs = pair(shapes)
    a = getattr(optim, name)(ours, **options)
    b = getattr(torch.optim, name)(theirs, **options)
    for step in range(50):
        set_gradients(step, ours, theirs)
        a.step()
        b.step()
        assert_equal_values(ours, theirs)


@pytest.mark.parametrize("name", ["SGD", "Adam", "RMSprop", "Adagrad", "Adadelta", "NAdam"])
def test_complex_parameters_are_pairs_of_real_ones_as_in_pytorch(name: str) -> None:
    options: dict[str, Any] = {"momentum": 0.9} if name in ("SGD", "RMSprop") else {}
    ours, theirs = pair([(3, 4), (2,)], "complex128")
    a = getattr(optim, name)(ours, **options)
    b = getattr(torch.optim, name)(theirs, **options)
    for step in range(10):
        set_gradients(step, ours, theirs)
        a.step()
        b.step()
        assert_equal_values(ours, theirs)


@pytest.mark.parametrize("name", sorted(OPTIONS))
def test_defaults_and_states_are_pytorchs(name: str) -> None:
    shapes = [(3, 4)]
    ours, theirs = pair(shapes)
    a, b = getattr(optim, name)(ours), getattr(torch.optim, name)(theirs)
    for key, value in a.defaults.items():
        assert b.defaults[key] == value, key
    set_gradients(0, ours, theirs)
    a.step()
    b.step()
    mine, other = a.state_dict(), b.state_dict()
    assert mine["param_groups"][0]["params"] == other["param_groups"][0]["params"]
    assert list(mine["state"]) == list(other["state"])
    for index, states in other["state"].items():
        present = {key: value for key, value in states.items() if value is not None}
        assert set(mine["state"][index]) == set(present)
        for key, value in present.items():
            assert mine["state"][index][key].shape == tuple(value.shape)
            assert str(mine["state"][index][key].dtype) == str(value.dtype).removeprefix("torch.")


@pytest.mark.parametrize(
    ("name", "options"), [("SGD", {"momentum": 0.9}), ("Adam", {"amsgrad": True}), ("RMSprop", {"centered": True})]
)
def test_a_state_of_pytorch_can_be_continued(name: str, options: dict[str, Any]) -> None:
    ours, theirs = pair(SHAPES)
    b = getattr(torch.optim, name)(theirs, **options)
    for step in range(5):
        set_gradients(step, ours, theirs)
        b.step()
    for p, q in zip(ours, theirs, strict=True):
        p.assign(q.detach().numpy().copy())
    a = getattr(optim, name)(ours)
    a.load_state_dict(b.state_dict())
    for step in range(5, 10):
        set_gradients(step, ours, theirs)
        a.step()
        b.step()
        assert_equal_values(ours, theirs)


SCHEDULES: dict[str, tuple[str, dict[str, Any]]] = {
    "lambda": ("LambdaLR", {"lr_lambda": lambda epoch: 0.97**epoch}),
    "lambdas": ("LambdaLR", {"lr_lambda": [lambda epoch: 0.97**epoch, lambda epoch: 1 / (1 + epoch)]}),
    "multiplicative": ("MultiplicativeLR", {"lr_lambda": lambda epoch: 0.9 if epoch % 3 else 1.1}),
    "step": ("StepLR", {"step_size": 7, "gamma": 0.5}),
    "multistep": ("MultiStepLR", {"milestones": [5, 5, 30, 80], "gamma": 0.3}),
    "exponential": ("ExponentialLR", {"gamma": 0.95}),
    "cosine": ("CosineAnnealingLR", {"T_max": 30, "eta_min": 0.001}),
    "cosine odd": ("CosineAnnealingLR", {"T_max": 7}),
    "restarts": ("CosineAnnealingWarmRestarts", {"T_0": 10}),
    "restarts doubling": ("CosineAnnealingWarmRestarts", {"T_0": 5, "T_mult": 2, "eta_min": 0.01}),
    "linear": ("LinearLR", {"start_factor": 0.1, "total_iters": 40}),
    "linear down": ("LinearLR", {"start_factor": 0.9, "end_factor": 0.2, "total_iters": 9}),
    "constant": ("ConstantLR", {"factor": 0.2, "total_iters": 12}),
    "polynomial": ("PolynomialLR", {"total_iters": 60, "power": 1.7}),
    "one cycle": ("OneCycleLR", {"max_lr": 0.5, "total_steps": 101}),
    "one cycle linear": ("OneCycleLR", {"max_lr": [0.5, 0.1], "total_steps": 101, "anneal_strategy": "linear"}),
    "one cycle phases": ("OneCycleLR", {"max_lr": 1.0, "epochs": 11, "steps_per_epoch": 10, "three_phase": True}),
    "cyclic": ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 8}),
    "cyclic halved": (
        "CyclicLR",
        {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 8, "step_size_down": 5, "mode": "triangular2"},
    ),
    "cyclic exp": (
        "CyclicLR",
        {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 8, "mode": "exp_range", "gamma": 0.98},
    ),
    "cyclic function": (
        "CyclicLR",
        {
            "base_lr": 0.01,
            "max_lr": 0.2,
            "step_size_up": 8,
            "scale_fn": lambda cycle: cycle**-0.5,
            "scale_mode": "cycle",
        },
    ),
}


def two_optimisers(name: str = "SGD", **options: Any) -> tuple[Any, Any]:
    ours, theirs = pair([(2,), (3,)])
    options = options or {"momentum": 0.9}
    a = getattr(optim, name)([{"params": ours[:1]}, {"params": ours[1:], "lr": 0.3}], lr=0.2, **options)
    b = getattr(torch.optim, name)([{"params": theirs[:1]}, {"params": theirs[1:], "lr": 0.3}], lr=0.2, **options)
    return a, b


def assert_same_schedule(a: Any, b: Any, mine: Any, other: Any, steps: int = 100, metric: Any = None) -> None:
    for step in range(steps):
        for group, expected in zip(a.param_groups, b.param_groups, strict=True):
            for key in ("lr", "momentum", "betas"):
                if key in expected:
                    np.testing.assert_allclose(group[key], expected[key], rtol=1e-12, atol=1e-15)
        np.testing.assert_allclose(mine.get_last_lr(), other.get_last_lr(), rtol=1e-12, atol=1e-15)
        a.step()
        b.step()
        arguments = () if metric is None else (metric(step),)
        mine.step(*arguments)
        other.step(*arguments)


@pytest.mark.parametrize("case", SCHEDULES)
@pytest.mark.parametrize("optimiser", ["SGD", "Adam"])
def test_schedule_follows_pytorch_for_100_steps(case: str, optimiser: str) -> None:
    name, options = SCHEDULES[case]
    a, b = two_optimisers(optimiser, **({"momentum": 0.9} if optimiser == "SGD" else {"eps": 1e-7}))
    mine = getattr(optim.lr_scheduler, name)(a, **options)
    other = getattr(torch.optim.lr_scheduler, name)(b, **options)
    assert_same_schedule(a, b, mine, other)
    states, expected = mine.state_dict(), other.state_dict()
    assert set(states) <= set(expected)
    assert states["last_epoch"] == expected["last_epoch"]


@pytest.mark.parametrize("options", [{}, {"mode": "max", "threshold_mode": "abs", "patience": 2, "cooldown": 3}])
def test_reduce_on_plateau_follows_pytorch(options: dict[str, Any]) -> None:
    a, b = two_optimisers()
    options = {"patience": 3, "min_lr": 1e-4, **options}
    mine = optim.lr_scheduler.ReduceLROnPlateau(a, **options)
    other = torch.optim.lr_scheduler.ReduceLROnPlateau(b, **options)
    assert_same_schedule(a, b, mine, other, metric=lambda step: math.cos(step / 9) / (1 + step / 20))
    state, expected = mine.state_dict(), other.state_dict()
    assert set(state) == set(expected)
    assert [state[k] for k in ("best", "num_bad_epochs", "cooldown_counter")] == [
        expected[k] for k in ("best", "num_bad_epochs", "cooldown_counter")
    ]


def test_composed_schedules_follow_pytorch() -> None:
    def build(library: Any, optimiser: Any) -> Any:
        s = library.lr_scheduler
        warm = s.LinearLR(optimiser, start_factor=0.1, total_iters=10)
        cosine = s.CosineAnnealingLR(optimiser, T_max=40)
        tail = s.ExponentialLR(optimiser, gamma=0.9)
        return s.SequentialLR(optimiser, [warm, cosine, tail], milestones=[10, 50])

    a, b = two_optimisers()
    assert_same_schedule(a, b, build(optim, a), build(torch.optim, b))


def test_chained_schedules_follow_pytorch() -> None:
    def build(library: Any, optimiser: Any) -> Any:
        s = library.lr_scheduler
        return s.ChainedScheduler([s.ConstantLR(optimiser, 0.1, 20), s.ExponentialLR(optimiser, 0.9)])

    a, b = two_optimisers()
    assert_same_schedule(a, b, build(optim, a), build(torch.optim, b))


@pytest.mark.parametrize("norm_type", [1.0, 2.0, 3.5, math.inf])
@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_clip_grad_norm_follows_pytorch(norm_type: float, max_norm: float) -> None:
    ours, theirs = pair(SHAPES)
    set_gradients(1, ours, theirs)
    norm = optim.clip_grad_norm_(ours, max_norm, norm_type)
    expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm, norm_type)
    np.testing.assert_allclose(norm.item(), expected.item(), rtol=1e-12)
    for p, q in zip(ours, theirs, strict=True):
        assert p.grad is not None and q.grad is not None
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-12)


def test_clip_grad_norm_of_complex_gradients_follows_pytorch() -> None:
    ours, theirs = pair([(3,), (2, 2)], "complex128")
    set_gradients(1, ours, theirs)
    norm = optim.clip_grad_norm_(ours, 0.1)
    np.testing.assert_allclose(norm.item(), torch.nn.utils.clip_grad_norm_(theirs, 0.1).item(), rtol=1e-12)


def test_clip_grad_value_follows_pytorch() -> None:
    ours, theirs = pair(SHAPES)
    set_gradients(1, ours, theirs)
    optim.clip_grad_value_(ours, 0.4)
    torch.nn.utils.clip_grad_value_(theirs, 0.4)
    for p, q in zip(ours, theirs, strict=True):
        assert p.grad is not None and q.grad is not None
        np.testing.assert_array_equal(p.grad.numpy(), q.grad.numpy())
