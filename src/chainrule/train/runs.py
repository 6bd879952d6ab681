"""Run folders: `runs/RECIPE/NAME/` with run.json, metrics.jsonl, the last and the best checkpoint, plots."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..core.errors import ChainruleError
from ..data.files import OutputError, remove_leftovers, write_atomically, writing

LAST = "last.safetensors"
BEST = "best.safetensors"
METRICS = "metrics.jsonl"
_DESCRIPTION = "run.json"


class RunError(ChainruleError, ValueError):
    """There is no such run, or it cannot be continued."""


class Run:
    """One run's folder.

    Attributes:
        folder: where everything is.
        recipe: name of the recipe.
        settings: what the recipe was called with; plain values.
    """

    def __init__(self, folder: Path, recipe: str, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.recipe = recipe
        self.settings = settings

    @property
    def last(self) -> Path:
        return self.folder / LAST

    @property
    def best(self) -> Path:
        return self.folder / BEST

    @property
    def metrics(self) -> Path:
        return self.folder / METRICS

    def require_settings(self, kind: Callable[..., Any]) -> None:
        """Raise `RunError` unless `kind(**settings)` accepts the settings."""
        try:
            kind(**self.settings)
        except (TypeError, ValueError) as error:
            raise RunError(f"{self.folder / _DESCRIPTION}: settings that {self.recipe} has not: {error}") from error

    def remove_if_empty(self) -> None:
        """Delete the folder of a run that failed before its first checkpoint."""
        if {p.name for p in self.folder.iterdir()} <= {_DESCRIPTION, METRICS}:
            shutil.rmtree(self.folder, ignore_errors=True)


def new_run(root: Path, recipe: str, settings: dict[str, Any], name: str | None = None) -> Run:
    """Make the folder of a new run, named by the time if not by `name`.

    Raises:
        OutputError: it cannot be made or written, or `name` is taken.
    """
    if name is not None and not re.fullmatch(r"[\w][\w.\- ]*", name):
        raise OutputError(f"a run's name is made of letters, digits, '-', '_' and '.', got {name!r}")
    folder = root / recipe / (name or time.strftime("%Y-%m-%d_%H-%M-%S"))
    if name is None:
        number = 1
        while folder.exists():
            number += 1
            folder = folder.with_name(f"{folder.name.split('.')[0]}.{number}")
    elif folder.exists() and any(folder.iterdir()):
        raise OutputError(f"{folder} exists; continue it with --resume {folder}, or choose another --name")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    description = {"recipe": recipe, "settings": settings, "started": time.strftime("%Y-%m-%dT%H:%M:%S%z")}
    write_atomically(folder / _DESCRIPTION, [json.dumps(description, indent=2).encode() + b"\n"])
    return Run(folder, recipe, settings)


def folder_as_run(folder: Path, resume: bool) -> Run:
    """The run of a program that keeps its own settings, in a folder that is made if need be.

    Raises:
        OutputError: it cannot be made, or holds a run already that is not to be resumed.
    """
    if not resume and (folder / LAST).exists():
        raise OutputError(f"{folder} holds a run; continue it with resume=True, or choose another folder")
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    return Run(folder, "", {})


def open_run(folder: Path) -> Run:
    """The run in an existing folder.

    Raises:
        RunError: the folder is no run's.
    """
    path = folder / _DESCRIPTION
    try:
        description = json.loads(path.read_text())
        run = Run(folder, str(description["recipe"]), dict(description["settings"]))
    except FileNotFoundError:
        known = [f"\n  {r}" for r in sorted(folder.parent.glob("*/")) if (r / _DESCRIPTION).exists()][-5:]
        raise RunError(f"{folder} is not a run's folder ({_DESCRIPTION} is missing)" + "".join(known)) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: damaged ({error})") from error
    remove_leftovers(folder)
    return run


def latest_run(root: Path, recipe: str | None = None) -> Run:
    """The run under `root` whose checkpoint is the newest.

    Raises:
        RunError: there is none.
    """
    checkpoints = list(root.glob(f"{recipe or '*'}/*/{LAST}"))
    if not checkpoints:
        what = f"of {recipe} " if recipe else ""
        raise RunError(f"there is no run {what}to resume under {root}{'' if root.exists() else ' (no such folder)'}")
    return open_run(max(checkpoints, key=lambda p: p.stat().st_mtime_ns).parent)
