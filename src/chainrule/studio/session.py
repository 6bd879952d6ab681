"""What happens in the studio: a network, its data and its optimiser, changed by commands and trained by steps.

A session knows nothing of servers. `apply` takes one command, `train` a number of steps, and
`state` says everything that a page shows: the explained sample with its whole backward pass,
weights, losses, gradients, the decision boundary.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import nn
from ..core.autodiff import grad, no_grad
from ..core.errors import ChainruleError
from ..core.tensor import Tensor
from ..explain.explanation import explain
from ..explain.page import contents
from ..nn import functional as F
from ..random import manual_seed
from ..recipes.small import loss_of
from ..train.statistics import norm
from . import plane
from .problems import ACTIVATIONS, INITIALISATIONS, OPTIMISERS, PROBLEMS, Problem, SettingError, chosen

DEFAULTS: dict[str, Any] = {
    "activation": "tanh", "initialisation": "default", "optimiser": "SGD", "lr": 0.1, "depth": 1, "width": 4,
    "seed": 0, "noise": 0.12, "test": 0.3, "l2": 0.0,
}  # fmt: skip
OWN_DEFAULTS = {"optimiser": "Adam", "lr": 0.01}  # of a network that is not known
RANGES = {
    "lr": (1e-5, 30.0), "depth": (1, 4), "width": (1, 32), "seed": (0, 9999), "noise": (0.0, 0.6), "test": (0.0, 0.8),
    "l2": (0.0, 0.1),
}  # fmt: skip
REACH = 1.8  # the boundary is shown for inputs between −REACH and REACH
HISTORY = 400  # losses kept for the curve
LISTED = 6000  # entries of all parameters up to which they are sent one by one
SHOWN = 600  # samples of an own script drawn in the plane
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
        self.settings = DEFAULTS | {"loss": next(iter(self.problem.losses))} | defaults
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
        choices = self._choices()
        if name in choices:
            chosen(dict.fromkeys(choices[name]), value, name)
        elif name in RANGES:
            low, high = RANGES[name]
            value = type(low)(number(value, name, low, high))
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
        elif name != "loss":
            self._build()

    def _choices(self) -> dict[str, list[str]]:
        if self.own is not None:
            return {"optimiser": list(OPTIMISERS)}
        choices = {
            "activation": list(ACTIVATIONS),
            "initialisation": list(INITIALISATIONS),
            "optimiser": list(OPTIMISERS),
            "loss": list(self.problem.losses),
        }
        if self.problem.kind == "number":
            del choices["initialisation"]  # its two weights are set by hand
        return choices

    def _build(self) -> None:
        """Make the network anew, with fresh weights."""
        manual_seed(self.settings["seed"])
        if self.own is not None:
            self.own.restore()
            self.model = self.own.model
        else:
            activation = ACTIVATIONS[self.settings["activation"]]
            self.model = self.problem.network(activation, self.settings["depth"], self.settings["width"])
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

    def _loss(self, x: Tensor, y: np.ndarray) -> Tensor:
        return loss_of(self.model, x, Tensor(y), self.problem.losses[self.settings["loss"]])

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
            self.step += 1
            if time.monotonic() > end:
                break
        self._note_loss()

    def _training_loss(self) -> Tensor:
        if self.own is not None:
            return self.own.loss()
        size, rows = self.problem.batch, self.train_rows
        if self.problem.kind == "number":
            return self._loss(Tensor(self.inputs), self.targets)
        if size is not None and size < len(rows):
            rows = self._rng.choice(rows, size, replace=False)
        return self._loss(Tensor(self.inputs[rows]), self.targets[rows])

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
        self.test_loss = float(self._loss(Tensor(self.inputs[rows]), self.targets[rows])) if len(rows) else None

    def state(self) -> dict[str, Any]:
        """Everything that the page shows now, as plain values."""
        names: dict[str, Any] = {"model": self.model}
        x = None
        if self.own is not None:
            loss = self.own.loss()
            names |= self.own.names
        else:
            x = Tensor(self.x, requires_grad=True)
            loss = self._loss(x, self.y)
            names["x"] = x
        names["L"] = loss
        explanation = explain(loss, names=names)
        return contents(explanation) | {"studio": self._studio(loss, x)}

    def _studio(self, loss: Tensor, x: Tensor | None) -> dict[str, Any]:
        found = {
            "problem": self.name if self.own is None else None,
            "title": self.problem.title if self.own is None else self.own.title,
            "problems": [{"name": k, "title": p.title} for k, p in PROBLEMS.items()],
            "kind": self.problem.kind if self.own is None else "script",
            "settings": {k: v for k, v in self.settings.items() if self._is_offered(k)},
            "choices": self._choices(),
            "ranges": {k: list(v) for k, v in RANGES.items() if self._is_offered(k)},
            "step": self.step,
            "running": self.running,
            "trouble": self.trouble,
            "losses": [[s, plain(v)] for s, v in self.losses],
            "loss": plain(self.loss),
            "test_loss": None if self.test_loss is None else plain(self.test_loss),
            "parameters": self._parameters(loss),
        }
        if self.own is not None:
            return found | self.own.plane()
        assert x is not None
        return found | self._inputs() | self._picture(grad(loss, x, create_graph=False))

    def _is_offered(self, setting: str) -> bool:
        if self.own is not None:
            return setting in ("optimiser", "lr", "l2")
        if setting == "noise":
            return self.problem.noisy is not None
        if setting == "test":
            return self.problem.tested
        if setting == "l2":
            return self.problem.kind != "number"
        if setting in ("depth", "width"):
            return self.problem.sizes or (setting == "width" and self.problem.kind == "image")
        return setting in (*self._choices(), "lr", "seed")

    def _parameters(self, loss: Tensor) -> list[dict[str, Any]]:
        """Each parameter with its values and its gradient by the explained sample."""
        cells = list(self.model.named_parameters())
        gradients = grad(loss, [p for _, p in cells], create_graph=False, allow_unused=True)
        every = sum(p.size for _, p in cells) <= LISTED
        rows = []
        for (name, p), g in zip(cells, gradients, strict=True):
            values = p.numpy().reshape(-1)
            rows.append(
                {
                    "name": name,
                    "shape": list(p.shape),
                    "values": [plain(v) for v in values] if every else None,
                    "gradient": None if g is None or not every else [plain(v) for v in g.numpy().reshape(-1)],
                    "gradient_norm": None if g is None else plain(norm([g])),
                }
            )
        return rows

    def _inputs(self) -> dict[str, Any]:
        flat = self.x.reshape(-1)
        found: dict[str, Any] = {"sample": self.sample, "samples": len(self.inputs)}
        if flat.size <= 4:
            target = float(self.y.reshape(-1)[0])
            names = ["x"] if flat.size == 1 else [f"x[{i}]" for i in range(flat.size)]
            found["inputs"] = [
                *({"name": n, "value": plain(v)} for n, v in zip(names, flat, strict=True)),
                {"name": "y", "value": target},
            ]
        return found

    @no_grad()
    def _picture(self, gradient: Tensor) -> dict[str, Any]:
        """What the network makes of its inputs: a curve, a plane, or the classes of an image and ∂L/∂pixel."""
        if self.problem.kind == "number":
            x = np.linspace(-4, 4, 81, dtype=np.float32)
            y = self.model(Tensor(x)).numpy()
            return {"curve": [[plain(a), plain(b)] for a, b in zip(x, y, strict=True)]}
        if self.problem.kind == "plane":
            p = plane.answers(self.model, plane.field(plane.GRID, (0, 0), REACH), logistic=True)
            assert p is not None
            held = set(self.test_rows.tolist())
            points = zip(self.inputs, 2 * self.targets[:, 0] - 1, strict=True)
            return {
                "plane": {
                    "size": plane.GRID, "reach": REACH, "centre": [0, 0], "data": plane.levels(p),
                    "points": [[plain(a), plain(b), plain(c), k in held] for k, ((a, b), c) in enumerate(points)],
                    "here": [plain(v) for v in self.x.reshape(-1)],
                },
                "hidden": plane.hidden_units(self.model, (0, 0), REACH, np.float32),
            }  # fmt: skip
        p = F.softmax(self.model(Tensor(self.x)), -1).numpy().reshape(-1)
        guesses = self.model(Tensor(self.inputs[:500])).numpy().argmax(-1)
        return {
            "image": {
                "size": self.x.shape[-1],
                "pixels": [plain(v) for v in self.x.reshape(-1)],
                "gradient": [plain(v) for v in gradient.numpy().reshape(-1)],
            },
            "probabilities": [plain(v) for v in p],
            "label": int(self.y[0]),
            "accuracy": float(np.mean(guesses == self.targets[:500])),
        }


class Own:
    """A visitor's own network: its model, the function that computes its loss, and the script's variables."""

    def __init__(self, title: str, model: nn.Module, loss: Callable[[], Tensor], names: dict[str, Any]) -> None:
        self.title = title
        self.model = model
        self.loss = loss
        self.names = names
        self._read: Tensor | None = None
        self._start = {name: p.numpy().copy() for name, p in model.named_parameters()}

    @no_grad()
    def plane(self) -> dict[str, Any]:
        """What the network answers over the plane, if what `forward()` gives it has two columns; nothing otherwise."""
        hook = self.model.register_forward_pre_hook(self._note_input)
        self._read = None
        try:
            self.loss()
        finally:
            hook.remove()
        x = self._read
        if x is None or x.ndim != 2 or x.shape[1] != 2 or not len(x) or x.dtype.kind != "f":
            return {}
        data = x.numpy()
        centre = (data.min(axis=0) + data.max(axis=0)) / 2
        reach = 1.15 * float(np.abs(data - centre).max()) or 1.0
        try:
            points = plane.field(plane.GRID, centre, reach).astype(data.dtype)
            logistic = self._is_logit()
            p = plane.answers(self.model, points, logistic)
            hidden = plane.hidden_units(self.model, centre, reach, data.dtype)
        except ChainruleError:
            return {}  # the model takes batches of its own size only
        if p is None or len(p) != plane.GRID**2:
            return {}
        colours = self._colours(len(data))
        shown = list(zip(data, colours, strict=True))[:SHOWN]
        return {
            "plane": {
                "size": plane.GRID, "reach": reach, "centre": [plain(v) for v in centre], "data": plane.levels(p),
                "points": [[plain(a), plain(b), plain(c), False] for (a, b), c in shown], "here": None,
            },
            "hidden": hidden,
        }  # fmt: skip

    def _note_input(self, _: Any, args: tuple[Any, ...]) -> None:
        if args and isinstance(args[0], Tensor):
            self._read = args[0]

    def _labels(self, count: int) -> np.ndarray | None:
        """The script's targets for so many samples, by their usual names."""
        for name in ("y", "labels", "targets", "target", "t"):
            value = self.names.get(name)
            array = value.numpy() if isinstance(value, Tensor) else value
            if isinstance(array, np.ndarray) and array.size == count and array.dtype.kind in "iufb":
                return array.reshape(-1).astype(np.float64)
        return None

    def _is_logit(self) -> bool:
        """Whether one output is the logit of a class: the targets are zeros and ones."""
        read = 0 if self._read is None else len(self._read)
        labels = self._labels(read)
        return labels is not None and set(np.unique(labels)) <= {0.0, 1.0}

    def _colours(self, count: int) -> np.ndarray:
        labels = self._labels(count)
        if labels is None:
            return np.zeros(count)
        if (labels == np.round(labels)).all() and labels.min() >= 0:
            return plane.class_colour(labels, int(labels.max()) + 1)
        return labels / (np.abs(labels).max() or 1.0)

    def restore(self) -> None:
        """Give the parameters the values that the script gave them."""
        for name, p in self.model.named_parameters():
            p.assign(Tensor(self._start[name].copy()))


def plain(value: Any) -> Any:
    """A number for JSON: six significant digits; null where it is not finite."""
    value = float(value)
    return float(f"{value:.6g}") if math.isfinite(value) else None


def number(value: Any, what: str, low: float, high: float) -> float:
    """A finite number within bounds.

    Raises:
        SettingError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SettingError(f"{what} is a number, got {value!r}")
    if not low <= value <= high:
        raise SettingError(f"{what} is between {low} and {high}, got {value}")
    return value
