"""Pictures of a run from its metrics, with matplotlib (the extra `chainrule[plots]`)."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ..core.errors import ChainruleError
from ..data.files import write_atomically
from .metrics import read_metrics

# Okabe and Ito's palette, safe for colour-blind readers.
_COLOURS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#000000",
)


class PlotError(ChainruleError, ImportError):
    """matplotlib is not installed."""


def new_figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """A figure that needs no display, and its axes.

    Raises:
        PlotError: matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise PlotError("plots need matplotlib: pip install 'chainrule[plots]'") from error
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_prop_cycle(color=_COLOURS)
        ax.grid(True, color="#dddddd", linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save_figure(figure: Any, path: Path) -> Path:
    """Write a figure as the format that the path's ending names (PNG, SVG, PDF)."""
    content = io.BytesIO()
    figure.savefig(content, format=path.suffix.lstrip("."), dpi=110)
    write_atomically(path, [content.getvalue()])
    return path


def plot_training(metrics: Path, path: Path, title: str = "") -> Path:
    """Draw loss, accuracy, and by layer the norm of the gradient and the size of the updates.

    Raises:
        PlotError: matplotlib is not installed.
        OutputError: the picture cannot be written.
    """
    figure, ((loss, accuracy), (gradients, updates)) = new_figure(2, 2, (10, 7))
    if title:
        figure.suptitle(title)
    steps, epochs = read_metrics(metrics, "step"), read_metrics(metrics, "epoch")
    at = [e["step"] for e in epochs]
    loss.plot([s["step"] for s in steps], [_number(s["loss"]) for s in steps], color="#99c7e0", lw=0.8, label="batch")
    _draw(loss, at, epochs, {"loss": "training, epoch mean", "test_loss": "test"})
    loss.set(title="Loss", xlabel="step")
    _draw(accuracy, at, epochs, {"accuracy": "training", "test_accuracy": "test"})
    accuracy.set(title="Accuracy", xlabel="step")
    _draw_layers(gradients, metrics, "grad_norm", "Gradient norm ‖∂L/∂θ‖ by layer")
    _draw_layers(updates, metrics, "update_ratio", "Update-to-weight ratio ‖Δθ‖ / ‖θ‖ by layer")
    for ax in (loss, accuracy, gradients, updates):
        if ax.get_legend_handles_labels()[1]:
            ax.legend(frameon=False, fontsize=8)
    return save_figure(figure, path)


def _draw(ax: Any, at: list[int], epochs: list[dict[str, Any]], names: dict[str, str]) -> None:
    for key, label in names.items():
        if epochs and epochs[0].get(key) is not None:
            ax.plot(at, [_number(e.get(key)) for e in epochs], marker="o", markersize=3, label=label)


def _draw_layers(ax: Any, metrics: Path, key: str, title: str) -> None:
    curves: dict[str, tuple[list[int], list[float]]] = {}
    for line in read_metrics(metrics, "layers"):
        for row in line["layers"]:
            if row.get(key):
                at, values = curves.setdefault(row["name"], ([], []))
                at.append(line["step"])
                values.append(row[key])
    for name, (at, values) in curves.items():
        ax.plot(at, values, label=name or "model", lw=1.2)
    if curves:
        ax.set_yscale("log")
    ax.set(title=title, xlabel="step")


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
