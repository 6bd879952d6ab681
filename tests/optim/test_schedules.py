"""Learning-rate schedules: closed forms, and states that continue exactly."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from chainrule import optim
from chainrule.core.tensor import Variable
from chainrule.optim import lr_scheduler as s

SCHEDULES: dict[str, Callable[[Any], s.LRScheduler]] = {
    "step": lambda o: s.StepLR(o, 7, 0.5),
    "multistep": lambda o: s.MultiStepLR(o, [5, 5, 30], 0.3),
    "exponential": lambda o: s.ExponentialLR(o, 0.95),
    "cosine": lambda o: s.CosineAnnealingLR(o, 30, 0.001),
    "restarts": lambda o: s.CosineAnnealingWarmRestarts(o, 5, 2, 0.01),
    "linear": lambda o: s.LinearLR(o, 0.1, 0.7, 40),
    "constant": lambda o: s.ConstantLR(o, 0.2, 12),
    "polynomial": lambda o: s.PolynomialLR(o, 60, 1.7),
    "one cycle": lambda o: s.OneCycleLR(o, 0.5, total_steps=101),
    "cyclic": lambda o: s.CyclicLR(o, 0.01, 0.2, 8, mode="triangular2"),
    "sequence": lambda o: s.SequentialLR(o, [s.LinearLR(o), s.ExponentialLR(o, 0.9)], [10]),
    "chain": lambda o: s.ChainedScheduler([s.ConstantLR(o, 0.1, 20), s.ExponentialLR(o, 0.9)]),
}
CLOSED: dict[str, Callable[[int], float]] = {
    "step": lambda e: 0.5 ** (e // 7),
    "multistep": lambda e: 0.3 ** (2 * (e >= 5) + (e >= 30)),
    "exponential": lambda e: 0.95**e,
    "cosine": lambda e: 0.005 + 0.995 * (1 + math.cos(math.pi * e / 30)) / 2,
    "linear": lambda e: 0.1 + 0.6 * min(e, 40) / 40,
    "constant": lambda e: 0.2 if e < 12 else 1.0,
    "polynomial": lambda e: (1 - min(e, 60) / 60) ** 1.7,
}


def optimiser() -> Any:
    return optim.SGD([Variable(np.ones(2, np.float32), requires_grad=True)], lr=0.2, momentum=0.9)


@pytest.mark.parametrize("name", CLOSED)
def test_the_recurrence_gives_the_closed_form(name: str) -> None:
    o = optimiser()
    schedule = SCHEDULES[name](o)
    for epoch in range(100):
        assert o.param_groups[0]["lr"] == pytest.approx(0.2 * CLOSED[name](epoch), rel=1e-11, abs=1e-15)
        o.step()
        schedule.step()


@pytest.mark.parametrize("name", CLOSED)
def test_a_step_to_an_epoch_uses_the_closed_form(name: str) -> None:
    o = optimiser()
    schedule = SCHEDULES[name](o)
    o.step()
    for epoch in (50, 3, 11):
        schedule.step(epoch)
        assert schedule.get_last_lr() == [pytest.approx(0.2 * CLOSED[name](epoch), rel=1e-12)]


def test_fractions_of_epochs_move_a_cosine_with_restarts() -> None:
    o = optimiser()
    schedule = s.CosineAnnealingWarmRestarts(o, 10, 2)
    o.step()
    for epoch, done in ((2.5, 0.25), (10, 0.0), (20, 0.5), (29.5, 0.975), (30, 0.0)):
        schedule.step(epoch)
        assert schedule.get_last_lr() == [pytest.approx(0.1 * (1 + math.cos(math.pi * done)))]


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_loaded_state_continues_exactly(name: str) -> None:
    straight = optimiser()
    schedule = SCHEDULES[name](straight)
    rates = []
    for _ in range(60):
        rates.append((straight.param_groups[0]["lr"], straight.param_groups[0]["momentum"]))
        straight.step()
        schedule.step()

    first = optimiser()
    begun = SCHEDULES[name](first)
    for _ in range(25):
        first.step()
        begun.step()
    state = json.loads(json.dumps(begun.state_dict()))
    second = optimiser()
    resumed = SCHEDULES[name](second)
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(state)
    for expected in rates[25:]:
        assert (second.param_groups[0]["lr"], second.param_groups[0]["momentum"]) == expected
        second.step()
        resumed.step()


def test_a_plateau_state_continues_exactly() -> None:
    def run(o: Any, schedule: Any, epochs: range) -> list[float]:
        rates = []
        for epoch in epochs:
            schedule.step(1.0 / (1 + min(epoch, 8)))
            rates.append(o.param_groups[0]["lr"])
        return rates

    straight = optimiser()
    expected = run(straight, s.ReduceLROnPlateau(straight, patience=2), range(30))
    first = optimiser()
    begun = s.ReduceLROnPlateau(first, patience=2)
    run(first, begun, range(15))
    second = optimiser()
    resumed = s.ReduceLROnPlateau(second, patience=2)
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(begun.state_dict())
    assert run(second, resumed, range(15, 30)) == expected[15:]


def test_the_attributes_of_a_callable_object_are_saved() -> None:
    class Factor:
        def __init__(self, base: float) -> None:
            self.base = base

        def __call__(self, epoch: int) -> float:
            return self.base**epoch

    o = optimiser()
    state = s.LambdaLR(o, Factor(0.5)).state_dict()
    assert state["lr_lambdas"] == [{"base": 0.5}]
    factor = Factor(0.9)
    s.LambdaLR(optimiser(), factor).load_state_dict(state)
    assert factor.base == 0.5


def test_a_rate_in_a_variable_is_set_inside_it() -> None:
    rate = Variable(np.array(0.5, np.float32))
    w = Variable(np.ones(2, np.float32), requires_grad=True)
    o = optim.SGD([w], lr=rate)
    schedule = s.ExponentialLR(o, 0.5)
    o.step()
    schedule.step()
    assert o.param_groups[0]["lr"] is rate
    assert rate.item() == 0.25
