"""Schedules that raise and lower the rate, and the momentum against it: CyclicLR, OneCycleLR."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ...core.errors import OperationError
from ..optimizer import Optimizer
from .scheduler import (
    LRScheduler,
    cosine,
    per_group,
    require_optimizer,
    require_positive_integer,
    saved_attributes,
    set_rate,
)


class _Cycling(LRScheduler):
    """What both share: a momentum (or first beta) that moves against the rate."""

    cycle_momentum: bool
    use_beta1: bool

    def _start_momentum(self, bases: list[float], tops: list[float], begins: bool) -> None:
        defaults = self.optimizer.defaults
        if "momentum" not in defaults and "betas" not in defaults:
            raise OperationError(
                self._message(f"{type(self.optimizer).__name__} has no momentum to cycle; pass cycle_momentum=False")
            )
        self.use_beta1 = "betas" in defaults
        if begins:
            for base, top, group in zip(bases, tops, self.optimizer.param_groups, strict=True):
                self._set_momentum(group, top)
                group["max_momentum"], group["base_momentum"] = top, base

    def _set_momentum(self, group: dict[str, Any], value: float) -> None:
        if self.use_beta1:
            group["betas"] = (value, *group["betas"][1:])
        else:
            group["momentum"] = value


class CyclicLR(_Cycling):
    """The rate goes up and down between two bounds along straight lines.

        lr = base_lr + (max_lr - base_lr) · triangle(step) · scale

    with scale 1 ("triangular"), ½ per cycle ("triangular2") or γ^step ("exp_range").
    Smith 2017, "Cyclical Learning Rates for Training Neural Networks".

    Args:
        optimizer: see `LRScheduler`; call `step` after every batch.
        base_lr, max_lr: the bounds, or one per group.
        step_size_up, step_size_down: batches of the rising and of the falling half.
        mode: which scale, where scale_fn is None.
        gamma: the factor of "exp_range".
        scale_fn: the scale as a function of the cycle or of the batch.
        scale_mode: "cycle" or "iterations": what scale_fn is a function of.
        cycle_momentum: move the momentum (or first beta) from max_momentum to base_momentum
            and back, against the rate.
        base_momentum, max_momentum: its bounds, or one per group.
        last_epoch: see `LRScheduler`.

    Raises:
        OperationError: an unknown mode, or an optimiser without momentum to cycle.
    """

    def __init__(
        self, optimizer: Optimizer, base_lr: Any, max_lr: Any, step_size_up: int = 2000,
        step_size_down: int | None = None, mode: str = "triangular", gamma: float = 1.0,
        scale_fn: Callable[[float], float] | None = None, scale_mode: str = "cycle", cycle_momentum: bool = True,
        base_momentum: Any = 0.8, max_momentum: Any = 0.9, last_epoch: int = -1,
    ) -> None:  # fmt: skip
        self.optimizer = require_optimizer(optimizer, "CyclicLR")
        if mode not in ("triangular", "triangular2", "exp_range") and scale_fn is None:
            raise OperationError(
                self._message(f"mode must be 'triangular', 'triangular2' or 'exp_range', got {mode!r}")
            )
        base_lrs = per_group("base_lr", base_lr, optimizer)
        if last_epoch == -1:
            for group, value in zip(optimizer.param_groups, base_lrs, strict=True):
                set_rate(group, value)
        self.max_lrs = per_group("max_lr", max_lr, optimizer)
        up = float(step_size_up)
        self.total_size = up + (up if step_size_down is None else float(step_size_down))
        self.step_ratio = up / self.total_size
        self.mode = mode
        self.gamma = gamma
        self._scale_fn_custom = scale_fn
        if scale_fn is None:
            scale_mode = "iterations" if mode == "exp_range" else "cycle"
        self.scale_mode = scale_mode
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            self.base_momentums = per_group("base_momentum", base_momentum, optimizer)
            self.max_momentums = per_group("max_momentum", max_momentum, optimizer)
            self._start_momentum(self.base_momentums, self.max_momentums, last_epoch == -1)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def scale_fn(self, x: float) -> float:
        """The height of the triangle in cycle, or at batch, x."""
        if self._scale_fn_custom is not None:
            return self._scale_fn_custom(x)
        if self.mode == "triangular":
            return 1.0
        return 2.0 ** (1 - x) if self.mode == "triangular2" else self.gamma**x

    def get_lr(self) -> list[float]:
        cycle = math.floor(1 + self.last_epoch / self.total_size)
        x = 1 + self.last_epoch / self.total_size - cycle
        height = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        height *= self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            bounds = zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums, strict=True)
            for group, base, top in bounds:
                self._set_momentum(group, top - (top - base) * height)
        return [base + (top - base) * height for base, top in zip(self.base_lrs, self.max_lrs, strict=True)]

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        if self._scale_fn_custom is not None:
            state["_scale_fn_custom"] = saved_attributes(self._scale_fn_custom)
        return state

    def _load(self, state: dict[str, Any]) -> None:
        attributes = state.pop("_scale_fn_custom")  # a function itself is not in the state
        super()._load(state)
        if attributes is not None and self._scale_fn_custom is not None:
            vars(self._scale_fn_custom).update(attributes)


class OneCycleLR(_Cycling):
    """One rise to a large rate and one fall to almost nothing, over a whole training.

    From max_lr / div_factor up to max_lr in the first `pct_start` of the steps, then down to
    (max_lr / div_factor) / final_div_factor; with `three_phase` first back down, as steeply as
    up. Smith & Topin 2018, "Super-Convergence: Very Fast Training of Neural Networks Using
    Large Learning Rates".

    Args:
        optimizer: see `LRScheduler`; call `step` after every batch.
        max_lr: the largest rate, or one per group.
        total_steps: steps of the training; or epochs times steps_per_epoch.
        pct_start: the part of it in which the rate rises, in [0, 1].
        anneal_strategy: "cos" or "linear".
        cycle_momentum, base_momentum, max_momentum: see `CyclicLR`.
        div_factor, final_div_factor: see above.
        three_phase: see above.
        last_epoch: see `LRScheduler`.

    Raises:
        OperationError: the number of steps is not given, something is out of range, or `step`
            is called more often than `total_steps`.
    """

    def __init__(
        self, optimizer: Optimizer, max_lr: Any, total_steps: int | None = None, epochs: int | None = None,
        steps_per_epoch: int | None = None, pct_start: float = 0.3, anneal_strategy: str = "cos",
        cycle_momentum: bool = True, base_momentum: Any = 0.85, max_momentum: Any = 0.95, div_factor: float = 25.0,
        final_div_factor: float = 1e4, three_phase: bool = False, last_epoch: int = -1,
    ) -> None:  # fmt: skip
        self.optimizer = require_optimizer(optimizer, "OneCycleLR")
        if total_steps is not None:
            self.total_steps = require_positive_integer("OneCycleLR: total_steps", total_steps)
        elif epochs is not None and steps_per_epoch is not None:
            self.total_steps = require_positive_integer("OneCycleLR: epochs", epochs)
            self.total_steps *= require_positive_integer("OneCycleLR: steps_per_epoch", steps_per_epoch)
        else:
            raise OperationError(self._message("give total_steps, or both epochs and steps_per_epoch"))
        if not 0 <= pct_start <= 1:
            raise OperationError(self._message(f"pct_start must be in [0, 1], got {pct_start!r}"))
        if anneal_strategy not in ("cos", "linear"):
            raise OperationError(self._message(f"anneal_strategy is 'cos' or 'linear', got {anneal_strategy!r}"))
        self._anneal_func_type = anneal_strategy
        self._schedule_phases = _phases(self.total_steps, pct_start, three_phase)
        if last_epoch == -1:
            for group, top in zip(optimizer.param_groups, per_group("max_lr", max_lr, optimizer), strict=True):
                group["initial_lr"] = top / div_factor
                group["max_lr"] = top
                group["min_lr"] = group["initial_lr"] / final_div_factor
        self.cycle_momentum = cycle_momentum
        if cycle_momentum:
            tops = per_group("max_momentum", max_momentum, optimizer)
            self._start_momentum(per_group("base_momentum", base_momentum, optimizer), tops, last_epoch == -1)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        step = self.last_epoch
        if step > self.total_steps:
            raise OperationError(self._message(f"step {step} of a schedule of {self.total_steps} steps"))
        start = 0.0
        phase = self._schedule_phases[-1]
        for candidate in self._schedule_phases:
            if step <= candidate["end_step"]:
                phase = candidate
                break
            if candidate is not phase:
                start = candidate["end_step"]
        length = phase["end_step"] - start
        done = (step - start) / length if length else 1.0
        rates = []
        for group in self.optimizer.param_groups:
            rates.append(self._between(group[phase["start_lr"]], group[phase["end_lr"]], done))
            if self.cycle_momentum:
                ends = group[phase["start_momentum"]], group[phase["end_momentum"]]
                self._set_momentum(group, self._between(*ends, done))
        return rates

    def _between(self, start: float, end: float, done: float) -> float:
        return cosine(start, end, done) if self._anneal_func_type == "cos" else (end - start) * done + start


def _phases(steps: int, rising: float, three: bool) -> list[dict[str, Any]]:
    """Where each phase ends and between which entries of a group it moves."""

    def phase(end: float, lrs: tuple[str, str], momenta: tuple[str, str]) -> dict[str, Any]:
        return {
            "end_step": end,
            "start_lr": lrs[0],
            "end_lr": lrs[1],
            "start_momentum": momenta[0],
            "end_momentum": momenta[1],
        }

    up, down = ("max_momentum", "base_momentum"), ("base_momentum", "max_momentum")
    phases = [phase(float(rising * steps) - 1, ("initial_lr", "max_lr"), up)]
    if three:
        phases.append(phase(float(2 * rising * steps) - 2, ("max_lr", "initial_lr"), down))
        return [*phases, phase(steps - 1, ("initial_lr", "min_lr"), ("max_momentum", "max_momentum"))]
    return [*phases, phase(steps - 1, ("max_lr", "min_lr"), down)]
