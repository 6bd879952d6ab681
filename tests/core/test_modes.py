"""no_grad, enable_grad, detach: as blocks, as decorators, nested, in threads, and what an error says about them."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.tensor import Tensor, Variable
from chainrule.primitives import pointwise as p
from chainrule.primitives import reduce


def leaf(*values: float) -> Tensor:
    return Tensor(list(values), dtype="float64", requires_grad=True)


def total(x: Tensor) -> Tensor:
    return reduce.sum(x, axis=tuple(range(x.ndim)), keepdims=False)


def test_no_grad_computes_without_recording() -> None:
    x = leaf(1.0, 2.0)
    with cr.no_grad():
        assert not cr.is_grad_enabled()
        y = x * 2
    assert cr.is_grad_enabled()
    assert not y.requires_grad
    assert y.tolist() == [2.0, 4.0]


def test_blocks_nest() -> None:
    x = leaf(1.0)
    with cr.no_grad():
        with cr.enable_grad():
            assert (x * 2).requires_grad
            with cr.no_grad():
                assert not (x * 2).requires_grad
            assert (x * 2).requires_grad
        assert not (x * 2).requires_grad
    assert (x * 2).requires_grad


def test_one_block_object_can_be_entered_again() -> None:
    block = cr.no_grad()
    with block:
        with block:
            assert not cr.is_grad_enabled()
        assert not cr.is_grad_enabled()
    assert cr.is_grad_enabled()


def test_modes_come_back_after_an_exception() -> None:
    with pytest.raises(ZeroDivisionError), cr.no_grad():
        raise ZeroDivisionError
    assert cr.is_grad_enabled()


def test_decorators_work_and_recurse() -> None:
    x = leaf(1.0)

    @cr.no_grad()
    def down(n: int) -> Any:
        assert not cr.is_grad_enabled()
        return x * 2 if n == 0 else down(n - 1)

    @cr.enable_grad()
    def on() -> Tensor:
        return x * 2

    assert not down(5).requires_grad
    assert cr.is_grad_enabled()
    with cr.no_grad():
        assert on().requires_grad
        assert not cr.is_grad_enabled()


def test_threads_have_modes_of_their_own() -> None:
    seen = []
    with cr.no_grad():
        thread = threading.Thread(target=lambda: seen.append(cr.is_grad_enabled()))
        thread.start()
        thread.join()
    assert seen == [True]


def test_a_decorated_function_restores_the_mode_of_its_own_thread() -> None:
    """Two threads inside the same decorated function at once, one of them without gradients."""
    first_in, second_in, release = threading.Event(), threading.Event(), threading.Event()

    @cr.no_grad()
    def hold(inside: threading.Event) -> None:
        inside.set()
        assert release.wait(10)

    after: dict[str, bool] = {}

    def plain() -> None:
        hold(first_in)
        after["plain"] = cr.is_grad_enabled()

    def without() -> None:
        with cr.no_grad():
            assert first_in.wait(10)
            hold(second_in)
            after["without"] = cr.is_grad_enabled()

    threads = [threading.Thread(target=f) for f in (plain, without)]
    for t in threads:
        t.start()
    assert second_in.wait(10)
    release.set()
    for t in threads:
        t.join()
    assert after == {"plain": True, "without": False}


def test_detach_shares_the_value_and_stops_the_gradient() -> None:
    x = leaf(3.0)
    h = x * 2
    total(h * h.detach()).backward()
    assert x.grad.tolist() == [12.0]  # 2 · 6, one factor only
    assert h.detach()._value is h._value


def test_detach_is_a_handle_of_its_own() -> None:
    x = leaf(3.0)
    d = x.detach()
    d[0] = 1.0
    assert x.tolist() == [3.0]
    assert d.requires_grad_().requires_grad
    assert x.requires_grad


@pytest.mark.parametrize("steps_behind", [0, 1, 5])
def test_an_error_names_the_no_grad_line_however_far_behind(steps_behind: int) -> None:
    x = leaf(1.0, 2.0)
    with cr.no_grad():
        y = x * 2  # the cut
    for _ in range(steps_behind):
        y = p.exp(y) + Tensor([1.0, 1.0])
    with pytest.raises(cr.GradientError, match=r"cut by no_grad\(\) at .*test_modes\.py:\d+: y = x \* 2  # the cut"):
        total(y).backward()


@pytest.mark.parametrize("steps_behind", [0, 1, 5])
def test_an_error_names_the_detach_line_however_far_behind(steps_behind: int) -> None:
    x = leaf(1.0, 2.0)
    y = (x * 2).detach()  # the cut
    for _ in range(steps_behind):
        y = p.sin(y) * 3.0
    with pytest.raises(cr.GradientError, match=r"cut by detach\(\) at .*y = \(x \* 2\)\.detach\(\)  # the cut"):
        total(y).backward()
    with pytest.raises(cr.GradientError, match=r"does not require a gradient: the graph was cut by detach\(\) at"):
        cr.grad(total(y), x)


def test_a_cut_on_the_way_to_one_input_is_named_although_others_get_gradients() -> None:
    x, w = leaf(1.0), leaf(2.0)
    h = (x * 2).detach()  # the cut
    loss = total(h * w)
    assert cr.grad(loss, w).tolist() == [2.0]
    with pytest.raises(cr.GradientError, match=r"do not depend on input 1 .*cut by detach\(\) at .*# the cut"):
        cr.grad(loss, [w, x])


def test_cuts_cost_nothing_once_values_are_gone() -> None:
    x = leaf(1.0)
    with cr.no_grad():
        y = x * 2
        for _ in range(100):
            y = y * 1.5
    assert y._node.inputs == ()  # remembers the line, not the computation


def test_requires_grad_switches_a_leaf_off_and_on() -> None:
    x = leaf(1.0)
    x.requires_grad = False
    assert not (x * 2).requires_grad
    with pytest.raises(cr.GradientError, match="requires_grad=True"):
        total(x * 2).backward()
    x.requires_grad = True
    total(x * 2).backward()
    assert x.grad.tolist() == [2.0]


def test_requires_grad_is_for_leaves_of_floating_type() -> None:
    x = leaf(1.0)
    with pytest.raises(cr.GradientError, match="leaf"):
        (x * 2).requires_grad_(False)
    with pytest.raises(cr.DTypeError, match=r"int64[\s\S]*test_modes.py"):
        Tensor([1, 2]).requires_grad_()
    with pytest.raises(cr.DTypeError, match="bool"):
        Tensor([True], requires_grad=True)


def test_variables_stay_usable_after_assign_under_no_grad() -> None:
    w = Variable(np.ones(2), requires_grad=True)
    with cr.no_grad():
        w.assign(w - 0.5)
    assert w.requires_grad and w.is_leaf
    total(w * w).backward()
    assert w.grad.tolist() == [1.0, 1.0]


def test_a_decorated_generator_computes_without_gradients_and_its_consumer_with_them() -> None:
    x = leaf(1.0)

    @cr.no_grad()
    def values() -> Any:
        for factor in range(3):
            yield x * factor, cr.is_grad_enabled()

    for y, inside in values():
        assert not inside and not y.requires_grad
        assert cr.is_grad_enabled()
    assert len(list(values())) == 3
    for _ in values():
        break
    assert cr.is_grad_enabled()


def test_the_decorator_works_without_parentheses() -> None:
    @cr.no_grad
    def f(x: Tensor) -> Tensor:
        """Doubles."""
        return x * 2

    assert not f(leaf(1.0)).requires_grad
    assert (f.__name__, f.__doc__) == ("f", "Doubles.")
