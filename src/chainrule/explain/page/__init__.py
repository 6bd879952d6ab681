"""The page of an explanation: one HTML file that needs nothing else.

`script/` and `style/` hold its sources, small ES modules and style sheets without any
dependency; `bundle.py` puts them into one file together with the explanation's document.
"""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .bundle import page
from .neurons import neurons

if TYPE_CHECKING:
    from ..explanation import Explanation

FRAME_HEIGHT = 680  # pixels, in a notebook


def contents(explanation: Explanation, course: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the page's script reads: the explanation's document, single neurons, the course of a run."""
    from ..document import document

    return {
        "explanation": document(explanation),
        "neurons": neurons(explanation),
        "run": course,
    }


def render(explanation: Explanation, course: Mapping[str, Any] | None = None) -> str:
    """The whole page as text."""
    return page(contents(explanation, course), f"{explanation.title} · chainrule")


def frame(explanation: Explanation) -> str:
    """The page for a notebook's output: in a frame of its own that may run its script and nothing else."""
    return (
        f'<iframe srcdoc="{html.escape(render(explanation))}" sandbox="allow-scripts" loading="lazy" '
        f'title="Explanation of {html.escape(explanation.title)}" '
        f'style="width: 100%; height: {FRAME_HEIGHT}px; border: 1px solid #8884; border-radius: 8px"></iframe>'
    )
