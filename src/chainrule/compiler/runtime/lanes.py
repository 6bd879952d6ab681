"""Lanes: short kernels in a row, each cut along its rows, so that threads need not meet between them.

A step of a recurrent network is a small product and a few functions of its elements, and the next one needs all of its
columns but only its own rows. A lane is the same block of rows of all these kernels, one after the other. Lanes
can run at once if none touches what another writes, which the addresses tell: so it does not matter here
what the rows are, nor why memory is used again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ..code.dense import plan_of
from ..code.expression import Affine, Load, Position, nodes
from ..code.gemm import Gemm
from ..code.target import Target
from ..graph import Value
from ..schedule.kernels import GemmKernel, Kernel, LoopKernel
from ..schedule.signature import Pointer
from .work import microseconds

_SHORT = 60.0  # microseconds: in a longer kernel a meeting of the threads does not count
_FEWEST = 4  # rows of a lane
_TOGETHER = 200.0  # microseconds of a row of kernels, after which threads meet all the same: one may be held up

_WORTH = 6.0  # microseconds of a row of kernels that are worth sharing

Range = tuple[int, int, int]  # a slot, the first byte and the one behind the last


@dataclass(frozen=True)
class Part:
    """The first of the equal blocks of rows of a kernel. The others are the same code on addresses that move on.

    Attributes:
        kernel: computes the block.
        steps: for each address that its function takes the elements from one block to the next.
        reads, writes: what it touches: buffer, first and last element, elements to the next block's.
    """

    kernel: LoopKernel | GemmKernel
    steps: dict[Pointer, int]
    reads: list[tuple[Value, int, int, int]]
    writes: list[tuple[Value, int, int, int]]


def cut(kernels: Sequence[Kernel], target: Target, threads: int) -> Value | None:
    """Gives the kernels that may run in lanes their parts; the working memory of all parts, if there is any."""
    suited = [_axis(kernel, threads) is not None for kernel in kernels]
    products: list[GemmKernel] = []
    for i, kernel in enumerate(kernels):
        if suited[i] and any(suited[j] for j in (i - 1, i + 1) if 0 <= j < len(kernels)):
            part = kernel.part = _part(kernel, threads)
            if part is not None and isinstance(part.kernel, GemmKernel):
                part.kernel.plan = plan_of(part.kernel.gemm, target, 1)
                products.append(part.kernel)
    if not products:
        return None
    room = max(product.plan.scratch for product in products)
    scratch = Value((room * threads,), "uint8", name="scratch")
    for product in products:
        product.scratch, product.room = scratch, room
    return scratch


def _axis(kernel: Kernel, threads: int) -> tuple[int, int] | None:
    """The axis along which a kernel can be cut, and its length."""
    if isinstance(kernel, LoopKernel):
        axes = kernel.outer
    elif isinstance(kernel, GemmKernel) and isinstance(kernel.gemm, Gemm) and not kernel.gemm.sums:
        axes = [*kernel.gemm.batch, *kernel.gemm.rows]
    else:
        return None
    axes = [axis for axis in axes if axis[1] != 1]
    if not axes or axes[0][1] % threads or axes[0][1] // threads < _FEWEST or microseconds(kernel) > _SHORT:
        return None
    return axes[0]


def _part(kernel: Kernel, threads: int) -> Part | None:
    """The first block of a kernel along its first axis; None if the others are not the same code."""
    found = _axis(kernel, threads)
    assert found is not None
    axis, block = found[0], found[1] // threads

    def shorter(axes: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        return [(a, block if a == axis else n) for a, n in axes]

    first: LoopKernel | GemmKernel
    if isinstance(kernel, LoopKernel):
        first = LoopKernel(
            kernel.ops, kernel.reads, kernel.writes, outer=shorter(kernel.outer), inner=kernel.inner,
            reductions=kernel.reductions, stores=kernel.stores, whole=kernel,
        )  # fmt: skip
        lengths = dict([*first.outer, *first.inner])
        found_nodes = nodes(*(r.operand for r in first.reductions), *(s.expression for s in first.stores))
        reads = []
    else:
        assert isinstance(kernel, GemmKernel)
        g = kernel.gemm
        gemm = Gemm(shorter(g.batch), shorter(g.rows), g.columns, g.reduced, g.a, g.b, g.product, g.stores)
        first = GemmKernel(kernel.ops, kernel.reads, kernel.writes, gemm, whole=kernel)
        lengths = dict([*gemm.batch, *gemm.rows, gemm.columns, *gemm.reduced])
        found_nodes = nodes(*(s.expression for s in g.stores))
        reads = [(o.buffer, o.index) for o in (g.a, g.b)]
    if any(isinstance(n, Position) and n.index.coefficient(axis) for n in found_nodes):
        return None
    loads = [n for n in found_nodes if isinstance(n, Load)]
    reads += [(n.buffer, n.index) for n in loads]
    writes = [(s.buffer, s.index) for s in (kernel.stores if isinstance(kernel, LoopKernel) else g.stores)]
    steps: dict[Pointer, int] = {}
    for buffer, index in (*reads, *writes):
        step = index.coefficient(axis) * block
        if steps.setdefault((buffer, index.offset), step) != step:
            return None
    # Where its guard does not hold, a load may fall back to the first element, which moves on with the lane.
    guarded = [(n.buffer, steps[n.buffer, n.index.offset]) for n in loads if n.guard is not None]
    if not all(0 <= step * (threads - 1) < buffer.size for buffer, step in guarded):
        return None

    def touched(buffer: Value, index: Affine) -> tuple[Value, int, int, int]:
        if index.dynamic or any(a not in lengths for a, _ in index.terms):
            return buffer, 0, buffer.size - 1, 0
        ways = [c * (lengths[a] - 1) for a, c in index.terms]
        low, high = sum(w for w in ways if w < 0), sum(w for w in ways if w > 0)
        return buffer, index.offset + low, index.offset + high, index.coefficient(axis) * block

    return Part(first, steps, [touched(*r) for r in reads], [touched(*w) for w in writes])


class Lanes:
    """A row of kernels in the making, and what each lane touches so far.

    Attributes:
        parts: of the kernels.
    """

    def __init__(self, threads: int, slots: Mapping[Value, tuple[int, int]], aliases: Mapping[int, int]) -> None:
        self._slots, self._aliases = slots, aliases
        self._touched: list[tuple[list[Range], list[Range]]] = [([], []) for _ in range(threads)]
        self._time = 0.0
        self.parts: list[Part] = []

    def take(self, kernel: Kernel) -> bool:
        """Adds a kernel if its parts need not wait for other lanes."""
        time, part = microseconds(kernel), kernel.part
        if part is None or (self._time and self._time + time > _TOGETHER):
            return False
        more = [(self._ranges(part.reads, lane), self._ranges(part.writes, lane)) for lane in range(len(self._touched))]
        after = [(r + own[0], w + own[1]) for (r, w), own in zip(self._touched, more, strict=True)]
        for lane, (reads, writes) in enumerate(more):
            for other, (others_reads, others_writes) in enumerate(after):
                if other != lane and (
                    overlap(writes, others_reads) or overlap(writes, others_writes) or overlap(reads, others_writes)
                ):
                    return False
        self._touched = after
        self._time += time
        self.parts.append(part)
        return True

    @property
    def pays(self) -> bool:
        """Whether there are several kernels, with enough work for several threads."""
        return len(self.parts) > 1 and self._time > _WORTH

    def _ranges(self, touched: Sequence[tuple[Value, int, int, int]], lane: int) -> list[Range]:
        found: dict[Range, None] = {}
        for buffer, low, high, step in touched:
            slot, first = self._slots[buffer]
            size = buffer.dtype.itemsize
            begin = first + (low + lane * step) * size
            found[self._aliases.get(slot, slot), begin, begin + (high - low + 1) * size] = None
        return list(found)


def overlap(a: Sequence[Range], b: Sequence[Range]) -> bool:
    """Whether one of the stretches of memory shares a byte with one of the others."""
    return any(s == t and x < v and u < y for s, x, y in a for t, u, v in b)
