"""Calls through the native entry: taken whenever nothing has changed, refused whenever something has."""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn, optim
from chainrule.compiler import executable
from chainrule.compiler.code.entry import entry_module
from chainrule.compiler.code.target import object_code, target
from chainrule.compiler.executable import Executable

from .test_compile import assert_same, batch, everything, trainer


@pytest.fixture
def ways(monkeypatch):
    """How the calls of a test went: "native", or "python" where Python saw to the state."""
    taken: list[str] = []
    enter, call = Executable.enter, Executable.__call__

    def entering(self, args):
        outputs = enter(self, args)
        if outputs is not None:
            taken.append("native")
        return outputs

    def calling(self, arrays):
        taken.append("python")
        return call(self, arrays)

    monkeypatch.setattr(Executable, "enter", entering)
    monkeypatch.setattr(Executable, "__call__", calling)
    return taken


def training(make=optim.Adam):
    return trainer(make, lambda: nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)))


def test_steps_go_through_the_entry_from_the_second_on(ways):
    _, optimizer, step = training()
    compiled = cr.compile(step)
    for i in range(5):
        compiled(*batch(i))
    assert ways == ["python"] + ["native"] * 4
    optimizer.param_groups[0]["lr"] = 0.5  # a number that is read at each call changes nothing else
    compiled(*batch())
    assert ways[-1] == "native"


HELD = {
    "a tensor": lambda p: p.detach(),
    "a view": lambda p: p.numpy(),
    "a graph": lambda p: p * 2,
    "an array": lambda p: p._value,
}


@pytest.mark.parametrize("hold", HELD.values(), ids=HELD)
def test_an_array_that_somebody_holds_is_not_overwritten(ways, hold):
    model, _, step = training()
    compiled = cr.compile(step)
    for i in range(3):
        compiled(*batch(i))
    parameter = model[0].weight
    held = hold(parameter)
    before = np.array(held.numpy() if isinstance(held, cr.Tensor) else held)
    value = parameter.numpy().copy()
    compiled(*batch())
    assert ways[-2:] == ["native", "python"]
    compiled(*batch())
    assert ways[-1] == "native"  # its own array again
    np.testing.assert_array_equal(held.numpy() if isinstance(held, cr.Tensor) else held, before)
    assert not np.array_equal(parameter.numpy(), value)


def test_a_gradient_that_somebody_took_and_cleared_is_not_overwritten(ways):
    model, optimizer, step = training()
    compiled = cr.compile(step)
    for i in range(3):
        compiled(*batch(i))
    weight = model[0].weight
    taken = weight.grad
    optimizer.zero_grad()  # as many refer to the gradient as before
    before = taken.numpy().copy()
    compiled(*batch())
    np.testing.assert_array_equal(taken.numpy(), before)
    assert weight.grad is not None and not np.array_equal(weight.grad.numpy(), before)


def test_gradients_that_a_step_clears_are_cleared(ways):
    model, optimizer, step = training()

    @cr.compile
    def clearing(x, y):
        loss = step(x, y)
        optimizer.zero_grad()
        return loss

    for i in range(3):
        clearing(*batch(i))
    assert ways[-1] == "native"
    model[0].weight.grad = cr.ones_like(model[0].weight).detach()
    clearing(*batch())
    assert model[0].weight.grad is None
    clearing(*batch())
    assert ways[-1] == "native"


def test_arguments_of_another_form_do_not_enter(ways):
    scale = nn.Buffer(cr.ones(()))

    @cr.compile
    def double(x):
        return x * 2 * scale

    x = cr.tensor(np.arange(12, dtype=np.float32).reshape(3, 4))
    others = [
        cr.tensor(np.arange(12, dtype=np.float32).reshape(4, 3)),
        cr.tensor(np.arange(12.0)),
        cr.tensor(np.arange(12.0, dtype=np.float64).reshape(3, 4)),
        cr.tensor(np.arange(12, dtype=np.int32).reshape(3, 4)),
        cr.tensor(np.zeros((3, 4), np.float32), requires_grad=True),
        x.numpy().copy(),
        nn.Parameter(cr.tensor(np.full((3, 4), 7.0, np.float32))),
        cr.permute_dims(cr.tensor(np.arange(12, dtype=np.float32).reshape(4, 3)), (1, 0)),
        x[:, ::-1],
        np.arange(12, dtype=np.float32).reshape(3, 4).astype(">f4"),
    ]
    for other in others:
        double(x)
        double(x)
        assert ways[-1] == "native"
        got = double(other)
        assert ways[-1] == "python"
        np.testing.assert_array_equal(got.numpy(), 2 * np.asarray(other.numpy() if hasattr(other, "numpy") else other))
    double(x)
    double(x)
    before = len(ways)
    with pytest.raises(TypeError):
        double()
    with pytest.raises(TypeError):
        double(x, x)
    assert len(ways) == before
    np.testing.assert_array_equal(double(x=x).numpy(), 2 * x.numpy())
    assert ways[-1] == "python"


def test_arrays_and_constants_enter(ways):
    @cr.compile
    def f(x, flag, nothing, name):
        assert name == "sum" and nothing is None
        return x + 1 if flag else x - 1

    x = np.arange(4.0)
    for _ in range(3):
        np.testing.assert_array_equal(f(x, True, None, "sum").numpy(), x + 1)
    assert ways == ["python", "native", "native"]
    np.testing.assert_array_equal(f(x, False, None, "sum").numpy(), x - 1)
    assert ways[-1] == "python"
    np.testing.assert_array_equal(f(x + 1, False, None, "sum").numpy(), x)
    assert ways[-1] == "native"
    assert f.report().kernels


def test_a_tensor_whose_graph_ended_enters(ways):
    f = cr.compile(lambda x: x + 1)
    x = f(cr.ones(3))
    parameter = nn.Parameter(cr.ones(3))
    for y in (x, parameter.detach(), f(x)):
        expected = y.numpy() + 1
        np.testing.assert_array_equal(f(y).numpy(), expected)
        assert ways[-1] == "native"
    np.testing.assert_array_equal(f(parameter * 2).numpy(), 3)
    assert ways[-1] == "python"


def test_an_index_out_of_range_is_an_error_and_the_state_stays(ways):
    count = nn.Buffer(cr.zeros(3))

    @cr.compile
    def add(i):
        count.assign(count + count[i])
        return count.sum()

    add(cr.tensor([1]))
    add(cr.tensor([2]))
    before = count.numpy().copy()
    for _ in range(2):
        with pytest.raises(IndexError, match="out of range"):
            add(cr.tensor([3]))
        np.testing.assert_array_equal(count.numpy(), before)
    add(cr.tensor([0]))
    assert "native" in ways


ACTIONS = [
    "step", "step", "step", "hold", "view", "assign", "forget gradient", "take gradient", "set gradient", "rate",
    "freeze", "thaw", "other batch", "strided", "numpy", "eager", "attribute",
]  # fmt: skip


@pytest.mark.parametrize(
    "make", [optim.Adam, lambda p: optim.SGD(p, lr=0.1, momentum=0.9), lambda p: optim.SGD(p, 0.1)]
)
@settings(max_examples=25)
@given(actions=st.lists(st.sampled_from(ACTIONS), min_size=3, max_size=14))
def test_whatever_happens_between_calls_the_state_is_that_of_eager_steps(make, actions):
    eager, compiled = training(make), training(make)
    steps = [eager[2], cr.compile(compiled[2])]
    held: list[tuple[np.ndarray, np.ndarray]] = []
    size = 8
    for number, action in enumerate(actions):
        x, y = batch(number, size)
        for (model, optimizer, plain), step in zip((eager, compiled), steps, strict=True):
            weight = model[0].weight
            given_x, given_y = x, y
            if action == "hold":
                tensor = weight.detach()
                held.append((tensor.numpy(), tensor.numpy().copy()))
            elif action == "view":
                held.append((weight.numpy(), weight.numpy().copy()))
            elif action == "assign":
                weight.assign(weight * 0.5)
            elif action == "forget gradient":
                optimizer.zero_grad()
            elif action == "take gradient" and weight.grad is not None:
                held.append((weight.grad.numpy(), weight.grad.numpy().copy()))
            elif action == "set gradient":
                weight.grad = cr.ones_like(weight).detach()
            elif action == "rate":
                optimizer.param_groups[0]["lr"] *= 0.5
            elif action == "freeze":
                model[0].bias.requires_grad = False
            elif action == "thaw":
                model[0].bias.requires_grad = True
            elif action == "other batch":
                given_x, given_y = batch(number, 5)
            elif action == "strided":
                given_x = cr.permute_dims(cr.tensor(np.ascontiguousarray(x.numpy().T)), (1, 0))
            elif action == "numpy":
                given_x, given_y = x.numpy(), y.numpy()
                if step is eager[2]:
                    given_x, given_y = x, y
            elif action == "eager":
                step = plain
            elif action == "attribute":
                model.eval()
                model.train()
            step(given_x, given_y)
        for now, before in held:
            np.testing.assert_array_equal(now, before)
    found, expected = everything(*compiled[:2]), everything(*eager[:2])
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=2e-4, atol=2e-5, err_msg=name)


def test_without_an_entry_calls_do_the_same(ways, monkeypatch):
    monkeypatch.setattr(executable, "places", lambda: None)
    a, b = training(), training()
    step = cr.compile(a[2])
    for i in range(3):
        step(*batch(i))
        b[2](*batch(i))
    assert ways == ["python"] * 3
    found, expected = everything(*a[:2]), everything(*b[:2])
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-4, atol=1e-6)


def _long(monkeypatch, threads: int):
    """A function that runs for long, in its second call, with its argument."""
    monkeypatch.setenv("CHAINRULE_NUM_THREADS", str(threads))

    @cr.compile
    def work(x):
        for _ in range(40):
            x = cr.sin(x)
        return x

    x = cr.tensor(np.full((1500, 1000), 0.5, np.float32))
    return work, x, work(x).numpy()


@pytest.mark.parametrize("threads", [1, 2])
def test_other_threads_run_during_a_long_call(monkeypatch, ways, threads):
    work, x, _ = _long(monkeypatch, threads)
    ticks: list[float] = []
    stop = threading.Event()

    def tick():
        while not stop.is_set():
            ticks.append(time.perf_counter())
            time.sleep(0.0005)

    ticker = threading.Thread(target=tick)
    ticker.start()
    started = time.perf_counter()
    work(x)
    ended = time.perf_counter()
    stop.set()
    ticker.join()
    assert ways[-1] == "native"
    assert ended - started > 0.01
    assert sum(started + 0.002 < t < ended - 0.002 for t in ticks) >= 2


@pytest.mark.parametrize("threads", [1, 2])
def test_an_argument_that_gets_another_value_during_a_call_is_read_as_it_was(monkeypatch, ways, threads):
    work, x, expected = _long(monkeypatch, threads)
    changed = threading.Event()

    def change():
        time.sleep(0.005)
        x[:] = 7.0  # the tensor points to another array; nobody but the call refers to the old one
        np.full((1500, 1000), np.nan, np.float32)  # most likely where that was, if it was let go
        changed.set()

    for _ in range(3):
        x[:] = 0.5
        thread = threading.Thread(target=change)
        thread.start()
        got = work(x)
        thread.join()
        if not np.array_equal(got.numpy(), expected):
            np.testing.assert_allclose(got.numpy()[0, 0], work(cr.full((1500, 1000), 7.0)).numpy()[0, 0])
    assert "native" in ways


def test_an_entry_keeps_no_references(ways):
    _, _, step = training()
    compiled = cr.compile(step)
    x, y = batch()
    for _ in range(3):
        compiled(x, y)
    held = (x, y, x._value, y._value, None, False, np.ndarray)
    counts = list(map(sys.getrefcount, held))
    for _ in range(1000):
        compiled(x, y)
    now = list(map(sys.getrefcount, held))
    assert all(abs(a - b) < 50 for a, b in zip(now, counts, strict=True))
    assert ways[-1] == "native"


def test_state_after_native_calls_is_the_same_as_after_calls_by_python(ways, monkeypatch):
    a, b = training(), training()
    step = cr.compile(a[2])
    for i in range(6):
        step(*batch(i))
    monkeypatch.setattr(executable, "places", lambda: None)
    step = cr.compile(b[2])
    for i in range(6):
        step(*batch(i))
    assert ways == ["python", *["native"] * 5, *["python"] * 6]
    assert_same(everything(*a[:2]), everything(*b[:2]))


def test_code_for_arm_is_assembled():
    assert object_code(entry_module(), target("neon"))[:4] == b"\x7fELF"
