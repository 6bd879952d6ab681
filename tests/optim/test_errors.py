"""Bad input to optimisers, schedules and clipping gives one clear message."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import optim
from chainrule.core.tensor import Variable
from chainrule.optim import lr_scheduler


def weight(shape: tuple[int, ...] = (2, 2), name: str = "") -> Variable:
    return Variable(np.ones(shape, np.float32), requires_grad=True, name=name)


@pytest.mark.parametrize("params", [[], (w for w in ()), {}])
def test_no_parameters(params: Any) -> None:
    with pytest.raises(ValueError, match="no parameters"):
        optim.SGD(params)


def test_a_group_without_parameters() -> None:
    with pytest.raises(ValueError, match="group 0 has no parameters"):
        optim.SGD([{"params": []}])


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (weight(), "expected a list"),
        (3, "expected a list of parameters, got int"),
        ("weights", "got str"),
        ([weight(), 3.0], "parameter 1 is no tensor but float"),
        ([{"lr": 0.1}], '"params"'),
        ([{"params": {weight()}}], "no order"),
        ([Variable(np.arange(3), name="count")], "parameter count is int64"),
    ],
)
def test_what_is_no_list_of_tensors(params: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        optim.Adam(params)


def test_a_parameter_twice() -> None:
    w = weight(name="fc.weight")
    with pytest.raises(ValueError, match=r"fc.weight of shape \(2, 2\) is given twice"):
        optim.SGD([w, w])
    with pytest.raises(ValueError, match="given twice"):
        optim.SGD([{"params": [w]}, {"params": [w]}])


def test_a_computed_tensor() -> None:
    w = weight()
    with pytest.raises(ValueError, match="computed from other tensors"):
        optim.SGD([w * 2.0])


def test_some_names_missing() -> None:
    with pytest.raises(ValueError, match="some without"):
        optim.SGD([("a", weight()), weight()])


@pytest.mark.parametrize("rate", [-0.1, float("nan"), float("inf"), "fast", None])
@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "RMSprop", "Adagrad", "Adadelta", "NAdam", "Lion", "Muon"])
def test_a_learning_rate_that_is_none(name: str, rate: Any) -> None:
    with pytest.raises(ValueError, match="learning rate lr must be a finite number ≥ 0"):
        getattr(optim, name)([weight()], lr=rate)


def test_a_learning_rate_that_becomes_nan() -> None:
    w = weight()
    optimiser = optim.SGD([w])
    optimiser.param_groups[0]["lr"] = float("nan")
    w.grad = cr.Tensor(np.ones((2, 2), np.float32))
    with pytest.raises(ValueError, match="learning rate of group 0 is nan"):
        optimiser.step()


@pytest.mark.parametrize("name", ["Adam", "AdamW", "Adamax", "NAdam", "Lion"])
@pytest.mark.parametrize("betas", [(1.0, 0.9), (0.9, -0.1), (float("nan"), 0.9), (0.9,), 0.9])
def test_betas_out_of_range(name: str, betas: Any) -> None:
    with pytest.raises(ValueError, match="betas"):
        getattr(optim, name)([weight()], betas=betas)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("SGD", {"momentum": -1}, "momentum must be"),
        ("SGD", {"nesterov": True}, "nesterov needs momentum"),
        ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov needs momentum"),
        ("Adam", {"eps": -1e-8}, "eps must be"),
        ("Adam", {"weight_decay": -1}, "weight_decay must be"),
        ("Adam", {"differentiable": True}, "differentiable"),
        ("Adadelta", {"rho": 1.5}, "rho must be"),
        ("Muon", {"adjust_lr_fn": "none"}, "adjust_lr_fn"),
        ("Muon", {"ns_steps": 100}, "ns_steps"),
        ("Muon", {"momentum": 1.0}, "momentum must be"),
    ],
)
def test_hyperparameters_out_of_range(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(optim, name)([weight()], **options)


def test_hyperparameters_of_a_group_are_checked_too() -> None:
    with pytest.raises(ValueError, match="learning rate"):
        optim.SGD([{"params": [weight()], "lr": -1.0}])


def test_an_unknown_argument() -> None:
    with pytest.raises(TypeError, match="unexpected argument momentom"):
        optim.SGD([weight()], momentom=0.9)


def test_muon_on_a_vector() -> None:
    with pytest.raises(ValueError, match=r"needs matrices, got a parameter of shape \(3,\)"):
        optim.Muon([weight((3,))])


def test_nothing_that_requires_a_gradient() -> None:
    optimiser = optim.SGD([Variable(np.ones(2, np.float32))])
    with pytest.raises(cr.GradientError, match="no parameter requires a gradient"):
        optimiser.step()


def test_a_gradient_of_another_type_or_shape() -> None:
    w = weight(name="w")
    with pytest.raises(TypeError, match="float64"):
        w.grad = cr.Tensor(np.ones((2, 2)))
    with pytest.raises(ValueError, match=r"\(3,\)"):
        w.grad = cr.Tensor(np.ones(3, np.float32))


def saved_adam() -> tuple[Any, Any]:
    params = [weight((2, 3), "a"), weight((4,), "b")]
    optimiser = optim.Adam(params)
    for p in params:
        p.grad = cr.Tensor(np.ones(p.shape, np.float32))
    optimiser.step()
    return optimiser, optimiser.state_dict()


def test_everything_wrong_with_a_state_is_listed_and_nothing_changed() -> None:
    optimiser, saved = saved_adam()
    before = optimiser.state_dict()
    saved["state"][0]["exp_avg"] = cr.Tensor(np.zeros(5, np.float32))
    del saved["state"][1]["exp_avg_sq"]
    saved["state"][1]["momentum_buffer"] = cr.Tensor(np.zeros(4, np.float32))
    saved["state"][9] = {}
    saved["param_groups"][0]["lr"] = float("nan")
    with pytest.raises(ValueError, match="does not fit") as caught:
        optimiser.load_state_dict(saved)
    message = str(caught.value)
    for part in ("exp_avg has shape (5,), expected (2, 3)", "no exp_avg_sq", "unexpected momentum_buffer", "[9]"):
        assert part in message
    after = optimiser.state_dict()
    assert after["param_groups"] == before["param_groups"]
    np.testing.assert_array_equal(after["state"][0]["exp_avg"].numpy(), before["state"][0]["exp_avg"].numpy())


def test_a_state_of_other_groups() -> None:
    _, saved = saved_adam()
    with pytest.raises(ValueError, match=r"2 parameters saved, 1 here"):
        optim.Adam([weight((2, 3))]).load_state_dict(saved)
    with pytest.raises(ValueError, match=r"1 parameter groups saved, 2 here"):
        optim.Adam([{"params": [weight((2, 3))]}, {"params": [weight((4,))]}]).load_state_dict(saved)


def test_a_state_of_another_optimiser() -> None:
    _, saved = saved_adam()
    with pytest.raises(ValueError, match="no dampening, momentum, nesterov"):
        optim.SGD([weight((2, 3)), weight((4,))], momentum=0.9).load_state_dict(saved)


@pytest.mark.parametrize(
    "state", [{}, {"state": {}}, {"state": {}, "param_groups": [{}]}, {"state": 3, "param_groups": []}]
)
def test_what_is_no_state(state: Any) -> None:
    with pytest.raises(ValueError, match="load_state_dict"):
        optim.SGD([weight()]).load_state_dict(state)


def test_clipping_names_the_gradients_that_are_not_finite() -> None:
    params = [weight((2,), "good"), weight((2,), "bad")]
    params[0].grad = cr.Tensor(np.ones(2, np.float32))
    params[1].grad = cr.Tensor(np.array([1.0, np.nan], np.float32))
    with pytest.raises(cr.GradientError, match="gradient bad") as caught:
        optim.clip_grad_norm_(params, 1.0, error_if_nonfinite=True)
    assert "gradient good" not in str(caught.value)
    assert np.isnan(optim.clip_grad_norm_(params, 1.0).item())


@pytest.mark.parametrize("limit", [-1.0, float("nan")])
def test_clipping_to_an_impossible_bound(limit: float) -> None:
    with pytest.raises(ValueError, match="at least 0"):
        optim.clip_grad_norm_([weight()], limit)
    with pytest.raises(ValueError, match="at least 0"):
        optim.clip_grad_value_([weight()], limit)


def test_clipping_with_an_impossible_norm() -> None:
    w = weight()
    w.grad = cr.Tensor(np.ones((2, 2), np.float32))
    with pytest.raises(ValueError, match="norm_type must be positive"):
        optim.clip_grad_norm_([w], 1.0, norm_type=0)
    with pytest.raises(TypeError, match="entry 1 is no tensor"):
        optim.clip_grad_norm_([w, 3], 1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda o: lr_scheduler.StepLR(o, 0), "step_size must be a positive integer"),
        (lambda o: lr_scheduler.CosineAnnealingLR(o, 0), "T_max"),
        (lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, 5, T_mult=0), "T_mult"),
        (lambda o: lr_scheduler.LinearLR(o, start_factor=0.0), "start_factor"),
        (lambda o: lr_scheduler.LinearLR(o, end_factor=2.0), "end_factor"),
        (lambda o: lr_scheduler.ConstantLR(o, factor=2.0), "factor"),
        (lambda o: lr_scheduler.LambdaLR(o, [abs, abs]), "2 values for 1 parameter groups"),
        (lambda o: lr_scheduler.OneCycleLR(o, 0.1), "total_steps"),
        (lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=10, pct_start=2), "pct_start"),
        (lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=10, anneal_strategy="sin"), "anneal_strategy"),
        (lambda o: lr_scheduler.CyclicLR(o, 0.1, 0.2, mode="square"), "mode must be"),
        (lambda o: lr_scheduler.SequentialLR(o, [], []), "at least one"),
        (lambda o: lr_scheduler.SequentialLR(o, [lr_scheduler.ExponentialLR(o, 0.9)], [3]), "need 0 milestones"),
        (lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.ReduceLROnPlateau(o)]), "needs a metric"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, factor=1.0), "below 1"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o, mode="down"), "mode is"),
        (lambda o: lr_scheduler.ReduceLROnPlateau(o).step(), "needs the metric"),
        (lambda o: lr_scheduler.ExponentialLR(o, 0.9, last_epoch=3), "initial_lr"),
    ],
)
def test_schedules_refuse_what_makes_no_sense(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(optim.SGD([weight()], lr=0.1))


def test_a_schedule_of_no_optimiser() -> None:
    with pytest.raises(TypeError, match="expected an optimiser, got float"):
        lr_scheduler.ExponentialLR(0.1, 0.9)  # type: ignore[arg-type]


def test_cycling_a_momentum_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="Adagrad has no momentum to cycle"):
        lr_scheduler.OneCycleLR(optim.Adagrad([weight()]), 0.1, total_steps=10)


def test_a_schedule_that_moves_before_the_weights_warns() -> None:
    optimiser = optim.SGD([weight()], lr=0.1)
    with pytest.warns(UserWarning, match="before the first optimizer.step"):
        lr_scheduler.ExponentialLR(optimiser, 0.9).step()


def test_a_state_of_another_schedule() -> None:
    optimiser = optim.SGD([weight()], lr=0.1)
    state = lr_scheduler.ExponentialLR(optimiser, 0.9).state_dict()
    with pytest.raises(ValueError, match="the state has no step_size"):
        lr_scheduler.StepLR(optimiser, 3).load_state_dict(state)
