"""What the graph records: which nodes, which values they keep, and which line of user code made them."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.core import source
from chainrule.core.node import ShapeDtype, collect, materialise
from chainrule.core.tensor import Tensor, Variable
from chainrule.primitives import pointwise as p
from chainrule.primitives import reduce, table
from chainrule.primitives.matmul import matmul


def leaf(*shape: int, seed: int = 0, dtype: Any = np.float64) -> Tensor:
    return Tensor(np.random.default_rng(seed).standard_normal(shape).astype(dtype), requires_grad=True)


def total(x: Tensor) -> Tensor:
    return reduce.sum(x, axis=tuple(range(x.ndim)), keepdims=False)


def kept(x: Tensor) -> bool:
    """Whether the graph, rather than only this handle, holds the numbers."""
    return isinstance(x._node.value, np.ndarray)


def layer(x: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    product = matmul(x, w, transpose_a=False, transpose_b=True)
    z = product + b
    return product, z, p.relu(z)


def test_a_layer_keeps_its_input_and_its_activation_only() -> None:
    x, w, b = leaf(4, 3), leaf(5, 3, seed=1), leaf(5, seed=2)
    product, z, a = layer(x, w, b)
    assert not kept(product)  # nobody's derivative reads x Wᵀ
    assert not kept(z)  # nor z: relu's derivative reads the output
    assert kept(a)
    assert kept(x) and kept(w)


def test_dropped_values_die_with_their_handles() -> None:
    x, w, b = leaf(4, 3), leaf(5, 3, seed=1), leaf(5, seed=2)
    product, z, a = layer(x, w, b)
    arrays = [weakref.ref(t._value) for t in (product, z)]
    activation = weakref.ref(a._value)
    loss = total(a * a)
    del product, z, a
    assert [r() for r in arrays] == [None, None]
    assert activation() is not None
    loss.backward()
    del loss
    assert activation() is None


def test_a_linear_layer_on_data_does_not_keep_what_only_the_data_gradient_reads() -> None:
    """Without a gradient for x, W is needed by nobody; the product's node still finds it as a leaf."""
    x, w = Tensor(np.ones((4, 3))), leaf(5, 3)
    y = matmul(x, w, transpose_a=False, transpose_b=True)
    assert y._node.inputs[0].requires_grad is False
    assert y._node.primitive._plan(0b10, 2) == (False, (0,))


def test_sums_and_differences_keep_nothing() -> None:
    x, y = leaf(3), leaf(3, seed=1)
    h = x * 1.0 + y
    out = -(h - x)
    assert not kept(h) and not kept(out)


@pytest.mark.parametrize("name", ["multiply", "divide", "exp", "tanh", "sin", "square"])
def test_materialise_recomputes_dropped_values_bit_for_bit(name: str) -> None:
    x, y = leaf(7), leaf(7, seed=1)
    first = x + y
    operation = table[name]
    second = operation(first, y) if name in ("multiply", "divide") else operation(first)
    last = second - y
    for t in (last, second, first):
        wanted = t.numpy().copy()
        node = t._node
        node.value = ShapeDtype(t.shape, t.dtype)
        np.testing.assert_array_equal(materialise(node), wanted)


def test_materialise_recomputes_random_values_bit_for_bit() -> None:
    cr.manual_seed(3)
    x = leaf(100)
    keep = cr.rand(100, dtype="float64") < 0.5
    noisy = p.where(keep, x, 0.0) + cr.randn(100, dtype="float64")
    wanted = noisy.numpy().copy()
    for node in collect([noisy._node]):
        if node.inputs:
            node.value = ShapeDtype(node.shape, node.dtype)
    cr.manual_seed(4)
    np.testing.assert_array_equal(materialise(noisy._node), wanted)


def test_materialise_needs_no_recursion() -> None:
    y = x = leaf(2)
    for _ in range(20_000):
        y = y + 1.0
    np.testing.assert_allclose(materialise(y._node), x.numpy() + 20_000.0)


def test_reading_a_handle_after_the_graph_dropped_its_value_still_works() -> None:
    x = leaf(3)
    h = x + 1.0
    assert not kept(h)
    np.testing.assert_allclose(h.numpy(), x.numpy() + 1)
    loss = total(h * h)  # now a derivative reads h: the graph takes the value over from the handle
    assert kept(h)
    loss.backward()
    np.testing.assert_allclose(x.grad.numpy(), 2 * (x.numpy() + 1))


def test_operations_without_a_gradient_make_no_nodes() -> None:
    x = Tensor([1.0, 2.0])
    assert (x * 2 + 1)._node is None
    assert p.greater(leaf(3), 0.0)._node is None  # a comparison has no derivative
    assert leaf(3)[0]._node is not None


def test_integer_results_carry_no_gradient() -> None:
    x = leaf(3)
    assert not p.astype(x, dtype=np.dtype("int64")).requires_grad


def test_creation_order_is_a_topological_order() -> None:
    x = leaf(3)
    y = total(p.exp(x) * x + x)
    orders = [n.order for n in collect([y._node])]
    assert orders == sorted(orders)
    assert all(parent.order < n.order for n in collect([y._node]) for parent in n.inputs)


def here() -> int:
    import sys

    return sys._getframe(1).f_lineno


def test_every_node_knows_the_line_that_made_it() -> None:
    x = leaf(3)
    line = here() + 1
    y = x * 2
    z = p.exp(
        y
    )  # fmt: skip
    assert y._node.location.line == line
    assert y._node.location.file == __file__
    assert y._node.location.function == "test_every_node_knows_the_line_that_made_it"
    assert "x * 2" in y._node.location.text
    assert z._node.location.line == line + 1
    assert f"test_graph.py:{line}: y = x * 2" in str(y._node.location)


def test_library_frames_are_skipped_but_recipes_are_user_code() -> None:
    package = source._PACKAGE
    namespace: dict[str, Any] = {}
    code = "def apply(f, x):\n    return f(x)\n"
    for folder, is_user in (("nn/made_up.py", False), ("recipes/made_up.py", True)):
        exec(compile(code, package + folder, "exec"), namespace)
        y = namespace["apply"](p.exp, leaf(2))
        line = here() - 1
        location = y._node.location
        assert (location.file, location.line) == ((package + folder, 2) if is_user else (__file__, line))


def test_operators_methods_and_functions_name_the_callers_line() -> None:
    x = leaf(2, 3)
    made = [x + 1, x[0], x @ leaf(3, 2), -x, 1 / x, abs(x)]
    line = here() - 1
    assert [t._node.location.line for t in made] == [line] * 6


def test_setitem_leaves_earlier_graphs_alone() -> None:
    x = leaf(3)
    h = x * 1.0
    before = h * h
    value = h.numpy().copy()
    h[0] = 100.0
    assert h.numpy()[0] == 100.0
    after = h * h
    np.testing.assert_allclose(cr.grad(total(before), x).numpy(), 2 * value)
    np.testing.assert_allclose(cr.grad(total(after), x).numpy(), 2 * value * [0, 1, 1])


def test_setitem_sends_gradients_to_the_value_written() -> None:
    x, v = leaf(2, 3), leaf(3, seed=1)
    h = x * 1.0
    h[1] = v
    total(h * h).backward()
    np.testing.assert_allclose(x.grad.numpy(), np.stack([2 * x.numpy()[0], np.zeros(3)]))
    np.testing.assert_allclose(v.grad.numpy(), 2 * v.numpy())


def test_a_plain_tensor_becomes_part_of_the_graph_by_assignment() -> None:
    buffer, v = Tensor(np.zeros(3)), leaf(1)
    buffer[1] = v[0]
    assert buffer.requires_grad
    total(buffer * 3.0).backward()
    np.testing.assert_allclose(v.grad.numpy(), [3.0])


def test_setitem_into_a_leaf_is_refused_and_allowed_under_no_grad() -> None:
    x = leaf(3)
    with pytest.raises(cr.GradientError, match="leaf"):
        x[0] = 1.0
    with cr.no_grad():
        x[0] = 7.0
    assert x.requires_grad and x.is_leaf
    total(x * x).backward()
    assert x.grad.numpy()[0] == 14.0


def test_in_place_operators_rebind_the_name() -> None:
    x = leaf(3)
    h = x * 1.0
    alias = h
    h += 1.0
    assert h is not alias
    np.testing.assert_array_equal(alias.numpy(), x.numpy())


def test_unary_plus_is_another_handle() -> None:
    h = Tensor([1.0, 2.0])
    same = +h
    same[0] = 9.0
    assert h.tolist() == [1.0, 2.0]


def test_numpy_arrays_given_are_copied_and_given_out_are_read_only() -> None:
    a = np.ones(3)
    x, v = Tensor(a), Variable(a)
    v.assign(a)
    y = Tensor(np.zeros(3)) + a
    a[:] = 7
    assert x.tolist() == v.tolist() == y.tolist() == [1.0, 1.0, 1.0]
    with pytest.raises(ValueError, match="read-only"):
        x.numpy()[0] = 5


def test_a_broadcast_result_is_not_writable_through_numpy() -> None:
    x = Tensor([1.0])
    wide = table["broadcast_to"](x, shape=(4, 1))
    wide[0] = 5.0
    assert x.tolist() == [1.0]
    assert wide.tolist() == [[5.0], [1.0], [1.0], [1.0]]


def test_a_graph_dies_at_once_without_the_garbage_collector() -> None:
    """No reference cycles: memory is given back when the last handle goes, not some time later."""
    gc.collect()
    gc.disable()
    try:
        x = leaf(50)
        w = Variable(np.ones(50), requires_grad=True)
        h = p.tanh(x * w)
        q = h[1:] @ h[1:]
        loss = q + total(p.maximum(h, 0.0)) + total(table["concat"](h, h, axis=0))
        nodes = [weakref.ref(n) for n in collect([loss._node]) if n.inputs]
        loss.backward()
        cr.grad(loss, [x, w])
        assert len(nodes) > 8
        del h, q, loss
        assert [r() for r in nodes if r() is not None] == []
    finally:
        gc.enable()


def test_failed_operations_and_gradients_leave_no_cycles() -> None:
    gc.collect()
    gc.disable()
    try:
        x = leaf(3)
        h = x * 2
        node = weakref.ref(h._node)
        with contextlib.suppress(cr.ShapeError):
            h + Tensor(np.ones(4))
        with contextlib.suppress(cr.GradientError):
            h.backward()
        del h
        assert node() is None
    finally:
        gc.enable()


def test_graphs_are_made_in_many_threads_at_once() -> None:
    w = Variable(np.arange(4.0), requires_grad=True)
    found: list[list[float]] = []

    def work() -> None:
        for _ in range(50):
            found.append(cr.grad(total(w * w), w).tolist())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert found == [[0.0, 2.0, 4.0, 6.0]] * 200
