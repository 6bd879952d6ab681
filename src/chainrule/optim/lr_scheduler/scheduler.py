"""`LRScheduler`: how a schedule sets the learning rates of an optimiser, and its state."""

from __future__ import annotations

import math
import warnings
from types import FunctionType
from typing import Any

import numpy as np

from ...core.errors import DTypeError, OperationError, TransformError, located
from ...core.node import mode
from ...core.tensor import Variable
from ..optimizer import Optimizer


class LRScheduler:
    """Base class of the schedules: `step` moves on by one epoch (or batch) and sets the rates.

    A subclass states `get_lr`, the recurrence from the current rates to the next ones, so that
    several schedules can act on one optimiser; and, where there is one, `_closed_form`, the
    rates of any epoch, which `step(epoch)` uses.

    Args:
        optimizer: the optimiser whose groups' "lr" is set; their "initial_lr" is remembered.
        last_epoch: -1 to begin; the epoch reached to continue with an optimiser whose groups
            have "initial_lr" from before.

    Raises:
        DTypeError: `optimizer` is no optimiser.
        OperationError: last_epoch is given and a group has no "initial_lr".
    """

    last_epoch: int
    _closed_form: Any = None

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self.optimizer = require_optimizer(optimizer, type(self).__name__)
        for index, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", rate(group))
            elif "initial_lr" not in group:
                raise OperationError(
                    self._message(
                        f"last_epoch={last_epoch} continues a schedule, but group {index} has no 'initial_lr'; "
                        "load the optimiser's state first"
                    )
                )
        self.base_lrs: list[float] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._begin()

    def _begin(self) -> None:
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def _message(self, text: str) -> str:
        return located(f"{type(self).__name__}: {text}")

    def get_lr(self) -> list[float]:
        """The rates of the groups at `last_epoch`, given the rates before."""
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """The rates that were set last, one per group."""
        return self._last_lr

    def step(self, epoch: Any = None) -> None:
        """Move on by one epoch, or to `epoch`, and set the learning rates.

        Call it after `optimizer.step()`; a warning says so where the order is the other one.
        """
        if mode.trace is not None:
            raise TransformError(
                self._message(
                    "step() sets a Python number, which inside cr.compile would happen once, not at every call; "
                    "call it outside. The compiled step reads the learning rate anew at every call"
                )
            )
        if self._step_count == 1 and not self.optimizer._stepped:
            warnings.warn(
                f"{type(self).__name__}.step() came before the first optimizer.step(): "
                "the first value of the schedule is skipped",
                UserWarning,
                stacklevel=2,
            )
        self._step_count += 1
        self._move_to(epoch)

    def _move_to(self, epoch: Any = None) -> None:
        if epoch is None:
            self.last_epoch += 1
        else:
            self.last_epoch = epoch
        rates = self.get_lr() if epoch is None or self._closed_form is None else self._closed_form()
        self._set(rates)

    def _set(self, rates: list[float]) -> None:
        for group, value in zip(self.optimizer.param_groups, rates, strict=True):
            set_rate(group, value)
        self._last_lr = self._rates()

    def _rates(self) -> list[float]:
        return [rate(group) for group in self.optimizer.param_groups]

    def _scaled(self, factor: float) -> list[float]:
        return [r * factor for r in self._rates()]

    def state_dict(self) -> dict[str, Any]:
        """Everything the schedule knows but the optimiser, as a dictionary."""
        return {key: value for key, value in vars(self).items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what `state_dict` returned.

        Raises:
            OperationError: it is the state of another kind of schedule, or of other groups.
        """
        mine = self.state_dict()
        # PyTorch's dictionaries hold some more names of its own, which do no harm.
        missing = sorted(set(mine) - set(state_dict))
        if missing:
            raise OperationError(self._message(f"load_state_dict: the state has no {', '.join(missing)}"))
        groups = len(self.optimizer.param_groups)
        if len(state_dict.get("base_lrs", self.optimizer.param_groups)) != groups:
            raise OperationError(
                self._message(f"load_state_dict: {len(state_dict['base_lrs'])} groups saved, {groups} here")
            )
        self._load({key: state_dict[key] for key in mine})

    def _load(self, state: dict[str, Any]) -> None:
        vars(self).update(state)


def require_optimizer(optimizer: Any, name: str) -> Optimizer:
    """The optimiser, if it is one."""
    if not isinstance(optimizer, Optimizer):
        raise DTypeError(located(f"{name}: expected an optimiser, got {type(optimizer).__name__}"))
    return optimizer


def rate(group: dict[str, Any]) -> float:
    """A group's learning rate as a number."""
    return float(group["lr"])


def set_rate(group: dict[str, Any], value: float) -> None:
    """Set a group's learning rate, inside the variable if it is one."""
    if isinstance(group["lr"], Variable):
        group["lr"].assign(np.full(group["lr"].shape, value, group["lr"].dtype))
    else:
        group["lr"] = value


def per_group(name: str, value: Any, optimizer: Optimizer) -> list[Any]:
    """One value per group from a list of them or from one for all."""
    groups = len(optimizer.param_groups)
    if not isinstance(value, list | tuple):
        return [value] * groups
    if len(value) != groups:
        raise OperationError(located(f"{name} has {len(value)} values for {groups} parameter groups"))
    return list(value)


def saved_attributes(function: Any) -> dict[str, Any] | None:
    """What of a callable a state dictionary can hold: an object's attributes; None of a plain function."""
    if isinstance(function, FunctionType) or not hasattr(function, "__dict__"):
        return None
    return dict(vars(function))


def require_positive_integer(name: str, value: Any) -> int:
    """The value, if it counts something."""
    if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
        raise OperationError(located(f"{name} must be a positive integer, got {value!r}"))
    return value


def cosine(start: float, end: float, done: float) -> float:
    """From `start` to `end` along half a cosine as `done` goes from 0 to 1."""
    return end + (start - end) / 2 * (math.cos(math.pi * done) + 1)
