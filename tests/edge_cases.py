"""The rows of docs/numerics.md as data: the page is the table of expected results, the tests run it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PAGE = Path(__file__).parents[1] / "docs" / "numerics.md"


class Row(NamedTuple):
    """One row: an expression of a, b at a point, and what it gives."""

    case: str
    expression: str
    at: str
    value: str
    gradient: str
    torch: str
    jax: str

    def points(self) -> list[np.ndarray]:
        """The operands."""
        return [numbers(part) for part in self.at.split("; ")]

    def peer(self) -> tuple[str, str]:
        """PyTorch's value and gradient."""
        if self.torch == "same":
            return self.value, self.gradient
        said = dict(re.findall(r"(value|gradient) (.*?)(?:, (?=gradient)|$)", self.torch))
        assert said, self.torch
        return said.get("value", self.value), said.get("gradient", self.gradient)


def numbers(text: str) -> np.ndarray:
    """`0, inf` as an array, a single number as an array of one element."""
    return np.array([] if text == "empty" else [float(t) for t in text.split(", ")])


def rows() -> list[Row]:
    """Every row of every table on the page."""
    found = []
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and len(cells) == 7 and cells[0] != "case":
            cells[1] = cells[1].strip("`")
            found.append(Row(*cells))
    return found


def same(text: str, got: Any) -> None:
    """Compare with what the page says, to the digits it shows, without the sign of zero."""
    np.testing.assert_allclose(np.ravel(got), numbers(text), rtol=1e-5, atol=0)
