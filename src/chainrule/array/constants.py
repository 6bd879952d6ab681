"""The constants of the standard."""

from __future__ import annotations

import math

__all__ = ["__array_api_version__", "e", "inf", "nan", "newaxis", "pi"]

__array_api_version__ = "2024.12"

e = math.e
inf = math.inf
nan = math.nan
newaxis = None
pi = math.pi
