"""Of every recipe: a run that was stopped continues bit for bit, and the network fits on a page."""

import inspect
import io
from dataclasses import asdict

import numpy as np
import pytest

from chainrule import nn
from chainrule.recipes import find_recipe
from chainrule.train import Job, Reporter, load_checkpoint, new_run, open_run
from tests.data.vowels import write_vowels
from tests.train.stopping import Stop, StopAfter

SMALL = {
    "cnn": {"fast": True, "epochs": 1, "width": 4},
    "detector": {"fast": True, "epochs": 2, "width": 4, "count": 16, "batch_size": 4, "held_out": 4},
    "diffusion": {"fast": True, "epochs": 1, "width": 8, "per_class": 1, "steps": 2},
    "rnn": {"fast": True, "epochs": 3, "hidden": 4, "layers": 2},
    "gpt": {"fast": True, "steps": 8, "width": 8, "layers": 1, "dropout": 0.1, "sample": 3},
}


@pytest.fixture(autouse=True)
def _own_data(tmp_path, monkeypatch):
    monkeypatch.delenv("CHAINRULE_DATA", raising=False)
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))
    write_vowels(tmp_path / "cache" / "japanese-vowels")


@pytest.mark.parametrize("name", SMALL)
def test_a_stopped_run_continues_bit_for_bit(name, tmp_path):
    recipe = find_recipe(name)
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
