"""Every test of compiled functions runs with the reference program and with one that overwrites state in place."""

from __future__ import annotations

import pytest

from chainrule.compiler import compile as _  # noqa: F401 (loads the package)
from chainrule.compiler.program import Evaluation


class Overwriting(Evaluation):
    """The reference program, used as native code is: new state goes into the array of the old."""

    is_atomic = True


@pytest.fixture(params=[Evaluation, Overwriting], ids=["replacing", "overwriting"])
def program(request, monkeypatch):
    import sys

    monkeypatch.setattr(sys.modules["chainrule.compiler.compile"], "build", request.param)
    return request.param
