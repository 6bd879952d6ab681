"""What is computed together: the kernels of typical graphs."""

from __future__ import annotations

from typing import Any

import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.compiler.capture import capture
from chainrule.compiler.code.target import Target
from chainrule.compiler.graph import Graph, Value
from chainrule.compiler.schedule.build import schedule
from chainrule.compiler.schedule.groups import Grouping
from chainrule.compiler.schedule.kernels import GemmKernel, LoopKernel

from .programs import TARGETS, Builder, check, random_arrays


def kernels(graph: Graph) -> list[str]:
    """The kernels as the primitives that they cover."""
    return [" ".join(op.primitive.name for op in k.ops) for k in schedule(graph).kernels]


def test_a_dense_layer_is_one_kernel() -> None:
    b = Builder()
    y = b.relu(b.affine(b.input(32, 20), b.input(40, 20), b.input(40)))
    assert kernels(b.graph(y)) == ["matmul add relu"]


def test_the_gradient_of_a_bias_comes_from_the_product_before_it() -> None:
    b = Builder()
    g, w, y = b.input(32, 40), b.input(40, 20), b.input(32, 20)
    back = b.select_positive(b.matmul(g, w, transpose_a=False, transpose_b=False), y)
    graph = b.graph(back, b.sum(back, axis=(0,), keepdims=False))
    assert kernels(graph) == ["matmul select_positive sum"]
    check(graph, random_arrays(graph), scale=64)


def test_sums_over_what_follows_a_product_share_a_kernel() -> None:
    b = Builder()
    g, w, x = b.input(4, 6, 5, 5), b.input(6, 3, 3, 3), b.input(4, 3, 5, 5)
    same = {"stride": (1, 1), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    back = b.conv_transpose(g, w, size=(5, 5), **same)
    axes = {"axis": (0, 2, 3), "keepdims": False}
    graph = b.graph(b.sum(back, **axes), b.sum(b.multiply(back, x), **axes))
    assert kernels(graph) == ["conv_transpose", "sum multiply sum"]
    check(graph, random_arrays(graph), scale=256)


def test_parts_of_a_concatenation_are_written_where_they_belong() -> None:
    b = Builder()
    parts = [b.matmul(b.input(6, 7), b.input(7, 10), transpose_a=False, transpose_b=False) for _ in range(3)]
    graph = b.graph(b.concat(parts[1], b.tanh(parts[0]), b.input(6, 10), parts[2], axis=1))
    found = schedule(graph).kernels
    assert [type(k) for k in found] == [GemmKernel] * 3 + [LoopKernel]
    assert len({v for k in found for v in k.writes}) == 1
    check(graph, random_arrays(graph), scale=64)


def _assembled(b: Builder, rows: int, columns: int) -> Value:
    """A value whose parts two kernels write."""
    x, w = b.input(rows, 24), b.input(24, columns)
    product = b.matmul(x, w, transpose_a=False, transpose_b=False)
    return b.concat(b.tanh(product), b.exp(b.input(rows, columns)), axis=1)


@pytest.mark.parametrize("wanted", TARGETS, ids=lambda t: t.name)
def test_a_concatenation_of_what_others_read_too_is_no_copy(wanted: Target) -> None:
    b = Builder()
    parts = [_assembled(b, 7, 8) for _ in range(3)]
    last = _assembled(b, 2, 8)
    whole = b.concat(*parts, last, axis=0)
    results = [b.matmul(p, b.input(16, 5), transpose_a=False, transpose_b=False) for p in parts]
    total = b.matmul(b.input(23, 3), whole, transpose_a=True, transpose_b=False)
    graph = b.graph(*results, total, b.sum(last, axis=(0,), keepdims=False))
    planned = schedule(graph)
    assert planned.inside == {part: (whole, 7 * 16 * i) for i, part in enumerate([*parts, last])}
    assert not any(k.ops[0].output is whole for k in planned.kernels)
    check(graph, random_arrays(graph), wanted, scale=64)


def test_a_part_lies_in_one_concatenation_and_never_in_an_output() -> None:
    b = Builder()
    parts = [_assembled(b, 4, 8) for _ in range(3)]
    unaligned, first = _assembled(b, 1, 3), b.concat(parts[0], parts[1], axis=0)
    second = b.concat(parts[1], parts[0], axis=0)
    third = b.concat(parts[2], parts[2], axis=0)
    beside = b.concat(first, second, axis=1)
    odd = b.concat(unaligned, unaligned, unaligned, axis=0)
    graph = b.graph(
        b.tanh(beside), b.tanh(third), b.concat(first, third, axis=0), b.concat(first, third, third, axis=0), parts[2],
        b.sum(odd, axis=(1,), keepdims=False), b.exp(unaligned), b.tanh(b.concat(first, parts[2], axis=0)),
    )  # fmt: skip
    inside = schedule(graph).inside
    assert inside == {parts[0]: (first, 0), parts[1]: (first, 64), unaligned: (odd, 0)}
    check(graph, random_arrays(graph), scale=64)


def test_a_product_writes_its_result_in_the_order_that_the_next_one_needs() -> None:
    b = Builder()
    y = b.matmul(b.input(2, 4, 9, 9), b.input(2, 4, 9, 8), transpose_a=False, transpose_b=False)
    merged = b.reshape(b.permute_dims(y, axes=(0, 2, 1, 3)), shape=(2, 9, 32))
    graph = b.graph(b.matmul(merged, b.input(32, 5), transpose_a=False, transpose_b=False))
    assert len(kernels(graph)) == 2
    check(graph, random_arrays(graph), scale=64)


def test_an_optimiser_step_is_one_kernel_for_each_parameter() -> None:
    b = Builder()
    p, g, m, v, lr = b.input(30, 7), b.input(30, 7), b.input(30, 7), b.input(30, 7), b.input()
    p1 = b.multiply(p, b.subtract(b.constant(1.0), b.multiply(lr, b.constant(0.01))))
    m1 = b.add(m, b.multiply(b.constant(0.1), b.subtract(g, m)))
    v1 = b.add(v, b.multiply(b.constant(0.001), b.subtract(b.square(g), v)))
    p2 = b.subtract(p1, b.multiply(lr, b.divide(m1, b.add(b.sqrt(v1), b.constant(1e-8)))))
    graph = b.graph(p2, m1, v1, updates={0: 0, 1: 2, 2: 3})
    assert len(kernels(graph)) == 1
    check(graph, [abs(a) for a in random_arrays(graph)])


def test_values_with_several_consumers_are_not_written_out_many_times() -> None:
    b = Builder()
    x = b.input(50, 60)
    for _ in range(200):
        x = b.add(x, b.multiply(x, b.constant(0.01)))
    graph = b.graph(x)
    assert len(schedule(graph).kernels) <= 5
    check(graph, random_arrays(graph), scale=2000)


def test_cheap_values_are_computed_again_instead_of_stored() -> None:
    b = Builder()
    h = b.matmul(b.input(128, 30), b.input(30, 64), transpose_a=False, transpose_b=False)
    other = b.matmul(h, b.input(64, 64), transpose_a=False, transpose_b=False)
    graph = b.graph(b.multiply(other, b.tanh(h)))
    assert kernels(graph) == ["matmul", "matmul tanh multiply"]
    check(graph, random_arrays(graph), scale=500)


def test_a_weight_that_the_products_of_many_steps_read_transposed_is_turned_once() -> None:
    b = Builder()
    w, bias = b.input(40, 24), b.input(40)
    few = [b.input(9, 24) for _ in range(5)]
    products = [b.matmul(x, w, transpose_a=False, transpose_b=True) for x in few[:3]]
    graph = b.graph(*products)
    assert kernels(graph) == ["matmul"] * 3  # too few for a copy
    products += [b.relu(b.affine(x, w, bias)) for x in few[3:]]
    many = b.matmul(b.input(100, 24), w, transpose_a=False, transpose_b=True)
    graph = b.graph(*products, many)
    found = kernels(graph)
    assert found == ["concat", *["matmul"] * 3, *["matmul add relu"] * 2, "matmul"]
    assert [w in k.reads for k in schedule(graph).kernels] == [True, *[False] * 5, True]
    check(graph, random_arrays(graph), scale=64)


def test_four_times_the_steps_of_a_recurrent_network_are_four_times_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[Value] = []
    loads = Grouping.loads

    def counted(self: Grouping, group: Any, value: Value, *args: Any, **kwargs: Any) -> Any:
        tries.append(value)
        return loads(self, group, value, *args, **kwargs)

    monkeypatch.setattr(Grouping, "loads", counted)

    def work(steps: int) -> int:
        model, out = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 5)
        optimizer = optim.SGD([*model.parameters(), *out.parameters()], lr=0.1)

        def step(x: cr.Tensor) -> cr.Tensor:
            optimizer.zero_grad()
            loss = (out(model(x)[0][:, -1]) ** 2).sum()
            loss.backward()
            optimizer.step()
            return loss

        graph = capture(step, (cr.ones((2, steps, 3)),), {}, "step").graph
        tries.clear()
        schedule(graph)
        return len(tries)

    assert work(48) < 4.5 * work(12)
