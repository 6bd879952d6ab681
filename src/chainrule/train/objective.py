"""What is minimised and measured: losses and metrics of a model on a batch, and their means over a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias

from ..array import argmax, astype, equal, mean
from ..core.autodiff import no_grad
from ..core.dtypes import float64
from ..core.errors import OperationError
from ..core.tensor import Tensor
from ..nn.module import Module
from .compiling import Compiler, compiled_if

Measure: TypeAlias = Callable[[Any, Any], Any]
"""A number or 0-d tensor from the model's output and the target of a batch."""

Objective: TypeAlias = Callable[[Module, Any], Tensor | tuple[Tensor, Mapping[str, Any]]]
"""The mean loss of a model on a batch; with it, where wanted, metrics: 0-d tensors or numbers by name."""


class Batches(Protocol):
    """What training reads: batches in an order, of known number; `DataLoader` is the usual one.

    With `state_dict` and `load_state_dict`, as `DataLoader` has them, an interrupted epoch
    continues in its own order. Without them the order must be the same in every epoch.
    """

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Any]: ...


def supervised(loss: Measure, metrics: Mapping[str, Measure] | None = None) -> Objective:
    """The objective of batches (input, target): `loss(model(input), target)`, and metrics of the same two."""
    measures = dict(metrics or {})

    def objective(model: Module, batch: Any) -> tuple[Tensor, dict[str, Any]]:
        x, target = batch
        output = model(x)
        return loss(output, target), {name: measure(output, target) for name, measure in measures.items()}

    return objective


@no_grad()
def accuracy(output: Tensor, target: Tensor) -> Tensor:
    """The share of class scores (N, C) whose largest entry is at the label (N,): a 0-d float64 tensor."""
    return mean(astype(equal(argmax(output, axis=-1), target), float64))


def measured(objective: Objective, model: Module, batch: Any) -> tuple[Tensor, Mapping[str, Any]]:
    """Loss and metrics of a batch, with no metrics where the objective returns the loss alone."""
    result = objective(model, batch)
    loss, numbers = result if isinstance(result, tuple) else (result, {})
    if not isinstance(loss, Tensor) or loss.ndim:
        found = f"shape {loss.shape}" if isinstance(loss, Tensor) else type(loss).__name__
        raise OperationError(f"the loss must be a 0-d tensor (the mean over a batch), got {found}")
    return loss, numbers


def samples_in(batch: Any) -> int:
    """How many samples a batch holds: the length of its first tensor."""
    first = batch
    while isinstance(first, tuple | list | dict):
        first = next(iter(first.values() if isinstance(first, dict) else first), 0)
    return len(first) if hasattr(first, "__len__") else 1


class Means:
    """Running means of loss and metrics, weighted by the samples of each batch."""

    def __init__(self, sums: Mapping[str, float] | None = None) -> None:
        self.sums = dict(sums or {"seen": 0})

    def add(self, numbers: Mapping[str, Any], count: int) -> None:
        for name, value in numbers.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value) * count
        self.sums["seen"] += count

    def values(self) -> dict[str, float]:
        seen = self.sums["seen"]
        return {name: total / seen for name, total in self.sums.items() if name != "seen"} if seen else {}


class Evaluation:
    """Mean loss and metrics of a model over batches, in evaluation mode. What is compiled stays so between calls."""

    def __init__(self, model: Module, objective: Objective, compile: bool | Compiler = False) -> None:
        self.model = model

        def measure(batch: Any) -> tuple[Tensor, Mapping[str, Any]]:
            return measured(objective, model, batch)

        self._measure = compiled_if(compile, measure)

    @no_grad()
    def __call__(self, data: Iterable[Any]) -> dict[str, float]:
        was_training = self.model.training
        self.model.eval()
        try:
            means = Means()
            for batch in data:
                mean_loss, numbers = self._measure(batch)
                means.add({"loss": mean_loss, **numbers}, samples_in(batch))
        finally:
            self.model.train(was_training)
        if not means.sums["seen"]:
            raise OperationError("evaluate: there is no batch")
        return means.values()


def evaluate(
    model: Module,
    data: Iterable[Any],
    loss: Measure | None = None,
    metrics: Mapping[str, Measure] | None = None,
    *,
    objective: Objective | None = None,
    compile: bool | Compiler = False,
) -> dict[str, float]:
    """Mean loss and metrics of a model over batches, in evaluation mode.

    Args:
        model: the network; afterwards it is in the mode that it was in.
        data: batches; (input, target) where `loss` is given.
        loss, metrics: functions of output and target, see `fit`.
        objective: instead of both, for batches of any form.
        compile: compile what measures a batch, with `chainrule.compile` or with this function.

    Raises:
        OperationError: there is no batch, or not exactly one of `loss` and `objective`.
    """
    return Evaluation(model, one_objective(loss, metrics, objective), compile)(data)


def one_objective(
    loss: Measure | None, metrics: Mapping[str, Measure] | None, objective: Objective | None
) -> Objective:
    """The objective that the arguments of `fit` and `evaluate` state.

    Raises:
        OperationError: neither or both of `loss` and `objective` are given.
    """
    if objective is not None:
        if loss is not None or metrics:
            raise OperationError("give loss= (with metrics=), or objective=, which returns both; not the two together")
        return objective
    if loss is None:
        raise OperationError("give loss=, a function of output and target, or objective=, one of model and batch")
    return supervised(loss, metrics)
