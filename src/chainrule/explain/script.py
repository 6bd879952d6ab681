"""What a script gives to explain: it runs, and its `loss` and `model` are taken.

A script sets the variable `loss` (a tensor that can be differentiated) at its top level, or
defines `build()`, which returns the loss, `(loss, model)`, or a dictionary with "loss" and what
else should lend its name. It runs under the name `__chainrule__`, so what stands under
`if __name__ == "__main__":` (a training loop) does not.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

from ..core.errors import ChainruleError, located
from ..core.tensor import Tensor
from ..nn.module import Module

NAME = "__chainrule__"


class ScriptError(ChainruleError, ValueError):
    """A script cannot be run, or defines no loss."""


def load(path: Path | str) -> dict[str, Any]:
    """Run a script and return its variables, `loss` among them.

    Raises:
        ScriptError: there is no such file, it fails (the message names its line), or it defines no loss.
    """
    file = Path(path)
    if not file.is_file():
        raise ScriptError(f"there is no file {path}")
    try:
        code = compile(file.read_bytes(), str(file.resolve()), "exec")
    except (SyntaxError, ValueError) as error:
        raise ScriptError(f"{path} is no Python script: {error}") from error
    module = ModuleType(NAME)
    module.__file__ = str(file.resolve())
    folder = str(file.resolve().parent)
    sys.modules[NAME] = module
    sys.path.insert(0, folder)
    try:
        exec(code, module.__dict__)
    except SystemExit as stopped:
        raise ScriptError(f"{path} stopped with exit code {stopped.code} before its end") from stopped
    except ChainruleError:
        raise
    except Exception as error:
        raise ScriptError(f"{path} failed: {type(error).__name__}: {error}{_line_of(error, file)}") from error
    finally:
        if folder in sys.path:
            sys.path.remove(folder)
    return variables(module.__dict__, str(path))


def variables(found: dict[str, Any], name: str) -> dict[str, Any]:
    """The variables of a script or recipe with its loss, from `build()` if it has one.

    Raises:
        ScriptError: there is neither a loss nor a function that makes one.
    """
    names = {k: v for k, v in found.items() if not k.startswith("__")}
    build = names.get("build")
    if callable(build):
        names |= _built(build(), name)
    loss = names.get("loss")
    if not isinstance(loss, Tensor):
        what = f"its `loss` is a {type(loss).__name__}, not a tensor" if "loss" in names else "it defines no `loss`"
        raise ScriptError(
            f"{name} has nothing to explain: {what}. Set `loss` (and `model`) at the top level, outside of "
            '`if __name__ == "__main__":`, or define build() that returns loss or (loss, model)'
        )
    return names


def _built(result: Any, name: str) -> dict[str, Any]:
    if isinstance(result, Tensor):
        return {"loss": result}
    if isinstance(result, dict):
        return result
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], Module):
        return {"loss": result[0], "model": result[1]}
    kind = type(result).__name__
    raise ScriptError(located(f"build() of {name} returned {kind}; it returns loss, (loss, model) or a dictionary"))


def _line_of(error: BaseException, file: Path) -> str:
    """The last line of the script that the error passed."""
    own = [f for f in traceback.extract_tb(error.__traceback__) if f.filename == str(file.resolve())]
    return f"\n  at {os.path.relpath(file)}:{own[-1].lineno}: {own[-1].line}" if own else ""
