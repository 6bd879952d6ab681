"""Reverse mode: where gradients arrive, which nodes it visits, what it frees, and gradients of gradients."""

from __future__ import annotations

import copy
import gc
import pickle
import tracemalloc
import weakref
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.primitive import Primitive
from chainrule.core.tensor import Tensor, Variable
from chainrule.primitives import pointwise as p
from chainrule.primitives import reduce, table


def leaf(*shape: int, seed: int = 0, dtype: Any = np.float64) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape).astype(dtype), requires_grad=True)


def total(x: Tensor) -> Tensor:
    return reduce.sum(x, axis=tuple(range(x.ndim)), keepdims=False)


def close(a: Any, b: Any) -> None:
    np.testing.assert_allclose(a.numpy(), b, rtol=1e-12, atol=1e-12)


@pytest.fixture
def visited(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the primitives whose derivative was asked for, in order."""
    names: list[str] = []
    original = Primitive.vjp

    def vjp(self: Primitive, *args: Any) -> Any:
        names.append(self.name)
        return original(self, *args)

    monkeypatch.setattr(Primitive, "vjp", vjp)
    return names


def test_backward_adds_to_grad() -> None:
    x = leaf(3)
    assert x.grad is None
    total(x * x).backward()
    close(x.grad, 2 * x.numpy())
    total(x * 3.0).backward()
    close(x.grad, 2 * x.numpy() + 3)
    x.grad = None
    total(x * 3.0).backward()
    close(x.grad, np.full(3, 3.0))


def test_accumulation_makes_a_new_value_and_leaves_the_old_one_alone() -> None:
    x = leaf(3)
    total(x * 2.0).backward()
    first = x.grad
    total(x * 3.0).backward()
    assert first.tolist() == [2.0] * 3
    assert x.grad.tolist() == [5.0] * 3


def test_backward_twice_through_one_graph() -> None:
    x = leaf(2)
    loss = total(p.exp(x))
    loss.backward()
    loss.backward()
    close(x.grad, 2 * np.exp(x.numpy()))


def test_cotangents_weight_the_outputs() -> None:
    x = leaf(3)
    (x * x).backward([1.0, 10.0, 100.0])
    close(x.grad, 2 * x.numpy() * [1, 10, 100])


def test_a_cotangent_takes_the_outputs_data_type() -> None:
    x = leaf(2, dtype=np.float32)
    (x * 2).backward(Tensor(np.ones(2)))
    assert x.grad.dtype == np.float32


def test_gradients_of_two_leaves_never_share_a_handle() -> None:
    x, y, g = leaf(3), leaf(3), Tensor(np.ones(3))
    (x + y).backward(g)
    x.grad[0] = 7.0
    g[1] = 8.0
    assert y.grad.tolist() == [1.0, 1.0, 1.0]
    assert x.grad.tolist() == [7.0, 1.0, 1.0]
    a, b = cr.grad(total(x + y), [x, y])
    a[0] = 5.0
    assert b.tolist() == [1.0, 1.0, 1.0]


def test_shared_weights_and_diamonds_add_up() -> None:
    w = leaf(3)
    a = w * 2.0
    b, c = p.sin(a), p.exp(a)
    total(b * c + a * w).backward()
    x = w.numpy()
    close(w.grad, 2 * np.exp(2 * x) * (np.sin(2 * x) + np.cos(2 * x)) + 4 * x)


def test_the_same_tensor_on_both_sides() -> None:
    x = leaf(3)
    close(cr.grad(total(x * x), x), 2 * x.numpy())
    close(cr.grad(total(x - x), x), np.zeros(3))
    close(cr.grad(total(table["concat"](x, x, axis=0)), x), np.full(3, 2.0))


def test_a_deep_diamond_is_visited_once_a_node(visited: list[str]) -> None:
    """2^40 paths, 40 nodes: cotangents are added up before a node passes them on."""
    x = leaf(1)
    y = x
    for _ in range(40):
        y = y + y
    y.backward()
    assert x.grad.tolist() == [2.0**40]
    assert len(visited) == 80  # two operands a node


def test_only_nodes_that_lead_to_a_wanted_input_are_visited(visited: list[str]) -> None:
    x, w = leaf(3), leaf(3, seed=1)
    branch = p.exp(p.sin(w))
    loss = total(p.tanh(x) * branch)
    found = cr.grad(loss, x)
    assert sorted(visited) == ["multiply", "sum", "tanh"]
    close(found, np.exp(np.sin(w.numpy())) * (1 - np.tanh(x.numpy()) ** 2))


def test_an_intermediate_input_stops_the_walk(visited: list[str]) -> None:
    x = leaf(3)
    h = p.exp(p.sin(x))
    close(cr.grad(total(h * h), h), 2 * h.numpy())
    assert sorted(visited) == ["multiply", "multiply", "sum"]


def test_data_costs_no_derivative(visited: list[str]) -> None:
    x, w = Tensor(np.ones((4, 3))), leaf(3, 2)
    total(x @ w).backward()
    assert visited == ["sum", "matmul"]  # none for the data


def test_gradients_of_intermediate_and_leaf_at_once() -> None:
    x = leaf(3)
    h = x * 2.0
    loss = total(h * h)
    gx, gh, gl = cr.grad(loss, [x, h, loss])
    close(gx, 8 * x.numpy())
    close(gh, 4 * x.numpy())
    assert gl.item() == 1.0


def test_retain_grad_keeps_the_gradient_of_an_intermediate() -> None:
    x = leaf(3)
    h = x * 2.0
    h.retain_grad()
    total(h * h).backward()
    close(h.grad, 4 * x.numpy())
    close(x.grad, 8 * x.numpy())
    x.retain_grad()  # nothing to do for a leaf
    with pytest.raises(cr.GradientError, match="retain_grad"):
        Tensor([1.0]).retain_grad()


def test_backward_for_chosen_inputs_only() -> None:
    x, w = leaf(3), leaf(3, seed=1)
    h = x * w
    total(h * h).backward(inputs=[w])
    assert x.grad is None
    close(w.grad, 2 * x.numpy() ** 2 * w.numpy())
    total(h * h).backward(inputs=h)
    close(h.grad, 2 * h.numpy())


def test_grad_leaves_dot_grad_alone() -> None:
    x = leaf(3)
    cr.grad(total(x * x), x)
    assert x.grad is None


def test_gradients_of_any_order() -> None:
    x = Tensor(np.array([0.3]), requires_grad=True)
    y = p.sin(x)
    wanted = [np.sin, np.cos, lambda v: -np.sin(v), lambda v: -np.cos(v)]
    for order in range(9):
        close(y, wanted[order % 4](x.numpy()))
        y = cr.grad(y, x)


def test_polynomials_end_in_zeros_not_in_errors() -> None:
    x = leaf(2)
    y = total(x**3)
    for factor in (3 * x.numpy() ** 2, 6 * x.numpy(), np.full(2, 6.0)):
        y = cr.grad(total(y), x)
        close(y, factor)
    assert not y.requires_grad  # 6 does not depend on x


def test_steps_of_zero_derivative_give_zeros() -> None:
    x, w = leaf(3), leaf(3)
    close(cr.grad(total(p.floor(x)), x), np.zeros(3))
    total(p.floor(x) * w).backward()
    close(x.grad, np.zeros(3))
    close(w.grad, np.floor(x.numpy()))


def test_create_graph_false_gives_plain_values() -> None:
    x = leaf(3)
    assert not cr.grad(total(x * x * x), x, create_graph=False).requires_grad
    assert cr.grad(total(x * x * x), x).requires_grad
    total(x * x).backward()
    assert not x.grad.requires_grad
    loss = total(x * x * x)
    with cr.no_grad():
        assert not cr.grad(loss, x).requires_grad


def test_a_gradient_penalty_trains() -> None:
    """Backward through a gradient: d/dw |d(w x²)/dx|² = 2 · 2wx · 2x."""
    x, w = leaf(1), leaf(1, seed=1)
    (g,) = cr.grad(total(w * x * x), [x])
    total(g * g).backward()
    close(w.grad, 8 * w.numpy() * x.numpy() ** 2)


def test_unused_inputs_are_an_error_or_none() -> None:
    x, y = leaf(2), leaf(2, seed=1)
    with pytest.raises(cr.GradientError, match=r"do not depend on input 1 \(shape \(2,\)\)"):
        cr.grad(total(x), [x, y])
    a, b = cr.grad(total(x), [x, y], allow_unused=True)
    assert b is None
    close(a, np.ones(2))


def test_several_outputs_add_up() -> None:
    x = leaf(2)
    a, b = total(x * x), x * 3.0
    close(cr.grad([a, b], x, [None, Tensor(np.array([1.0, 2.0]))]), 2 * x.numpy() + [3, 6])
    close(cr.grad([a, a], x), 4 * x.numpy())


def test_primitives_with_several_outputs() -> None:
    x = Tensor(np.array([[3.0, 1.0], [1.0, 2.0]]), requires_grad=True)
    w, v = table["eigh"](x)
    first = total(w * w)
    close(cr.grad(first, x), 2 * x.numpy())  # Σ λ² = |A|²
    both = total(w * w) + total(v[0] * v[0])
    assert cr.grad(both, x).shape == (2, 2)
    (second,) = cr.grad([total(cr.grad(first, x) * 1.5)], [x])
    close(second, np.full((2, 2), 3.0))


def test_a_single_input_gives_a_tensor_and_a_sequence_a_tuple() -> None:
    x = leaf(2)
    assert isinstance(cr.grad(total(x), x), Tensor)
    assert isinstance(cr.grad(total(x), [x]), tuple)


def test_assign_between_forward_and_backward_uses_the_old_value() -> None:
    w, x = Variable(np.array([2.0]), requires_grad=True), leaf(1)
    loss = total(w * w * x)
    w.assign(np.array([100.0]))
    loss.backward()
    close(x.grad, [4.0])
    close(w.grad, 4.0 * x.numpy())
    assert w.item() == 100.0


def test_grad_with_respect_to_a_variable_assigned_since_says_so() -> None:
    w = Variable(np.array([2.0]), requires_grad=True)
    loss = total(w * w)
    w.assign(np.array([5.0]))
    with pytest.raises(cr.GradientError, match=r"input 0 .*it was assigned another value after they were computed"):
        cr.grad(loss, w)


def test_gradients_reach_a_variable_from_graphs_of_old_and_new_values() -> None:
    w = Variable(np.array([2.0]), requires_grad=True)
    old = total(w * w)
    w.assign(np.array([5.0]))
    (old + total(w * w)).backward()
    assert w.grad.tolist() == [14.0]


def test_a_leaf_that_died_takes_no_gradient_and_does_no_harm() -> None:
    x, w = leaf(2), leaf(2, seed=1)
    loss = total(x * w)
    gone = weakref.ref(x)
    value = x.numpy().copy()
    del x
    assert gone() is None
    loss.backward()
    close(w.grad, value)


def test_backward_frees_cotangents_as_it_goes() -> None:
    """A chain of 60 steps over 2 MB arrays needs memory for a few cotangents, not for 60."""
    size = 250_000
    x = Tensor(np.ones(size), requires_grad=True)
    y = x
    for _ in range(60):
        y = y * 1.01
    loss = total(y)
    del y
    gc.collect()
    tracemalloc.start()
    try:
        loss.backward()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 * 8 * size
    close(x.grad, np.full(size, 1.01**60))


def test_forward_without_gradients_keeps_no_activations() -> None:
    size = 250_000
    x = Tensor(np.ones(size), requires_grad=True)
    tracemalloc.start()
    try:
        with cr.no_grad():
            y = x
            for _ in range(30):
                y = p.tanh(y)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 8 * size
    assert not y.requires_grad


def test_copies_are_leaves_of_their_own() -> None:
    w = Variable(np.ones(2), requires_grad=True, name="w")
    for other in (copy.copy(w), copy.deepcopy(w), pickle.loads(pickle.dumps(w))):
        assert type(other) is Variable and other.name == "w" and other.requires_grad
        total(other * 2.0).backward()
        assert other.grad.tolist() == [2.0, 2.0]
        assert w.grad is None
        other.assign(np.zeros(2))
        assert w.tolist() == [1.0, 1.0]
    plain = pickle.loads(pickle.dumps(Tensor([1, 2])))
    assert plain.tolist() == [1, 2] and not plain.requires_grad
    with pytest.raises(cr.GradientError, match=r"detach\(\)"):
        copy.deepcopy(w * 2.0)


def test_complex_gradients_are_the_direction_of_ascent() -> None:
    z = Tensor(np.array([3 + 4j]), requires_grad=True)
    total(p.real(z * p.conj(z))).backward()
    close(z.grad, [6 + 8j])  # PyTorch's convention: ∂|z|²/∂z* · 2
    y = leaf(1) * 2.0
    with pytest.raises(cr.DTypeError, match="complex128"):
        y.backward(Tensor([1j], dtype="complex128"))
