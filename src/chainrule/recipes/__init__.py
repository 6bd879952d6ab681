"""The models that chainrule brings along, each runnable with `chainrule train NAME`.

A recipe is a module with `Settings`, a dataclass of plain values, and
`train(run, reporter, resume=False, save_every=30.0)`, which trains, reports and returns the
results.
"""

from __future__ import annotations

import difflib
import importlib
from typing import Any

from ..core.errors import ChainruleError

RECIPES = {
    "fashion-mnist": "an MLP on 28×28 images of clothing, 10 classes",
}


class UnknownName(ChainruleError, KeyError):
    """A name that nothing goes by; the message suggests near ones."""

    def __str__(self) -> str:
        return str(self.args[0])


def find_recipe(name: str) -> Any:
    """The module of a recipe.

    Raises:
        UnknownName: there is none of that name.
    """
    require_known(name, "recipe", RECIPES)
    return importlib.import_module(f"{__name__}.{name.replace('-', '_')}")


def require_known(name: str, kind: str, known: Any) -> None:
    """Raise `UnknownName` with suggestions unless `name` is among `known`."""
    if name not in known:
        near = difflib.get_close_matches(name.lower().replace("_", "-"), known, n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(near)}?" if near else f"known: {', '.join(known)}"
        raise UnknownName(f"there is no {kind} {name!r}; {hint}")
