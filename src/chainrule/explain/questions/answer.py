"""An answer in words with its evidence, and what all questions need to find one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..trace import Value

if TYPE_CHECKING:
    from ..explanation import Explanation


SHOWN = 4  # pieces of evidence of one kind


@dataclass(frozen=True)
class Evidence:
    """One fact, and the value of the graph that it is about."""

    text: str
    value: Value | None = None


@dataclass(frozen=True)
class Answer:
    """An answer in words. It prints as the text with the evidence below."""

    question: str
    text: str
    evidence: tuple[Evidence, ...]

    def __str__(self) -> str:
        return "\n".join([self.text, *(f"  - {e.text}" for e in self.evidence if e.text not in self.text)])


def together(found: list[Answer]) -> Answer:
    """Several answers as one."""
    text = "\n".join(a.text for a in found if a.text)
    return Answer(found[0].question, text, tuple(dict.fromkeys(x for a in found for x in a.evidence)))


def where(e: Explanation, value: Value, *, source: bool = False) -> str:
    """`tanh` in module fc1 at train.py:12: the operation with its module and line, and the source of it."""
    text = f"`{value.primitive.name}`" if value.primitive else e.names[value].label
    path = e.places.path(value)
    text += f" in module {path}" if path else ""
    return f"{text} at {value.location if source else value.location.where}" if value.location else text


def values_on_way(e: Explanation, target: Value) -> list[Value]:
    """The values that the target's gradient passed, nearest first."""
    reached, passed = {target}, []
    for value in e.trace.values:
        if value.requires_grad and (value in reached or any(i in reached for i in value.inputs)):
            reached.add(value)
            passed.append(value)
    return passed
