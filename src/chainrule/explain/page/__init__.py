"""The page of an explanation: one HTML file that needs nothing else.

`script/` and `style/` hold its sources, small ES modules and style sheets without any
dependency; `bundle.py` puts them into one file together with the explanation's document.
"""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .bundle import page
from .neurons import neurons
from .training import course

if TYPE_CHECKING:
    from ..explanation import Explanation

FRAME_HEIGHT = 680  # pixels, in a notebook


def contents(explanation: Explanation, run: Path | str | None = None) -> dict[str, Any]:
    """What the page's script reads: the explanation's document, single neurons, the course of a run."""
    from ..document import document

    return {
        "explanation": document(explanation),
        "neurons": neurons(explanation),
        "run": None if run is None else course(run),
    }


def render(explanation: Explanation, run: Path | str | None = None) -> str:
    """The whole page as text."""
    return page(contents(explanation, run), f"{explanation.title} · chainrule")


def frame(explanation: Explanation) -> str:
    """The page for a notebook's output: in a frame of its own that may run its script and nothing else."""
    return (
        f'<iframe srcdoc="{html.escape(render(explanation))}" sandbox="allow-scripts" loading="lazy" '
        f'title="Explanation of {html.escape(explanation.title)}" '
        f'style="width: 100%; height: {FRAME_HEIGHT}px; border: 1px solid #8884; border-radius: 8px"></iframe>'
    )
