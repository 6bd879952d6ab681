"""A studio's session: commands change the network, training lowers the loss, what is shown is the engine's."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.tensor import Tensor
from chainrule.studio.digits import digits
from chainrule.studio.problems import ACTIVATIONS, INITIALISATIONS, OPTIMISERS, PROBLEMS
from chainrule.studio.session import HISTORY, Session, SettingError


def setting(name: str, value: Any) -> dict[str, Any]:
    return {"do": "setting", "name": name, "value": value}


def weight(parameter: str, entry: Any, value: Any) -> dict[str, Any]:
    return {"do": "weight", "parameter": parameter, "entry": entry, "value": value}


BAD: list[Any] = [
    None, 3, [], {}, {"do": "fly"}, {"do": ["step"]}, {"do": "step", "more": 1}, {"do": "problem", "name": "x"},
    setting("lr", "1"), setting("lr", -1), setting("lr", math.nan), setting("lr", True), setting("width", 1e9),
    setting("activation", "step"), setting("activation", ["tanh"]), setting("_rng", 1), setting("batch", False),
    weight("w", 1, 0), weight("v", 0, 0), weight("w", 0, 1e300), weight("w", 0.5, 1), weight("w", -1, 1),
    {"do": "input", "entry": -1, "value": 0}, {"do": "sample", "index": 99}, {"do": "sample", "index": "0"},
]  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_is_learned(name: str) -> None:
    session = Session(name)
    before = session.loss
    session.train(300)
    assert session.step == 300 and session.trouble == ""
    assert session.loss < 0.5 * before


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_state_is_plain_json_and_explains_every_parameter(name: str) -> None:
    session = Session(name)
    session.train(3)
    state = session.state()
    json.dumps(state, allow_nan=False)
    shown = {p["name"]: p for p in state["studio"]["parameters"]}
    assert list(shown) == [n for n, _ in session.model.named_parameters()]
    labels = {n["label"] for n in state["explanation"]["nodes"]}
    assert "L" in labels and labels & {"x", "x1"}


def test_the_gradients_shown_are_those_of_the_explained_sample() -> None:
    session = Session("xor")
    session.apply({"do": "sample", "index": 2})
    loss = PROBLEMS["xor"].losses["cross entropy"](session.model(Tensor(session.inputs[2:3])), Tensor([[1.0]]))
    wanted = cr.grad(loss, list(session.model.parameters()))
    for row, g in zip(session.state()["studio"]["parameters"], wanted, strict=True):
        assert row["gradient"] == pytest.approx(g.numpy().reshape(-1), rel=1e-5, abs=1e-8)
        assert row["gradient_norm"] == pytest.approx(np.linalg.norm(g.numpy()), rel=1e-5)


def test_the_neuron_s_weights_and_inputs_can_be_set_and_what_follows_is_right() -> None:
    session = Session("neuron")
    for command in (
        {"do": "weight", "parameter": "w", "entry": 0, "value": 2.0},
        {"do": "weight", "parameter": "b", "entry": 0, "value": -1.0},
        {"do": "input", "entry": 0, "value": 0.75},
        {"do": "input", "entry": 1, "value": -0.25},
    ):
        session.apply(command)
    state = session.state()
    a = math.tanh(0.5)
    dz = (a + 0.25) * (1 - a * a)
    w, b = state["studio"]["parameters"]
    assert (w["values"], b["values"]) == ([2.0], [-1.0])
    assert w["gradient"][0] == pytest.approx(dz * 0.75, rel=1e-5) and b["gradient"][0] == pytest.approx(dz, rel=1e-5)
    (neuron,) = state["neurons"]
    assert (neuron["z"], neuron["a"], neuron["dL_dz"]) == pytest.approx((0.5, a, dz), rel=1e-5)


@pytest.mark.parametrize("name", ["neuron", "xor"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_works(activation: str, name: str) -> None:
    session = Session(name)
    session.apply({"do": "setting", "name": "activation", "value": activation})
    session.apply({"do": "step"})
    assert session.step == 1 and session.state()["studio"]["settings"]["activation"] == activation


@pytest.mark.parametrize("initialisation", INITIALISATIONS)
def test_every_initialisation_is_used(initialisation: str) -> None:
    session = Session("moons")
    session.apply({"do": "setting", "name": "initialisation", "value": initialisation})
    weight = session.model.hidden2.weight.numpy()
    size = {"zeros": 0.0, "normal, σ = 2": 2.0, "normal, σ = 0.01": 0.01}.get(initialisation)
    if size is not None:
        assert weight.std() == pytest.approx(size, rel=0.5)
    assert np.isfinite(weight).all()


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_changing_optimiser_or_rate_keeps_the_weights(optimiser: str) -> None:
    session = Session("xor")
    session.train(5)
    before = session.model.output.weight.numpy().copy()
    session.apply({"do": "setting", "name": "optimiser", "value": optimiser})
    session.apply({"do": "setting", "name": "lr", "value": 0.2})
    assert (session.model.output.weight.numpy() == before).all()
    assert session.optimizer.param_groups[0]["lr"] == 0.2
    session.train(1)
    assert (session.model.output.weight.numpy() != before).any()


def test_depth_and_width_rebuild_the_network_and_a_seed_repeats_it() -> None:
    session = Session("moons")
    session.apply({"do": "setting", "name": "depth", "value": 3})
    session.apply({"do": "setting", "name": "width", "value": 5})
    assert [p.shape for p in session.model.parameters()][2] == (5, 5)
    start = session.model.output.weight.numpy().copy()
    session.train(3)
    session.apply({"do": "reset"})
    assert session.step == 0 and (session.model.output.weight.numpy() == start).all()


def test_a_learning_rate_that_is_too_large_is_reported_and_stops_the_training() -> None:
    session = Session("neuron")
    session.apply({"do": "setting", "name": "activation", "value": "identity"})
    session.apply({"do": "setting", "name": "lr", "value": 30.0})
    session.apply({"do": "run"})
    session.train(2000)
    assert not session.running and "learning rate is too large" in session.trouble
    json.dumps(session.state(), allow_nan=False)


def test_a_long_training_keeps_a_short_history_of_its_whole_course() -> None:
    session = Session("xor")
    session.train(3000)
    steps = [step for step, _ in session.losses]
    assert len(steps) <= HISTORY and steps[0] == 0 and steps[-1] > 2900
    assert len(set(np.diff(steps))) == 1


@pytest.mark.parametrize("command", BAD, ids=repr)
def test_what_makes_no_sense_is_refused_and_changes_nothing(command: Any) -> None:
    session = Session("neuron")
    before = json.dumps(session.state()["studio"])
    with pytest.raises(SettingError):
        session.apply(command)
    assert json.dumps(session.state()["studio"]) == before


def test_the_digits_are_those_of_the_embedded_file() -> None:
    images, labels = digits()
    assert images.shape == (1797, 1, 8, 8) and images.min() == 0 and images.max() == 1
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
