"""Recipes train, report and leave what they promise; a run that was stopped continues bit for bit."""

import inspect
import io
import json

import numpy as np
import pytest

from chainrule import nn
from chainrule.cli import main
from chainrule.recipes import find_recipe
from chainrule.train import Job, Reporter, load_checkpoint, new_run, open_run

SMALL = {
    "cnn": {"fast": True, "epochs": 1, "width": 4},
    "detector": {"fast": True, "epochs": 2, "width": 4, "count": 16, "batch_size": 4, "held_out": 4},
    "diffusion": {"fast": True, "epochs": 1, "width": 8, "per_class": 1, "steps": 2},
}


@pytest.fixture(autouse=True)
def _only_embedded_data(tmp_path, monkeypatch):
    monkeypatch.delenv("CHAINRULE_DATA", raising=False)
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def train(capsys, name, *more):
    assert main(["train", name, "--fast", "--name", "a", "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


def test_cnn_learns_and_shows_its_mistakes(capsys, tmp_path):
    result = train(capsys, "cnn", "--epochs", "4")
    assert result["test_accuracy"] > 0.55 and result["data"] == "the subset inside the package"
    assert {"training.png", "mistakes.png"} <= {p.name for p in (tmp_path / "runs/cnn/a").iterdir()}


def test_detector_learns_where_something_is(capsys, tmp_path):
    result = train(capsys, "detector", "--count", "240", "--epochs", "3")
    assert result["mAP@0.5 held-out scenes"] > 0.03  # 10 classes after 90 steps; guessing is below 0.001
    assert len(result["AP@0.5 by class, held-out scenes"]) == 10
    assert (tmp_path / "runs/detector/a/held-out-scenes.png").exists()


def test_diffusion_draws_a_sheet_and_the_cnn_judges_it(capsys, tmp_path):
    train(capsys, "cnn", "--epochs", "1")
    result = train(capsys, "diffusion", "--per-class", "1", "--width", "8")
    assert result["classifier"] == "runs/cnn/a" and 0 <= result["recognised"] <= 1
    assert (tmp_path / "runs/diffusion/a/samples.png").exists()


def test_diffusion_without_a_classifier_says_how_to_get_one(capsys):
    assert main(["train", "diffusion", "--fast", "--per-class", "1", "--width", "8", "--epochs", "1"]) == 0
    assert "chainrule train cnn" in capsys.readouterr().out
    assert main(["train", "diffusion", "--fast", "--classifier", "nowhere"]) == 1
    assert "nowhere is not a run's folder" in capsys.readouterr().err
    assert main(["train", "diffusion", "--fast", "--width", "20"]) == 1
    assert "a multiple of 8" in capsys.readouterr().err


def test_tree_crowns_that_are_not_there_are_asked_for(capsys):
    assert main(["train", "detector", "--scenes", "tree-crowns"]) == 1
    message = capsys.readouterr().err
    assert "deepforest==2.1.0" in message and "--data" in message


class Stop(Exception):
    pass


class StopAfter(Reporter):
    def __init__(self, step):
        super().__init__(io.StringIO())
        self.step = step

    def update(self, status):
        if status.step == self.step:
            raise Stop


@pytest.mark.parametrize("name", SMALL)
def test_a_stopped_run_continues_bit_for_bit(name, tmp_path):
    recipe = find_recipe(name)
    from dataclasses import asdict

    settings = asdict(recipe.Settings.make(SMALL[name]))
    whole, stopped = (new_run(tmp_path, name, settings, n) for n in ("whole", "stopped"))
    recipe.train(Job(whole, Reporter(io.StringIO()), save_every=0.0))
    with pytest.raises(Stop):
        recipe.train(Job(stopped, StopAfter(5), save_every=0.0))
    recipe.train(Job(open_run(stopped.folder), Reporter(io.StringIO()), resume=True))
    a, b = (load_checkpoint(run.last)["model"] for run in (whole, stopped))
    assert all(np.array_equal(value, b[key]) for key, value in a.items())


@pytest.mark.parametrize("name", SMALL)
def test_the_network_fits_on_a_page(name):
    recipe = find_recipe(name)
    networks = [c for c in vars(recipe).values() if inspect.isclass(c) and issubclass(c, nn.Module)]
    networks = [c for c in networks if c.__module__ == recipe.__name__]
    assert networks and sum(len(inspect.getsource(c).splitlines()) for c in networks) < 60
