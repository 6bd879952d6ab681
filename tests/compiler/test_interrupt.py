"""Ctrl-C in a compiled step: the state is the one before the step or the one after it, and the next call goes on."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no interval timers on this system")
SIZE = 30_000
SMALL = 100  # so short that other Python threads wait for it


class _Interrupt(BaseException):
    """What the signal raises; pytest would take a KeyboardInterrupt for its own."""


@pytest.fixture
def _signals() -> Iterator[None]:
    def interrupt(*_: object) -> None:
        raise _Interrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def _native(x: cr.Tensor, _one: cr.Tensor) -> cr.Tensor:
    return x + 1


def _handed_over(x: cr.Tensor, one: cr.Tensor) -> cr.Tensor:
    # Not linalg: interrupted there, NumPy leaves its handling of floating-point errors as it is inside.
    return x + cr.real(cr.fft.fft(one))[0]


@pytest.mark.usefixtures("_signals")
@pytest.mark.parametrize(("add", "size"), [(_native, SIZE), (_native, SMALL), (_handed_over, SIZE)])
def test_an_interrupt_finds_a_whole_state(add, size):
    first, second = nn.Buffer(cr.zeros(size)), nn.Buffer(cr.zeros(size))

    @cr.compile
    def step(one):
        first.assign(first + 1)
        second.assign(add(second, one))
        return first.sum()

    one = cr.ones(1)
    step(one)
    handed = step.report(time=False).handed_over
    assert bool(handed) == (add is _handed_over)
    started = time.perf_counter()
    for _ in range(20):
        step(one)
    duration = (time.perf_counter() - started) / 20
    rng = random.Random(0)
    counts = set()
    for _ in range(300):
        seen = first.detach() if rng.random() < 0.5 else None  # who looks makes the next call move the state
        before = None if seen is None else float(seen[0].item())
        try:
            signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-6, max(5 * duration, 2e-4)))
            while True:
                step(one)
        except _Interrupt:
            pass
        values = first.numpy()
        assert (values == values[0]).all()
        np.testing.assert_array_equal(second.numpy(), values)
        counts.add(float(values[0]))
        if seen is not None:
            np.testing.assert_array_equal(seen.numpy(), before)
    assert len(counts) > 20  # some of the 300 turns got so far as to finish a step
    done = first[0].item()
    step(one)
    assert first[0].item() == second[-1].item() == done + 1
