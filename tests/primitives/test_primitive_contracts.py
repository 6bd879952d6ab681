"""What every primitive in the table promises besides its derivative: shapes, what it keeps, batches, notation."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import func
from chainrule.core import formula
from chainrule.core.dtypes import SUPPORTED
from chainrule.core.errors import ChainruleError
from chainrule.core.node import Node, ShapeDtype
from chainrule.core.primitive import Primitive
from chainrule.core.tensor import Tensor, new_tensor
from chainrule.primitives import table
from tests.primitives.samples import (
    FIXED,
    INVARIANT,
    PREPARE,
    Sample,
    case_id,
    differentiable_cases,
    example,
    names,
    numbers,
    sample,
)

ALL = list(names())
CASES = differentiable_cases()
POINTWISE = [
    n for n in ALL if table[n].abstract.__qualname__.startswith("pointwise.") and len(example(table[n])[0]) > 1
]
UNARY = [n for n in ALL if table[n].abstract.__qualname__.startswith("pointwise.") and len(example(table[n])[0]) == 1]


def results(y: Any) -> list[Any]:
    return list(y) if isinstance(y, tuple) else [y]


def operands(s: Sample) -> list[Tensor]:
    return [Tensor(a) for a in s.arrays]


def total(ys: Any) -> Tensor:
    """A real number made of all floating outputs."""
    out = Tensor(0.0, dtype="float64")
    for y in results(ys):
        if y.dtype.kind in "fc":
            part = table["real"](y * (1.0 - 0.5j)) if y.dtype.kind == "c" else y
            out = out + table["sum"](part, axis=tuple(range(part.ndim)), keepdims=False)
    return out


@pytest.mark.parametrize("name", ALL)
def test_shape_rule_and_value_agree_for_every_data_type(name: str) -> None:
    """For whatever the shape rule accepts, the value has the predicted shape and data type.

    Left out: bools where the example has none, and results in half precision (exp of int8),
    because the public functions convert such operands first.
    """
    primitive = table[name]
    specs, params = example(primitive)
    rng = np.random.default_rng(1)
    accepted = 0
    for dtype in sorted(SUPPORTED, key=str):
        if dtype.kind == "b" and all(d.kind != "b" for _, d in specs):
            continue
        kinds = [dtype if spec.kind == "f" or len({d for _, d in specs}) == 1 else spec for _, spec in specs]
        arrays = [numbers(primitive, shape, kind, rng) for (shape, _), kind in zip(specs, kinds, strict=True)]
        if name == "cholesky":
            arrays = [np.eye(3).astype(kinds[0])]
        if name in PREPARE and name != "cholesky":
            arrays[0] = (arrays[0] + 5 * np.eye(*arrays[0].shape)).astype(kinds[0])
        try:
            predicted = results(primitive.abstract(*(ShapeDtype(a.shape, a.dtype) for a in arrays), **params))
        except ChainruleError:
            if dtype.kind == "c" and any(
                d.kind == "f" for _, d in specs
            ):  # numbers without an order, silently taken for real ones, would be wrong
                with pytest.raises(ChainruleError):
                    primitive(*(Tensor(a) for a in arrays), **params)
            continue
        accepted += 1
        if any(e.dtype == np.float16 for e in predicted):
            continue
        got = results(primitive(*(Tensor(a) for a in arrays), **params))
        assert len(got) == len(predicted) == primitive.outputs
        assert [(y.shape, y.dtype) for y in got] == [(e.shape, e.dtype) for e in predicted], (name, dtype)
        assert all(y.dtype in SUPPORTED for y in got), (name, dtype)
    assert accepted


class _Poison(Primitive):
    """Computing the value of a node made by this primitive is a failure."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("poison", _refuse, abstract=_refuse, registered=False)


def _refuse(*_: Any, **__: Any) -> Any:
    raise ReadError


class ReadError(Exception):
    """A derivative read a value that the forward pass does not keep."""


def unreadable(x: Tensor) -> Tensor:
    value = ShapeDtype(x.shape, x.dtype)
    return new_tensor(value, Node(_Poison(), (), {}, value, False))


def rule_reads(s: Sample, position: int) -> tuple[bool, set[int]]:
    """What the vjp of one input really reads: the output? which inputs?"""
    xs = operands(s)
    if s.name in PREPARE:
        xs[0] = PREPARE[s.name](xs[0])
    y = s.primitive(*xs, **s.params)
    g = (
        tuple(Tensor(np.ones(o.shape, o.dtype)) for o in y)
        if isinstance(y, tuple)
        else Tensor(np.ones(y.shape, y.dtype))
    )

    def poisoned(what: int) -> bool:
        inputs = [unreadable(x) if i == what else x for i, x in enumerate(xs)]
        out: Any = y
        if what < 0:
            out = tuple(map(unreadable, y)) if isinstance(y, tuple) else unreadable(y)
        try:
            s.primitive.vjp(position, g, out, inputs, s.params)
        except ReadError:
            return True
        return False

    return poisoned(-1), {i for i in range(len(xs)) if poisoned(i)}


@pytest.mark.parametrize("name", list(names(differentiable=True)))
def test_the_forward_pass_keeps_exactly_what_the_derivative_reads(name: str) -> None:
    """An argument named with an underscore is not read, and one without is (by real or by complex numbers)."""
    # The derivative of vectors defined up to a phase refuses a cotangent that turns the phase.
    samples = [sample(n, complex_=c) for n, c in CASES if n == name and not (c and name in INVARIANT)]
    for position in samples[0].flowing:
        declared_y, declared = samples[0].primitive._plan(1 << position, len(samples[0].arrays))
        found_y, found = False, set[int]()
        for s in samples:
            reads_y, reads = rule_reads(s, position)
            found_y, found = found_y or reads_y, found | reads
        if samples[0].primitive.outputs > 1:
            declared_y = found_y  # several outputs are kept as a whole
        assert found_y <= declared_y, f"the derivative of {name} by input {position} reads the output undeclared"
        # Index arrays and conditions are constants of the graph: always kept, whether declared or not.
        undeclared = {i for i in found - set(declared) if samples[0].arrays[i].dtype.kind in "fc"}
        assert not undeclared, f"the derivative of {name} by input {position} reads inputs {undeclared} undeclared"
        assert declared_y <= found_y, f"{name} keeps its output for nothing (input {position})"
        assert set(declared) <= found, f"{name} keeps inputs {set(declared) - found} for nothing (input {position})"


@pytest.mark.parametrize("name", POINTWISE)
@pytest.mark.parametrize("shapes", [((2, 1, 3), (4, 1)), ((), (2, 3)), ((3,), (1,)), ((0, 1), (3,)), ((1, 1), ())])
def test_operands_broadcast_and_gradients_have_their_shapes(name: str, shapes: tuple[Any, Any]) -> None:
    count = len(example(table[name])[0])
    given = list(itertools.islice(itertools.cycle(shapes), count))
    s = sample(name, shapes=given)
    xs = [Tensor(a, requires_grad=i in s.flowing) for i, a in enumerate(s.arrays)]
    y = s.primitive(*xs, **s.params)
    assert y.shape == np.broadcast_shapes(*given)
    assert y.shape == s.primitive.abstract(*(ShapeDtype(a.shape, a.dtype) for a in s.arrays), **s.params).shape
    if not s.primitive.differentiable or not y.requires_grad:
        return
    wanted = [xs[i] for i in s.flowing]
    full = [Tensor(np.broadcast_to(a, y.shape), requires_grad=i in s.flowing) for i, a in enumerate(s.arrays)]
    z = s.primitive(*full, **s.params)
    ones = Tensor(np.ones(y.shape, y.dtype))
    for x, g, whole in zip(
        wanted,
        cr.grad(y, wanted, ones, allow_unused=True),
        cr.grad(z, [full[i] for i in s.flowing], ones, allow_unused=True),
        strict=True,
    ):
        assert g.shape == x.shape
        # The gradient of a broadcast operand is the sum over its copies.
        lead = tuple(range(y.ndim - x.ndim))
        summed = whole.numpy().sum(axis=lead)
        kept = tuple(a for a, n in enumerate(x.shape) if n == 1)
        np.testing.assert_allclose(g.numpy(), summed.sum(axis=kept, keepdims=True), rtol=1e-12, atol=1e-300)
    tangents = tuple(Tensor(np.ones(x.shape, x.dtype)) for x in wanted)
    for i, x in enumerate(wanted):
        # One moving operand, smaller than the result: the tangent has the result's shape all the same.
        def alone(moving: Tensor, i: int = i) -> Tensor:
            args = [Tensor(a) for a in s.arrays]
            args[s.flowing[i]] = moving
            return s.primitive(*args, **s.params)

        value, tangent = func.jvp(alone, (x.detach(),), (tangents[i],))
        assert tangent.shape == value.shape == y.shape
        assert tangent.dtype == value.dtype


@pytest.mark.parametrize("name", UNARY)
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1, 1)])
def test_scalars_and_empty_operands(name: str, shape: tuple[int, ...]) -> None:
    s = sample(name, shapes=[shape])
    x = Tensor(s.arrays[0], requires_grad=bool(s.flowing) and s.primitive.differentiable)
    y = s.primitive(x, **s.params)
    assert y.shape == shape
    if y.requires_grad:
        assert cr.grad(y, x, Tensor(np.ones(shape, y.dtype))).shape == shape


@pytest.mark.parametrize("name", [n for n in ALL if n not in POINTWISE and n not in UNARY and n != "pinv"])
def test_empty_operands_where_the_shape_rule_allows_them(name: str) -> None:
    """Each operand with one of its axes of length 0: either the rule refuses it, or value and gradient exist."""
    specs, params = example(table[name])
    for axis in range(max(len(shape) for shape, _ in specs)):
        shapes = [tuple(0 if d == axis else n for d, n in enumerate(shape)) for shape, _ in specs]
        s = sample(name, shapes=shapes)
        try:
            predicted = s.primitive.abstract(*(ShapeDtype(a.shape, a.dtype) for a in s.arrays), **params)
        except ChainruleError:
            continue
        flows = s.primitive.differentiable and name not in THIN_ONLY
        xs = [Tensor(a, requires_grad=flows and i in s.flowing) for i, a in enumerate(s.arrays)]
        y = s.primitive(*xs, **params)
        assert [o.shape for o in results(y)] == [e.shape for e in results(predicted)], shapes
        if flows and any(o.requires_grad for o in results(y)):
            wanted = [xs[i] for i in s.flowing]
            for x, g in zip(wanted, cr.grad(total(y), wanted, allow_unused=True), strict=True):
                assert g.shape == x.shape


THIN_ONLY = {"qr"}  # no derivative of a matrix with more columns than rows; linalg.qr splits it first


def _strided(a: np.ndarray) -> np.ndarray:
    """The same numbers, neither contiguous nor in order in memory."""
    if not a.ndim:
        return a.copy()
    wide = np.zeros((*a.shape, 3), a.dtype).transpose()
    view = wide[1].transpose()
    view[...] = a
    return view


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_memory_layout_does_not_matter(case: tuple[str, bool]) -> None:
    s = sample(case[0], complex_=case[1])
    plain = [Tensor(a, requires_grad=i in s.flowing) for i, a in enumerate(s.arrays)]
    other = []
    for i, a in enumerate(s.arrays):
        x = new_tensor(_strided(a), None)
        other.append(x.requires_grad_() if i in s.flowing else x)
    outcomes = []
    for xs in (plain, other):
        ys = s.call(*(xs[i] for i in s.flowing))
        outcomes.append([*ys, *cr.grad(total(ys), [xs[i] for i in s.flowing], allow_unused=True)])
    for a, b in zip(*outcomes, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ALL)
def test_operands_are_never_written_to(name: str) -> None:
    s = sample(name)
    arrays = [np.array(a) for a in s.arrays]
    for a in arrays:
        a.flags.writeable = False
    xs = [new_tensor(a, None) for a in arrays]
    if s.primitive.differentiable:
        for i in s.flowing:
            xs[i].requires_grad_()
        ys = s.call(*(xs[i] for i in s.flowing))
        if any(y.requires_grad for y in ys):
            total(ys).backward()
    elif s.name not in PREPARE:
        s.primitive(*xs, **s.params)
    for a, b in zip(arrays, s.arrays, strict=True):
        np.testing.assert_array_equal(a, b)


def batches(s: Sample) -> list[tuple[int | None, ...]]:
    """Which operands carry a batch: all of them, and each alone."""
    count = len(s.arrays)
    free = [i for i in range(count) if i not in FIXED.get(s.name, {})]
    return list(
        dict.fromkeys(
            tuple(0 if i in chosen else None for i in range(count)) for chosen in (free, *([i] for i in free))
        )
    )


@pytest.mark.parametrize("name", [n for n in ALL if n != "random_bits"])
def test_a_batch_is_the_loop_over_its_samples(name: str) -> None:
    """The batch rule (vmap), also nested, with gradients through it."""
    runs = [sample(name, seed=seed) for seed in range(4)]
    s = runs[0]

    def call(*xs: Tensor) -> Any:
        given = list(xs)
        if name in PREPARE:
            given[0] = PREPARE[name](given[0])
        return s.primitive(*given, **s.params)

    for axes in batches(s):
        stacked = [np.stack([r.arrays[i] for r in runs[:3]]) if a == 0 else s.arrays[i] for i, a in enumerate(axes)]
        got = results(func.vmap(call, in_dims=axes)(*map(Tensor, stacked)))
        loop = [
            results(call(*(Tensor(r.arrays[i] if a == 0 else s.arrays[i]) for i, a in enumerate(axes))))
            for r in runs[:3]
        ]
        for k, y in enumerate(got):
            np.testing.assert_allclose(y.numpy(), np.stack([out[k].numpy() for out in loop]), rtol=1e-12, atol=1e-12)
            assert y.dtype == loop[0][k].dtype

    if name in FIXED:
        return
    square = [
        np.stack([np.stack([r.arrays[i] for r in pair]) for pair in (runs[:2], runs[2:])]) for i in range(len(s.arrays))
    ]
    nested = results(func.vmap(func.vmap(call))(*map(Tensor, square)))
    for k, y in enumerate(nested):
        for row, column in np.ndindex(2, 2):
            one = results(call(*map(Tensor, runs[2 * row + column].arrays)))[k]
            np.testing.assert_allclose(y.numpy()[row, column], one.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=case_id)
def test_gradients_pass_through_a_batch(case: tuple[str, bool]) -> None:
    """Reverse mode around vmap and vmap around reverse mode: both are the loop of gradients."""
    runs = [sample(case[0], complex_=case[1], seed=seed) for seed in range(2)]
    s = runs[0]
    runs = [r._replace(arrays=[a if i in s.flowing else s.arrays[i] for i, a in enumerate(r.arrays)]) for r in runs]

    def one(*xs: Tensor) -> Tensor:
        return total(s.call(*xs))

    loop = []
    for r in runs:
        xs = [Tensor(a, requires_grad=True) for a in r.points]
        y = one(*xs)
        found = cr.grad(y, xs, allow_unused=True) if y.requires_grad else [None] * len(xs)
        loop.append([np.zeros(x.shape, x.dtype) if g is None else g.numpy() for g, x in zip(found, xs, strict=True)])
    wanted = [np.stack(gs) for gs in zip(*loop, strict=True)]
    stacked = [np.stack(arrays) for arrays in zip(*(r.points for r in runs), strict=True)]

    outside = [Tensor(a, requires_grad=True) for a in stacked]
    y = func.vmap(one)(*outside)
    if y.requires_grad:
        ones = Tensor(np.ones(y.shape, y.dtype))
        for g, w in zip(cr.grad(y, outside, ones, allow_unused=True), wanted, strict=True):
            np.testing.assert_allclose(0 * w if g is None else g.numpy(), w, rtol=1e-10, atol=1e-11)
    inside = func.vmap(func.grad(one, argnums=tuple(range(len(stacked)))))(*map(Tensor, stacked))
    for g, w in zip(inside, wanted, strict=True):
        np.testing.assert_allclose(g.numpy(), w, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("style", ["latex", "text", "mathml"])
@pytest.mark.parametrize("name", ALL)
def test_notation_can_be_written(name: str, style: Any) -> None:
    primitive = table[name]
    written = formula.notation(primitive, style)
    assert written
    if style == "latex":
        assert written.count("{") == written.count("}"), written
        assert written.count(r"\left") == written.count(r"\right"), written
    for position in sample(name).flowing if primitive.differentiable else []:
        try:
            rule = formula.local_derivative(primitive, position, style)
        except ChainruleError as error:
            assert "no derivative" in str(error)  # noqa: PT017
            continue
        assert "=" in rule
        assert rule.split("=", 1)[1].strip() not in ("", "None")
        if style == "latex":
            assert rule.count("{") == rule.count("}"), rule
