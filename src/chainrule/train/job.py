"""`Job`: what a recipe is handed by `chainrule train`: where the run is kept and how it reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..nn.module import Module
from ..optim.optimizer import Optimizer
from .compiling import F, compiled_if
from .fitting import Fitted, fit
from .objective import Batches
from .progress import Reporter
from .runs import Run


@dataclass(frozen=True)
class Job:
    """One run of a recipe.

    Attributes:
        run: the folder, with the recipe's name and settings.
        reporter: told what happens.
        resume: continue from the run's last checkpoint.
        save_every: seconds between checkpoints within an epoch.
        tensorboard: also write event files.
        compile: make updates, and what the trained model is used for, with `chainrule.compile`.
    """

    run: Run
    reporter: Reporter
    resume: bool = False
    save_every: float = 30.0
    tensorboard: bool = False
    compile: bool = False

    def say(self, text: str = "") -> None:
        """Print a line that stays."""
        self.reporter.say(text)

    def compiled(self, function: F) -> F:
        """A function or a model, compiled if this run is."""
        return compiled_if(self.compile, function)

    def fit(self, model: Module, data: Batches, optimizer: Optimizer, **options: Any) -> Fitted:
        """`chainrule.train.fit` with this run's folder, reporter, checkpoints and way of continuing."""
        if self.resume:
            self.say("continuing from the last checkpoint")
        flags = (" --tensorboard" if self.tensorboard else "") + (" --compile" if self.compile else "")
        mine: dict[str, Any] = {
            "run": self.run,
            "reporter": self.reporter,
            "resume": self.resume,
            "checkpoint_seconds": self.save_every,
            "tensorboard": self.tensorboard,
            "compile": self.compile,
            "resume_hint": f"chainrule train --resume {self.run.folder}{flags}",
        }
        return fit(model, data, optimizer, **(mine | options))
