"""The axes of a loop kernel: which of them are one, and how they fill vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..schedule.kernels import LoopKernel
from .expression import Affine, Load, Position, nodes
from .target import Target


def is_flat(kernel: LoopKernel) -> bool:
    """Whether a kernel runs along one axis, element by element: its code then serves any length."""
    if kernel.reductions or any(n != 1 for _, n in kernel.inner):
        return False
    found = nodes(*(s.expression for s in kernel.stores))
    affines = {n.index for n in found if isinstance(n, Load | Position)} | {s.index for s in kernel.stores}
    return len(merged(kernel.outer, affines)) == 1


def elements(kernel: LoopKernel) -> int:
    """Elements of the kernel's index space."""
    return int(np.prod([n for _, n in (*kernel.outer, *kernel.inner)], dtype=np.int64))


def lanes_of(kernel: LoopKernel, target: Target) -> int:
    """How many elements a vector of the kernel has."""
    found = nodes(*(r.operand for r in kernel.reductions), *(s.expression for s in kernel.stores))
    floats = [n.dtype.itemsize for n in found if n.dtype.kind == "f"]
    widest = max(floats or [max((s.expression.dtype.itemsize for s in kernel.stores), default=4), 4])
    return target.vector_bytes // widest


def merged(axes: Sequence[tuple[int, int]], affines: set[Affine]) -> list[tuple[int, int]]:
    """Neighbouring axes along which every address advances evenly become one: the right one."""
    result: list[tuple[int, int]] = []
    for axis, n in axes:
        if result:
            left, count = result[-1]
            if all(a.coefficient(left) == a.coefficient(axis) * n for a in affines):
                result[-1] = (axis, count * n)
                continue
        result.append((axis, n))
    return result


def unroll_of(length: int, width: int, weight: int) -> int:
    """How many vectors of a row are worked on at once; `weight` is what an element costs."""
    vectors = max(-(-length // width), 1)
    most = 4 if weight <= 12 else 2 if weight <= 40 else 1
    return max(u for u in (1, 2, 4) if u <= most and u <= vectors)
