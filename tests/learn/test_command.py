"""`chainrule learn` as one calls it."""

from __future__ import annotations

import json

import pytest

from chainrule.cli import main
from chainrule.learn import LESSONS


def test_without_a_name_it_lists_the_lessons(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["learn"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(LESSONS)


def test_a_lesson_shows_text_code_output_and_questions(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["learn", "neuron"]) == 0
    out = capsys.readouterr().out
    for piece in (
        "One neuron by hand",
        "    dL_da = a - y",
        "  > backward: ∂L/∂a = -1.2616",
        "Exercise 2. With f = tanh",
    ):
        assert piece in out


@pytest.mark.parametrize(("second", "code"), [("6", 0), ("5", 1)])
def test_answers_decide_the_exit_code(second: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["learn", "sums", "--answer", "1=7", "--answer", f"2={second}", "--json"]) == code
    result = json.loads(capsys.readouterr().out)
    assert [e["right"] for e in result["exercises"]] == [True, code == 0]


def test_an_unknown_lesson_or_answer_is_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["learn", "neurons"]) == 2
    assert "did you mean neuron?" in capsys.readouterr().err
    assert main(["learn", "sums", "--answer", "seven"]) == 1
    assert "written as 1=0.42" in capsys.readouterr().err
