"""The training loop, with everything around it that makes a run dependable.

One update is `Loop.update`; around it are checkpoints (at the start, after each epoch, and by
steps or seconds), exact continuation, Ctrl-C, metrics, statistics and the search for the
origin of a NaN. `fit` is the way in and says what the fields mean.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from ..core.errors import ChainruleError, OperationError
from ..core.tensor import Tensor
from ..nn.module import Module
from ..optim.clip import clip_grad_norm_, clip_grad_value_, get_total_norm
from ..optim.lr_scheduler import ReduceLROnPlateau
from ..optim.optimizer import Optimizer
from ..random import default_generator
from .averaging import WeightAverage
from .checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from .metrics import MetricsLog, read_metrics
from .nonfinite import NonFiniteError, origin
from .objective import Batches, Means, Objective, measured, samples_in
from .progress import Reporter, Status, duration, in_words
from .runs import Run
from .session import Clock, Signals
from .statistics import Probe
from .tensorboard import TensorBoardLog


class Interrupted(ChainruleError):
    """A signal (Ctrl-C) stopped the run after it was saved; `signal` is its number."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


_PROGRESS = ("epoch", "step", "batches", "finished", "waited", "best", "validation")


class _Repeat(Exception):
    """The state was restored: read the data anew."""


@dataclass(kw_only=True)
class Loop:
    """One run of training: what `fit` was told, and how far it has come."""

    model: Module
    data: Batches
    optimizer: Optimizer
    objective: Objective
    steps: int
    period: int  # steps between two validations: an epoch, where nothing else was asked for
    epochs: int | None
    scheduler: Any
    scheduler_every: str
    clip_norm: float | None
    clip_value: float | None
    accumulate: int
    average: float | None
    validate: Callable[[], Mapping[str, float]] | None
    validation_name: str
    monitor: str | None
    mode: str | None
    patience: int | None
    run: Run | None
    checkpoint_steps: int | None
    checkpoint_seconds: float
    tensorboard: bool
    probes: int
    reporter: Reporter
    unit: str
    resume_hint: str
    compile: Callable[[Callable[..., Any]], Callable[..., Any]] | None

    epoch: int = 0  # finished periods
    step: int = 0  # finished updates
    batches: int = 0  # read in the running pass through the data
    finished: bool = False
    waited: int = 0  # validations since the best one
    elapsed: float = 0.0  # seconds, over all sessions
    best: dict[str, float] | None = None
    validation: dict[str, float] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    means: Means = field(default_factory=Means)  # of loss and metrics, over the running period

    def __post_init__(self) -> None:
        self._probe_every = max(1, self.steps // self.probes) if self.probes > 0 else 0
        self._log_every = max(1, self.steps // 500)
        self._averages = None if self.average is None else WeightAverage(self.model, self.average)
        self._compiled = None if self.compile is None else self.compile(self.update)
        self._watching = self.compile is None  # look for NaN inside the update, where its graph still is
        self._suspect = -1  # the step whose compiled update made a NaN
        self._log: MetricsLog | None = None
        self._board: TensorBoardLog | None = None
        self._clock = Clock()

    @property
    def impatient(self) -> bool:
        return self.patience is not None and self.waited >= self.patience

    def train(self, resume: bool) -> None:
        """Train to the end, from the last checkpoint if `resume` is set and there is one."""
        # A run that was killed before its first checkpoint has nothing to continue from.
        resume = resume and self.run is not None and self.run.last.exists()
        length = self._restore() if resume else 0
        self._clock = Clock()
        try:
            self._open_logs(length)
            with self.reporter, Signals() as signals:
                if not resume:
                    self.save()
                continuing = resume  # what is left of an interrupted pass may be nothing
                while not self.finished:
                    if not self._pass_through_data(signals) and not continuing:
                        raise OperationError("the data gave no batch: an iterator can be read once only")
                    continuing = False
            if self._averages is not None:
                self._averages.apply()
        finally:
            self.elapsed += self._clock.seconds
            self._close_logs()

    def _open_logs(self, length: int) -> None:
        """Continue the metrics after `length` bytes, and the event files after the step reached."""
        if self.run is None:
            return
        self._log = MetricsLog(self.run.metrics, length)
        rows = read_metrics(self.run.metrics, "epoch")
        self.history = [{name: value for name, value in row.items() if name != "event"} for row in rows]
        if self.tensorboard:
            self._board = TensorBoardLog(self.run.folder / "tensorboard", self.step)

    def _close_logs(self) -> None:
        if self._board is not None:
            self._board.close()
        if self._log is not None:
            self._log.close()

    def _pass_through_data(self, signals: Signals) -> bool:
        """Train on what is left of a pass; whether there was anything."""
        some = False
        for group in self._groups():
            some = True
            try:
                self._step(*group)
            except _Repeat:
                break
            if self.step % self.period == 0 or self.step == self.steps:
                self._finish_period()
            elif self._checkpoint_due():
                self.save()
            if self.finished:
                break
            if signals.received:
                self._stop(signals.received)
        return some

    def _groups(self) -> Iterator[list[Any]]:
        """The rest of the running pass through the data, in groups of one update each."""
        batches = iter(self.data)
        if not hasattr(self.data, "load_state_dict"):
            batches = islice(batches, self.batches, None)
        while group := list(islice(batches, self.accumulate)):
            self.batches += len(group)
            yield group
        self.batches = 0

    def update(self, *batches: Any) -> tuple[Tensor, Tensor, list[Mapping[str, Any]]]:
        """One update of the weights: the loss, the norm of the gradient, and each batch's metrics.

        A plain function of the batches, so that a compiler can trace it.
        """
        self.optimizer.zero_grad()
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        samples = sum(samples_in(batch) for batch in batches)
        total: Any = None
        norm: Any = None
        metrics: list[Mapping[str, Any]] = []
        for batch in batches:
            loss, numbers = measured(self.objective, self.model, batch)
            if len(batches) > 1:
                loss = loss * (samples_in(batch) / samples)
            if self._watching and not math.isfinite(value := float(loss)):
                self._fail(f"the loss became {value}", origin(loss, self.model))
            loss.backward()
            norm = get_total_norm([p.grad for p in parameters if p.grad is not None])
            if self._watching and not math.isfinite(float(norm)):
                self._fail("a gradient is not finite", origin(loss, self.model))
            part = loss.detach()
            total = part if total is None else total + part
            metrics.append({name: n.detach() if isinstance(n, Tensor) else n for name, n in numbers.items()})
            del loss, numbers  # with them the graph of this batch goes, before the next one's is made
        if self.clip_value is not None:
            clip_grad_value_(parameters, self.clip_value)
        if self.clip_norm is not None:
            clip_grad_norm_(parameters, self.clip_norm)
        self.optimizer.step()
        return total, norm, metrics

    def _step(self, *batches: Any) -> None:
        if self._probe_every and self.step % self._probe_every == 0:
            with Probe(self.model) as probe:
                loss, norm, metrics = self.update(*batches)
            self._record("layers", step=self.step, layers=probe.rows)
        else:
            loss, norm, metrics = (self._compiled or self.update)(*batches)
        value, gradient = float(loss), float(norm)
        if not (math.isfinite(value) and math.isfinite(gradient)):
            self._repeat_watching()
        if self.step == self._suspect:
            self._fail("the compiled update made NaN or infinity", "the same update, not compiled, did not")
        if self.scheduler is not None and self.scheduler_every == "step" and not self._by_plateau:
            self.scheduler.step()
        if self._averages is not None:
            self._averages.update()
        self.step += 1
        of_update = Means()
        for numbers, batch in zip(metrics, batches, strict=True):
            of_update.add(numbers, samples_in(batch))
        samples = int(of_update.sums["seen"])
        self.means.add({"loss": value, **of_update.values()}, samples)
        if self.step % self._log_every == 0:
            rate = float(self.optimizer.param_groups[0]["lr"])
            self._record("step", step=self.step, loss=value, grad_norm=gradient, lr=rate)
        self._clock.count(samples)
        self.reporter.update(self._status())

    @property
    def _by_plateau(self) -> bool:
        return isinstance(self.scheduler, ReduceLROnPlateau)

    def _status(self) -> Status:
        rate, seconds = self._clock.rate(self.steps - self.step)
        periods = -(-self.steps // self.period)
        return Status(
            min(self.epoch + 1, periods), periods, self.step, self.steps, self.means.values(), rate, seconds, self.unit
        )

    def _finish_period(self) -> None:
        trained = self.means.values()
        self.epoch += 1
        with contextlib.nullcontext() if self._averages is None else self._averages.applied():
            self._validate()
        self.means = Means()
        seconds = self.elapsed + self._clock.seconds
        named = {f"{self.validation_name}_{k}": v for k, v in self.validation.items()}
        row = {"epoch": self.epoch, "step": self.step, **trained, **named, "seconds": round(seconds, 3)}
        self._record("epoch", **row)
        self.history.append(row)
        self._report_period(trained)
        if self.scheduler is not None and self._by_plateau:
            self.scheduler.step(self._judged_by(self.validation or trained)[0])
        elif self.scheduler is not None and self.scheduler_every == "epoch":
            self.scheduler.step()
        self.finished = self.step >= self.steps or self.impatient
        if self.impatient and self.step < self.steps:
            self.reporter.say(f"stopped early: {self.waited} validations in a row no better than the best")
        self.save()

    def _report_period(self, trained: dict[str, float]) -> None:
        rate, remaining = self._clock.rate(self.steps - self.step)
        periods = -(-self.steps // self.period)
        if self.epochs == periods:
            where = f"epoch {self.epoch:>{len(str(periods))}}/{periods}"
        else:
            where = f"step {self.step:>{len(str(self.steps))}}/{self.steps}"
        parts = [where, in_words(trained)]
        if self.validation:
            parts.append(f"{self.validation_name} {in_words(self.validation)}")
        if rate:
            parts.append(f"{rate:,.0f} {self.unit}/s")
        if self.step < self.steps:
            parts.append(f"{duration(remaining)} left")
        self.reporter.say("  ".join(parts))

    def _validate(self) -> None:
        """Validate, compare with the best validation so far, and keep the model if it is better."""
        self.validation = {k: float(v) for k, v in self.validate().items()} if self.validate is not None else {}
        if not self.validation:
            return
        value, sign = self._judged_by(self.validation)
        if self.best is not None and not sign * value > sign * self._judged_by(self.best)[0]:
            self.waited += 1
            return
        self.waited = 0
        self.best = {**self.validation, "epoch": self.epoch}
        if self.run is not None:
            save_checkpoint(self.run.best, {"model": self.model.state_dict(), "validation": self.best})

    def _judged_by(self, numbers: Mapping[str, float]) -> tuple[float, int]:
        """The monitored one of some numbers, and 1 or -1 where larger or smaller is better."""
        name = self.monitor or ("accuracy" if "accuracy" in numbers else "loss")
        if name not in numbers:
            raise OperationError(f"monitor={name!r}: there is {', '.join(numbers)} to monitor")
        smaller = self.mode == "min" if self.mode else any(w in name for w in ("loss", "error", "perplexity"))
        return numbers[name], -1 if smaller else 1

    def _record(self, event: str, **values: Any) -> None:
        if self._log is not None:
            self._log.append(event=event, **values)
        if self._board is not None:
            self._board.record(event, values)

    def _checkpoint_due(self) -> bool:
        if self.run is None:
            return False
        if self.checkpoint_steps is not None and self.step % self.checkpoint_steps == 0:
            return True
        return self._clock.since_save() >= self.checkpoint_seconds

    def save(self) -> None:
        """Write the last checkpoint: all that is needed to continue as if nothing had happened."""
        if self.run is None or self._log is None:
            return
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "loader": self.data.state_dict() if hasattr(self.data, "state_dict") else None,
            "average": None if self._averages is None else self._averages.state_dict(),
            "random": default_generator.state,
            "steps": self.steps,
            **{name: getattr(self, name) for name in _PROGRESS},
            "means": self.means.sums,
            "elapsed": self.elapsed + self._clock.seconds,
            "metrics": self._log.sync(),
        }
        save_checkpoint(self.run.last, state)
        self._clock.saved()

    def _restore(self) -> int:
        """Take over the last checkpoint; how much of the metrics it knows of."""
        assert self.run is not None
        state = load_checkpoint(self.run.last)
        try:
            if state["steps"] != self.steps:
                raise CheckpointError(
                    f"{self.run.last}: saved in a run of {state['steps']} steps, this one has {self.steps}"
                )
            self.model.load_state_dict(state["model"])
            self.optimizer.load_state_dict(state["optimizer"])
            if self.scheduler is not None:
                self.scheduler.load_state_dict(state["scheduler"])
            if hasattr(self.data, "load_state_dict"):
                self.data.load_state_dict(state["loader"])
            if self._averages is not None:
                self._averages.load_state_dict(state["average"])
            default_generator.state.assign(state["random"])
            for name in _PROGRESS:
                setattr(self, name, state[name])
            self.means = Means(state["means"])
            self.elapsed = state["elapsed"]
            return int(state["metrics"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{self.run.last}: not a checkpoint of a training run ({error!r})") from error

    def _repeat_watching(self) -> None:
        """After a NaN in a compiled update, go back to the last checkpoint and look for the origin uncompiled."""
        if self.run is None:
            self._fail(
                "the compiled update made NaN or infinity", "give run= a folder, or leave out compile, to see where"
            )
        self._suspect, self._compiled, self._watching = self.step, None, True
        self._close_logs()
        self._open_logs(self._restore())
        self.reporter.say(
            f"step {self._suspect + 1}: the compiled update made NaN or infinity; "
            f"repeating from step {self.step} uncompiled to find where"
        )
        raise _Repeat

    def _stop(self, number: int) -> None:
        self.save()
        saved = "nothing is saved without a run's folder" if self.run is None else f"saved {self.run.last}"
        hint = f"; continue with: {self.resume_hint}" if self.resume_hint else ""
        raise Interrupted(f"stopped at step {self.step} of {self.steps} and {saved}{hint}", number)

    def _fail(self, what: str, why: str) -> None:
        saved = "" if self.run is None else f"\n  The last checkpoint, {self.run.last}, is from before."
        raise NonFiniteError(f"{what} in step {self.step + 1} (epoch {self.epoch + 1}): {why}{saved}")
