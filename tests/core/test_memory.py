"""What is freed after one training step serves the next one."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

LOOP = """
import resource, {library}, numpy as np
x = np.ones((16, 64, 384), np.float32)

def three_large_arrays():
    y = x + x
    z = y + y
    return y, z, z + z

for _ in range(5):
    three_large_arrays()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    three_large_arrays()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / 50)
"""


def faults(library: str) -> float:
    code = LOOP.format(library=library)
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have rules of their own")
def test_large_arrays_come_from_memory_that_the_process_has() -> None:
    assert faults("chainrule") < 50
