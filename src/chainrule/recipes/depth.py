"""`chainrule train depth`: what initialisation, activation, normalisation and residual connections do to gradients.

The same deep network (multilayer perceptron, transformer, recurrent network) is built in many
variants. For each the gradient of the loss is measured at every depth before training, then
the network is trained for some steps: a gradient that does not arrive teaches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .. import optim
from ..core.autodiff import grad
from ..data import Compose, DataLoader, FashionMNIST, Normalize, Subset, ToFloat
from ..nn import functional as F
from ..optim import clip_grad_norm_
from ..random import manual_seed
from ..train import Job, read_metrics
from ..train.metrics import MetricsLog
from ..train.plots import PlotError, new_figure, save_figure
from ..train.progress import text_table
from .depth_networks import MLP, NETWORKS, Variant, predicted_factor
from .settings import Settings as BaseSettings
from .settings import setting

CHANCE = 0.1


@dataclass(frozen=True)
class Settings(BaseSettings):
    """What can be chosen about a run."""

    FAST: ClassVar = {"depth": 6, "steps": 4, "width": 16}

    network: str = setting("all", "Which networks to build.", choices=("all", *NETWORKS))
    depth: int = setting(50, "Layers, or time steps of the recurrent network.", minimum=2)
    width: int = setting(64, "Units of a layer.", minimum=4)
    steps: int = setting(200, "Training steps of each variant.", minimum=1)
    batch_size: int = setting(64, "Images a step.", minimum=2)
    lr: float = setting(1e-3, "Learning rate of Adam.")


def gradient_by_depth(loss: Any, states: Sequence[Any]) -> list[float]:
    """Root mean square of ∂L/∂h at every depth, from the first layer (or time step) to the last."""
    gradients = grad(loss, states, create_graph=False)
    return [float(np.sqrt(np.mean(np.square(g.numpy(), dtype=np.float64)))) for g in gradients]


def learn(model: Any, loader: Any, settings: Settings) -> float:
    """Train for some steps; the accuracy over the last quarter of them."""
    optimizer = optim.Adam(model.parameters(), lr=settings.lr)
    right: list[float] = []
    while len(right) < settings.steps:
        for images, labels in loader:
            if len(right) == settings.steps:
                break
            optimizer.zero_grad()
            scores, _ = model(images)
            loss = F.cross_entropy(scores, labels)
            if not math.isfinite(float(loss)):
                return float("nan")
            loss.backward()
            clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            right.append(float(np.mean(scores.numpy().argmax(axis=1) == labels.numpy())))
    return float(np.mean(right[-max(1, settings.steps // 4) :]))


def build(settings: Settings) -> dict[str, Any]:
    """A loss and its model for `chainrule explain depth`: plain sigmoid layers, through which the gradient vanishes."""
    images = FashionMNIST(True, settings.data, Compose([ToFloat(), Normalize(0.2860, 0.3530)]))
    manual_seed(settings.seed)
    model = MLP(Variant("sigmoid", "Xavier"), settings.width, settings.depth)
    x, labels = next(iter(DataLoader(images, settings.batch_size, shuffle=True)))
    return {"loss": F.cross_entropy(model(x)[0], labels), "model": model}


def train(job: Job) -> dict[str, Any]:
    """Measure and train every variant, report, and return the results; `--resume` goes on with the next one."""
    settings = Settings(**job.run.settings)
    everything = FashionMNIST(True, settings.data, Compose([ToFloat(), Normalize(0.2860, 0.3530)]))
    images = Subset(everything, range(min(len(everything), 10_000)))
    names = list(NETWORKS) if settings.network == "all" else [settings.network]
    rows = read_metrics(job.run.metrics, "variant") if job.resume else []
    done = {(row["network"], row["variant"]) for row in rows}
    log = MetricsLog(job.run.metrics)
    try:
        for name in names:
            build, variants = NETWORKS[name]
            job.say(f"{name}: {settings.depth} {'time steps' if name == 'rnn' else 'layers'} of {settings.width} units")
            for variant in variants:
                if (name, str(variant)) in done:
                    continue
                row = measure(build, variant, images, settings)
                rows.append({"network": name, "variant": str(variant), **row})
                log.append(event="variant", **rows[-1])
                job.say(f"  {variant}: {sentence(rows[-1], settings)}")
    finally:
        log.close()
    for name in names:
        job.say()
        job.say(table([row for row in rows if row["network"] == name]))
    try:
        job.say(f"\nsaved {plot(rows, names, settings, job.run.folder / 'depth.png')}")
    except PlotError as error:
        job.say(f"no plot: {error}")
    return {"recipe": job.run.recipe, "run": str(job.run.folder), "depth": settings.depth, "variants": rows}


def measure(build: Any, variant: Variant, images: Any, settings: Settings) -> dict[str, Any]:
    """The gradient by depth before training, its factor per layer, and the accuracy after training."""
    manual_seed(settings.seed)
    model = build(variant, settings.width, settings.depth)
    loader = DataLoader(images, settings.batch_size, shuffle=True, drop_last=True)
    sample, labels = next(iter(loader))
    scores, states = model(sample)
    norms = gradient_by_depth(F.cross_entropy(scores, labels), states)
    first, last = norms[0], norms[-1]
    factor = (first / last) ** (1 / (len(norms) - 1)) if last and math.isfinite(last) else float("nan")
    plain = build is MLP and variant.norm == "none" and not variant.residual
    predicted = predicted_factor(model, states) if plain else None
    return {"gradient": norms, "factor": factor, "predicted": predicted, "accuracy": learn(model, loader, settings)}


def sentence(row: dict[str, Any], settings: Settings) -> str:
    """What was found, in words."""
    first, last, factor, accuracy = row["gradient"][0], row["gradient"][-1], row["factor"], row["accuracy"]
    if not math.isfinite(first) or not math.isfinite(last):
        what = "the gradient overflows"
    elif first == 0:
        what = f"of a gradient of {last:.1e} at the last layer nothing arrives at the first: it underflows to 0"
    else:
        ratio = first / last
        word = "vanishes" if ratio < 1e-3 else "explodes" if ratio > 1e3 else "arrives"
        unit = "step" if row["network"] == "rnn" else "layer"
        what = f"the gradient {word}, ×{factor:.3g} a {unit}, ×{ratio:.1e} in all"
    if accuracy != accuracy:
        learns = "training ends in NaN"
    else:
        learns = f"after {settings.steps} steps {accuracy:.0%} are right"
        if accuracy < 2 * CHANCE:
            learns += ", hardly more than by chance"
    return f"{what}; {learns}"


def table(rows: Sequence[dict[str, Any]]) -> str:
    """First and last gradient, factor per layer and accuracy of each variant."""
    headers = [rows[0]["network"], "rms ∂L/∂h, last", "first", "factor", "√(n E[W²] E[f′²])", "accuracy"]
    cells = [
        [
            row["variant"], f"{row['gradient'][-1]:.1e}", f"{row['gradient'][0]:.1e}", f"{row['factor']:.3g}",
            "" if row["predicted"] is None else f"{row['predicted']:.3g}", f"{row['accuracy']:.0%}",
        ]
        for row in rows
    ]  # fmt: skip
    if all(row["predicted"] is None for row in rows):
        headers, cells = headers[:4] + headers[5:], [line[:4] + line[5:] for line in cells]
    return text_table(headers, cells)


def plot(rows: Sequence[dict[str, Any]], names: Sequence[str], settings: Settings, path: Any) -> Any:
    """Gradient by depth on a logarithmic scale, one panel for each network."""
    figure, axes = new_figure(len(names), 1, (9.0, 5.0 * len(names)))
    for ax, name in zip(axes.flat, names, strict=True):
        for number, row in enumerate(r for r in rows if r["network"] == name):
            norms = np.array(row["gradient"])
            relative = np.divide(norms, norms[-1], out=np.full(len(norms), np.nan), where=norms > 0)
            label = f"{row['variant']} ({row['accuracy']:.0%})"
            ax.plot(np.arange(1, len(norms) + 1), relative, "-" if number < 7 else "--", label=label, linewidth=1.4)
        ax.set_yscale("log")
        ax.set_ylim(1e-9, 1e9)
        ax.set_xlabel("time step" if name == "rnn" else "layer")
        ax.set_ylabel("rms ∂L/∂h beside that of the last one")
        ax.set_title(f"{name}: gradient by depth before training (accuracy after {settings.steps} steps)", fontsize=10)
        ax.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return save_figure(figure, path)
