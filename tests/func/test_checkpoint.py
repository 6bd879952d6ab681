"""checkpoint: the same gradients for less memory, the part computed twice."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import func
from chainrule.core.tensor import Tensor, Variable
from chainrule.primitives import pointwise as p
from chainrule.primitives import reduce


def leaf(*shape: int, seed: int = 0) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape), requires_grad=True)


def total(x: Tensor) -> Tensor:
    return reduce.sum(x, axis=tuple(range(x.ndim)), keepdims=False)


def run(function: Any, *inputs: Tensor, use: bool) -> list[np.ndarray]:
    """Value, gradient and second derivative."""
    y = func.checkpoint(function, *inputs) if use else function(*inputs)
    first = cr.grad(total(y * y), inputs)
    second = cr.grad(total(first[0] ** 3), inputs, allow_unused=True)
    return [y.numpy(), *(g.numpy() for g in first), *(g.numpy() for g in second if g is not None)]


def test_values_and_gradients_are_the_same_bit_for_bit() -> None:
    x, w = leaf(4, 3), leaf(3, 5, seed=1)
    f = lambda a, b: p.tanh(p.sin(a @ b) * 2.0)  # noqa: E731
    (*got, again), (*wanted, second) = run(f, x, w, use=True), run(f, x, w, use=False)
    for a, b in zip(got[:3], wanted[:3], strict=True):
        np.testing.assert_array_equal(a, b)
    # Cotangents meet in another order inside the part: the second derivative agrees to rounding.
    np.testing.assert_allclose(again, second, rtol=1e-12)


def test_weights_that_the_function_closes_over_get_their_gradients() -> None:
    x, w = leaf(4, 3), Variable(np.ones((3, 2)), requires_grad=True)
    total(func.checkpoint(lambda a: p.tanh(a @ w), x)).backward()
    got = w.grad, x.grad
    w.grad = x.grad = None
    total(p.tanh(x @ w)).backward()
    np.testing.assert_array_equal(got[0].numpy(), w.grad.numpy())
    np.testing.assert_array_equal(got[1].numpy(), x.grad.numpy())


def test_the_function_runs_once_forward_and_once_backward() -> None:
    calls = []

    def f(a: Tensor) -> Tensor:
        calls.append(cr.is_grad_enabled())
        return p.exp(a)

    loss = total(func.checkpoint(f, leaf(3)))
    assert len(calls) == 1
    loss.backward()
    assert len(calls) == 2


def test_random_numbers_are_repeated_and_the_stream_is_not_disturbed() -> None:
    def f(a: Tensor) -> Tensor:
        return p.where(cr.rand(*a.shape, dtype="float64") < 0.5, a, 0.0) * a

    outcomes = []
    for use in (True, False):
        cr.manual_seed(5)
        x = leaf(200)
        y = func.checkpoint(f, x) if use else f(x)
        total(y).backward()
        outcomes.append((y.numpy(), x.grad.numpy(), cr.rand(3).tolist()))
    np.testing.assert_array_equal(outcomes[0][0], outcomes[1][0])
    np.testing.assert_array_equal(outcomes[0][1], outcomes[1][1])
    assert outcomes[0][2] == outcomes[1][2]


def test_memory_is_that_of_the_parts_ends() -> None:
    """Eight blocks of eight steps over 2 MB: 8 inputs kept instead of 64 activations."""
    size = 250_000

    def block(a: Tensor) -> Tensor:
        for _ in range(8):
            a = p.tanh(a)
        return a

    peaks = {}
    gradients = {}
    for use in (True, False):
        x = Tensor(np.full(size, 0.1), requires_grad=True)
        tracemalloc.start()
        y = x
        for _ in range(8):
            y = func.checkpoint(block, y) if use else block(y)
        total(y).backward()
        del y
        peaks[use] = tracemalloc.get_traced_memory()[1] / (8 * size)
        tracemalloc.stop()
        gradients[use] = x.grad.numpy()
    np.testing.assert_array_equal(gradients[True], gradients[False])
    assert peaks[False] > 60
    assert peaks[True] < 30


def test_containers_keyword_arguments_and_several_outputs() -> None:
    def f(tree: dict[str, Tensor], scale: float = 1.0) -> tuple[Tensor, dict[str, Tensor]]:
        return tree["a"] * scale, {"sum": tree["a"] + tree["b"]}

    tree = {"a": leaf(3), "b": leaf(3, seed=1)}
    first, rest = func.checkpoint(f, tree, scale=4.0)
    total(first * first + rest["sum"]).backward()
    np.testing.assert_allclose(tree["a"].grad.numpy(), 32 * tree["a"].numpy() + 1)
    np.testing.assert_allclose(tree["b"].grad.numpy(), np.ones(3))


def test_a_part_inside_a_part() -> None:
    x = leaf(3)
    f = lambda a: func.checkpoint(lambda b: p.sin(b) * b, p.exp(a))  # noqa: E731
    total(func.checkpoint(f, x)).backward()
    got = x.grad.numpy()
    e = np.exp(x.numpy())
    np.testing.assert_allclose(got, (np.cos(e) * e + np.sin(e)) * e, rtol=1e-12)


def test_without_gradients_it_is_a_plain_call() -> None:
    x = leaf(3)
    with cr.no_grad():
        assert not func.checkpoint(p.exp, x).requires_grad
    assert not func.checkpoint(p.exp, Tensor([1.0])).requires_grad


def test_transformations_pass_through() -> None:
    f = lambda a: func.checkpoint(lambda b: b * b, a)  # noqa: E731
    x = Tensor(np.array([3.0, 4.0]))
    assert func.jvp(f, (x,), (x,))[1].tolist() == [18.0, 32.0]
    assert func.vmap(f)(x).tolist() == [9.0, 16.0]
    assert func.vmap(func.grad(f))(x).tolist() == [6.0, 8.0]
    assert func.hessian(lambda a: total(f(a)))(x).tolist() == [[2.0, 0.0], [0.0, 2.0]]


def test_a_weight_changed_in_between_is_an_error() -> None:
    x, w = leaf(3), Variable(np.ones(3), requires_grad=True)
    loss = total(func.checkpoint(lambda a: a * w, x))
    w.assign(np.zeros(3))
    with pytest.raises(cr.GradientError, match=r"changed[\s\S]*test_checkpoint"):
        loss.backward()
