"""Schedules made of schedules, and the one that watches a metric."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

from ...core.errors import DTypeError, OperationError
from ..optimizer import Optimizer
from .scheduler import LRScheduler, per_group, require_optimizer, set_rate


class _Composed(LRScheduler):
    """What both share: a list of schedules of one optimiser, saved with their own states."""

    _schedulers: list[LRScheduler]

    def _take(self, schedulers: Sequence[Any], optimizer: Optimizer | None) -> None:
        if not schedulers:
            raise OperationError(self._message("needs at least one schedule"))
        for index, scheduler in enumerate(schedulers):
            if not isinstance(scheduler, LRScheduler):
                raise DTypeError(self._message(f"entry {index} is no schedule but {type(scheduler).__name__}"))
            if isinstance(scheduler, ReduceLROnPlateau):
                raise OperationError(self._message(f"entry {index}: ReduceLROnPlateau needs a metric at each step"))
        self.optimizer = schedulers[0].optimizer if optimizer is None else optimizer
        for index, scheduler in enumerate(schedulers):
            if scheduler.optimizer is not self.optimizer:
                raise OperationError(self._message(f"entry {index} belongs to another optimiser"))
        self._schedulers = list(schedulers)

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        state["_schedulers"] = [scheduler.state_dict() for scheduler in self._schedulers]
        return state

    def _load(self, state: dict[str, Any]) -> None:
        saved = state.pop("_schedulers")
        if len(saved) != len(self._schedulers):
            raise OperationError(self._message(f"{len(saved)} schedules saved, {len(self._schedulers)} here"))
        for scheduler, part in zip(self._schedulers, saved, strict=True):
            scheduler.load_state_dict(part)
        super()._load(state)


class SequentialLR(_Composed):
    """One schedule after the other; each begins at its milestone.

    Args:
        optimizer: the optimiser of all the schedules.
        schedulers: in order.
        milestones: the epochs at which the second, third, … take over.
        last_epoch: see `LRScheduler`.

    Raises:
        OperationError: not one milestone fewer than schedules, schedules of another optimiser,
            or a ReduceLROnPlateau among them.
    """

    def __init__(
        self, optimizer: Optimizer, schedulers: Sequence[LRScheduler], milestones: Sequence[int], last_epoch: int = -1
    ) -> None:
        self._take(schedulers, require_optimizer(optimizer, "SequentialLR"))
        if len(milestones) != len(schedulers) - 1:
            raise OperationError(
                self._message(
                    f"{len(schedulers)} schedules need {len(schedulers) - 1} milestones, got {len(milestones)}"
                )
            )
        self._milestones = list(milestones)
        self.last_epoch = last_epoch + 1
        # Each schedule took its first step when it was made; only the first one's counts.
        for group in optimizer.param_groups:
            set_rate(group, group["initial_lr"])
        self._undo(self)
        first = self._schedulers[bisect_right(self._milestones, 0)]
        first._begin()
        self._last_lr = first.get_last_lr()

    def _undo(self, scheduler: LRScheduler) -> None:
        if isinstance(scheduler, _Composed):
            for inner in scheduler._schedulers:
                self._undo(inner)
        else:
            scheduler.last_epoch -= 1

    def _begin(self) -> None:
        # As a part of another sequence: begin again with the schedule that is on.
        self._schedulers[bisect_right(self._milestones, self.last_epoch)]._begin()

    def step(self, epoch: Any = None) -> None:
        """Move on by one epoch; at a milestone the next schedule begins at its epoch 0."""
        if epoch is not None:
            raise OperationError(self._message("step takes no epoch"))
        self.last_epoch += 1
        index = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[index]
        if index > 0 and self._milestones[index - 1] == self.last_epoch:
            scheduler._move_to(0)
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()


class ChainedScheduler(_Composed):
    """Several schedules at once: each step lets every one of them act on the rates in turn.

    Args:
        schedulers: in the order in which they act; those with a recurrence combine, those that
            set the rate from the epoch alone overrule the ones before.
        optimizer: their optimiser, if it is to be checked.

    Raises:
        OperationError: no schedules, schedules of another optimiser, or a ReduceLROnPlateau.
    """

    def __init__(self, schedulers: Sequence[LRScheduler], optimizer: Optimizer | None = None) -> None:
        self._take(schedulers, optimizer)
        self._last_lr = self._rates()

    def step(self, epoch: Any = None) -> None:
        """Move every schedule on by one epoch."""
        if epoch is not None:
            raise OperationError(self._message("step takes no epoch"))
        for scheduler in self._schedulers:
            scheduler.step()
        self._last_lr = self._rates()


class ReduceLROnPlateau(LRScheduler):
    """The rate falls by a factor whenever a metric has not improved for `patience` epochs.

    Args:
        optimizer: see `LRScheduler`.
        mode: "min" if the metric is to fall, "max" if it is to rise.
        factor: what the rate is multiplied by; below 1.
        patience: epochs without improvement that are waited out.
        threshold: by how much a value must beat the best one to count as better.
        threshold_mode: "rel": by that part of the best value; "abs": by that much.
        cooldown: epochs after a fall in which nothing is counted.
        min_lr: a lower bound of the rate, or one per group.
        eps: falls smaller than this are left out.

    Raises:
        OperationError: factor is not below 1, or an unknown mode.
    """

    def __init__(
        self, optimizer: Optimizer, mode: str = "min", factor: float = 0.1, patience: int = 10,
        threshold: float = 1e-4, threshold_mode: str = "rel", cooldown: int = 0, min_lr: Any = 0, eps: float = 1e-8,
    ) -> None:  # fmt: skip
        self.optimizer = require_optimizer(optimizer, "ReduceLROnPlateau")
        if not factor < 1:
            raise OperationError(self._message(f"factor must be below 1, got {factor!r}"))
        if mode not in ("min", "max"):
            raise OperationError(self._message(f"mode is 'min' or 'max', got {mode!r}"))
        if threshold_mode not in ("rel", "abs"):
            raise OperationError(self._message(f"threshold_mode is 'rel' or 'abs', got {threshold_mode!r}"))
        self.factor = factor
        self.default_min_lr = None if isinstance(min_lr, list | tuple) else min_lr
        self.min_lrs = per_group("min_lr", min_lr, optimizer)
        self.patience = patience
        self.cooldown = cooldown
        self.eps = eps
        self.last_epoch = 0
        self._last_lr = self._rates()
        self.mode = mode
        self.threshold = threshold
        self.threshold_mode = threshold_mode
        self.mode_worse = math.inf if mode == "min" else -math.inf
        self.best: float = self.mode_worse
        self.cooldown_counter = 0
        self.num_bad_epochs = 0

    @property
    def in_cooldown(self) -> bool:
        """Whether epochs are not being counted."""
        return self.cooldown_counter > 0

    def step(self, metrics: Any = None, epoch: int | None = None) -> None:  # type: ignore[override]
        """Take the metric of another epoch into account, and lower the rates if it is time.

        Raises:
            OperationError: no metric is given.
        """
        if metrics is None:
            raise OperationError(self._message("step needs the metric that is watched: step(loss)"))
        current = float(metrics)
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        if self._is_better(current):
            self.best = current
            self.num_bad_epochs = 0
        else:
            self.num_bad_epochs += 1
        if self.in_cooldown:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter = self.cooldown
            self.num_bad_epochs = 0
        self._last_lr = self._rates()

    def _is_better(self, value: float) -> bool:
        sign = 1 if self.mode == "max" else -1
        if self.threshold_mode == "rel":
            bound = self.best * (1 + sign * self.threshold)
        else:
            bound = self.best + sign * self.threshold
        return value > bound if sign > 0 else value < bound

    def _reduce(self) -> None:
        groups = self.optimizer.param_groups
        if len(groups) != len(self.min_lrs):
            if self.default_min_lr is None:
                raise OperationError(
                    self._message(f"min_lr was given for {len(self.min_lrs)} groups, the optimiser has {len(groups)}")
                )
            self.min_lrs = [self.default_min_lr] * len(groups)
        for group, old, least in zip(groups, self._rates(), self.min_lrs, strict=True):
            new = max(old * self.factor, least)
            if old - new > self.eps:
                set_rate(group, new)
