"""Tests of compiled functions run with the reference program, with one that overwrites state in place, and natively."""

from __future__ import annotations

import pytest

from chainrule.compiler.program import Evaluation
from chainrule.compiler.runtime import build


class Overwriting(Evaluation):
    """The reference program, used as native code is: new state goes into the array of the old."""

    is_atomic = True


@pytest.fixture(params=[Evaluation, Overwriting, build], ids=["replacing", "overwriting", "native"])
def program(request, monkeypatch):
    import sys

    monkeypatch.setattr(sys.modules["chainrule.compiler.compile"], "build", request.param)
    return request.param


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory):
    """Programs of tests stay out of the user's cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CHAINRULE_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
