"""Every network that the package brings along is explained: on its own batch, whole, right, and as a small page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chainrule.cli import explained_names, main
from chainrule.data import DataError
from chainrule.explain.explanation import explain
from chainrule.recipes.llm import SMALL

LIMIT = 2_000_000  # bytes of a page


@pytest.fixture
def no_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which no weights were ever fetched."""
    monkeypatch.delenv("CHAINRULE_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize(
    ("what", "settings"),
    [("llm", ()), ("embed", ()), ("rl", ("algorithm=ppo",)), ("rl", ("algorithm=dqn",)), ("depth", ("depth=6",))],
)
def test_a_network_without_its_data_is_explained_and_right(
    what: str, settings: tuple[str, ...], tmp_path: Path
) -> None:
    names = explained_names(what, list(settings))
    e = explain(names["loss"], names=names, note=names.get("note", ""))
    assert all(v.gradient is not None for v in e.targets)
    check = e.check()
    assert check.ok, check
    assert e.save(tmp_path / "why.html").stat().st_size < LIMIT
    if what in ("llm", "embed"):
        assert "random weights" in e.note
        assert "random weights" in str(e)
        assert json.loads(e.to_json())["note"] == e.note
    unexplained = [x.title for x in e.layers if x.agreement is None and len(x.group.values) > 2]
    assert not unexplained


@pytest.mark.usefixtures("no_data")
def test_the_language_model_s_batch_is_small_unless_asked_for(tmp_path: Path) -> None:
    def tokens(*settings: str) -> int:
        loss = explained_names("llm", list(settings))["loss"]
        return next(v.size for v in explain(loss).trace.values if not v.several and v.dtype.kind == "i")

    assert tokens() == 2 * 16
    assert tokens("batch_size=3", "length=40") == 3 * 40
    short = tmp_path / "short.txt"
    short.write_text("Call me Ishmael.")
    with pytest.raises(DataError, match="has 16 tokens; 2 windows of 16 need 34"):
        tokens(f"text={short}")


def test_the_small_language_model_has_the_architecture_of_the_large() -> None:
    assert SMALL.num_attention_heads == 9 and SMALL.num_key_value_heads == 3
    assert SMALL.hidden_size == SMALL.num_attention_heads * SMALL.head_dim


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["algorithm=sarsa"], "must be one of ppo, dqn"),
        (["algorithm"], "NAME=VALUE"),
        (["seed=many"], "must be a whole number"),
        (["speed=3"], "there is no setting 'speed'"),
        (["fast=maybe"], "must be true or false"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(settings: list[str], told: str, capsys: Any) -> None:
    arguments = [text for setting in settings for text in ("--set", setting)]
    assert main(["explain", "rl", *arguments]) == 1
    assert told in capsys.readouterr().err


def test_settings_are_for_recipes(tmp_path: Path, capsys: Any) -> None:
    script = tmp_path / "mine.py"
    script.write_text("import chainrule as cr\nloss = cr.tensor(2.0, requires_grad=True) ** 2\n")
    assert main(["explain", str(script), "--set", "seed=1"]) == 2
    assert "settings of recipes" in capsys.readouterr().err
    assert main(["explain", "embd"]) == 2
    assert "embed" in capsys.readouterr().err
