"""`chainrule explain`: what a script has to give, what is printed, and what the errors say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from chainrule.cli import main
from chainrule.recipes import rl

SCRIPT = """
import chainrule as cr
from chainrule import nn
from chainrule.nn import functional as F

cr.manual_seed(0)
model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
x, y = cr.randn(5, 4), cr.randint(0, 3, (5,))
loss = F.cross_entropy(model(x), y)
if __name__ == "__main__":
    raise RuntimeError("training")
"""


def script(folder: Path, text: str) -> str:
    file = folder / "my_model.py"
    file.write_text(text, encoding="utf-8")
    return str(file)


def run(*arguments: str) -> int:
    return main(["explain", *arguments])


def test_a_script_with_a_loss_is_explained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(script(tmp_path, SCRIPT), "--wrt", "0.weight", "--check") == 0
    out = capsys.readouterr().out
    assert out.startswith("∂L/∂0.weight")
    assert "my_model.py:9" in out
    assert "all agree" in out


def test_a_script_with_build(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = SCRIPT.replace("if __name__", "hidden = loss\ndel loss\ndef build():\n    return hidden, model\nif __name__")
    assert run(script(tmp_path, body), "--wrt", "2.bias") == 0
    assert capsys.readouterr().out.startswith("∂L/∂2.bias")


def test_one_entry_all_steps_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = script(tmp_path, SCRIPT)
    assert run(file, "--wrt", "0.weight", "--at", "1,-1") == 0
    assert "∂L/∂0.weight[1, 3]" in capsys.readouterr().out
    assert run(file, "--steps") == 0
    assert "derivative" in capsys.readouterr().out
    assert run(file, "--json", "--check") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["version"] == 1 and found["check"]["ok"]
    assert {n["label"] for n in found["nodes"]} >= {"0.weight", "loss", "x", "y"}


def test_the_page_is_saved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "why.html"
    assert run(script(tmp_path, SCRIPT), "--save", str(page)) == 0
    assert page.read_text(encoding="utf-8").lower().startswith("<!doctype html>")
    assert str(page) in capsys.readouterr().err


def test_a_recipe_is_explained_on_its_first_batch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fashion-mnist", "--wrt", "hidden1.weight") == 0
    out = capsys.readouterr().out
    assert "hidden1 = Linear(in_features=784, out_features=256, bias=True)" in out
    assert "∂L/∂s = (p − y) / N" in out


def test_a_recipe_may_say_itself_what_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("depth", "--wrt", "first.weight") == 0
    assert "tiny" in capsys.readouterr().out


def test_a_recipe_without_a_loss_to_look_at_does_not_train(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delattr(rl, "build")
    assert run("rl") == 1
    assert "has no build()" in capsys.readouterr().err


def test_a_gradient_that_is_cut_off_is_answered(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = SCRIPT.replace("F.cross_entropy(model(x), y)", "F.cross_entropy(model(x), y).detach()")
    assert run(script(tmp_path, body), "--wrt", "0.weight") == 0
    assert "detach() at" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "arguments", "code", "message"),
    [
        ("x = 1\n", (), 1, "defines no `loss`"),
        ("loss = 3.0\n", (), 1, "`loss` is a float"),
        ("def build():\n    return 3\n", (), 1, "build() of"),
        ("import chainrule\nloss = 1 / 0\n", (), 1, "my_model.py:2: loss = 1 / 0"),
        ("loss = (\n", (), 1, "is no Python script"),
        ("import sys\nsys.exit(3)\n", (), 1, "exit code 3"),
        (SCRIPT, ("--wrt", "0.weigth"), 1, "did you mean 0.weight"),
        (SCRIPT, ("--wrt", "0.weight", "--at", "one"), 2, "--at takes integers"),
        (SCRIPT, ("--wrt", "0.weight", "--at", "99,0"), 1, "no entry"),
    ],
)
def test_what_goes_wrong_says_what_to_do(
    text: str, arguments: tuple[str, ...], code: int, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(script(tmp_path, text), *arguments) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(("what", "message"), [("fashion-mnst", "did you mean fashion-mnist"), ("gone.py", "no file")])
def test_what_does_not_exist(what: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(what) in (1, 2)
    assert message in capsys.readouterr().err
