"""Nothing in the engine recurses: graphs of 100,000 steps, forward, backward, and when memory is given back."""

from __future__ import annotations

import subprocess
import sys

import pytest

PRELUDE = """
import sys, faulthandler, threading
faulthandler.enable()
import numpy as np
import chainrule as cr
from chainrule.core.tensor import Tensor, Variable
from chainrule.core.node import collect, materialise
from chainrule.primitives import pointwise as p, table
sys.setrecursionlimit(200)
N = 100_000
x = Tensor(np.ones(2), requires_grad=True)

def chain():
    y = x
    for _ in range(N):
        y = y * 1.0
    return y
"""

PROGRAMS = {
    "forward, backward and release by reference counts": """
y = chain()
y.backward([1.0, 2.0])
assert x.grad.tolist() == [1.0, 2.0]
del y
""",
    "release by the garbage collector": """
import gc
y = chain()
class Loop: pass
loop = Loop()
loop.me, loop.y = loop, y
del y, loop
gc.collect()
""",
    "release in a thread with a small stack": """
# CPython 3.13 lets objects that hold each other recurse further than such a stack is deep, nested tuples, too.
threading.stack_size((2048 if sys.version_info[:2] == (3, 13) else 256) * 1024)
held = [chain()]
thread = threading.Thread(target=held.clear)
thread.start()
thread.join()
assert held == []
""",
    "a gradient of a gradient": """
y = x
for _ in range(5_000):
    y = p.sin(y)
g = cr.grad(y, x, Tensor(np.ones(2)))
h = cr.grad(g, x, Tensor(np.ones(2)))
assert np.all(np.isfinite(h.numpy()))
del y, g, h
""",
    "values computed again": """
y = x
for _ in range(N):
    y = y + 1.0
assert materialise(y._node).tolist() == [N + 1.0] * 2
""",
    "release after a step": """
from chainrule.core.autodiff import release_graphs
w = Variable(np.ones(2), requires_grad=True)
y = w
for _ in range(N):
    y = y * 1.0
y.backward([1.0, 1.0])
release_graphs([w])
assert y._node.inputs == ()
""",
    "forward mode": """
from chainrule import func
def f(v):
    for _ in range(10_000):
        v = v * 1.0
    return v
_, t = func.jvp(f, (Tensor(np.ones(2)),), (Tensor(np.array([1.0, 2.0])),))
assert t.tolist() == [1.0, 2.0]
""",
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_long_chains_need_no_recursion(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + PROGRAMS[name] + "print('done')"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout == "done\n"
    assert done.stderr == ""
