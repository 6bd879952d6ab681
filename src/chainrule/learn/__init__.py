"""Lessons: claims about backpropagation, measured on the reader's machine (`chainrule learn`)."""

from __future__ import annotations

import importlib
from typing import Any

LESSONS = {
    "cost": "what a gradient costs by backpropagation, by forward mode and by finite differences",
}


def find_lesson(name: str) -> Any:
    """The module of a lesson in LESSONS: it has `run(say, fast, plot)`."""
    return importlib.import_module(f"{__name__}.{name}")
