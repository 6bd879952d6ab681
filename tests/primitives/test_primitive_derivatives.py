"""Derivatives of every primitive in the table: reverse mode, forward mode, second order, all against differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import func
from chainrule.core.tensor import Tensor
from chainrule.primitives import table
from tests.primitives.samples import NO_CALL, Sample, case_id, differentiable_cases, example, names, sample

CASES = differentiable_cases()
EPS = 1e-6


def tensors(arrays: list[np.ndarray], requires_grad: bool = True) -> list[Tensor]:
    return [Tensor(a, requires_grad=requires_grad) for a in arrays]


def weights(s: Sample, seed: int = 7) -> list[np.ndarray]:
    """A fixed cotangent for every output."""
    rng = np.random.default_rng(seed)
    made = []
    for y in s.call(*tensors(s.points, False)):
        w = rng.uniform(0.5, 1.5, y.shape)
        made.append(w + 1j * rng.uniform(0.5, 1.5, y.shape) if y.dtype.kind == "c" else w)
    return made


def inner(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.real(np.sum(np.conj(a) * b)))


def loss(s: Sample, w: list[np.ndarray], points: list[np.ndarray]) -> float:
    return sum(inner(c, y.numpy()) for c, y in zip(w, s.call(*tensors(points, False)), strict=True))


def differences(f: Any, points: list[np.ndarray], eps: float = EPS) -> list[np.ndarray]:
    """Gradient of the real number f(points) by central differences; d/dRe + i d/dIm for complex entries."""
    found = []
    for position, x in enumerate(points):
        g = np.zeros(x.shape, x.dtype)
        for at in np.ndindex(x.shape):
            for unit in (1.0, 1j) if x.dtype.kind == "c" else (1.0,):
                ends = []
                for side in (eps, -eps):
                    moved = [p.copy() for p in points]
                    moved[position][at] += side * unit
                    ends.append(f(moved))
                g[at] += unit * (ends[0] - ends[1]) / (2 * eps)
        found.append(g)
    return found


def gradients(s: Sample, w: list[np.ndarray], points: list[np.ndarray]) -> list[np.ndarray]:
    xs = tensors(points)
    ys = s.call(*xs)
    pairs = [(y, Tensor(c)) for y, c in zip(ys, w, strict=True) if y.requires_grad]
    found = cr.grad([y for y, _ in pairs], xs, [c for _, c in pairs], allow_unused=True)
    return [np.zeros_like(p) if g is None else g.numpy() for g, p in zip(found, points, strict=True)]


def test_every_primitive_has_a_sample_or_a_reason() -> None:
    for name in names():
        specs, _ = example(table[name])
        assert specs, name
    assert set(NO_CALL) <= set(table)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_the_gradient_is_that_of_finite_differences(case: tuple[str, bool]) -> None:
    s = sample(case[0], complex_=case[1])
    w = weights(s)
    for got, wanted, x in zip(
        gradients(s, w, s.points), differences(lambda pts: loss(s, w, pts), s.points), s.points, strict=True
    ):
        assert got.shape == x.shape
        assert got.dtype == x.dtype
        np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=2e-7)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_the_second_derivative_is_that_of_finite_differences(case: tuple[str, bool]) -> None:
    s = sample(case[0], complex_=case[1])
    w = weights(s)
    directions = [np.linspace(0.5, 1.5, x.size).reshape(x.shape) * (1 + 0.5j if case[1] else 1) for x in s.points]
    directions = [d if x.dtype.kind == "c" else d.real for d, x in zip(directions, s.points, strict=True)]

    def slope(points: list[np.ndarray]) -> float:
        return sum(inner(d, g) for d, g in zip(directions, gradients(s, w, points), strict=True))

    xs = tensors(s.points)
    ys = s.call(*xs)
    firsts = cr.grad(
        [y for y in ys if y.requires_grad], xs,
        [Tensor(c) for y, c in zip(ys, w, strict=True) if y.requires_grad], allow_unused=True,
    )  # fmt: skip
    live = [(g, Tensor(d)) for g, d in zip(firsts, directions, strict=True) if g is not None and g.requires_grad]
    if live:
        seconds = cr.grad([g for g, _ in live], xs, [d for _, d in live], allow_unused=True)
    else:
        seconds = [None] * len(xs)
    for got, wanted in zip(seconds, differences(slope, s.points, 1e-5), strict=True):
        found = np.zeros_like(wanted) if got is None else got.numpy()
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_forward_mode_is_the_transpose_of_reverse_mode(case: tuple[str, bool]) -> None:
    """<w, J v> = <Jᵀ w, v> for random v and w, for all inputs together and for each alone."""
    s = sample(case[0], complex_=case[1])
    w = weights(s)
    rng = np.random.default_rng(3)
    pulled = gradients(s, w, s.points)
    everything = list(range(len(s.points)))
    for chosen in [everything, *([i] for i in everything)]:
        v = [
            rng.standard_normal(x.shape) + (1j * rng.standard_normal(x.shape) if x.dtype.kind == "c" else 0)
            for x in s.points
        ]

        def part(*moving: Tensor, chosen: list[int] = chosen) -> tuple[Tensor, ...]:
            full = tensors(s.points, False)
            for i, x in zip(chosen, moving, strict=True):
                full[i] = x
            return s.call(*full)

        points = [Tensor(s.points[i]) for i in chosen]
        y, dy = func.jvp(part, tuple(points), tuple(Tensor(v[i]) for i in chosen))
        for value, tangent in zip(y, dy, strict=True):
            assert tangent.shape == value.shape
            assert tangent.dtype == value.dtype
        forward = sum(inner(c, tangent.numpy()) for c, tangent in zip(w, dy, strict=True))
        reverse = sum(inner(pulled[i], v[i]) for i in chosen)
        assert forward == pytest.approx(reverse, rel=1e-10, abs=1e-10)


@pytest.mark.parametrize("name", list(names(differentiable=True)))
def test_float32_gradients_stay_float32(name: str) -> None:
    s = sample(name)
    single = {"float64": "float32", "complex128": "complex64"}
    arrays = [a.astype(single.get(str(a.dtype), a.dtype)) for a in s.arrays]
    params = dict(s.params)
    xs = [Tensor(a, requires_grad=i in s.flowing) for i, a in enumerate(arrays)]
    if name in ("cholesky",):
        xs[0] = Tensor(np.eye(3, dtype=np.float32) * 2, requires_grad=True)
    ys = s.primitive(*xs, **params)
    for y in ys if isinstance(ys, tuple) else (ys,):
        if not y.requires_grad:
            continue
        for i, g in zip(s.flowing, cr.grad(y, [xs[i] for i in s.flowing], cr_ones(y), allow_unused=True), strict=True):
            assert g is None or (g.dtype == xs[i].dtype and g.shape == xs[i].shape), name


def cr_ones(y: Tensor) -> Tensor:
    return Tensor(np.ones(y.shape, y.dtype))


def test_every_differentiable_primitive_has_a_forward_rule() -> None:
    """Without one, forward mode would take its output for a constant."""
    missing = [name for name in names(differentiable=True) if table[name].jvp is None]
    assert not missing
