"""How much work kernels are, and whether it is worth sharing among threads."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..code.conv_weights import WeightGradientPlan
from ..code.gemm import Gemm
from ..code.loop_axes import elements
from ..code.winograd_plan import WinogradPlan, WinogradWeightsPlan
from ..cost import flops
from ..nested import Loop
from ..schedule.kernels import AttentionKernel, GemmKernel, Kernel, LoopKernel, NestedKernel, RowKernel
from ..schedule.storage import weight

_ALONE = 3.0  # microseconds of work that one thread had better do alone
_FINER = 4  # parts for every thread
_WHOLE = 20.0  # microseconds of work that are not cut further
_PLACES = 4  # at which a kernel may read one array
_TOGETHER = 12.0  # microseconds of shared work in a program that are worth waking the others for


def microseconds(kernel: Kernel) -> float:
    """Roughly what a kernel takes on one thread: 150 operations or 20 bytes a nanosecond."""
    if isinstance(kernel, GemmKernel):
        return max(kernel.gemm.flops / 150e3, _traffic(kernel, _numbers(kernel)) / 20e3)
    if isinstance(kernel, AttentionKernel):
        return flops(kernel.ops[0]) / 150e3
    if isinstance(kernel, LoopKernel):
        count = elements(kernel)
        return max(count * weight(kernel.ops) / 10e3, _traffic(kernel, _PLACES * count) / 20e3)
    if isinstance(kernel, RowKernel):
        return sum(v.size for v in (*kernel.reads, *kernel.writes)) / (100 if kernel.scratch is not None else 1000)
    if isinstance(kernel, NestedKernel):
        bodies = [sum(map(microseconds, body.kernels)) for body in kernel.bodies]
        return max(bodies) * _turns(kernel)
    return sum(math.prod(v.shape) for v in kernel.writes) / 400


def _traffic(kernel: Kernel, most: int) -> int:
    """Bytes that a kernel touches: not all of a large array of which it takes a slice of at most so many elements."""
    return sum(min(v.nbytes, most * v.dtype.itemsize) for v in (*kernel.reads, *kernel.writes))


def _numbers(kernel: GemmKernel) -> int:
    """Of a product's operands and result together; of a convolution's as many as it may be."""
    g = kernel.gemm
    if not isinstance(g, Gemm):
        return max(v.size for v in (*kernel.reads, *kernel.writes))
    batch, rows, reduced = (math.prod(n for _, n in axes) for axes in (g.batch, g.rows, g.reduced))
    columns = g.columns[1]
    return batch * (rows * columns + rows * reduced + reduced * columns)


def _turns(kernel: NestedKernel) -> int:
    primitive = kernel.op.primitive
    return primitive.length if isinstance(primitive, Loop) else 1


def is_shared(kernel: Kernel) -> bool:
    """Whether several threads do a kernel's work."""
    if isinstance(kernel, GemmKernel) and kernel.plan is not None and kernel.plan.single:
        return False
    if isinstance(kernel, NestedKernel):
        shared = [sum(microseconds(k) for k in body.kernels if is_shared(k)) for body in kernel.bodies]
        return max(shared) * _turns(kernel) > _TOGETHER
    return microseconds(kernel) > _ALONE


def parts(kernel: Kernel, threads: int) -> int:
    """Into how many parts a shared kernel is cut: more than threads, if parts do not cost more together, so that one
    that is held up leaves little to wait for."""
    if isinstance(kernel, GemmKernel):
        if isinstance(kernel.plan, WeightGradientPlan | WinogradWeightsPlan):  # each part copies all images
            return threads
        if isinstance(kernel.plan, WinogradPlan):
            return kernel.plan.parts
        return _evenly(kernel.plan.units, threads, microseconds(kernel))
    if isinstance(kernel, AttentionKernel):  # each part copies the keys of its first head
        return max(threads, min(kernel.plan.units, _FINER * threads))
    if isinstance(kernel, LoopKernel):
        return max(threads, min(int(microseconds(kernel) / _ALONE), _FINER * threads))
    return threads


def _evenly(units: int, threads: int, time: float) -> int:
    """Parts for so many units of equal work: one each, so that none is twice another, unless that is too little."""
    return max(threads, min(units, max(_FINER * threads, int(time / _WHOLE))))


def is_worth_threads(kernels: Sequence[Kernel]) -> bool:
    """Whether a program has enough work that can be shared."""
    return sum(microseconds(k) for k in kernels if is_shared(k)) > _TOGETHER
