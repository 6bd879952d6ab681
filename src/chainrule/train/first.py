"""The loss of a recipe's first batch, for those who want to look at it instead of training."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..core.errors import OperationError
from ..core.tensor import Tensor
from ..nn.module import Module
from ..optim.optimizer import Optimizer
from .fitting import Fitted
from .job import Job
from .objective import Batches, Objective, measured, one_objective
from .progress import Reporter
from .runs import Run


class _Found(Exception):
    """Carries the loss out of the recipe."""

    def __init__(self, loss: Tensor, model: Module) -> None:
        self.loss, self.model = loss, model


class _FirstBatch(Job):
    """A job that computes the loss of one batch and stops there."""

    def fit(
        self, model: Module, data: Batches, optimizer: Optimizer, *, loss: Any = None, metrics: Any = None,
        objective: Objective | None = None, **options: Any,
    ) -> Fitted:  # fmt: skip
        goal = one_objective(loss, metrics, objective)
        model.train()
        raise _Found(measured(goal, model, next(iter(data)))[0], model)


def first_loss(recipe: Any, name: str, settings: Mapping[str, Any] | None = None) -> tuple[Tensor, Module]:
    """The loss of a recipe's first batch, with its graph, and the model; nothing is trained or kept.

    Args:
        recipe: the recipe's module, with `Settings` and `train(job)`.
        name: what it is called.
        settings: those that differ from the defaults.

    Raises:
        OperationError: the recipe does not train by `job.fit`.
    """
    if "fit" not in recipe.train.__code__.co_names:
        raise OperationError(
            f"the recipe {name} does not train by job.fit, and has no build(): there is no loss to look at"
        )
    with tempfile.TemporaryDirectory(prefix="chainrule-") as folder:
        run = Run(Path(folder), name, asdict(recipe.Settings.make(settings or {})))
        try:
            recipe.train(_FirstBatch(run, Reporter(io.StringIO())))
        except _Found as found:
            return found.loss, found.model
    raise OperationError(f"the recipe {name} ended before its first batch")
