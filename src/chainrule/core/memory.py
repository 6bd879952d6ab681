"""Memory between training steps: the C library is asked to keep what is freed.

glibc returns memory to the system once more than a threshold is free at the end of its heap. A training step
frees its activations, and the next one would then pay for every page again: the standardisation of
16 × 64 × 384 numbers takes 1.4 ms with these faults and 0.3 ms without. The threshold is twice the
largest block that was allocated on its own and freed, of at most 32 MiB (mallopt(3), M_MMAP_THRESHOLD). One such
block, which nobody writes to, comes and goes here; from then on up to 64 MiB of freed memory stay in the process.

Compiling is the other case: what the compiler and the first copies of the state have freed is not needed again.
"""

import contextlib
import sys

import numpy as np

LARGEST_BLOCK = (32 << 20) - 8192  # glibc learns from blocks of up to 32 MiB, their header included


def keep_freed_memory() -> None:
    """Let freed memory stay in this process; other C libraries ignore it."""
    np.empty(LARGEST_BLOCK, np.uint8)


def return_freed_memory() -> None:
    """Give freed memory back to the system now; other C libraries ignore it."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(AttributeError):  # musl has no such function
            ctypes.CDLL(None).malloc_trim(0)
