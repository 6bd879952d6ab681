"""Why there is no gradient: who cut the way, and on which line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.node import is_cut
from ..trace import Value
from .answer import SHOWN, Answer, Evidence, where

if TYPE_CHECKING:
    from ..explanation import Explanation


def why_none(e: Explanation) -> Answer:
    """Why there is no gradient: where the way was cut, and by which line."""
    question = "Why is there no gradient?"
    if e.targets:
        return Answer(question, "There is one; ask why() about it.", ())
    loss, asked = e.trace.loss, e.missing[0] if e.missing else None
    if not loss.requires_grad:
        if loss.cut:
            text = f"The loss has no history: {loss.cut} at {loss.location} cut the graph before it."
            return Answer(question, text, (Evidence(f"cut by {loss.cut} at {loss.location}", loss),))
        text = (
            "The loss was not computed from anything that requires a gradient: make the leaf one with "
            "requires_grad=True, and do not compute the loss under no_grad()."
        )
        return Answer(question, text, ())
    if asked is not None and not asked.requires_grad:
        node = asked._node
        if node is not None and is_cut(node):
            by = node.params.get("cut", "no_grad()")
            text = f"The tensor asked for is behind a cut: {by} at {node.location} made it a constant."
            return Answer(question, text, (Evidence(f"cut by {by} at {node.location}"),))
        return Answer(question, "The tensor does not require a gradient: set requires_grad=True before computing.", ())
    for value in e.trace.values:
        if asked is not None and value.primitive is None and value.node.owner is asked:
            text = "It was assigned another value after the loss was computed; the graph holds the old one."
            return Answer(question, text, (Evidence("the old value is in the graph", value),))
    cuts = [v for v in e.trace.values if v.cut]
    if cuts:
        text = "No recorded operation leads from it to the loss. The graph was cut here, and it may lie behind a cut:"
        return Answer(question, text, tuple(_cut_evidence(e, v) for v in reversed(cuts)))
    text = (
        "No recorded operation leads from it to the loss, and nothing cut the graph: it was not used, or only by "
        "operations without a derivative (argmax, comparisons, conversion to integers), or its numbers left the graph "
        "by numpy(), item(), tolist() or float() and came back as a constant."
    )
    return Answer(question, text, tuple(_constant_evidence(e, v) for v in _nameless_constants(e)[:SHOWN]))


def _nameless_constants(e: Explanation) -> list[Value]:
    """Arrays of numbers that no variable of the asking code holds: one may be what left the graph; largest first."""
    found = [
        v for v in e.trace.values
        if v.primitive is None and not v.requires_grad and v.size > 1 and v.dtype.kind == "f"
        and e.names[v].about.startswith(("a constant", "written"))
    ]  # fmt: skip
    return sorted(found, key=lambda v: -v.size)


def _constant_evidence(e: Explanation, value: Value) -> Evidence:
    reader = next((r for r in e.trace.values if value in r.inputs), None)
    read = f", read by {where(e, reader, source=True)}" if reader is not None else ""
    text = f"the constant {e.names[value].label} ({'×'.join(map(str, value.shape))}){read}"
    return Evidence(f"{text}: was it computed from the tensor asked for?", value)


def _cut_evidence(e: Explanation, value: Value) -> Evidence:
    reader = next((r for r in e.trace.values if value in r.inputs), None)
    read = f"; read by {where(e, reader)}" if reader is not None else ""
    return Evidence(f"cut by {value.cut} at {value.location}{read}", value)
