"""`fit`: train any model on any loss, so that the run can be watched, stopped, killed and continued."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from ..core.errors import OperationError
from ..nn.module import Module
from ..optim.optimizer import Optimizer
from .compiling import Compiler, compiler_of
from .loop import Loop
from .objective import Batches, Evaluation, Measure, Objective, one_objective
from .progress import Reporter
from .runs import Run, folder_as_run


@dataclass(frozen=True)
class Fitted:
    """What came out of a run.

    Attributes:
        history: one row an epoch: epoch, step, loss and metrics of training, those of the
            validation with their prefix, and seconds since the start.
        validation: the numbers of the last validation.
        best: those of the best one, with its epoch; None without validation.
        steps: how many steps were made.
        seconds: how long they took, over all sessions.
        stopped_early: whether `patience` ended the run.
    """

    history: list[dict[str, Any]]
    validation: dict[str, float]
    best: dict[str, float] | None
    steps: int
    seconds: float
    stopped_early: bool


def fit(
    model: Module,
    data: Batches,
    optimizer: Optimizer,
    *,
    loss: Measure | None = None,
    metrics: Mapping[str, Measure] | None = None,
    objective: Objective | None = None,
    epochs: int | None = None,
    steps: int | None = None,
    scheduler: Any = None,
    scheduler_every: Literal["step", "epoch"] = "step",
    clip_norm: float | None = None,
    clip_value: float | None = None,
    accumulate: int = 1,
    average: float | None = None,
    validation: Batches | Callable[[], Mapping[str, float]] | None = None,
    validation_name: str = "validation",
    validate_every: int | None = None,
    monitor: str | None = None,
    mode: Literal["min", "max"] | None = None,
    patience: int | None = None,
    run: Run | Path | str | None = None,
    resume: bool = False,
    checkpoint_steps: int | None = None,
    checkpoint_seconds: float = 30.0,
    tensorboard: bool = False,
    probes: int = 40,
    reporter: Reporter | None = None,
    unit: str = "samples",
    resume_hint: str = "",
    compile: bool | Callable[[Callable[..., Any]], Callable[..., Any]] = False,
) -> Fitted:
    """Train a model. With a run's folder, every run can be stopped, killed and continued bit for bit.

        model = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
        optimizer = optim.Adam(model.parameters())
        fit(model, DataLoader(images, 64, shuffle=True), optimizer,
            loss=F.cross_entropy, metrics={"accuracy": accuracy},
            validation=DataLoader(test, 1000), epochs=5, run="runs/first")

    The same bits need the same machine and number of BLAS threads: matrix products are
    summed in another order by other numbers of threads. Call `manual_seed` before the
    model and the loader are made: initial weights, order and dropout follow from it.

    Args:
        model, data, optimizer: what is trained, on which batches, and how.
        loss: the mean loss of a batch (input, target) from `model(input)` and target.
        metrics: further numbers of the same two, by name, averaged over the samples.
        objective: instead of both, for anything else: a function of the model and a batch
            of any form that returns the loss, or the loss and a dict of metrics.
        epochs: how often to go through the data; or
        steps: how many updates to make, going through the data as often as that takes.
        scheduler: its `step()` is called after every update, or with
            `scheduler_every="epoch"` after every epoch; `ReduceLROnPlateau` is called after
            every epoch with the monitored number.
        clip_norm, clip_value: limits for the norm of the whole gradient, or of each entry.
        accumulate: batches an update; their gradients are averaged, weighted by samples, so
            that memory is that of one batch. A shorter group at the end of an epoch counts.
        average: keep a running average of the weights with this decay (0.999, say); it is what
            is validated, kept as the best, and in the model at the end.
        validation: batches for the same objective in evaluation mode, or a function that
            returns numbers; after each epoch, or every `validate_every` updates (which then
            take the place of an epoch in reports; the default with `steps` is a tenth).
        validation_name: what the validation's numbers are called: `test` where it is one.
        monitor, mode: which of them says what is better, and in which direction. If left
            out: the highest accuracy, or else the lowest loss. A name that contains "loss",
            "error" or "perplexity" is minimised, any other maximised. Without validation,
            plateaus are judged by the loss of training.
        patience: stop when so many validations in a row were no better than the best.
        run: the folder that checkpoints (`last`, `best`), `metrics.jsonl` and event files go
            to; nothing is written if left out.
        resume: continue from the run's last checkpoint, if it has one.
        checkpoint_steps, checkpoint_seconds: save as well after so many updates or seconds.
        tensorboard: also write event files for TensorBoard.
        probes: how many updates, spread over the run, are measured layer by layer.
        reporter: told what happens; plain lines on standard output if left out.
        unit: what samples are called in reports.
        resume_hint: the command that continues this run, for the message after Ctrl-C.
        compile: make the updates, and validate, with `chainrule.compile`, or with what this function makes of
            the functions that make an update of batches and measure one. Probed updates run uncompiled,
            and after a NaN the updates since the last checkpoint, too.

    Raises:
        Interrupted: Ctrl-C or SIGTERM; the state is saved if there is a folder.
        NonFiniteError: the loss or a gradient became NaN or infinite; the message names the
            operation, the module and the line of code it came from.
        CheckpointError, OutputError: a file cannot be read or written.
        OperationError: the arguments contradict each other.
    """
    goal = one_objective(loss, metrics, objective)
    total, period = _length(data, epochs, steps, accumulate, validate_every)
    if patience is not None and (patience < 1 or validation is None):
        raise OperationError("patience must be at least 1 and needs a validation to be impatient about")
    if average is not None and not 0 <= average < 1:
        raise OperationError(f"average is a decay of at least 0 and below 1, got {average}")
    if scheduler_every not in ("step", "epoch"):
        raise OperationError(f'scheduler_every must be "step" or "epoch", got {scheduler_every!r}')
    folder = run if isinstance(run, Run) or run is None else folder_as_run(Path(run), resume)
    if folder is None and (resume or tensorboard):
        raise OperationError("resume and tensorboard need a run's folder; give run=")
    loop = Loop(
        model=model,
        data=data,
        optimizer=optimizer,
        objective=goal,
        steps=total,
        period=period,
        epochs=epochs,
        scheduler=scheduler,
        scheduler_every=scheduler_every,
        clip_norm=clip_norm,
        clip_value=clip_value,
        accumulate=accumulate,
        average=average,
        validate=_validator(model, goal, validation, compile),
        validation_name=validation_name,
        monitor=monitor,
        mode=mode,
        patience=patience,
        run=folder,
        checkpoint_steps=checkpoint_steps,
        checkpoint_seconds=checkpoint_seconds,
        tensorboard=tensorboard,
        probes=probes,
        reporter=reporter or Reporter(),
        unit=unit,
        resume_hint=resume_hint,
        compile=compiler_of(compile),
    )
    loop.train(resume)
    return Fitted(loop.history, loop.validation, loop.best, loop.step, loop.elapsed, loop.finished and loop.impatient)


def _validator(
    model: Module,
    objective: Objective,
    validation: Batches | Callable[[], Mapping[str, float]] | None,
    compile: bool | Compiler,
) -> Callable[[], Mapping[str, float]] | None:
    if validation is None or callable(validation):
        return validation
    return partial(Evaluation(model, objective, compile), validation)


def _length(
    data: Batches, epochs: int | None, steps: int | None, accumulate: int, validate_every: int | None
) -> tuple[int, int]:
    """Updates of the whole run, and between two validations.

    Raises:
        OperationError: a number is not positive, there is no batch, or not exactly one of
            epochs and steps is given.
    """
    if (epochs is None) == (steps is None):
        raise OperationError("give either epochs= or steps=")
    numbers = {"epochs": epochs, "steps": steps, "accumulate": accumulate, "validate_every": validate_every}
    for name, value in numbers.items():
        if value is not None and value < 1:
            raise OperationError(f"{name} must be at least 1, got {value}")
    if len(data) == 0:
        raise OperationError("the loader has no batch: fewer samples than batch_size, and drop_last=True")
    an_epoch = -(-len(data) // accumulate)
    if epochs is not None:
        return epochs * an_epoch, validate_every or an_epoch
    assert steps is not None
    return steps, validate_every or max(1, steps // 10)
