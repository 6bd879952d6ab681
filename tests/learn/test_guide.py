"""The guide: its code runs, its exercises are answered as they should be, and its pages fit together."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

from chainrule.learn import LESSONS
from chainrule.learn.exercises import EXERCISES, number
from chainrule.learn.guide import PAGES, AnswerError, Part, folder, parse_answers, read_lesson, run

# Worked out by hand from the questions, as a reader would.
BY_HAND = {
    "network": (math.tanh(-0.5), 325),
    "loss": (-math.log(0.2), -18),
    "graph": (3, 7),
    "chain-rule": (24, 3),
    "neuron": (0, (math.tanh(1.4) - 0.5) * (1 - math.tanh(1.4) ** 2)),
    "layer": (-3, -2),
    "deep": (0.7**20, 0.25**10),
    "sums": (7, 6),
    "optimisers": (1.95, 0.25),
    "gradients": (math.sqrt(2 / 256), 1),
    "architectures": (36, 2 / 9),
    "debugging": (0, 0.01),
}


@pytest.mark.parametrize("name", PAGES)
def test_the_code_of_a_lesson_runs_and_prints(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown: list[Part] = []
    result = run(read_lesson(name), shown.append, say=lambda _line: None)
    assert len(result["printed"]) >= 2 and all(text.strip() for text in result["printed"][1:])
    assert [p.kind for p in shown].count("output") == len(result["printed"])
    assert "nan" not in "".join(result["printed"]) or name == "debugging"


@pytest.mark.parametrize("name", PAGES)
def test_the_engine_s_answers_are_those_worked_out_by_hand(name: str) -> None:
    assert [e.solve() for e in EXERCISES[name]] == pytest.approx(BY_HAND[name], rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("name", PAGES)
def test_right_answers_are_accepted_and_others_are_not(name: str) -> None:
    lesson = read_lesson(name)
    assert len(lesson.questions) == len(lesson.exercises) == 2
    for exercise, right in zip(lesson.exercises, BY_HAND[name], strict=True):
        assert exercise.check(f"{right:.4g}") and exercise.check(repr(right))
        for wrong in (right * 1.05 + 0.001, -right if right else 1, right + 1):
            assert not exercise.check(repr(wrong))
        assert not exercise.check("I do not know")
        assert exercise.hint and exercise.reason


def test_a_lesson_tells_what_is_right_and_what_is_not() -> None:
    said: list[str] = []
    result = run(read_lesson("sums"), lambda _part: None, answers={1: "7", 2: "3"}, say=said.append)
    assert [e["right"] for e in result["exercises"]] == [True, False]
    assert said[0].startswith("Exercise 1: right") and said[1].startswith("Exercise 2: not right. ")


def test_questions_are_asked_and_may_be_passed_over() -> None:
    asked: list[str] = []

    def ask(number: int, question: str) -> str | None:
        asked.append(question)
        return "7" if number == 1 else None

    result = run(read_lesson("sums"), lambda _part: None, ask, say=lambda _line: None)
    assert [e["right"] for e in result["exercises"]] == [True, None]
    assert asked == read_lesson("sums").questions


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.5", 0.5),
        (" -3 ", -3),
        ("−3", -3),
        ("1/3", 1 / 3),
        ("0.7**20", 0.7**20),
        ("0.7^2", 0.49),
        ("2e-3", 0.002),
        ("1,000", 1000),
    ],
)
def test_numbers_are_read_as_people_write_them(text: str, value: float) -> None:
    assert number(text) == pytest.approx(value)


NO_NUMBERS = ["", "x", "1 2", "__import__('os')", "[1]", "1/0", "9.0**9**9", "nan", "True and 1", "'a'*9", "(" * 999]


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_what_is_no_number_is_none_and_runs_nothing(text: str) -> None:
    assert number(text) is None


@pytest.mark.parametrize("text", ["0.5", "3=1", "a=1", "1=", "=2"])
def test_answers_are_written_with_their_number(text: str) -> None:
    with pytest.raises(AnswerError, match="written as"):
        parse_answers([text])


def test_every_page_is_a_lesson_and_listed_in_the_guide() -> None:
    files = sorted(p.name for p in folder().glob("[0-9]*.md"))
    assert files == sorted(PAGES.values())
    assert list(LESSONS) == [*PAGES, "cost"]
    index = (folder() / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"\[(.+?)\]\((.+?)\) \| `(.+?)`", index)
    assert [(file, name) for _, file, name in rows] == [(file, name) for name, file in PAGES.items()]
    assert [title for title, _, _ in rows] == [read_lesson(name).title for name in PAGES]
