"""Every product of the chain rule against finite differences, in float64.

A step hands back c = Jᵀ g. For a direction v, ⟨c, v⟩ is the derivative of ⟨g, p(x + t v)⟩ at t = 0,
which differences of fourth order approximate. Pointwise operations are checked entry by entry, small
operands along every axis, large ones along random directions and at their largest entries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..core.autodiff import unrecorded
from ..core.primitive import project
from ..core.tensor import new_tensor
from .differences import entry_slopes, slope_along
from .precision import apart, double, double_params
from .steps import flat, norm
from .trace import Product, Trace, Value
from .whole import check_whole

ALL_ENTRIES = 24  # operands of at most so many entries are checked along every axis
RANDOM, LARGEST = 3, 4  # directions for larger ones: at random, and the entries of the largest products
ROUNDING = 1e-3  # what the graph's own data type may add, relative to the largest entry
# They read one triangle: their argument moves within the Hermitian matrices only.
_HERMITIAN = frozenset({"cholesky", "eigh", "eigvalsh"})


class Checked(NamedTuple):
    """One product beside finite differences.

    Attributes:
        operand, consumer, primitive: which product it is.
        error: largest difference, relative to the largest entry of the product.
        rounding: what the graph's own precision adds: the product beside the same rule in float64.
        directions: how many derivatives were compared.
        kinks: how many of them lie at a kink, where the product has to lie between the one-sided slopes.
    """

    operand: str
    consumer: str
    primitive: str
    error: float
    rounding: float
    directions: int
    kinks: int


@dataclass(frozen=True)
class Check:
    """What `Explanation.check` found.

    Attributes:
        products: every product of the chain rule that was compared.
        largest_error: of all products, relative to the largest entry of each.
        largest_rounding: of all products, as `largest_error`.
        sums: largest difference of a gradient and the sum of its products, relative to the gradient.
        whole: the whole chain, computed again in float64: the gradients beside differences of the
            loss; relative. NaN where the loss has a kink in every direction that was tried.
        pieces: along how many directions differences of the loss crossed kinks, so that those of
            the piece of it that the point lies on were taken.
        whole_rounding: the graph's own gradients beside those in float64; relative.
        sides: entries that the graph and float64 have on different sides of a kink.
        skipped: products that hold NaN or infinity or have no entries; they are not in `products`.
    """

    products: tuple[Checked, ...]
    largest_error: float
    largest_rounding: float
    sums: float
    whole: float
    pieces: int
    whole_rounding: float
    sides: int
    skipped: int
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether all differences are below the tolerance, and rounding below a thousandth."""
        rounding = max(self.largest_rounding, self.sums, self.whole_rounding)
        return self.largest_error <= self.tolerance and not self.whole > self.tolerance and rounding <= ROUNDING

    @property
    def worst(self) -> Checked | None:
        """The product with the largest error."""
        return max(self.products, key=lambda p: p.error, default=None)

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        kinks = sum(p.kinks for p in self.products)
        compared = sum(p.directions for p in self.products)
        lines = [
            f"{len(self.products)} products of the chain rule, {compared:,} derivatives against finite differences in "
            f"float64: {'all agree' if self.ok else 'NOT ALL AGREE'}",
            f"  largest error of a step {self.largest_error:.1e}"
            + (f" ({self.worst.primitive}, back to {self.worst.operand})" if self.worst else ""),
            f"  rounding of the graph's own data type {self.largest_rounding:.1e}, of the sums {self.sums:.1e}",
            "  whole chain against differences of the loss "
            + (f"{self.whole:.1e}" if self.whole == self.whole else "not comparable (kinks)")
            + f", its rounding {self.whole_rounding:.1e}",
        ]
        if kinks:
            lines.append(f"  {kinks} derivatives at a kink, where they lie between the one-sided slopes")
        if self.pieces:
            lines.append(f"  {self.pieces} differences of the loss crossed kinks: those of its own piece were taken")
        if self.sides:
            lines.append(f"  {self.sides} entries within rounding of a kink: in float64 they are on its other side")
        if self.skipped:
            lines.append(f"  {self.skipped} products not checked: NaN or infinity, or no entries")
        return "\n".join(lines)


def check_products(
    products: Iterable[Product], targets: list[Value], trace: Trace, label: Callable[[Value], str], tolerance: float
) -> Check:
    """Check some products, the sums they belong to, and the whole chain to `targets`."""
    # A projection takes one output of several as it is: there is no derivative to check.
    products = [p for p in products if p.consumer.primitive is not project]
    found, skipped = [], 0
    for product in products:
        checked = _check_product(product, label)
        if checked is None:
            skipped += 1
        else:
            found.append(checked)
    sums = max((_sum_error(v) for v in {p.operand: None for p in products}), default=0.0)
    whole = check_whole(trace, targets)
    return Check(
        tuple(found), max((c.error for c in found), default=0.0), max((c.rounding for c in found), default=0.0),
        sums, whole.error, whole.pieces, whole.rounding, whole.sides, skipped, tolerance,
    )  # fmt: skip


class _Local:
    """A consumer as a function of one operand, in double precision."""

    def __init__(self, product: Product) -> None:
        consumer = product.consumer
        assert consumer.primitive is not None
        self.primitive = apart(consumer.primitive)
        self.position = product.position
        self.params = double_params(consumer.params)
        self.inputs = [double(v.array()) for v in consumer.inputs]
        self.g = [None if g is None else double(g) for g in _as_list(consumer.gradient)]
        self.y = self.primitive.evaluate(self.inputs, self.params)
        self.x = self.inputs[self.position]
        # Scores masked with −∞ are no place to take differences at; no gradient flows through them.
        self.live = [np.isfinite(y) for y in _as_list(self.y)]
        self.fixed = ~np.isfinite(self.x)

    def outputs(self, x: np.ndarray) -> list[np.ndarray]:
        inputs = [*self.inputs[: self.position], x, *self.inputs[self.position + 1 :]]
        return _as_list(self.primitive.evaluate(inputs, self.params))

    def along(self, x: np.ndarray) -> float:
        """Re ⟨g, p(x)⟩."""
        found = zip(self.g, self.outputs(x), self.live, strict=True)
        return sum(float(np.real(np.vdot(g[live], y[live]))) for g, y, live in found if g is not None)

    def rule(self, gradient: list[Any]) -> np.ndarray:
        """The product by the primitive's vjp; zeros where the derivative is zero everywhere."""
        several = type(self.y) is tuple
        handles = [new_tensor(a, None) for a in self.inputs]
        y: Any = tuple(new_tensor(a, None) for a in self.y) if several else new_tensor(self.y, None)
        parts = [None if g is None else new_tensor(g, None) for g in gradient]
        with unrecorded():
            c = self.primitive.vjp(self.position, parts if several else parts[0], y, handles, self.params)
        return np.zeros(self.x.shape, self.x.dtype) if c is None else c.numpy()

    def comparable(self, c: np.ndarray) -> bool:
        """Whether all is finite that the gradient g comes from or the product c goes to."""
        return not c[self.fixed].any() and all(
            g is None or not g[~live].any() for g, live in zip(self.g, self.live, strict=True)
        )

    @property
    def noise(self) -> float:
        """Size of the numbers whose rounding differences see."""
        found = zip(self.g, _as_list(self.y), self.live, strict=True)
        return sum(float(np.abs(g[live] * y[live]).sum()) for g, y, live in found if g is not None)


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _check_product(product: Product, label: Callable[[Value], str]) -> Checked | None:
    consumer = product.consumer
    assert consumer.primitive is not None
    if product.operand.size == 0:
        return None
    with np.errstate(all="ignore"):
        local = _Local(product)
        c = local.rule(local.g)
        given = np.zeros(c.shape, c.dtype) if product.array is None else product.array
        if not all(np.isfinite(flat(a)).all() for a in (c, local.g, given)) or not local.comparable(c):
            return None
        difference = float(np.abs(given.astype(c.dtype) - c).max())
        rounding = difference / (float(np.abs(c).max()) or 1.0)
        if rounding > ROUNDING:
            # Where the products of a sum cancel, their rounding is to be compared with them, not with what is left.
            uncancelled = local.rule([None if g is None else np.asarray(np.abs(g), g.dtype) for g in local.g])
            rounding = difference / (float(np.abs(uncancelled).max()) or 1.0)
        pointwise = consumer.primitive.partials is not None and not consumer.several
        error, directions, kinks = (_pointwise if pointwise else _directional)(local, c)
    return Checked(label(product.operand), label(consumer), consumer.primitive.name, error, rounding, directions, kinks)


def _units(x: np.ndarray) -> tuple[Any, ...]:
    return (1.0, 1j) if x.dtype.kind == "c" else (1.0,)


def _pointwise(local: _Local, c: np.ndarray) -> tuple[float, int, int]:
    """Every entry of the output by its own entry of the operand; then weighted by g and added up."""
    g, x = local.g[0], local.x
    assert g is not None
    total = np.zeros(g.shape, np.complex128)
    kinks = 0
    for unit in _units(x):
        slope, left, right = entry_slopes(lambda x: local.outputs(x)[0], x, unit)
        contribution = np.real(np.conj(g) * slope) * unit
        kinked = np.abs(left - right) > 1e-3 * (np.abs(left) + np.abs(right))
        if kinked.any():
            kinks += int(kinked.sum())
            # Any slope between the two sides is a derivative there: take the rule's if it is one of them.
            chosen = _partial(local, unit)
            low, high = np.minimum(left.real, right.real) - 1e-6, np.maximum(left.real, right.real) + 1e-6
            between = kinked & (chosen.real >= low) & (chosen.real <= high)
            contribution = np.where(between, np.real(np.conj(g) * chosen) * unit, contribution)
        total += np.where(local.live[0], contribution, 0)
    found = _fit(total, x)
    scale = float(np.abs(c).max()) or float(np.abs(g).max()) or 1.0
    return float(np.abs(found - c).max()) / scale, x.size * len(_units(x)), kinks


def _partial(local: _Local, unit: Any) -> np.ndarray:
    rule = local.primitive.partials[local.position] or 0  # type: ignore[index]
    if callable(rule):
        with unrecorded():
            rule = rule(new_tensor(local.y, None), *(new_tensor(a, None) for a in local.inputs), **local.params).numpy()
    return np.broadcast_to(np.asarray(rule) * unit, local.y.shape)


def _fit(total: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Add up over the axes along which the operand was broadcast."""
    extra = total.ndim - x.ndim
    total = total.sum(axis=tuple(range(extra)))
    axes = tuple(d for d, n in enumerate(x.shape) if n == 1 and total.shape[d] != 1)
    total = total.sum(axis=axes, keepdims=True)
    return total if x.dtype.kind == "c" else total.real


def _directional(local: _Local, c: np.ndarray) -> tuple[float, int, int]:
    """Along directions: all axes of small operands; at random and at the largest entries of others."""
    worst, count, kinks = 0.0, 0, 0
    x = local.x
    floor = local.noise * 1e-8
    for v in _directions(x, c):
        v[local.fixed] = 0
        if local.primitive.name in _HERMITIAN:
            v = v + np.conj(v.swapaxes(-1, -2))
        wanted = float(np.real(np.vdot(c, v)))
        slope, left, right = _slope_along(local, x, v)
        usual = norm(c) * norm(v) / np.sqrt(x.size)
        count += 1
        if abs(left - right) > 1e-3 * (abs(left) + abs(right) + usual) and abs(slope - wanted) > 1e-6 * usual:
            kinks += 1
            if v.astype(bool).sum() > 1:
                continue  # of several kinks at once nothing can be said; the single entries decide
            outside = max(min(left, right) - wanted, wanted - max(left, right), 0.0)
            worst = max(worst, outside / max(usual, abs(left), abs(right)))
            continue
        worst = max(worst, abs(slope - wanted) / max(usual, abs(wanted), floor, 1e-300))
    return worst, count, kinks


def _directions(x: np.ndarray, c: np.ndarray) -> Iterator[np.ndarray]:
    units = _units(x)
    if x.size <= ALL_ENTRIES:
        entries = list(range(x.size))
    else:
        rng = np.random.default_rng(x.size)
        for _ in range(RANDOM):
            v = rng.standard_normal(x.shape)
            yield v + 1j * rng.standard_normal(x.shape) if x.dtype.kind == "c" else v
        entries = [int(i) for i in np.argsort(-np.abs(c).ravel(), kind="stable")[:LARGEST]]
    for entry in entries:
        for unit in units:
            v = np.zeros(x.shape, x.dtype)
            v.flat[entry] = unit
            yield v


def _slope_along(local: _Local, x: np.ndarray, v: np.ndarray) -> tuple[float, float, float]:
    return slope_along(local.along, x, v, local.noise)


def _sum_error(value: Value) -> float:
    if value.several or value.gradient is None:
        return 0.0
    parts = [p.array for p in value.products if p.array is not None]
    total = flat(value.gradient)
    if not parts or not np.isfinite(total).all() or not total.size:
        return 0.0
    scale = max(float(np.abs(flat(p)).max()) for p in parts) or 1.0
    return float(np.abs(sum(flat(p) for p in parts) - total).max()) / scale
