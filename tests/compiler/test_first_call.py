"""The first call leaves no memory behind: neither what compiling took nor the state that it moved."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

_SCRIPT = """
import numpy as np
import chainrule as cr

def peak():
    # Not getrusage: there a process begins with what the one that started it had.
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    return int(status["VmHWM"].split()[0]) / 1024

cr.compile(lambda x: x + x)(cr.ones(8))
before = peak()
weights = [cr.nn.Parameter(cr.asarray(np.ones((1024, 1024), np.float32))) for _ in range(24)]
optimizer = cr.optim.SGD(weights, lr=0.1, momentum=0.9)

@cr.compile
def step():
    optimizer.zero_grad()
    loss = sum((w * w).sum() for w in weights)
    loss.backward()
    optimizer.step()
    return loss

for _ in range(3):
    step()
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="glibc is asked to give memory back")
def test_the_state_that_moves_is_in_memory_once(tmp_path: Path) -> None:
    environment = os.environ | {"CHAINRULE_CACHE": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-c", _SCRIPT], env=environment, capture_output=True, text=True, timeout=120, check=True
    )
    needed = 3 * 24 * 4  # MiB: weights, gradients, momentum
    assert needed < float(run.stdout) < needed + 24 * 4 / 2
