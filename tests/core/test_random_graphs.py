"""Random small programs: their gradients by every mode, against differences and against each other.

Hypothesis draws a list of steps; each takes earlier results, whatever their shapes are, and so
composes broadcasting, reductions, products, indexing, assignment and choice in ways nobody would
write down as a test.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import func
from chainrule.core.tensor import Tensor
from chainrule.primitives import pointwise as p
from chainrule.primitives import reduce, table
from chainrule.primitives.matmul import matmul

LARGEST = 60


class Step(NamedTuple):
    """One operation: which, on which earlier results, and numbers that settle the rest."""

    kind: str
    first: int
    second: int
    choice: int


class Program(NamedTuple):
    """Input shapes and steps."""

    shapes: tuple[tuple[int, ...], ...]
    steps: tuple[Step, ...]

    def __call__(self, *inputs: Tensor) -> Tensor:
        """A scalar."""
        values = list(inputs)
        for step in self.steps:
            x, y = values[step.first % len(values)], values[step.second % len(values)]
            made = STEPS[step.kind](x, y, step.choice)
            if made is not None and made.size <= LARGEST:
                values.append(made)
        out = _total(values[0])
        for weight, value in enumerate(values[1:], 2):
            out = out + _total(p.sin(value)) * (1.0 / weight)
        return out


def _total(x: Tensor) -> Tensor:
    return reduce.sum(x, axis=tuple(range(x.ndim)), keepdims=False)


def _broadcast(x: Tensor, y: Tensor) -> bool:
    return all(a == b or 1 in (a, b) for a, b in zip(x.shape[::-1], y.shape[::-1], strict=False))


def _unary(x: Tensor, _y: Tensor, choice: int) -> Tensor:
    functions: list[Callable[[Tensor], Tensor]] = [
        p.tanh, p.sin, p.sigmoid, p.square, p.relu, p.abs, p.erf, p.atan, lambda v: p.exp(p.tanh(v)), lambda v: -v,
        lambda v: p.log(1.5 + p.tanh(v)), lambda v: p.sqrt(1.0 + p.square(v)), lambda v: v**3 / (1.0 + p.square(v)),
        lambda v: p.reciprocal(2.0 + p.cos(v)),
    ]  # fmt: skip
    return functions[choice % len(functions)](x)


def _binary(x: Tensor, y: Tensor, choice: int) -> Tensor | None:
    if not _broadcast(x, y):
        return None
    functions: list[Callable[[Tensor, Tensor], Tensor]] = [
        p.add, p.subtract, lambda a, b: p.multiply(p.tanh(a), b), p.maximum, p.minimum, p.logaddexp,
        lambda a, b: p.divide(a, 2.0 + p.sin(b)), lambda a, b: p.power(1.5 + p.tanh(a), p.tanh(b)),
        lambda a, b: p.where(p.greater(a, b), p.sin(a), b), lambda a, b: p.atan2(a, 2.0 + p.cos(b)),
    ]  # fmt: skip
    return functions[choice % len(functions)](x, y)


def _reduce(x: Tensor, _y: Tensor, choice: int) -> Tensor | None:
    axes = tuple(a for a in range(x.ndim) if choice >> a & 1)
    if any(x.shape[a] == 0 for a in axes):
        return None
    keep = bool(choice & 8)
    kind = (choice >> 4) % 5
    if kind == 4:
        return reduce.prod(p.tanh(x), axis=axes, keepdims=keep)
    return (reduce.sum, reduce.max, reduce.min, reduce.logsumexp)[kind](x, axis=axes, keepdims=keep)


def _shape(x: Tensor, _y: Tensor, choice: int) -> Tensor:
    if choice % 4 == 0:
        return table["reshape"](x, shape=(x.size,))
    if choice % 4 == 1:
        order = np.random.default_rng(choice).permutation(x.ndim)
        return table["permute_dims"](x, axes=tuple(map(int, order)))
    if choice % 4 == 2:
        return table["flip"](x, axis=tuple(a for a in range(x.ndim) if choice >> (2 + a) & 1))
    return table["broadcast_to"](x, shape=(2, *x.shape))


def _matmul(x: Tensor, y: Tensor, choice: int) -> Tensor | None:
    for a, b in ((x, y), (x, x)):
        if a.ndim < 2 or b.ndim < 2:
            continue
        ta, tb = bool(choice & 1), bool(choice & 2)
        inner = a.shape[-2 if ta else -1], b.shape[-1 if tb else -2]
        if a is b:
            tb = not ta
            inner = (0, 0)
        lead = [a.shape[:-2], b.shape[:-2]]
        if inner[0] == inner[1] and all(m == n or 1 in (m, n) for m, n in zip(*(s[::-1] for s in lead), strict=False)):
            return matmul(p.tanh(a), b, transpose_a=ta, transpose_b=tb)
    return None


def _index(x: Tensor, _y: Tensor, choice: int) -> Tensor | None:
    if not x.ndim or not x.size:
        return None
    n = x.shape[0]
    keys: list[Any] = [
        0, -1, slice(None, None, 2), slice(None, None, -1), slice(-10, 2), (None, ..., 0), (..., None),
        np.array([0, n - 1, 0]), np.array([[0], [n - 1]]), slice(0, 0), (..., slice(None, None, -2)),
    ]  # fmt: skip
    return x[keys[choice % len(keys)]]


def _assign(x: Tensor, y: Tensor, choice: int) -> Tensor | None:
    if not x.ndim or not x.size:
        return None
    out = x * 1.0
    out[(0, slice(None, None, 2), slice(None, None, -1))[choice % 3]] = _total(y) if choice & 4 else 0.5
    return out


def _join(x: Tensor, y: Tensor, choice: int) -> Tensor | None:
    for other in (y, x):
        if other.ndim == x.ndim and x.ndim:
            axis = choice % x.ndim
            if all(a == b for d, (a, b) in enumerate(zip(x.shape, other.shape, strict=True)) if d != axis):
                return table["concat"](x, other, axis=axis)
    return None


STEPS: dict[str, Callable[[Tensor, Tensor, int], Tensor | None]] = {
    "unary": _unary, "binary": _binary, "reduce": _reduce, "shape": _shape, "matmul": _matmul, "index": _index,
    "assign": _assign, "join": _join,
    "scan": lambda x, _y, c: reduce.cumulative_sum(x, axis=c % x.ndim) if x.ndim else None,
}  # fmt: skip

SHAPES = st.sampled_from([(), (1,), (3,), (2, 3), (3, 2), (2, 1), (1, 3), (2, 2, 3), (0,), (0, 3)])
PROGRAMS = st.builds(
    Program,
    st.lists(SHAPES, min_size=1, max_size=3).map(tuple),
    st.lists(
        st.builds(
            Step, st.sampled_from(sorted(STEPS)), st.integers(0, 11), st.integers(0, 11), st.integers(0, 1 << 10)
        ),
        min_size=3,
        max_size=10,
    ).map(tuple),
)
QUICK = settings(max_examples=120, deadline=None, derandomize=True, database=None)


def points(program: Program, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.uniform(-1.5, 1.5, shape) for shape in program.shapes]


def gradient(program: Program, at: list[np.ndarray]) -> list[np.ndarray]:
    xs = [Tensor(a, requires_grad=True) for a in at]
    found = cr.grad(program(*xs), xs, allow_unused=True)
    return [np.zeros(x.shape) if g is None else g.numpy() for g, x in zip(found, at, strict=True)]


def dot(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    return float(sum(np.sum(x * y) for x, y in zip(a, b, strict=True)))


@QUICK
@given(PROGRAMS)
def test_the_slope_along_a_direction_is_that_of_differences_and_of_forward_mode(program: Program) -> None:
    at, v = points(program), points(program, 1)
    slope = dot(gradient(program, at), v)

    def along(step: float) -> float:
        return program(*(Tensor(x + step * d) for x, d in zip(at, v, strict=True))).item()

    eps = 1e-6
    assert abs((along(eps) - along(-eps)) / (2 * eps) - slope) <= 1e-5 * (1 + abs(slope))
    value, tangent = func.jvp(program, tuple(map(Tensor, at)), tuple(map(Tensor, v)))
    assert value.item() == program(*map(Tensor, at)).item()
    assert abs(tangent.item() - slope) <= 1e-10 * (1 + abs(slope))


@QUICK
@given(PROGRAMS)
def test_backward_grad_and_func_grad_agree(program: Program) -> None:
    at = points(program)
    xs = [Tensor(a, requires_grad=True) for a in at]
    program(*xs).backward()
    by_function = func.grad(program, argnums=tuple(range(len(at))))(*map(Tensor, at))
    for x, g, h in zip(xs, gradient(program, at), by_function, strict=True):
        np.testing.assert_array_equal(np.zeros(x.shape) if x.grad is None else x.grad.numpy(), g)
        np.testing.assert_allclose(h.numpy(), g, rtol=1e-12, atol=1e-13)


@QUICK
@given(PROGRAMS)
def test_the_hessian_is_symmetric(program: Program) -> None:
    """<u, H v> = <v, H u>, with H v by forward mode over reverse mode and by reverse mode twice."""
    at, u, v = (points(program, seed) for seed in range(3))

    def product(direction: list[np.ndarray]) -> list[np.ndarray]:
        out = func.hvp(program, tuple(map(Tensor, at)), tuple(map(Tensor, direction)))
        return [g.numpy() for g in out]

    hv = product(v)
    assert abs(dot(u, hv) - dot(v, product(u))) <= 1e-8 * (1 + abs(dot(u, hv)))
    xs = [Tensor(a, requires_grad=True) for a in at]
    firsts = cr.grad(program(*xs), xs, allow_unused=True)
    live = [(g, Tensor(d)) for g, d in zip(firsts, v, strict=True) if g is not None and g.requires_grad]
    if live:
        seconds = cr.grad([g for g, _ in live], xs, [d for _, d in live], allow_unused=True)
        for g, h in zip(seconds, hv, strict=True):
            np.testing.assert_allclose(np.zeros(h.shape) if g is None else g.numpy(), h, rtol=1e-8, atol=1e-9)


@QUICK
@given(PROGRAMS)
def test_a_batch_of_points_is_the_loop_over_them(program: Program) -> None:
    batch = [points(program, seed) for seed in range(3)]
    stacked = [Tensor(np.stack(column)) for column in zip(*batch, strict=True)]
    got = func.vmap(program)(*stacked)
    np.testing.assert_allclose(got.numpy(), [program(*map(Tensor, at)).item() for at in batch], rtol=1e-10, atol=1e-12)
    slopes = func.vmap(func.grad(program, argnums=tuple(range(len(program.shapes)))))(*stacked)
    for g, loop in zip(slopes, zip(*(gradient(program, at) for at in batch), strict=True), strict=True):
        np.testing.assert_allclose(g.numpy(), np.stack(loop), rtol=1e-9, atol=1e-11)


@QUICK
@given(PROGRAMS)
def test_recomputed_values_are_the_same_to_the_last_bit(program: Program) -> None:
    """Checkpointing a whole program: dropped and computed again, gradients equal bit for bit."""
    at = points(program)
    xs = [Tensor(a, requires_grad=True) for a in at]
    found = cr.grad(func.checkpoint(program, *xs), xs, allow_unused=True, create_graph=False)
    for g, wanted in zip(found, gradient(program, at), strict=True):
        np.testing.assert_array_equal(np.zeros(wanted.shape) if g is None else g.numpy(), wanted)
