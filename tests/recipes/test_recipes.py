"""Recipes of images train, report and leave what they promise."""

import json

import pytest

from chainrule.cli import main


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
