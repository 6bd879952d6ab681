"""The course of a run: what `metrics.jsonl` says about every layer, as tables of layers × steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .metrics import read_metrics
from .runs import RunError, open_run

STATISTICS = ("mean", "std", "zeros", "grad", "grad_norm", "update_ratio")
STEPS = 400  # shown of a long run
LOSSES = 600


def course(folder: Path | str) -> dict[str, Any]:
    """What an explanation's page shows of a run's folder (`Explanation.save(path, course=…)`).

        name, recipe    of the run
        layers          [{"name", "kind"}] in the order in which they run
        steps           the steps that were measured, counted from 0
        last_step       how many steps the run has so far
        statistics      {"grad": [[number or null, one a step] for each layer], …}
        losses          [[step, loss], …]

    Raises:
        RunError: it is no run's folder, or no step was measured layer by layer.
    """
    run = open_run(Path(folder))
    lines = read_metrics(run.metrics)
    measured = thinned([line for line in lines if line.get("event") == "layers" and line.get("layers")], STEPS)
    if not measured:
        raise RunError(f"{run.folder}: no step was measured layer by layer yet")
    layers = [{"name": str(row["name"]), "kind": str(row["kind"])} for row in measured[0]["layers"]]
    measured = [line for line in measured if len(line["layers"]) == len(layers)]
    losses = [
        [line["step"], line["loss"]] for line in lines if line.get("event") == "step" and line.get("loss") is not None
    ]
    tables = {
        key: [[line["layers"][i].get(key) for line in measured] for i in range(len(layers))] for key in STATISTICS
    }
    return {
        "name": run.folder.name,
        "recipe": run.recipe,
        "layers": layers,
        "steps": [line["step"] for line in measured],
        "last_step": max(line["step"] for line in lines if isinstance(line.get("step"), int)),
        "statistics": {key: rows for key, rows in tables.items() if any(v is not None for row in rows for v in row)},
        "losses": thinned(losses, LOSSES),
    }


def thinned(items: list[Any], most: int) -> list[Any]:
    """At most about `most` items, evenly chosen, the last one included."""
    if len(items) <= most:
        return items
    every = -(-len(items) // most)
    return items[:-1:every] + items[-1:]
