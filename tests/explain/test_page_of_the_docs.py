"""What docs/explain.md says that its examples print is what they print."""

from __future__ import annotations

import contextlib
import io
import linecache
import re
from pathlib import Path
from typing import Any

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "explain.md"
PAIR = re.compile(r"^```python\n(.*?)^```\n(?:\n^```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL)


def run(page: str) -> list[tuple[str, str | None]]:
    """What every Python block prints, and what the page says that it prints (None where it says nothing)."""
    names: dict[str, Any] = {"__name__": "__main__"}
    found = []
    for number, match in enumerate(PAIR.finditer(page), 1):
        file = f"example{number}.py"
        linecache.cache[file] = (len(match[1]), None, match[1].splitlines(keepends=True), file)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(match[1], file, "exec"), names)
        found.append((out.getvalue(), match[2]))
    return found


def test_the_examples_print_what_the_page_says() -> None:
    told = run(PAGE.read_text(encoding="utf-8"))
    assert sum(said is not None for _, said in told) >= 8
    for printed, said in told:
        if said is not None:
            words, numbers = _taken_apart(printed)
            assert words == _taken_apart(said)[0]
            assert numbers == pytest.approx(_taken_apart(said)[1], rel=0.02)


def _taken_apart(text: str) -> tuple[str, list[float]]:
    """The words, and the numbers; what rounding decides (agreement, shades of a heat map) is left out."""
    text = re.sub(r"agrees with autodiff to [\d.]+e−\d+", "", text)
    text = re.sub(r"[▁-█░▒▓]+", "", text)
    number = r"(?<![\w.])−?\d+(?:\.\d+)?(?:e−?\d+)?(?![\w₀-₉])"
    numbers = [float(n.replace("−", "-")) for n in re.findall(number, text)]
    return re.sub(r"\s+", " ", re.sub(number, "#", text)), numbers
