"""`chainrule learn cost`: three ways to a gradient, timed for networks of growing size.

Backpropagation gives all derivatives for a small multiple of one forward pass (Baur and
Strassen 1983; Griewank: at most about 5 times its operations). Forward mode and finite
differences give one derivative a pass and must be repeated for every weight.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.autodiff import no_grad
from ..core.tensor import Tensor
from ..func import jvp, value_and_grad
from ..nn import functional as F
from ..random import Generator, randint, randn
from ..train.plots import PlotError, new_figure, save_figure
from ..train.progress import text_table

BATCH, INPUTS, CLASSES = 32, 8, 4
WIDTHS = (4, 24, 90, 310, 990)  # about 100, 1,000, 10,000, 100,000 and 1,000,000 weights
FAST_WIDTHS = (4, 24, 90)
STEP = 1e-6


@dataclass(frozen=True)
class Method:
    """A gradient by one derivative after the other.

    `seconds` is for all weights: measured if `measured` is their number, and otherwise the
    median time of the measured ones times their number.
    """

    seconds: float
    measured: int
    error: float  # largest disagreement with backpropagation, relative to the largest derivative


@dataclass(frozen=True)
class Row:
    """What was measured for one network; times in seconds."""

    weights: int
    forward: float
    backpropagation: float
    forward_mode: Method
    finite_differences: Method

    @property
    def ratio(self) -> float:
        """The gradient by backpropagation in forward passes."""
        return self.backpropagation / self.forward


def run(say: Callable[[str], None], fast: bool = False, plot: Path | None = None) -> dict[str, Any]:
    """Measure, print the table and what it shows, save the plot, and return the numbers."""
    say("The gradient of a loss with respect to every weight, three ways (float64, batch of 32, two hidden layers):")
    say("  backpropagation     one forward pass that records, one pass back: all derivatives at once")
    say("  forward mode        func.jvp once for each weight, along that weight")
    say("  finite differences  the loss at w + h and w − h for each weight, h = 1e-6")
    say("")
    budget = 0.3 if fast else 2.0
    rows = []
    for width in FAST_WIDTHS if fast else WIDTHS:
        rows.append(measure(width, budget))
        say(f"measured {rows[-1].weights:,} weights")
    say("")
    say(table(rows))
    say("")
    for line in findings(rows):
        say(line)
    target = plot or Path("runs") / "learn" / "cost.png"
    try:
        say(f"plot: {draw(rows, target)}")
    except PlotError as error:
        say(f"no plot: {error}")
    return {"rows": [asdict(r) | {"ratio": r.ratio} for r in rows]}


def network(width: int) -> tuple[Callable[..., Tensor], list[Tensor]]:
    """A loss as a function of the weights of an MLP with two hidden layers of `width`, and the weights."""
    generator = Generator(width)
    sizes = [INPUTS, width, width, CLASSES]
    weights = []
    for inputs, outputs in itertools.pairwise(sizes):
        weights.append(randn(outputs, inputs, dtype="float64", generator=generator) * (1 / math.sqrt(inputs)))
        weights.append(randn(outputs, dtype="float64", generator=generator) * 0.1)
    x = randn(BATCH, INPUTS, dtype="float64", generator=generator)
    y = randint(CLASSES, size=(BATCH,), generator=generator)

    def loss(W1: Tensor, b1: Tensor, W2: Tensor, b2: Tensor, W3: Tensor, b3: Tensor) -> Tensor:
        a = F.tanh(F.linear(x, W1, b1))
        a = F.tanh(F.linear(a, W2, b2))
        return F.cross_entropy(F.linear(a, W3, b3), y)

    return loss, weights


def measure(width: int, budget: float) -> Row:
    """Time the three ways for one network; each repeated one takes about `budget` seconds."""
    loss, weights = network(width)
    count = sum(w.size for w in weights)
    backward = value_and_grad(loss, argnums=tuple(range(len(weights))))
    gradient = np.concatenate([g.numpy().reshape(-1) for g in backward(*weights)[1]])

    def along(direction: list[Tensor]) -> float:
        return float(jvp(loss, tuple(weights), tuple(direction))[1])

    def difference(points: tuple[list[Tensor], list[Tensor]]) -> float:
        up, down = (float(loss(*point)) for point in points)
        return (up - down) / (2 * STEP)

    forward, both = timed(lambda: loss(*weights), lambda: backward(*weights), budget=budget / 2)
    with no_grad():
        forward_mode = one_by_one(along, lambda i: one_hot(weights, i), gradient, budget)
        differences = one_by_one(
            difference, lambda i: (shifted(weights, i, STEP), shifted(weights, i, -STEP)), gradient, budget
        )
    return Row(count, forward, both, forward_mode, differences)


def one_by_one(
    derivative: Callable[[Any], float], prepare: Callable[[int], Any], gradient: np.ndarray, budget: float
) -> Method:
    """Time `derivative` for every weight, or for as many random ones as the budget allows (at least 5).

    What `prepare` makes for a weight is the derivative's argument; making it is not timed.
    """
    order = np.argsort(Generator(0).bits((len(gradient),)).numpy(), kind="stable")
    derivative(prepare(int(order[0])))
    error = 0.0
    times: list[float] = []
    for index in order:
        argument = prepare(int(index))
        start = time.perf_counter()
        value = derivative(argument)
        times.append(time.perf_counter() - start)
        error = max(error, abs(value - gradient[index]))
        if sum(times) > budget and len(times) >= 5:
            break
    complete = len(times) == len(gradient)
    total = sum(times) if complete else statistics.median(times) * len(gradient)
    return Method(total, len(times), float(error / np.abs(gradient).max()))


def one_hot(weights: list[Tensor], index: int) -> list[Tensor]:
    """The direction of one weight: 1 there, 0 everywhere else."""
    directions = [np.zeros(w.shape) for w in weights]
    for direction in directions:
        if index < direction.size:
            direction.reshape(-1)[index] = 1.0
            break
        index -= direction.size
    return [Tensor(d) for d in directions]


def shifted(weights: list[Tensor], index: int, by: float) -> list[Tensor]:
    """The weights, with one of them changed."""
    changed = list(weights)
    for position, w in enumerate(weights):
        if index < w.size:
            values = w.numpy().copy()
            values.reshape(-1)[index] += by
            changed[position] = Tensor(values)
            break
        index -= w.size
    return changed


def timed(*actions: Callable[[], Any], budget: float) -> list[float]:
    """Median seconds of each action, called in turn (so that a busy machine slows all alike) at least 7 times."""
    times: list[list[float]] = [[] for _ in actions]
    for action in actions:
        action()
    while len(times[0]) < 7 or (sum(map(sum, times)) < budget and len(times[0]) < 2000):
        for action, record in zip(actions, times, strict=True):
            start = time.perf_counter()
            action()
            record.append(time.perf_counter() - start)
    return [statistics.median(record) for record in times]


def table(rows: list[Row]) -> str:
    """Times, and in parentheses how many forward passes they are worth."""
    headers = ["weights", "forward pass", "backpropagation", "forward mode", "finite differences"]
    lines = []
    for r in rows:
        cells = [f"{r.weights:,}", seconds(r.forward), f"{seconds(r.backpropagation)} ({r.ratio:.1f}×)"]
        for method in (r.forward_mode, r.finite_differences):
            about = "" if method.measured == r.weights else "≈ "
            cells.append(f"{about}{seconds(method.seconds)} ({method.seconds / r.forward:,.0f}×)")
        lines.append(cells)
    return text_table(headers, lines, left=0)


def findings(rows: list[Row]) -> list[str]:
    """What the table shows, in words, with how much of it was extrapolated."""
    ratios = [r.ratio for r in rows]
    lines = [
        f"Backpropagation costs {min(ratios):.1f} to {max(ratios):.1f} forward passes, however many weights there are."
    ]
    for name in ("forward_mode", "finite_differences"):
        each = [getattr(r, name).seconds / r.forward / r.weights for r in rows]
        worst = max(getattr(r, name).error for r in rows)
        title = name.replace("_", " ").capitalize()
        times = "forward pass" if max(each) < 1.05 else "forward passes"
        lines.append(
            f"{title}: {min(each):.1f} to {max(each):.1f} {times} for every weight; "
            f"differs from backpropagation by {worst:.0e} at most."
        )
    partial = [r for r in rows if min(r.forward_mode.measured, r.finite_differences.measured) < r.weights]
    if partial:
        sampled = ", ".join(
            f"{r.forward_mode.measured:,} and {r.finite_differences.measured:,} of {r.weights:,}" for r in partial
        )
        lines.append(f"≈ is extrapolated from weights drawn at random (forward mode and differences: {sampled}).")
    return lines


def draw(rows: list[Row], path: Path) -> Path:
    """Time against number of weights, both logarithmic; hollow marks are extrapolated."""
    figure, axes = new_figure(1, 1, (7, 5))
    ax = axes[0, 0]
    counts = [r.weights for r in rows]
    ax.plot(counts, [r.forward for r in rows], "--", label="one forward pass", color="#777777")
    ax.plot(counts, [r.backpropagation for r in rows], marker="o", label="gradient by backpropagation")
    for name, label in (("forward_mode", "by forward mode"), ("finite_differences", "by finite differences")):
        methods = [getattr(r, name) for r in rows]
        (line,) = ax.plot(counts, [m.seconds for m in methods], label=f"gradient {label}")
        for r, m in zip(rows, methods, strict=True):
            fill = line.get_color() if m.measured == r.weights else "white"
            ax.plot([r.weights], [m.seconds], marker="o", color=line.get_color(), markerfacecolor=fill)
    ax.set(xscale="log", yscale="log", xlabel="number of weights", ylabel="seconds")
    ax.set_title("What a gradient costs (hollow: extrapolated)")
    ax.legend(frameon=False)
    return save_figure(figure, path)


def seconds(value: float) -> str:
    """A time with three digits: `84.1 µs`, `3.20 ms`, `5.00 s`, `2.3 h`."""
    for limit, factor, unit in ((1e-3, 1e6, "µs"), (1, 1e3, "ms"), (120, 1, "s"), (7200, 1 / 60, "min")):
        if value < limit:
            return f"{value * factor:.3g} {unit}"
    return f"{value / 3600:,.1f} h"
