"""Where in the user's code an operation was written.

Recording an operation stores only a code object and an instruction offset (two
attribute reads); file, line and text are looked up when somebody asks.
"""

from __future__ import annotations

import linecache
import os
import sys
from types import CodeType
from typing import NamedTuple

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
_NETWORKS = tuple(os.path.join(_PACKAGE, folder) + os.sep for folder in ("recipes", "pretrained"))
_is_user: dict[str, bool] = {}


class Location(NamedTuple):
    """One line of source code; prints as `train.py:12: loss = f(x)`."""

    file: str
    line: int
    text: str
    function: str

    @property
    def where(self) -> str:
        """`train.py:12`: the file relative to the working directory or this package; of others its name alone."""
        file = self.file
        if os.path.isabs(file):
            if file.startswith(_PACKAGE):
                file = os.path.relpath(file, os.path.dirname(_PACKAGE.rstrip(os.sep)))
            else:
                below = os.path.relpath(file)
                file = os.path.basename(file) if below.startswith(os.pardir) else below
        return f"{file}:{self.line}"

    def __str__(self) -> str:
        return f"{self.where}: {self.text}" if self.text else self.where


def is_user_code(filename: str) -> bool:
    """Whether a file is the user's; networks that ship inside the package to be looked at count as such."""
    user = not filename.startswith(_PACKAGE) or filename.startswith(_NETWORKS)
    _is_user[filename] = user
    return user


def capture(depth: int = 1) -> tuple[CodeType, int] | None:
    """The innermost frame outside the library, as (code object, instruction offset)."""
    frame = sys._getframe(depth)
    known = _is_user
    while frame is not None:
        code = frame.f_code
        filename = code.co_filename
        user = known.get(filename)
        if user is None:
            user = is_user_code(filename)
        if user:
            return code, frame.f_lasti
        frame = frame.f_back  # type: ignore[assignment]
    return None


def resolve(place: tuple[CodeType, int] | None) -> Location | None:
    """File, line and text of a place that `capture` returned."""
    if place is None:
        return None
    code, offset = place
    line = code.co_firstlineno
    for start, end, number in code.co_lines():
        if number is not None and start <= offset < end:
            line = number
            break
    text = linecache.getline(code.co_filename, line).strip()
    return Location(code.co_filename, line, text, code.co_name)


def user_line() -> Location | None:
    """The line of user code that is running now."""
    return resolve(capture(2))
