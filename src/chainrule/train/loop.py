"""`Trainer`: the training loop, with everything around it that makes a run dependable.

The loop itself is `_step`; around it are checkpoints (at the start, after each epoch, and by
steps or seconds), exact continuation, Ctrl-C, metrics, statistics and the search for the
origin of a NaN.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

import numpy as np

from ..core.autodiff import no_grad
from ..core.errors import ChainruleError, OperationError
from ..core.tensor import Tensor
from ..data.loader import DataLoader
from ..nn.functional import cross_entropy
from ..nn.module import Module
from ..optim.optimizer import Optimizer
from ..random import default_generator
from .checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from .metrics import MetricsLog
from .nonfinite import NonFiniteError, explain_gradient, explain_loss
from .progress import Reporter, Status, duration
from .runs import Run
from .statistics import Probe, norm


class Interrupted(ChainruleError):
    """A signal (Ctrl-C) stopped the run after it was saved; `signal` is its number."""

    def __init__(self, message: str, signal: int) -> None:
        super().__init__(message)
        self.signal = signal


def count_correct(output: Tensor, target: Tensor) -> int:
    """How many rows of class scores (N, C) have their largest entry at the label (N,)."""
    scores = output._array("count_correct")
    return int(np.count_nonzero(scores.argmax(axis=-1) == target._array("count_correct")))


@no_grad()
def evaluate(
    model: Module,
    loader: DataLoader,
    loss_fn: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
    correct: Callable[[Tensor, Tensor], int] | None = count_correct,
) -> dict[str, float]:
    """Mean loss (and accuracy) of a model over a loader, in evaluation mode."""
    was_training = model.training
    model.eval()
    total = hits = seen = 0.0
    for x, y in loader:
        output = model(x)
        count = len(x)
        total += float(loss_fn(output, y)) * count
        hits += correct(output, y) if correct is not None else 0
        seen += count
    model.train(was_training)
    result = {"loss": total / seen}
    return result if correct is None else result | {"accuracy": hits / seen}


class Trainer:
    """Train a model; every run can be stopped, killed and continued bit for bit.

    The same bits need the same machine and number of BLAS threads: matrix products are
    summed in another order by other numbers of threads.

    Args:
        model, optimizer: what is trained and how.
        loader: batches (input, target); its order is part of the checkpoints.
        run: the folder that checkpoints and metrics go to.
        epochs: how often to go through the loader.
        loss_fn: mean loss of a batch from output and target.
        correct: how many of a batch's outputs are right; None where that means nothing.
        scheduler: its `step()` is called after every batch.
        validate: called after each epoch; its numbers are logged, and the model with the
            best `accuracy` (or else the lowest `loss`) is kept as the best checkpoint.
        reporter: told what happens.
        checkpoint_steps, checkpoint_seconds: save as well after so many steps or seconds.
        probes: how many steps, spread over the run, are measured layer by layer.
        resume_hint: the command that continues this run, for the message after Ctrl-C.
    """

    def __init__(
        self,
        model: Module,
        optimizer: Optimizer,
        loader: DataLoader,
        run: Run,
        epochs: int,
        *,
        loss_fn: Callable[[Tensor, Tensor], Tensor] = cross_entropy,
        correct: Callable[[Tensor, Tensor], int] | None = count_correct,
        scheduler: Any = None,
        validate: Callable[[], dict[str, float]] | None = None,
        reporter: Reporter | None = None,
        checkpoint_steps: int | None = None,
        checkpoint_seconds: float = 30.0,
        probes: int = 40,
        resume_hint: str = "",
    ) -> None:
        if epochs < 1:
            raise OperationError(f"epochs must be at least 1, got {epochs}")
        if len(loader) == 0:
            raise OperationError("the loader has no batch: fewer samples than batch_size, and drop_last=True")
        self.model, self.optimizer, self.loader, self.run = model, optimizer, loader, run
        self.epochs, self.loss_fn, self.correct = epochs, loss_fn, correct
        self.scheduler, self.validate = scheduler, validate
        self.reporter = reporter or Reporter()
        self.checkpoint_steps, self.checkpoint_seconds = checkpoint_steps, checkpoint_seconds
        self.resume_hint = resume_hint
        self.steps = epochs * len(loader)
        self.epoch = 0  # finished epochs
        self.step = 0  # finished steps of all epochs
        self.elapsed = 0.0  # seconds, over all sessions
        self.best: dict[str, float] | None = None
        self.validation: dict[str, float] = {}
        self._probe_every = max(1, self.steps // probes)
        self._log_every = max(1, self.steps // 500)
        self._sums = {"loss": 0.0, "correct": 0, "seen": 0}  # over the running epoch
        self._log: MetricsLog
        self._session: _Clock

    def fit(self, resume: bool = False) -> dict[str, float]:
        """Train to the end; the numbers of the last validation.

        Args:
            resume: continue from the run's last checkpoint, if it has one.

        Raises:
            Interrupted: Ctrl-C or SIGTERM; the state is saved.
            NonFiniteError: the loss or a gradient became NaN or infinite.
            CheckpointError, OutputError: a file cannot be read or written.
        """
        resume = resume and self.run.last.exists()  # killed before the first checkpoint: nothing to continue
        length = self._restore() if resume else 0
        self._log = MetricsLog(self.run.metrics, length)
        self._session = _Clock()
        try:
            with self.reporter, _Signals() as signals:
                if not resume:
                    self.save()
                while self.epoch < self.epochs:
                    for x, y in self.loader:
                        self._step(x, y)
                        if signals.received:
                            self._stop(signals.received)
                        if self._checkpoint_due():
                            self.save()
                    self._finish_epoch()
        finally:
            self._log.close()
        return self.validation

    def _step(self, x: Tensor, y: Tensor) -> None:
        if self.step % self._probe_every == 0:
            with Probe(self.model) as probe:
                value, gradient, output = self._learn(x, y)
            self._log.append(event="layers", step=self.step, layers=probe.rows)
        else:
            value, gradient, output = self._learn(x, y)
        self.step += 1
        sums = self._sums
        sums["loss"] += value * len(x)
        sums["seen"] += len(x)
        if self.correct is not None:
            sums["correct"] += self.correct(output, y)
        if self.step % self._log_every == 0:
            rate = float(self.optimizer.param_groups[0]["lr"])
            self._log.append(event="step", step=self.step, loss=value, grad_norm=gradient, lr=rate)
        self._session.count(len(x))
        self.reporter.update(self._status())

    def _learn(self, x: Tensor, y: Tensor) -> tuple[float, float, Tensor]:
        """One step of gradient descent: loss, norm of the whole gradient, and the model's output."""
        self.optimizer.zero_grad()
        output = self.model(x)
        loss = self.loss_fn(output, y)
        value = float(loss)
        if not math.isfinite(value):
            self._fail(f"the loss became {value}", explain_loss(loss, self.model))
        loss.backward()
        gradient = norm([p.grad for p in self.model.parameters() if p.grad is not None])
        if not math.isfinite(gradient):
            self._fail("a gradient is not finite", explain_gradient(loss, self.model))
        self.optimizer.step()
        if self.scheduler is not None:
            self.scheduler.step()
        return value, gradient, output

    def _status(self) -> Status:
        sums = self._sums
        accuracy = None if self.correct is None else sums["correct"] / sums["seen"]
        rate, seconds = self._session.rate(self.steps - self.step)
        return Status(
            self.epoch + 1, self.epochs, self.step, self.steps, sums["loss"] / sums["seen"], accuracy, rate, seconds
        )

    def _finish_epoch(self) -> None:
        sums = self._sums
        numbers: dict[str, float] = {"loss": sums["loss"] / sums["seen"]}
        if self.correct is not None:
            numbers["accuracy"] = sums["correct"] / sums["seen"]
        self.epoch += 1
        self.validation = self.validate() if self.validate is not None else {}
        self._sums = {"loss": 0.0, "correct": 0, "seen": 0}
        seconds = self.elapsed + self._session.seconds
        self._log.append(
            event="epoch", epoch=self.epoch, step=self.step, **numbers,
            **{f"test_{k}": v for k, v in self.validation.items()}, seconds=round(seconds, 3),
        )  # fmt: skip
        rate, remaining = self._session.rate(self.steps - self.step)
        parts = [f"epoch {self.epoch:>{len(str(self.epochs))}}/{self.epochs}", _numbers(numbers)]
        if self.validation:
            parts.append(f"test {_numbers(self.validation)}")
        if rate:
            parts.append(f"{rate:,.0f} images/s")
        if self.epoch < self.epochs:
            parts.append(f"{duration(remaining)} left")
        self.reporter.say("  ".join(parts))
        if self.validation and self._is_best():
            self.best = {**self.validation, "epoch": self.epoch}
            save_checkpoint(self.run.best, {"model": self.model.state_dict(), "validation": self.best})
        self.save()

    def _is_best(self) -> bool:
        if self.best is None:
            return True
        if "accuracy" in self.validation:
            return self.validation["accuracy"] > self.best["accuracy"]
        return self.validation["loss"] < self.best["loss"]

    def _checkpoint_due(self) -> bool:
        if self.checkpoint_steps is not None and self.step % self.checkpoint_steps == 0:
            return True
        return self._session.since_save() >= self.checkpoint_seconds

    def save(self) -> None:
        """Write the last checkpoint: all that is needed to continue as if nothing had happened."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": None if self.scheduler is None else self.scheduler.state_dict(),
            "loader": self.loader.state_dict(),
            "random": default_generator.state,
            "epoch": self.epoch,
            "step": self.step,
            "steps": self.steps,
            "sums": self._sums,
            "best": self.best,
            "validation": self.validation,
            "elapsed": self.elapsed + self._session.seconds,
            "metrics": self._log.sync(),
        }
        save_checkpoint(self.run.last, state)
        self._session.saved()

    def _restore(self) -> int:
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
            self.loader.load_state_dict(state["loader"])
            default_generator.state.assign(state["random"])
            self.epoch, self.step, self._sums = state["epoch"], state["step"], state["sums"]
            self.best, self.validation, self.elapsed = state["best"], state["validation"], state["elapsed"]
            return int(state["metrics"])
        except (KeyError, TypeError) as error:
            raise CheckpointError(f"{self.run.last}: not a checkpoint of a training run ({error!r})") from error

    def _stop(self, number: int) -> None:
        self.save()
        hint = f"; continue with: {self.resume_hint}" if self.resume_hint else ""
        raise Interrupted(f"stopped at step {self.step} of {self.steps} and saved {self.run.last}{hint}", number)

    def _fail(self, what: str, why: str) -> None:
        raise NonFiniteError(
            f"{what} in step {self.step + 1} (epoch {self.epoch + 1}): {why}\n  "
            f"The last checkpoint, {self.run.last}, is from before."
        )


def _numbers(values: dict[str, float]) -> str:
    return "  ".join(f"{k} {v:.2%}" if k == "accuracy" else f"{k} {v:.4f}" for k, v in values.items())


class _Clock:
    """Time and samples of this session."""

    def __init__(self) -> None:
        self._start = self._save = time.monotonic()
        self._samples = self._steps = 0
        self._training = 0.0
        self._mark = self._start

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start

    def count(self, samples: int) -> None:
        now = time.monotonic()
        self._samples += samples
        self._steps += 1
        self._training += now - self._mark
        self._mark = now

    def saved(self) -> None:
        self._save = self._mark = time.monotonic()

    def since_save(self) -> float:
        return time.monotonic() - self._save

    def rate(self, steps_left: int) -> tuple[float, float]:
        """Samples a second while training, and the seconds that `steps_left` will take."""
        if not self._steps or not self._training:
            return 0.0, 0.0
        return self._samples / self._training, steps_left * self.seconds / self._steps


class _Signals:
    """Notes Ctrl-C and SIGTERM instead of breaking off; a second Ctrl-C does break off."""

    def __init__(self) -> None:
        self.received = 0
        self._earlier: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        # Only the main thread may install handlers; elsewhere the loop runs without them.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._earlier[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = number

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
