"""Known closed forms of layers' derivatives, each verified against the numbers of the call it explains.

A form says which layer it belongs to, computes the gradients of the call's inputs in float64 by the
textbook's formula, and is taken only if they are those that autodiff found. So a form never
describes a variant (class weights, masks, smoothing) that it does not cover.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..layers import Equation, Group, Symbol
from ..names import Name
from ..steps import flat
from ..trace import Value
from . import attention, detection, linear, losses, moves, normalisation, pointwise, pooling, recurrent
from .call import REARRANGE, Call, Candidate, Form, forms, of_several

AGREES = {"float64": 1e-9, "complex128": 1e-9}  # of other data types their rounding allows 1e-4
TOLERANCE = 1e-4


@dataclass(frozen=True)
class ClosedForm:
    """Equations, what their symbols stand for, and how well they agree with autodiff; `kind` names the form."""

    kind: str
    equations: tuple[Equation, ...]
    legend: tuple[Symbol, ...]
    agreement: float


def closed_form(group: Group, names: dict[Value, Name]) -> ClosedForm | None:
    """The closed form of a call that agrees with its numbers, or None."""
    if not any(v.gradient is not None for v in group.outputs) or any(v.several for v in group.outputs):
        return None
    tolerance = AGREES.get(str(group.outputs[0].dtype), TOLERANCE)
    with np.errstate(all="ignore"):
        for function in _known(group):
            if len(group.outputs) > 1 and function not in of_several:
                continue
            for number, candidate in enumerate(_fitting(function, Call(group, names))):
                # Where δ cancels (a bias before a batch norm) only rounding is left; compare it with what cancelled.
                uncancelled = (c for i, c in enumerate(function(Call(group, names, sized=True))) if i == number)
                agreement = _agreement(group, candidate, uncancelled, tolerance)
                if agreement is not None:
                    named = any(f is function and group.kind in kinds for kinds, f in forms)
                    known = named or group.kind == group.function
                    kind = group.kind if known else candidate.kind or function.__name__
                    return ClosedForm(kind, tuple(candidate.equations), tuple(candidate.legend), agreement)
    return None


def _fitting(function: Form, call: Call) -> Iterator[Candidate]:
    """The candidates of a form, up to where the call's shapes are none that it knows."""
    try:
        yield from function(call)
    except (ValueError, IndexError):
        return


def _known(group: Group) -> list[Form]:
    named = [f for kinds, f in forms if group.kind in kinds]
    named = named or [f for kinds, f in forms if kinds & _primitives(group)]
    if named or len(group.values) == 1:
        return named
    if _primitives_of(group) <= moves.MOVES:
        return [moves.rearrangement]
    # A function under another name (`criterion(scores, y)`): what fits the numbers is what it computes.
    if group.outputs[0].size == 1:
        return [losses.cross_entropy, losses.regression, losses.robust]
    if "softmax" in _primitives_of(group):
        return [attention.attention]
    return [] if group.function else [pointwise.activation]


def _primitives(group: Group) -> set[str]:
    """A single operation goes by its name; so does a layer that is one operation and rearrangements."""
    names = _primitives_of(group)
    rest = names - REARRANGE
    products = {"affine", "conv", "conv_transpose"}
    return rest if len(rest) == 1 else products & rest if rest <= {*products, "add", *moves.MOVES} else set()


def _primitives_of(group: Group) -> set[str]:
    return {v.primitive.name for v in group.values if v.primitive is not None}


def _agreement(group: Group, candidate: Candidate, uncancelled: Iterator[Candidate], tolerance: float) -> float | None:
    """Largest difference between the candidate's gradients and autodiff's; None where they do not agree."""
    worst: float | None = None
    larger: Candidate | None = None
    for value, closed in candidate.gradients.items():
        found = group.handed_back(value)
        if found is None:
            continue
        if closed.shape != found.shape:
            return None
        scale = float(np.abs(flat(found)).max(initial=0.0)) or 1.0
        difference = float(np.abs(flat(closed) - flat(found)).max(initial=0.0))
        if not difference <= tolerance * scale:
            larger = larger or next(uncancelled)
            scale = float(np.abs(larger.gradients[value]).max(initial=0.0)) or 1.0
        if not difference <= tolerance * scale:
            return None
        worst = difference / scale if worst is None else max(worst, difference / scale)
    return worst
