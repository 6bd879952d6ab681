"""The kernels of a graph: what the code generators are given, and what the report shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ..code.expression import Affine, Expression
from ..graph import Graph, Op, Value
from .prepare import Prepared


@dataclass(frozen=True, eq=False)
class Reduction:
    """One number for each outer index: `kind` (sum, max, …) of `operand` over the inner axes.

    `result` is the leaf that stands for it in other expressions.
    """

    kind: str
    operand: Expression
    result: Expression


@dataclass(frozen=True, eq=False)
class Store:
    """`expression` written to `buffer` at `index`: for each index, or for each outer index."""

    buffer: Value
    index: Affine
    expression: Expression


@dataclass(eq=False)
class Kernel:
    """A step of the program.

    Attributes:
        ops: the operations it covers.
        reads, writes: the values in memory that it touches.
        part: a block of its rows, if it may run in lanes (`runtime/lanes.py`): set when memory is laid out.
        whole: of such a part the kernel.
    """

    ops: list[Op]
    reads: list[Value] = field(default_factory=list)
    writes: list[Value] = field(default_factory=list)
    part: Any = field(default=None, kw_only=True)
    whole: Kernel | None = field(default=None, kw_only=True)


@dataclass(eq=False)
class LoopKernel(Kernel):
    """A loop nest.

    Attributes:
        outer, inner: axes with their lengths; work is shared along the outer ones.
        reductions: over the inner axes, in an order in which they can be computed.
        stores: what is written.
    """

    outer: list[tuple[int, int]] = field(default_factory=list)
    inner: list[tuple[int, int]] = field(default_factory=list)
    reductions: list[Reduction] = field(default_factory=list)
    stores: list[Store] = field(default_factory=list)


@dataclass(frozen=True)
class View:
    """An operand of an operation in memory: a value that is there, an offset and strides in elements."""

    base: Value
    offset: int
    strides: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: Any


@dataclass(eq=False)
class HostKernel(Kernel):
    """An operation that NumPy computes."""

    operands: list[View] = field(default_factory=list)

    @property
    def op(self) -> Op:
        return self.ops[0]


@dataclass(eq=False)
class GemmKernel(Kernel):
    """A matrix product or convolution with what is done to its elements before they are stored.

    Attributes:
        gemm: the work, a `code.gemm.Gemm`, or a `Convolution` or `WeightGradient` of `code.conv`.
        plan, scratch, room: how it is cut up, its working memory, and how many bytes of that each thread has: set
            when memory is laid out.
    """

    gemm: Any = None
    plan: Any = None
    scratch: Any = None
    room: int = 0


@dataclass(eq=False)
class AttentionKernel(Kernel):
    """Attention, or its gradients.

    Attributes:
        work: a `code.attention.Attention`.
        plan, scratch, room: how it is cut up, and its working memory: set when memory is laid out.
    """

    work: Any = None
    plan: Any = None
    scratch: Any = None
    room: int = 0


@dataclass(eq=False)
class ScatterKernel(Kernel):
    """`index_add` or `index_set` with index arrays for the leading axes; reads values (and the old ones), arrays."""

    @property
    def op(self) -> Op:
        return self.ops[0]


@dataclass(eq=False)
class WindowKernel(Kernel):
    """A `window_*` primitive of operands that are in memory as they are."""

    @property
    def op(self) -> Op:
        return self.ops[0]


@dataclass(eq=False)
class RowKernel(Kernel):
    """An operation along one axis (`schedule.rows`) of operands that are in memory as they are.

    Attributes:
        scratch: its working memory: set when memory is laid out.
    """

    scratch: Any = None

    @property
    def op(self) -> Op:
        return self.ops[0]


@dataclass(eq=False)
class RandomKernel(Kernel):
    """`random_bits`."""

    @property
    def op(self) -> Op:
        return self.ops[0]


@dataclass(eq=False)
class NestedKernel(Kernel):
    """`scan` or `cond`, with operands that are in memory as they are.

    Attributes:
        bodies: the kernels of its graphs.
        plans, scratch, threads: where their buffers are, the working memory, and how many threads share the
            work: set when memory is laid out.
    """

    bodies: list[Schedule] = field(default_factory=list)
    plans: Any = None
    scratch: Any = None
    threads: int = 1

    @property
    def op(self) -> Op:
        return self.ops[0]


@dataclass
class Schedule:
    """Kernels in the order in which they can run, and where the graph's outputs come from.

    Attributes:
        kernels: each writes whole values.
        sources: for each output of the graph the value in memory that holds its elements.
        prepared: the graph that the kernels compute, and how it differs from the user's.
        inside: values that lie in another one, a concatenation of them: that value, and the first element there.
    """

    kernels: Sequence[Kernel]
    sources: list[Value]
    prepared: Prepared
    inside: dict[Value, tuple[Value, int]] = field(default_factory=dict)

    @property
    def graph(self) -> Graph:
        """What the kernels compute."""
        return self.prepared.graph

    @property
    def constants(self) -> list[Value]:
        """The constants that are read from memory."""
        read = [*(v for kernel in self.kernels for v in kernel.reads), *self.sources]
        return [v for v in dict.fromkeys(read) if v in self.graph.constants]
