"""The recipes rnn and gpt train, report, continue bit for bit where they were stopped, and fit on a page."""

import inspect
import io
import json
from dataclasses import asdict

import numpy as np
import pytest

from chainrule import nn
from chainrule.cli import main
from chainrule.core.tensor import Tensor
from chainrule.recipes import find_recipe
from chainrule.train import Job, Reporter, load_checkpoint, new_run, open_run
from tests.recipes.vowels import write_vowels

SMALL = {
    "rnn": {"fast": True, "epochs": 3, "hidden": 4, "layers": 2},
    "gpt": {"fast": True, "steps": 8, "width": 8, "layers": 1, "dropout": 0.1, "sample": 3},
}


@pytest.fixture(autouse=True)
def _made_up_vowels(tmp_path, monkeypatch):
    monkeypatch.delenv("CHAINRULE_DATA", raising=False)
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))
    write_vowels(tmp_path / "cache" / "japanese-vowels")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(("cell", "flags"), [("lstm", []), ("gru", []), ("gru", ["--compile"])])
def test_rnn_tells_speakers_apart(capsys, tmp_path, cell, flags):
    more = ["--cell", cell, "--epochs", "8", "--lr", "0.02", *flags]
    assert main(["train", "rnn", "--fast", "--name", "a", "--json", *more]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["test_accuracy"] > 0.9  # of nine made-up speakers
    assert {"training.png", "speakers.png"} <= {p.name for p in (tmp_path / "runs/rnn/a").iterdir()}


def test_gpt_learns_letters_and_shows_samples(capsys, tmp_path):
    assert main(["train", "gpt", "--fast", "--name", "a", "--steps", "150"]) == 0
    text = capsys.readouterr().out
    assert text.count("CHAPTER 1.") >= 10
    loss = float(text.split("validation loss ")[-1].split()[0])
    assert loss < 3.05  # single characters have an entropy of 3.10, guessing among all 83 costs 4.42
    short = tmp_path / "short.txt"
    short.write_text("too short")
    assert main(["train", "gpt", "--fast", "--text", str(short)]) == 1
    assert "too few" in capsys.readouterr().err
    assert main(["train", "gpt", "--fast", "--text", "nothing"]) == 1
    assert "there is no text 'nothing'" in capsys.readouterr().err


def test_gpt_is_no_better_at_the_past_by_knowing_the_future():
    gpt = find_recipe("gpt")
    model = gpt.GPT(5, gpt.Settings.make({"fast": True, "context": 6}))
    codes = np.array([[1, 2, 3, 4, 0, 1]])
    changed = codes.copy()
    changed[0, 4] = 3
    before, after = (model(Tensor(c)).numpy()[0] for c in (codes, changed))
    np.testing.assert_array_equal(before[:4], after[:4])
    assert not np.allclose(before[4:], after[4:])


class Stop(Exception):
    pass


class StopAfter(Reporter):
    def update(self, status):
        if status.step == 5:
            raise Stop


@pytest.mark.parametrize("name", SMALL)
def test_a_stopped_run_continues_bit_for_bit(name, tmp_path):
    recipe = find_recipe(name)
    settings = asdict(recipe.Settings.make(SMALL[name]))
    whole, stopped = (new_run(tmp_path, name, settings, n) for n in ("whole", "stopped"))
    recipe.train(Job(whole, Reporter(io.StringIO()), save_every=0.0))
    with pytest.raises(Stop):
        recipe.train(Job(stopped, StopAfter(io.StringIO()), save_every=0.0))
    recipe.train(Job(open_run(stopped.folder), Reporter(io.StringIO()), resume=True))
    a, b = (load_checkpoint(run.last)["model"] for run in (whole, stopped))
    assert all(np.array_equal(value, b[key]) for key, value in a.items())


@pytest.mark.parametrize("name", SMALL)
def test_the_network_fits_on_a_page(name):
    recipe = find_recipe(name)
    networks = [c for c in vars(recipe).values() if inspect.isclass(c) and issubclass(c, nn.Module)]
    networks = [c for c in networks if c.__module__ == recipe.__name__]
    assert networks and sum(len(inspect.getsource(c).splitlines()) for c in networks) < 60
