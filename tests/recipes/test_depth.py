"""The recipe `depth`: the known results about gradients in deep networks appear."""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from chainrule.data import Compose, DataLoader, FashionMNIST, Normalize, ToFloat
from chainrule.nn import functional as F
from chainrule.random import manual_seed
from chainrule.recipes import depth
from chainrule.recipes.depth_networks import MLP, NETWORKS, Variant, predicted_factor
from chainrule.train import Job, Reporter, new_run, read_metrics


@cache
def images(count: int = 64) -> tuple[Any, Any]:
    data = FashionMNIST(True, None, Compose([ToFloat(), Normalize(0.2860, 0.3530)]))
    x, y = next(iter(DataLoader(data, count)))
    return x, y


def gradient(network: str, variant: Variant, layers: int, width: int = 64) -> list[float]:
    manual_seed(0)
    x, y = images()
    scores, states = NETWORKS[network][0](variant, width, layers)(x)
    return depth.gradient_by_depth(F.cross_entropy(scores, y), states)


def factor(norms: list[float]) -> float:
    return (norms[0] / norms[-1]) ** (1 / (len(norms) - 1))


def test_sigmoids_with_small_weights_let_the_gradient_vanish() -> None:
    norms = gradient("mlp", Variant("sigmoid", "small"), 8)
    assert factor(norms) == pytest.approx(0.25 * 0.01 * math.sqrt(64), rel=0.1)


@pytest.mark.parametrize(("rule", "expected"), [("Xavier", 1 / math.sqrt(2)), ("He", 1.0), ("large", 2.0)])
def test_relu_passes_half_of_the_variance_which_he_initialisation_makes_good(rule: str, expected: float) -> None:
    assert factor(gradient("mlp", Variant("relu", rule), 50, width=128)) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", "leaky relu", "gelu", "silu", "identity"])
def test_the_factor_a_layer_is_the_predicted_one(activation: str) -> None:
    manual_seed(1)
    x, y = images()
    model = MLP(Variant(activation, "He"), 128, 12)
    scores, states = model(x)
    measured = factor(depth.gradient_by_depth(F.cross_entropy(scores, y), states))
    assert measured == pytest.approx(predicted_factor(model, states), rel=0.1)


@pytest.mark.parametrize("network", ["mlp", "transformer"])
def test_residual_connections_and_norms_bring_the_gradient_through_a_hundred_layers(network: str) -> None:
    variant = Variant("relu" if network == "mlp" else "gelu", "He", norm="before", residual=True)
    norms = gradient(network, variant, 100, width=32)
    assert 0.1 < norms[0] / norms[-1] < 1e4
    alone = gradient(network, Variant(variant.activation, "He", residual=True), 30, width=32)
    assert factor(alone) > 1.5


def test_an_open_forget_gate_carries_the_gradient_through_time() -> None:
    norms = {v.init: gradient("rnn", v, 98) for v in NETWORKS["rnn"][1] if v.activation == "LSTM"}
    assert norms["as in PyTorch"][0] < 1e-12 * norms["as in PyTorch"][-1]
    assert norms["open forget gate"][0] > 0.1 * norms["open forget gate"][-1]


def test_large_recurrent_weights_let_the_gradient_explode() -> None:
    norms = gradient("rnn", Variant("tanh", "large"), 49)
    assert norms[0] > 1e3 * norms[-1]


def _job(folder: Path, **settings: Any) -> Job:
    made = depth.Settings.make({"fast": True, **settings})
    return Job(new_run(folder, "depth", vars(made).copy()), Reporter())


def test_every_variant_is_measured_reported_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = _job(tmp_path)
    result = depth.train(job)
    assert {row["network"] for row in result["variants"]} == set(NETWORKS)
    assert (job.run.folder / "depth.png").stat().st_size > 10_000
    assert "√(n E[W²] E[f′²])" in capsys.readouterr().out


def test_a_continued_run_measures_only_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = _job(tmp_path, network="rnn")
    measure, calls = depth.measure, []

    def interrupted(*args: Any) -> Any:
        calls.append(args[1])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return measure(*args)

    monkeypatch.setattr(depth, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        depth.train(job)
    result = depth.train(Job(job.run, Reporter(), resume=True))
    assert calls[2] == calls[3]
    assert len(calls) == len(NETWORKS["rnn"][1]) + 1
    assert len(read_metrics(job.run.metrics, "variant")) == len(result["variants"]) == len(NETWORKS["rnn"][1])
