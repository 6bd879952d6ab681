"""What a finished run shows: the table of its layers and the plot of its course."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..train import Reporter, Run, read_metrics
from ..train.plots import PlotError, plot_training
from ..train.progress import text_table


def layer_table(metrics: Path) -> str:
    """Per layer, in the first, the middle and the last step that was measured: activations, gradients, updates."""
    measured = read_metrics(metrics, "layers")
    if not measured:
        return "no step was measured layer by layer"
    chosen = [measured[0], measured[len(measured) // 2], measured[-1]]
    headers = ["layer", "step", "mean", "std", "zeros", "rms ∂L/∂out", "‖∂L/∂θ‖", "‖Δθ‖/‖θ‖"]
    rows = []
    for position, layer in enumerate(chosen[0]["layers"]):
        for line in chosen:
            row = line["layers"][position]
            title = f"{row['name']} ({layer['kind']})" if line is chosen[0] else ""
            rows.append(
                [
                    title,
                    f"{line['step'] + 1}",
                    f"{row['mean']:+.3f}",
                    f"{row['std']:.3f}",
                    f"{row['zeros']:.1%}",
                    _scientific(row.get("grad")),
                    _scientific(row.get("grad_norm")),
                    _scientific(row.get("update_ratio")),
                ]
            )
    explanation = (
        "What one step did to each layer, at the start, in the middle and at the end of training\n"
        "(mean, std and share of zeros of its outputs; gradient; size of the update beside the weights)\n"
    )
    return explanation + text_table(headers, rows)


def _scientific(value: Any) -> str:
    return "" if value is None else f"{value:.1e}"


def save_plot(run: Run, title: str, reporter: Reporter) -> Path | None:
    """Draw the run's course into its folder; without matplotlib, say what is missing."""
    try:
        return plot_training(run.metrics, run.folder / "training.png", title)
    except PlotError as error:
        reporter.say(f"no plot: {error}")
        return None
