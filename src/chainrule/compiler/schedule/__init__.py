"""From a graph to kernels: what is taken apart, what is computed together, what is stored.

`schedule(graph)` is the whole of it.
"""

from .build import schedule
from .kernels import HostKernel, Kernel, LoopKernel, RandomKernel, Reduction, ScatterKernel, Schedule, Store, View

__all__ = [
    "HostKernel", "Kernel", "LoopKernel", "RandomKernel", "Reduction", "ScatterKernel", "Schedule", "Store", "View",
    "schedule",
]  # fmt: skip
