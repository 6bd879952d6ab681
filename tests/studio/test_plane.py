"""Data with noise, held back and penalised; the plane of two inputs, for a problem and for a script's network."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.tensor import Tensor
from chainrule.nn import functional as F
from chainrule.studio import plane
from chainrule.studio.session import Own, Session, SettingError


def decoded(data: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(data), np.int8) / 127


def test_noise_and_the_share_that_tests_change_the_data_and_not_the_weights() -> None:
    session = Session("moons")
    weight, inputs = session.model.output.weight.numpy().copy(), session.inputs.copy()
    assert len(session.test_rows) == 60 and len(session.train_rows) == 140
    assert not set(session.test_rows) & set(session.train_rows)
    session.apply({"do": "setting", "name": "noise", "value": 0.5})
    assert np.abs(session.inputs - inputs).max() > 0.3
    session.apply({"do": "setting", "name": "test", "value": 0.0})
    state = session.state()["studio"]
    assert state["test_loss"] is None and not any(p[3] for p in state["plane"]["points"])
    session.apply({"do": "setting", "name": "test", "value": 0.5})
    state = session.state()["studio"]
    held = session.test_rows
    wanted = session._loss(Tensor(session.inputs[held]), session.targets[held]).item()
    assert state["test_loss"] == pytest.approx(wanted, rel=1e-5)
    assert [k for k, p in enumerate(state["plane"]["points"]) if p[3]] == held.tolist()
    assert (session.model.output.weight.numpy() == weight).all()
    for bad in (0.9, -0.1, "half"):
        with pytest.raises(SettingError):
            session.apply({"do": "setting", "name": "test", "value": bad})
    with pytest.raises(SettingError):
        Session("neuron").apply({"do": "setting", "name": "speed", "value": 1})


def test_only_the_rows_that_train_are_trained_on() -> None:
    session = Session("moons")
    session.inputs[session.test_rows] = np.nan  # whoever reads one of them gets NaN
    session.train(5)
    assert session.step == 5 and np.isfinite(session.loss) and np.isnan(session.test_loss)


def test_a_penalty_makes_the_weights_smaller() -> None:
    sizes = []
    for penalty in (0.0, 0.1):
        session = Session("moons")
        session.apply({"do": "setting", "name": "l2", "value": penalty})
        session.train(60)
        sizes.append(float(np.abs(session.model.hidden1.weight.numpy()).sum()))
    assert sizes[1] < 0.8 * sizes[0]


def test_hidden_units_are_shown_as_they_respond_over_the_plane() -> None:
    session = Session("moons")
    session.train(20)
    hidden = session.state()["studio"]["hidden"]
    assert [(row["layer"], row["count"], len(row["units"])) for row in hidden] == [("f1", 6, 6), ("f2", 6, 6)]
    points = Tensor(plane.field(plane.THUMB, (0, 0), 1.8))
    responses = session.model.f1(session.model.hidden1(points)).numpy()
    for unit, data in enumerate(hidden[0]["units"]):
        wanted = responses[:, unit] / np.abs(responses[:, unit]).max()
        assert np.abs(decoded(data) - wanted).max() < 0.01


def own(model: nn.Module, x: Any, y: Any, loss: Any) -> Any:
    return Session("neuron", own=Own("mine.py", model, lambda: loss(model(x)), {"x": x, "y": y}))


def test_an_own_network_of_two_inputs_has_a_plane_wherever_its_data_lie() -> None:
    cr.manual_seed(0)
    x = cr.tensor(np.random.default_rng(0).normal((500, -3), (4, 1), (50, 2)).astype(np.float32))
    labels = cr.tensor((x.numpy()[:, :1] > 500).astype(np.float32))
    model = nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1))
    found = own(model, x, labels, lambda z: F.binary_cross_entropy_with_logits(z, labels)).state()["studio"]
    shown = found["plane"]
    assert shown["here"] is None and len(shown["points"]) == 50
    for px, py, colour, _ in shown["points"]:
        assert abs(px - shown["centre"][0]) <= shown["reach"] and abs(py - shown["centre"][1]) <= shown["reach"]
        assert colour == (1 if px > 500 else -1)
    logits = model(Tensor(plane.field(plane.GRID, shown["centre"], shown["reach"]))).numpy()[:, 0]
    assert np.abs(decoded(shown["data"]) - np.tanh(logits / 2)).max() < 0.01
    assert [row["layer"] for row in found["hidden"]] == ["1"]


@pytest.mark.parametrize("classes", [2, 3])
def test_classes_of_an_own_network_are_coloured(classes: int) -> None:
    cr.manual_seed(0)
    x = cr.randn(30, 2)
    labels = cr.randint(0, classes, (30,))
    model = nn.Linear(2, classes)
    shown = own(model, x, labels, lambda z: F.cross_entropy(z, labels)).state()["studio"]["plane"]
    logits = model(Tensor(plane.field(plane.GRID, shown["centre"], shown["reach"]))).numpy()
    cells = decoded(shown["data"])
    assert (np.sign(np.round(cells, 1)) * np.sign(2 * logits.argmax(1) / (classes - 1) - 1) >= 0).all()
    assert {p[2] for p in shown["points"]} == {2 * c / (classes - 1) - 1 for c in range(classes)}


def test_an_own_network_of_other_inputs_or_a_fixed_batch_has_no_plane() -> None:
    cr.manual_seed(0)
    x = cr.randn(8, 3)
    assert "plane" not in own(nn.Linear(3, 1), x, None, lambda z: (z**2).mean()).state()["studio"]

    class Fixed(nn.Module):
        def __init__(self) -> None:
            self.w = nn.Linear(2, 1)

        def forward(self, x: Any) -> Any:
            return self.w(x) * cr.ones((8, 1))

    assert "plane" not in own(Fixed(), cr.randn(8, 2), None, lambda z: (z**2).mean()).state()["studio"]
