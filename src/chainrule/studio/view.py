"""What the page shows of a session: the explained sample with its whole backward pass, weights, losses, pictures."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from ..core.autodiff import grad, no_grad
from ..core.tensor import Tensor
from ..explain.explanation import explain
from ..explain.page import contents
from ..nn import functional as F
from ..recipes.small import FEATURES
from ..train.statistics import norm
from . import plane
from .points import REACH
from .problems import PROBLEMS
from .values import plain

if TYPE_CHECKING:
    from .session import Session

LISTED = 6000  # entries of all parameters up to which they are sent one by one


def shown(session: Session) -> dict[str, Any]:
    """Everything that the page shows now, as plain values."""
    names: dict[str, Any] = {"model": session.model}
    x = None
    if session.own is not None:
        loss = session.own.loss()
        names |= session.own.names
    else:
        x = Tensor(session.x, requires_grad=True)
        loss = session.criterion(x, session.y)
        names["x"] = x
    names["L"] = loss
    explanation = explain(loss, names=names)
    return contents(explanation) | {"studio": _studio(session, loss, x)}


def _studio(session: Session, loss: Tensor, x: Tensor | None) -> dict[str, Any]:
    found = {
        "problem": session.name if session.own is None else None,
        "title": session.problem.title if session.own is None else session.own.title,
        "problems": [{"name": k, "title": p.title, "group": p.group} for k, p in PROBLEMS.items()],
        "kind": session.problem.kind if session.own is None else "script",
        "settings": {k: v for k, v in session.settings.items() if session.offers(k)},
        "choices": session.choices(),
        "ranges": session.ranges(),
        "step": session.step,
        "running": session.running,
        "trouble": session.trouble,
        "losses": [[s, plain(v)] for s, v in session.losses],
        "loss": plain(session.loss),
        "test_loss": None if session.test_loss is None else plain(session.test_loss),
        "parameters": _parameters(session, loss),
    }
    if session.own is not None:
        return found | session.own.plane()
    assert x is not None
    return found | _inputs(session) | _picture(session, grad(loss, x, create_graph=False))


def _parameters(session: Session, loss: Tensor) -> list[dict[str, Any]]:
    """Each parameter with its values and its gradient by the explained sample."""
    cells = list(session.model.named_parameters())
    gradients = grad(loss, [p for _, p in cells], create_graph=False, allow_unused=True)
    every = sum(p.size for _, p in cells) <= LISTED
    rows = []
    for (name, p), g in zip(cells, gradients, strict=True):
        values = p.numpy().reshape(-1)
        rows.append(
            {
                "name": name,
                "shape": list(p.shape),
                "values": [plain(v) for v in values] if every else None,
                "gradient": None if g is None or not every else [plain(v) for v in g.numpy().reshape(-1)],
                "gradient_norm": None if g is None else plain(norm([g])),
            }
        )
    return rows


def _inputs(session: Session) -> dict[str, Any]:
    flat = session.x.reshape(-1)
    found: dict[str, Any] = {"sample": session.sample, "samples": len(session.inputs)}
    if flat.size <= 4:
        target = float(session.y.reshape(-1)[0])
        names = ["x"] if flat.size == 1 else [f"x[{i}]" for i in range(flat.size)]
        found["inputs"] = [
            *({"name": n, "value": plain(v)} for n, v in zip(names, flat, strict=True)),
            {"name": "y", "value": target},
        ]
    return found


@no_grad()
def _picture(session: Session, gradient: Tensor) -> dict[str, Any]:
    """What the network makes of its inputs: a curve, a plane, or the classes of an image and ∂L/∂pixel."""
    if session.problem.kind == "number":
        x = np.linspace(-4, 4, 81, dtype=np.float32)
        y = session.model(Tensor(x)).numpy()
        return {"curve": [[plain(a), plain(b)] for a, b in zip(x, y, strict=True)]}
    if session.problem.kind == "plane":
        return _plane(session)
    p = F.softmax(session.model(Tensor(session.x)), -1).numpy().reshape(-1)
    guesses = session.model(Tensor(session.inputs[:500])).numpy().argmax(-1)
    return {
        "image": {
            "size": session.x.shape[-1],
            "pixels": [plain(v) for v in session.x.reshape(-1)],
            "gradient": [plain(v) for v in gradient.numpy().reshape(-1)],
        },
        "probabilities": [plain(v) for v in p],
        "label": int(session.y[0]),
        "accuracy": float(np.mean(guesses == session.targets[:500])),
    }


def _plane(session: Session) -> dict[str, Any]:
    """What the network answers over the plane, what its hidden units do there, and what it reads of a point."""
    problem, size = session.problem, plane.GRID
    found = plane.answers(session.model, plane.field(size, (0, 0), REACH), problem.classes, largest=1.0)
    assert found is not None
    held = set(session.test_rows.tolist())
    colours = 2 * session.targets[:, 0] - 1 if problem.classes else np.clip(session.targets[:, 0], -1, 1)
    points = [
        [plain(a), plain(b), plain(c), k in held]
        for k, ((a, b), c) in enumerate(zip(session.inputs, colours, strict=True))
    ]
    read = session.settings["features"]
    return {
        "plane": plane.shown(found, (0, 0), REACH, points, [plain(v) for v in session.x.reshape(-1)]),
        "hidden": plane.hidden_units(session.model, (0, 0), REACH, np.float32),
        "features": [{"name": name, "read": name in read, "data": data} for name, data in _features().items()],
    }


@functools.cache
def _features() -> dict[str, str]:
    """Each feature over the plane, beside its largest magnitude there."""
    x1, x2 = plane.field(plane.THUMB, (0, 0), REACH).T
    values = {name: f(Tensor(x1), Tensor(x2)).numpy() for name, f in FEATURES.items()}
    return {name: plane.levels(v / np.abs(v).max()) for name, v in values.items()}
