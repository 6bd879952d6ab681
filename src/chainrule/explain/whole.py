"""The whole chain: gradients beside differences of the loss, both of the graph computed again in float64.

A network with many units has some so close to a kink that every step of a difference crosses a few.
Where differences of the loss do not settle, those of the piece of it that the point lies on are
taken: relu, absolute values and maxima go on as the straight lines that they are there.

The graph's own gradients are compared with those of the same rules in float64. A unit that
float32 has on the other side of a kink (a relu at 1e-9) is counted: there the two gradients
differ by right, and the comparison is made with the graph's sides.
"""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np

from ..core.autodiff import unrecorded
from ..core.primitive import project
from ..core.tensor import new_tensor
from .differences import slope_along
from .precision import apart, double, double_params
from .steps import flat, norm
from .trace import Trace, Value

# Straight on both sides of a border, where their derivative jumps.
_SIDED = frozenset({"abs", "max", "maximum", "min", "minimum", "relu", "window_max"})
MANY = 24  # tensors that are moved one by one, along three directions each; more are moved in so many groups
SMALLEST = 1e-3  # of a group's gradients: smaller ones are not made to weigh as much as the others


class Whole(NamedTuple):
    """What was found about the whole chain.

    Attributes:
        error: largest difference of a gradient in float64 from slopes of the loss; relative. NaN
            where the loss has a kink in every direction that was tried.
        pieces: along how many directions the loss's own piece had to be taken.
        rounding: largest difference of the graph's gradient and that in float64; relative.
        sides: entries that the graph and float64 have on different sides of a kink.
    """

    error: float
    pieces: int
    rounding: float
    sides: int


def check_whole(trace: Trace, targets: list[Value]) -> Whole:
    """Check the gradients of some values."""
    asked = [
        t for t in targets
        if t is not trace.loss and not t.several and t.size
        and t.gradient is not None and np.isfinite(flat(t.gradient)).all()
    ]  # fmt: skip
    if not asked:
        return Whole(0.0, 0, 0.0, 0)
    with np.errstate(all="ignore"):
        doubled = Doubled(trace, set(asked))
        own = doubled.gradients()
        sided = doubled.gradients(sides_of_graph=True) if doubled.sides else own
        errors = [doubled.error(group, own) for group in grouped(asked)]
        rounding = max(_rounding(t, sided.get(t)) for t in asked)
    error = max((e for e in errors if e == e), default=float("nan"))
    return Whole(error, doubled.pieces, rounding, doubled.sides)


def grouped(asked: list[Value]) -> list[list[Value]]:
    """Each value by itself, or at most MANY groups of those with gradients of about the same size."""
    if len(asked) <= MANY:
        return [[value] for value in asked]
    ordered = sorted(asked, key=lambda value: norm(value.gradient))
    ends = np.linspace(0, len(ordered), MANY + 1).astype(int)
    return [ordered[a:b] for a, b in itertools.pairwise(ends)]


def _rounding(target: Value, exact: np.ndarray | None) -> float:
    """How far the graph's gradient is from the exact one; where it cancels, beside what cancelled."""
    exact = np.zeros(target.shape) if exact is None else exact
    difference = norm(double(target.gradient) - exact)
    found = difference / (norm(exact) or 1.0)
    return found if found <= 1e-5 else difference / max(norm(exact), uncancelled(target), 1e-300)


class Doubled:
    """A graph in float64.

    Attributes:
        values: by value, what it is in float64.
        sides: entries that the graph has on the other side of a kink; known after `gradients`.
        pieces: along how many directions `error` had to take the loss's own piece.
    """

    def __init__(self, trace: Trace, targets: set[Value]) -> None:
        self.trace = trace
        self.leads = trace.leading_to(list(targets))
        self.targets = targets
        self.values: dict[Value, Any] = {}
        self.primitives: dict[Value, Any] = {}
        self.sides = self.pieces = 0
        for value in trace.values:
            if value.primitive is None:
                self.values[value] = double(value.array())
            elif value.primitive is project:
                self.values[value] = self.values[value.inputs[0]][value.params["index"]]
            else:
                self.primitives[value] = apart(value.primitive)
                inputs = [self.values[i] for i in value.inputs]
                self.values[value] = self.primitives[value].evaluate(inputs, double_params(value.params))

    @property
    def seed(self) -> np.ndarray:
        """∂L/∂L, or the gradient that was given for the loss."""
        given = self.trace.loss.gradient
        return np.ones(self.trace.loss.shape) if given is None else double(given)

    def gradients(self, *, sides_of_graph: bool = False) -> dict[Value, np.ndarray]:
        """The targets' gradients; `sides_of_graph` has derivatives that jump taken where the graph's numbers are."""
        pending: dict[Value, Any] = {self.trace.loss: self.seed}
        found: dict[Value, np.ndarray] = {}
        for value in reversed(self.trace.values):
            g = pending.pop(value, None)
            if g is None:
                continue
            if value in self.targets:
                found[value] = g
            if value.primitive is project:
                parts = pending.setdefault(value.inputs[0], [None] * len(self.values[value.inputs[0]]))
                index = value.params["index"]
                parts[index] = g if parts[index] is None else np.asarray(parts[index] + g)
                continue
            for position, operand in enumerate(value.inputs):
                if operand in self.leads:
                    c = self._handed_back(value, position, g, sides_of_graph)
                    if c is not None:
                        pending[operand] = c if operand not in pending else np.asarray(pending[operand] + c)
        return found

    def _handed_back(self, value: Value, position: int, g: Any, sides_of_graph: bool) -> np.ndarray | None:
        primitive = self.primitives[value]
        if primitive.name not in _SIDED:
            return _pulled(primitive, position, g, self.values[value], [self.values[i] for i in value.inputs], value)
        graph = double(value.array()), [double(i.array()) for i in value.inputs]
        there = _pulled(primitive, position, g, *graph, value)
        if sides_of_graph:
            return there
        here = _pulled(primitive, position, g, self.values[value], [self.values[i] for i in value.inputs], value)
        if here is not None and there is not None:
            self.sides += int((here != there).sum())
        return here

    def error(self, group: list[Value], gradients: dict[Value, np.ndarray]) -> float:
        """Gradients beside slopes of the loss with some values moved together, along random directions.

        Each value's part in the slope is made about as large as the others', so that an error in any of them is seen.
        NaN where the loss has a kink in every direction.
        """
        xs = [self.values[t] for t in group]
        gs = [gradients.get(t, np.zeros_like(x)) for t, x in zip(group, xs, strict=True)]
        sizes = [norm(g) for g in gs]
        weights = [1 / max(size, SMALLEST * max(sizes), 1e-300) for size in sizes] if len(group) > 1 else [1.0]
        start, ends = np.concatenate([x.ravel() for x in xs]), np.cumsum([x.size for x in xs])[:-1]

        def loss(moved: np.ndarray, piece: bool = False) -> float:
            parts = [p.reshape(x.shape) for p, x in zip(np.split(moved, ends), xs, strict=True)]
            if len({x.dtype for x in xs}) > 1:
                parts = [p if x.dtype.kind == "c" else p.real for p, x in zip(parts, xs, strict=True)]
            changed = dict(zip(group, parts, strict=True))
            return float(np.real(np.vdot(self.seed, self._replay(changed, piece))))

        rng = np.random.default_rng(start.size)
        errors = []
        noise = abs(loss(start))
        for _ in range(3 if len(self.targets) <= MANY else 1):
            vs = [w * _random(rng, x) for w, x in zip(weights, xs, strict=True)]
            v = np.concatenate([part.ravel() for part in vs])
            wanted = sum(float(np.real(np.vdot(g, part))) for g, part in zip(gs, vs, strict=True))
            lengths = [norm(part) / np.sqrt(part.size) for part in vs]
            usual = float(np.linalg.norm([size * length for size, length in zip(sizes, lengths, strict=True)]))
            slope, left, right = slope_along(loss, start, v, noise)
            if abs(left - right) > 1e-3 * (abs(left) + abs(right) + usual) and not self.bent:
                continue
            scale = max(usual, abs(wanted), noise * 1e-6 * max(weights), 1e-300)
            if abs(slope - wanted) > 1e-6 * scale:
                # A gradient that cancels (a bias before a batch norm) is as exact as what cancelled.
                scale = max(scale, sum(uncancelled(t) * length for t, length in zip(group, lengths, strict=True)))
            if abs(slope - wanted) > 1e-6 * scale and self.bent:
                slope, *_ = slope_along(lambda moved: loss(moved, True), start, v, noise)
                self.pieces += 1
            errors.append(abs(slope - wanted) / scale)
        return max(errors, default=float("nan"))

    @property
    def bent(self) -> bool:
        """Whether the loss may have kinks."""
        return any(p.name in _SIDED for p in self.primitives.values())

    def _replay(self, changed: dict[Value, np.ndarray], piece: bool) -> Any:
        """The loss with some values replaced, everything that depends on them computed again; or its piece."""
        made: dict[Value, Any] = dict(changed)
        for value in self.trace.values:
            if value in changed or value.primitive is None or not any(i in made for i in value.inputs):
                continue
            inputs = [made[i] if i in made else self.values[i] for i in value.inputs]
            if value.primitive is project:
                made[value] = inputs[0][value.params["index"]]
            elif piece and value.primitive.name in _SIDED:
                made[value] = self._continued(value, inputs)
            else:
                made[value] = self.primitives[value].evaluate(inputs, double_params(value.params))
        return made.get(self.trace.loss, self.values[self.trace.loss])

    def _continued(self, value: Value, inputs: list[Any]) -> np.ndarray:
        """What a piecewise straight operation gives if it goes on as it is at the point."""
        before = [self.values[i] for i in value.inputs]
        moved: Any = [new_tensor(np.asarray(a - b), None) for a, b in zip(inputs, before, strict=True)]
        handles = [new_tensor(a, None) for a in before]
        y = self.values[value]
        with unrecorded():
            by = self.primitives[value].jvp(moved, new_tensor(y, None), *handles, **double_params(value.params))
        return y if by is None else np.asarray(y + by.numpy())


def _random(rng: np.random.Generator, like: np.ndarray) -> np.ndarray:
    v = rng.standard_normal(like.shape)
    return v + 1j * rng.standard_normal(like.shape) if like.dtype.kind == "c" else v


def _pulled(primitive: Any, position: int, g: Any, y: Any, inputs: list[Any], value: Value) -> np.ndarray | None:
    """What a primitive hands back to one operand, as an array; None where the derivative is zero everywhere."""
    handles = [new_tensor(a, None) for a in inputs]
    several = type(y) is tuple
    out: Any = tuple(new_tensor(a, None) for a in y) if several else new_tensor(y, None)
    parts: Any = [None if p is None else new_tensor(p, None) for p in g] if several else new_tensor(g, None)
    with unrecorded():
        c = primitive.vjp(position, parts, out, handles, double_params(value.params))
    return None if c is None else c.numpy()


def uncancelled(target: Value) -> float:
    """The norm that the gradient would have, did nothing cancel in the last products."""
    total = 0.0
    for product in target.products:
        consumer = product.consumer
        if product.array is None or consumer.primitive is project or consumer.several or consumer.gradient is None:
            continue
        assert consumer.primitive is not None
        inputs = [double(v.array()) for v in consumer.inputs]
        primitive = apart(consumer.primitive)
        y = primitive.evaluate(inputs, double_params(consumer.params))
        c = _pulled(primitive, product.position, np.asarray(np.abs(double(consumer.gradient))), y, inputs, consumer)
        total += 0.0 if c is None else norm(c)
    return total
