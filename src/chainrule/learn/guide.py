"""The lessons of `docs/guide`: shown with what their code prints on this machine, and with exercises that are checked.

A lesson is a Markdown page. Its Python blocks run one after the other in one namespace; the
numbered list under "Exercises" holds the questions, whose answers `exercises.py` computes.
"""

from __future__ import annotations

import contextlib
import io
import linecache
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..core.errors import ChainruleError
from .exercises import EXERCISES, Exercise

PAGES = {
    "network": "01-network.md",
    "loss": "02-loss.md",
    "graph": "03-graph.md",
    "chain-rule": "04-chain-rule.md",
    "neuron": "05-neuron.md",
    "layer": "06-layer.md",
    "deep": "07-deep.md",
    "sums": "08-sums.md",
    "optimisers": "09-optimisers.md",
    "gradients": "10-gradients.md",
    "architectures": "11-architectures.md",
    "debugging": "12-debugging.md",
}

_CODE = re.compile(r"^```python\n(.*?)^```\n?", re.MULTILINE | re.DOTALL)
_QUESTIONS = re.compile(r"^\d+\. (.*?)(?=^\d+\. |\Z)", re.MULTILINE | re.DOTALL)


class Part(NamedTuple):
    """A piece of a lesson: text in Markdown, or code."""

    kind: str  # "text" or "code"
    content: str


class Lesson(NamedTuple):
    """A lesson as it stands on its page."""

    name: str
    title: str
    parts: list[Part]
    questions: list[str]

    @property
    def exercises(self) -> list[Exercise]:
        return EXERCISES[self.name]


def folder() -> Path:
    """Where the pages are: inside an installed package, or in the repository."""
    installed = Path(__file__).parent / "guide"
    return installed if installed.exists() else Path(__file__).parents[3] / "docs" / "guide"


def read_lesson(name: str) -> Lesson:
    """The lesson of this name in PAGES."""
    text = (folder() / PAGES[name]).read_text(encoding="utf-8")
    title, _, rest = text.partition("\n")
    body, _, exercises = rest.partition("## Exercises\n")
    parts, at = [], 0
    for found in _CODE.finditer(body):
        parts += [Part("text", body[at : found.start()].strip()), Part("code", found[1])]
        at = found.end()
    parts.append(Part("text", body[at:].strip()))
    questions = [" ".join(q.split()) for q in _QUESTIONS.findall(exercises)]
    return Lesson(name, title.removeprefix("# ").strip(), [p for p in parts if p.content], questions)


def run_code(code: str, namespace: dict[str, Any], name: str) -> str:
    """Run a block of a lesson; what it prints. Its lines can be shown by explanations and errors."""
    linecache.cache[name] = (len(code), None, code.splitlines(keepends=True), name)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, name, "exec"), namespace)
    return printed.getvalue()


def run(
    lesson: Lesson,
    show: Callable[[Part], None],
    ask: Callable[[int, str], str | None] | None = None,
    answers: dict[int, str] | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Go through a lesson.

    Args:
        show: shows a part; what code printed comes as a part of the kind "output".
        ask: asks a question (number, text) and returns the answer, or None to pass it over.
        answers: answers given beforehand, by number of the exercise.
        say: tells the outcome of an exercise.

    Returns:
        What was printed, and for each exercise the question, the answer and whether it is right.
    """
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = []
    for number, part in enumerate(lesson.parts):
        show(part)
        if part.kind == "code":
            printed.append(run_code(part.content, namespace, f"{lesson.name}, block {number}"))
            show(Part("output", printed[-1]))
    results = []
    for number, (question, exercise) in enumerate(zip(lesson.questions, lesson.exercises, strict=True), 1):
        given = (answers or {}).get(number)
        if given is None:
            if ask is None:
                say(f"Exercise {number}. {question}")
            else:
                given = ask(number, question)
        right = None if given is None else exercise.check(given)
        if right is not None:
            say(f"Exercise {number}: {verdict(exercise, right)}")
        results.append({"question": question, "answer": given, "right": right})
    return {"lesson": lesson.name, "title": lesson.title, "printed": printed, "exercises": results}


def verdict(exercise: Exercise, right: bool) -> str:
    """What is said about an answer."""
    return f"right: {exercise.reason}" if right else f"not right. {exercise.hint}"


class AnswerError(ChainruleError, ValueError):
    """An answer is no number."""


def parse_answers(given: list[str]) -> dict[int, str]:
    """Answers written as "1=0.42".

    Raises:
        AnswerError: one is written in another way, or there is no such exercise.
    """
    found = {}
    for text in given:
        number, sign, answer = text.partition("=")
        if not sign or number.strip() not in ("1", "2") or not answer.strip():
            raise AnswerError(f"an answer is written as 1=0.42 (exercise 1 or 2), got {text!r}")
        found[int(number)] = answer.strip()
    return found
