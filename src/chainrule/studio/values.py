"""Numbers that come from the page, and numbers that go there."""

from __future__ import annotations

import math
from typing import Any

from ..core.errors import ChainruleError


class SettingError(ChainruleError, ValueError):
    """The studio was asked for something it has not."""


def chosen(table: dict[str, Any], name: Any, what: str) -> Any:
    """The entry of a table of choices.

    Raises:
        SettingError: it has none of that name.
    """
    if not isinstance(name, str) or name not in table:
        raise SettingError(f"{what} is one of {', '.join(table)}, got {name!r}")
    return table[name]


def plain(value: Any) -> Any:
    """A number for JSON: six significant digits; null where it is not finite."""
    value = float(value)
    return float(f"{value:.6g}") if math.isfinite(value) else None


def number(value: Any, what: str, low: float, high: float) -> float:
    """A finite number within bounds.

    Raises:
        SettingError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SettingError(f"{what} is a number, got {value!r}")
    if not low <= value <= high:
        raise SettingError(f"{what} is between {low} and {high}, got {value}")
    return value
