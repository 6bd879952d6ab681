"""Pictures that recipes leave in a run's folder, drawn with matplotlib (the extra `chainrule[plots]`)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..train import Reporter
from ..train.average_precision import Boxes
from ..train.plots import PlotError, new_figure, save_figure

_DARK = {"facecolor": "black", "alpha": 0.6, "pad": 0.5, "lw": 0}


def save_sheet(
    path: Path, images: np.ndarray, captions: Sequence[str], reporter: Reporter, columns: int = 10
) -> Path | None:
    """A sheet of grey images (N, H, W) with a line of text over each; without matplotlib, say what is missing."""
    rows = -(-len(images) // columns)

    def draw(ax: Any, number: int) -> None:
        ax.imshow(images[number], cmap="gray")
        ax.set_title(captions[number], fontsize=7)

    return save_grid(path, rows, columns, len(images), draw, reporter, (1.1 * columns, 1.35 * rows))


def save_boxes(
    path: Path, scenes: Any, found: Sequence[Boxes], names: Sequence[str], reporter: Reporter, least: float = 0.3
) -> Path | None:
    """Scenes with the true boxes (white, dashed) and those found with a score of at least `least`."""
    count = min(len(found), 12)
    columns = min(count, 4)

    def outline(ax: Any, corners: np.ndarray, **style: Any) -> None:
        x1, y1, x2, y2 = corners
        ax.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], **style)

    def draw(ax: Any, number: int) -> None:
        picture, corners, labels = (t.numpy() for t in scenes[number])
        ax.imshow(picture.transpose(1, 2, 0))
        ax.set(xlim=(0, picture.shape[2]), ylim=(picture.shape[1], 0))
        for box in corners[labels >= 0]:
            outline(ax, box, color="white", lw=0.8, ls="--")
        mine = found[number]
        for box, label, score in zip(mine.corners, mine.labels, mine.scores, strict=True):
            if score >= least:
                outline(ax, box, color=f"C{label}", lw=1.2)
                if len(names) > 1:
                    words = f"{names[label]} {score:.2f}"
                    ax.text(box[0], box[1] - 1, words, color="white", fontsize=5, va="bottom", clip_on=True, bbox=_DARK)

    size = 3.2 if len(names) > 1 else 8.0
    return save_grid(
        path, -(-count // columns), columns, count, draw, reporter, (size * columns, size * -(-count // columns))
    )


def save_grid(
    path: Path, rows: int, columns: int, count: int, draw: Any, reporter: Reporter, size: tuple[float, float]
) -> Path | None:
    """`draw(ax, i)` for the first `count` cells of a grid; the file, or None without matplotlib."""
    try:
        figure, axes = new_figure(rows, columns, size)
    except PlotError as error:
        reporter.say(f"no picture: {error}")
        return None
    for number, ax in enumerate(axes.flat):
        ax.set_axis_off()
        if number < count:
            draw(ax, number)
    return save_figure(figure, path)
