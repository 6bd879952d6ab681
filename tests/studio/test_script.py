"""A script of one's own in the studio."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chainrule.explain.script import ScriptError
from chainrule.studio.script import own_network
from chainrule.studio.session import Session, SettingError

SCRIPT = """
import chainrule as cr
from chainrule import nn
from chainrule.nn import functional as F

cr.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
x, y = cr.randn(16, 3), cr.randn(16, 1)

def forward():
    return F.mse_loss(model(x), y)

loss = forward()
"""


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "mine.py"
    file.write_text(text)
    return file


def test_its_model_trains_and_its_lines_are_shown(tmp_path: Path) -> None:
    session = Session(own=own_network(written(tmp_path, SCRIPT)))
    before = session.loss
    session.train(200)
    assert session.loss < 0.8 * before
    state = session.state()
    json.dumps(state, allow_nan=False)
    assert state["studio"]["title"] == "mine.py" and state["studio"]["problem"] is None
    assert any("F.mse_loss(model(x), y)" in source["text"] for source in state["explanation"]["sources"])


def test_reset_gives_its_weights_back(tmp_path: Path) -> None:
    session = Session(own=own_network(written(tmp_path, SCRIPT)))
    start = session.model[0].weight.numpy().copy()
    session.train(3)
    session.apply({"do": "weight", "parameter": "0.weight", "entry": 1, "value": 2.0})
    session.apply({"do": "reset"})
    assert (session.model[0].weight.numpy() == start).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("model = ", "net = model = "), None),
        (("def forward", "def backward"), "forward"),
        (("return F.mse_loss(model(x), y)", "return model(x)"), "one number"),
        (("return F.mse_loss(model(x), y)", "return 1.0"), "one number"),
        (("return F.mse_loss(model(x), y)", "return x.sum()"), "does not depend"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, change: tuple[str, str], message: str | None) -> None:
    file = written(tmp_path, SCRIPT.replace(*change).replace("loss = forward()", "loss = F.mse_loss(model(x), y)"))
    if message is None:
        own_network(file)
    else:
        with pytest.raises(ScriptError, match=message):
            own_network(file)


def test_problems_cannot_be_chosen_instead_of_a_script(tmp_path: Path) -> None:
    session = Session(own=own_network(written(tmp_path, SCRIPT)))
    with pytest.raises(SettingError):
        session.apply({"do": "problem", "name": "xor"})
