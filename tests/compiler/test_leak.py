"""Calls of compiled steps leave nothing behind: no memory, no objects. `benchmarks/bench_leak.py` runs far longer."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import pytest

from benchmarks.bench_leak import GROWTH, run

STEPS = 6000


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from Linux's /proc")
def test_memory_does_not_grow() -> None:
    assert run(STEPS) <= GROWTH


def test_no_objects_are_left() -> None:
    def objects() -> int:
        gc.collect()
        return sys.getallocatedblocks()

    assert run(STEPS, measure=objects) < STEPS // 60
