"""What happens in the studio: a network, its data and its optimiser, changed by commands and trained by steps.

A session knows nothing of servers. `apply` takes one command, `train` a number of steps, and
`state` says everything that a page shows (`view`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.autodiff import no_grad
from ..core.tensor import Tensor
from ..random import manual_seed
from ..recipes.small import FEATURES, PLAIN, loss_of
from .own import Own
from .problems import ACTIVATIONS, INITIALISATIONS, OPTIMISERS, PROBLEMS, SPEEDS, Problem
from .values import SettingError, chosen, number
from .view import shown

DEFAULTS: dict[str, Any] = {
    "activation": "tanh", "initialisation": "default", "optimiser": "SGD", "lr": 0.1, "depth": 1, "width": 4,
    "seed": 0, "noise": 0.12, "test": 0.3, "l1": 0.0, "l2": 0.0, "features": list(PLAIN),
    "speed": "100 steps a second",
}  # fmt: skip
OWN_DEFAULTS = {"optimiser": "Adam", "lr": 0.01}  # of a network that is not known
RANGES = {
    "lr": (1e-5, 30.0), "depth": (1, 4), "width": (1, 32), "seed": (0, 9999), "noise": (0.0, 0.6), "test": (0.0, 0.8),
    "l1": (0.0, 0.1), "l2": (0.0, 0.1), "batch": (1, 200),
}  # fmt: skip
HISTORY = 400  # losses kept for the curve
LIMIT = 1e6  # magnitude of a weight or input that can be set


class Session:
    """One visitor's studio.

    Args:
        problem: a key of PROBLEMS.
        own: the visitor's own network instead: see `studio.script`.
    """

    def __init__(self, problem: str = "neuron", own: Own | None = None) -> None:
        self.own = own
        self.running = False
        self._choose(problem)

    def apply(self, command: Any) -> None:
        """Carry out one command: {"do": name, …}.

        Raises:
            SettingError: there is no such command, or what it asks for is not there.
        """
        actions: dict[str, Callable[..., None]] = {
            "setting": self._set,
            "weight": self._set_weight,
            "input": self._set_input,
            "sample": self._set_sample,
            "reset": self._build,
            "step": lambda: self.train(1),
            "run": lambda: setattr(self, "running", True),
            "pause": lambda: setattr(self, "running", False),
        }
        if self.own is None:
            actions["problem"] = self._choose
        if not isinstance(command, dict):
            raise SettingError("a command is an object")
        arguments = {k: v for k, v in command.items() if k != "do"}
        action = chosen(actions, command.get("do"), "a command")
        try:
            action(**arguments)
        except TypeError as error:
            raise SettingError(f"{command.get('do')}: {error}") from error

    def _choose(self, name: str) -> None:
        self.problem: Problem = chosen(PROBLEMS, name, "a problem")
        self.name = name
        defaults = self.problem.defaults if self.own is None else OWN_DEFAULTS
        own = {"loss": next(iter(self.problem.losses)), "batch": self.problem.batch}
        self.settings = DEFAULTS | own | defaults
        self._load()
        self.running = False
        self._build()

    def _load(self) -> None:
        """The problem's data, and which of them train and which test."""
        noisy = self.problem.noisy
        self.inputs, self.targets = self.problem.data() if noisy is None else noisy(self.settings["noise"])
        self.sample = 0
        self.x, self.y = self.inputs[:1].copy(), self.targets[:1].copy()
        self._split()

    def _split(self) -> None:
        count = len(self.inputs)
        order = np.random.default_rng(1).permutation(count)
        tested = round(self.settings["test"] * count) if self.problem.tested and self.own is None else 0
        self.test_rows, self.train_rows = np.sort(order[:tested]), np.sort(order[tested:])

    def _set(self, name: str, value: Any) -> None:
        choices = self.choices()
        if name in choices:
            chosen(dict.fromkeys(choices[name]), value, name)
        elif name == "features" and self.offers(name):
            value = _features(value)
        elif name in RANGES:
            low, high = RANGES[name]
            value = number(value, name, low, high)
            if isinstance(low, int) and value != int(value):
                raise SettingError(f"{name} is a whole number, got {value}")
            value = type(low)(value)
        else:
            raise SettingError(f"there is no setting {name!r}")
        self.settings[name] = value
        if name == "lr":
            for group in self.optimizer.param_groups:
                group["lr"] = value
        elif name in ("optimiser", "l2"):
            self._new_optimizer()
        elif name in ("noise", "test"):
            self._load() if name == "noise" else self._split()
            self._note_loss()
        elif name not in ("loss", "l1", "speed", "batch"):
            self._build()

    def choices(self) -> dict[str, list[str]]:
        """The settings that are one of several words, and the words."""
        if self.own is not None:
            return {"optimiser": list(OPTIMISERS), "speed": list(SPEEDS)}
        choices = {
            "activation": list(ACTIVATIONS),
            "initialisation": list(INITIALISATIONS),
            "optimiser": list(OPTIMISERS),
            "loss": list(self.problem.losses),
            "speed": list(SPEEDS),
        }
        if self.problem.kind == "number":
            del choices["initialisation"]  # its two weights are set by hand
        return choices

    def ranges(self) -> dict[str, list[float]]:
        """The settings that are numbers, with their smallest and largest value."""
        return {name: list(ends) for name, ends in RANGES.items() if self.offers(name)}

    def offers(self, setting: str) -> bool:
        """Whether a setting can be chosen for the problem at hand."""
        if self.own is not None:
            return setting in ("optimiser", "speed", "lr", "l1", "l2")
        if setting == "noise":
            return self.problem.noisy is not None
        if setting == "features":
            return self.problem.kind == "plane"
        if setting in ("test", "batch"):
            return self.problem.tested
        if setting in ("l1", "l2"):
            return self.problem.kind != "number"
        if setting in ("depth", "width"):
            return self.problem.sizes or (setting == "width" and self.problem.kind == "image")
        return setting in (*self.choices(), "lr", "seed")

    def _build(self) -> None:
        """Make the network anew, with fresh weights."""
        manual_seed(self.settings["seed"])
        if self.own is not None:
            self.own.restore()
            self.model = self.own.model
        else:
            activation = ACTIVATIONS[self.settings["activation"]]
            depth, width, features = (self.settings[name] for name in ("depth", "width", "features"))
            self.model = self.problem.network(activation, depth, width, tuple(features))
            initialise = INITIALISATIONS[self.settings["initialisation"]]
            if initialise is not None:
                for p in self.model.parameters():
                    if p.ndim > 1:
                        initialise(p)
        self.step = 0
        self.losses: list[tuple[int, float]] = []
        self._every = 1
        self.trouble = ""
        self._rng = np.random.default_rng(self.settings["seed"])
        self._new_optimizer()
        self._note_loss()

    def _new_optimizer(self) -> None:
        self.optimizer = OPTIMISERS[self.settings["optimiser"]](list(self.model.parameters()), self.settings["lr"])
        for group in self.optimizer.param_groups:
            group["weight_decay"] = self.settings["l2"]

    def _set_weight(self, parameter: str, entry: int, value: float) -> None:
        cells = dict(self.model.named_parameters())
        cell = chosen(cells, parameter, "a parameter")
        values = cell.numpy().copy()
        if not isinstance(entry, int) or not 0 <= entry < values.size:
            raise SettingError(f"{parameter} has no entry {entry!r}")
        values.reshape(-1)[entry] = number(value, parameter, -LIMIT, LIMIT)
        cell.assign(Tensor(values))

    def _set_input(self, entry: int, value: float) -> None:
        if not isinstance(entry, int) or not 0 <= entry < self.x.size + 1:
            raise SettingError(f"the input has no entry {entry!r}")
        value = number(value, "an input", -LIMIT, LIMIT)
        if entry == self.x.size:  # after the inputs comes the target
            self.y = np.full_like(self.y, value)
        else:
            self.x.reshape(-1)[entry] = value
        if self.problem.kind == "number":  # its one sample is all of its data
            self.inputs, self.targets = self.x, self.y

    def _set_sample(self, index: int) -> None:
        if not isinstance(index, int) or not 0 <= index < len(self.inputs):
            raise SettingError(f"there is no sample {index!r}")
        self.sample = index
        self.x, self.y = self.inputs[index : index + 1].copy(), self.targets[index : index + 1].copy()

    def criterion(self, x: Tensor, y: np.ndarray) -> Tensor:
        """The loss of the network on some samples."""
        return loss_of(self.model, x, Tensor(y), self.problem.losses[self.settings["loss"]])

    @property
    def pace(self) -> float | None:
        """Steps a second while it runs; None for as many as there can be."""
        return SPEEDS[self.settings["speed"]]

    def train(self, steps: int, seconds: float = math.inf) -> None:
        """Steps of gradient descent, at most `steps` and for about `seconds`; stops where a number is not finite."""
        end = time.monotonic() + seconds
        for _ in range(steps):
            self.optimizer.zero_grad()
            loss = self._training_loss()
            if not math.isfinite(float(loss)):
                self.running = False
                self.trouble = f"The loss is {float(loss)} after step {self.step}: the learning rate is too large."
                return
            self._note(float(loss))
            loss.backward()
            self.optimizer.step()
            self._shrink()
            self.step += 1
            if time.monotonic() > end:
                break
        self._note_loss()

    def _shrink(self) -> None:
        """The L1 penalty's part of a step: weights move towards 0 and stay there once they arrive (soft threshold).

        Daubechies, Defrise and De Mol 2004; biases are left alone.
        """
        by = self.settings["l1"] * self.settings["lr"]
        for p in self.model.parameters() if by else ():
            if p.ndim > 1:
                w = p.numpy()
                p.assign(Tensor(np.sign(w) * np.maximum(np.abs(w) - np.asarray(by, w.dtype), 0)))

    def _training_loss(self) -> Tensor:
        if self.own is not None:
            return self.own.loss()
        size, rows = self.settings["batch"], self.train_rows
        if self.problem.kind == "number":
            return self.criterion(Tensor(self.inputs), self.targets)
        if size is not None and size < len(rows):
            rows = self._rng.choice(rows, size, replace=False)
        return self.criterion(Tensor(self.inputs[rows]), self.targets[rows])

    def _note(self, loss: float) -> None:
        """Remember a loss for the curve; of a long training every second, fourth, … only."""
        self.loss = loss
        if self.step % self._every == 0 and (not self.losses or self.losses[-1][0] != self.step):
            self.losses.append((self.step, loss))
        if len(self.losses) > HISTORY:
            self.losses = self.losses[::2]
            self._every *= 2

    @no_grad()
    def _note_loss(self) -> None:
        self._note(float(self._training_loss()))
        rows = self.test_rows
        self.test_loss = float(self.criterion(Tensor(self.inputs[rows]), self.targets[rows])) if len(rows) else None

    def state(self) -> dict[str, Any]:
        """Everything that the page shows now, as plain values."""
        return shown(self)


def _features(names: Any) -> list[str]:
    """The chosen inputs in their usual order.

    Raises:
        SettingError: there are none, or one is unknown.
    """
    if not isinstance(names, list) or not names:
        raise SettingError("features is a list of at least one input: the network has to read something")
    for name in names:
        chosen(FEATURES, name, "an input")
    return [name for name in FEATURES if name in names]
