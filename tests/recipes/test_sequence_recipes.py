"""The recipes rnn and gpt train and report."""

import json

import numpy as np
import pytest

from chainrule import nn
from chainrule.cli import main
from chainrule.core.tensor import Tensor
from chainrule.recipes import find_recipe
from tests.data.vowels import write_vowels


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


def test_gpt_goes_on_from_the_last_character_before_and_after_its_window_is_full():
    gpt = find_recipe("gpt")

    class Counting(nn.Module):
        def forward(self, codes):
            return Tensor(100.0 * ((codes.numpy()[..., None] + 1) % 7 == np.arange(7)))

    settings = gpt.Settings.make({"context": 5, "sample": 9})
    assert gpt.write(Counting(), np.array([2, 3]), settings).tolist() == [(2 + i) % 7 for i in range(11)]


def test_gpt_is_no_better_at_the_past_by_knowing_the_future():
    gpt = find_recipe("gpt")
    model = gpt.GPT(5, gpt.Settings.make({"fast": True, "context": 6}))
    codes = np.array([[1, 2, 3, 4, 0, 1]])
    changed = codes.copy()
    changed[0, 4] = 3
    before, after = (model(Tensor(c)).numpy()[0] for c in (codes, changed))
    np.testing.assert_array_equal(before[:4], after[:4])
    assert not np.allclose(before[4:], after[4:])
