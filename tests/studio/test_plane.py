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
from chainrule.recipes.small import FEATURES, featured
from chainrule.studio import plane
from chainrule.studio.own import Own
from chainrule.studio.problems import PROBLEMS
from chainrule.studio.session import Session, SettingError


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
    wanted = session.criterion(Tensor(session.inputs[held]), session.targets[held]).item()
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


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_classes_of_an_own_network_are_told_apart(classes: int) -> None:
    cr.manual_seed(0)
    x = cr.randn(30, 2)
    labels = cr.randint(0, classes, (30,))
    model = nn.Linear(2, classes)
    shown = own(model, x, labels, lambda z: F.cross_entropy(z, labels)).state()["studio"]["plane"]
    p = F.softmax(model(Tensor(plane.field(plane.GRID, shown["centre"], shown["reach"]))), -1).numpy()
    assert shown["among"] == classes
    if classes == 2:
        assert np.abs(decoded(shown["data"]) - (p[:, 1] - p[:, 0])).max() < 0.01 and shown["classes"] is None
        assert {p[2] for p in shown["points"]} == {-1, 1}
    else:
        likeliest = np.frombuffer(base64.b64decode(shown["classes"]), np.int8)
        assert (likeliest == p.argmax(1)).all()
        sure = (classes * p.max(1) - 1) / (classes - 1)
        assert np.abs(decoded(shown["data"]) - sure).max() < 0.01
        assert [p[2] for p in shown["points"]] == labels.numpy().tolist()


def test_the_numbers_of_an_own_network_and_of_its_data_have_one_scale() -> None:
    cr.manual_seed(0)
    x = cr.randn(20, 2)
    y = 3 * x[:, :1]
    shown = own(nn.Linear(2, 1), x, y, lambda z: F.mse_loss(z, y)).state()["studio"]["plane"]
    largest = np.abs(y.numpy()).max()
    assert shown["among"] == 0 and shown["largest"] == pytest.approx(largest, rel=1e-3)
    assert [p[2] for p in shown["points"]] == pytest.approx((y.numpy()[:, 0] / largest).tolist(), rel=1e-4)


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


PLANES = [name for name, problem in PROBLEMS.items() if problem.kind == "plane"]


@pytest.mark.parametrize("name", PLANES)
def test_the_data_lie_in_the_plane_and_noise_moves_them(name: str) -> None:
    session = Session(name)
    assert np.abs(session.inputs).max() < 2.2 and session.inputs.dtype == np.float32
    if session.problem.classes:
        assert set(np.unique(session.targets)) == {0.0, 1.0}
    if session.problem.noisy is None:
        return
    assert len(session.inputs) == 200 and len(session.test_rows) == 60
    before = session.inputs.copy(), session.targets.copy()
    session.apply({"do": "setting", "name": "noise", "value": 0.4})
    moved = session.inputs if session.problem.classes else session.targets
    assert np.abs(moved - before[0 if session.problem.classes else 1]).max() > 0.2


def test_a_regression_is_learned_and_shown_in_its_own_numbers() -> None:
    session = Session("hills")
    session.train(3000)
    assert session.loss < 0.03  # the variance of the targets is 0.15: a half of it is the loss of a constant
    shown = session.state()["studio"]["plane"]
    assert shown["among"] == 0
    answers = session.model(Tensor(plane.field(plane.GRID, (0, 0), 1.8))).numpy()[:, 0]
    assert np.abs(decoded(shown["data"]) - np.clip(answers, -1, 1)).max() < 0.01
    assert [p[2] for p in shown["points"]] == pytest.approx(np.clip(session.targets[:, 0], -1, 1).tolist(), rel=1e-4)
    assert session.state()["studio"]["choices"]["loss"] == ["squared error", "absolute error", "Huber"]


def test_what_the_network_reads_of_a_point_is_chosen() -> None:
    session = Session("moons")
    for features in (["x₁"], list(FEATURES), ["sin 3x₂", "x₁x₂"]):
        session.apply({"do": "setting", "name": "features", "value": features})
        state = session.state()
        read = {f["name"]: f["read"] for f in state["studio"]["features"]}
        assert [name for name in FEATURES if read[name]] == [name for name in FEATURES if name in features]
        assert session.model.hidden1.weight.shape == (6, len(features))
    x1, x2 = session.inputs[:, 0], session.inputs[:, 1]
    seen = featured(Tensor(session.inputs), session.model.features).numpy()
    assert np.abs(seen - np.stack([x1 * x2, np.sin(3 * x2)], 1)).max() < 1e-6
    # The explanation follows: the gradient of the point passes the sine.
    x = Tensor(session.x, requires_grad=True)
    loss = session.criterion(x, session.y)
    assert any(s.primitive == "sin" for s in cr.explain(loss, x).steps) and cr.explain(loss, x).check().ok
    for bad in ([], "x₁", ["x₃"], [1], None):
        with pytest.raises(SettingError):
            session.apply({"do": "setting", "name": "features", "value": bad})
    with pytest.raises(SettingError):
        Session("digits").apply({"do": "setting", "name": "features", "value": ["x₁"]})


def test_squares_let_a_single_layer_see_a_circle() -> None:
    losses = []
    for features in (["x₁", "x₂"], ["x₁²", "x₂²"]):
        session = Session("circle")
        session.apply({"do": "setting", "name": "activation", "value": "identity"})
        session.apply({"do": "setting", "name": "features", "value": features})
        session.train(400)
        losses.append(session.loss)
    assert losses[0] > 0.5 and losses[1] < 0.2


def test_an_l1_penalty_makes_weights_zero_and_leaves_biases_alone() -> None:
    session = Session("circle")
    session.apply({"do": "setting", "name": "features", "value": list(FEATURES)})
    session.apply({"do": "setting", "name": "l1", "value": 0.02})
    session.train(800)
    zeros = [float((p.numpy() == 0).mean()) for p in session.model.parameters() if p.ndim > 1]
    assert max(zeros) > 0.3 and session.loss < 0.3
    assert all((p.numpy() != 0).all() for p in session.model.parameters() if p.ndim == 1)


def test_one_step_with_a_penalty_is_a_step_of_the_gradient_and_a_soft_threshold() -> None:
    session, plain = Session("moons"), Session("moons")
    session.apply({"do": "setting", "name": "l1", "value": 0.1})
    session.train(1)
    plain.train(1)
    stepped = plain.model.hidden2.weight.numpy()
    wanted = np.sign(stepped) * np.maximum(np.abs(stepped) - 0.1 * 0.3, 0)
    assert np.abs(session.model.hidden2.weight.numpy() - wanted).max() < 1e-7


def test_the_batch_size_is_that_of_every_step() -> None:
    session = Session("moons")
    assert session.settings["batch"] == 64 and "batch" in session.ranges() and "batch" not in Session("xor").ranges()
    weight = session.model.output.weight.numpy().copy()
    session.apply({"do": "setting", "name": "batch", "value": 3})
    assert (session.model.output.weight.numpy() == weight).all()
    seen = []
    session.model.register_forward_pre_hook(lambda _, args: seen.append(len(args[0])))
    session.train(2)
    assert seen[:2] == [3, 3]
    for bad in (0, 201, 2.5, True, None):
        with pytest.raises(SettingError):
            session.apply({"do": "setting", "name": "batch", "value": bad})
