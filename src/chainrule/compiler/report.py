"""What a compiled function is made of: its kernels, the lines they come from, what they cost, the memory plan."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..core import source
from ..core.node import ShapeDtype
from .cost import flops
from .graph import Op
from .nested import Nested
from .runtime.apart import generated, timed
from .runtime.image import KernelRecord

if TYPE_CHECKING:
    from .executable import Executable


@dataclass
class KernelReport:
    """One kernel.

    Attributes:
        number: its place in the order in which kernels run.
        kind: product, loops, window, rows, scatter, random, scan, cond; NumPy for an operation that is handed over.
        operations: the primitives it computes, with how often; for a branch or a loop those inside, too.
        lines: the user's lines they come from, most important first.
        modules: the modules they ran in.
        shape: of what it writes.
        flops: floating-point operations, as `cost.flops` counts them.
        bytes: read and written, each array once.
        seconds: median time of several runs, with all threads; None where it was not measured.
    """

    number: int
    kind: str
    operations: dict[str, int]
    lines: list[str]
    modules: list[str]
    shape: str
    flops: int
    bytes: int
    seconds: float | None = None

    @property
    def name(self) -> str:
        """`matmul, 2 add, tanh`."""
        return ", ".join(n if k == 1 else f"{k} {n}" for n, k in self.operations.items())


@dataclass
class Report:
    """A compiled function; `print` shows it as a table.

    Attributes:
        name: the function.
        arguments: what the graph was made for.
        kernels: in the order in which they run.
        raw_operations, operations: operations that were traced, and those left after the passes.
        state: bytes of the Variables that are read or written.
        arena: bytes of working memory, planned once for all values in between.
        values: bytes that all computed values but the results would take, were each stored by itself.
        threads: how many threads share the work.
        seconds: how long tracing, the passes and code generation took.
        cached: whether the machine code came from the disk.
        code: the generated code, where it was asked for.
    """

    name: str
    arguments: list[str]
    kernels: list[KernelReport]
    raw_operations: int
    operations: int
    state: int
    arena: int
    values: int
    threads: int
    seconds: dict[str, float]
    cached: bool
    code: str = field(default="", repr=False)

    @property
    def flops(self) -> int:
        """Floating-point operations of one call."""
        return sum(kernel.flops for kernel in self.kernels)

    @property
    def bytes(self) -> int:
        """Bytes that the kernels of one call read and write."""
        return sum(kernel.bytes for kernel in self.kernels)

    @property
    def handed_over(self) -> list[KernelReport]:
        """The operations that have no native code yet and are computed by NumPy."""
        return [kernel for kernel in self.kernels if kernel.kind == "NumPy"]

    def __str__(self) -> str:
        lines = [f"{self.name}({', '.join(self.arguments)})"]
        handed = Counter(k.name for k in self.handed_over)
        listed = ", ".join(f"{k} {n}" if k > 1 else n for n, k in handed.items()) or "none"
        lines += [
            f"  {self.raw_operations} operations traced, {self.operations} after the passes, "
            f"{len(self.kernels)} kernels, {self.threads} thread{'s' if self.threads > 1 else ''}",
            f"  handed to NumPy: {listed}",
            f"  {_count(self.flops)}FLOP a call, {_size(self.bytes)} read and written by kernels",
            f"  memory: state {_size(self.state)}, working memory {_size(self.arena)} "
            f"(all values between: {_size(self.values)})",
            "  "
            + ", ".join(f"{what} {seconds:.2f} s" for what, seconds in self.seconds.items())
            + (" (from the disk cache)" if self.cached else ""),
            "",
        ]
        timed = any(k.seconds is not None for k in self.kernels)
        head = ["kernel", "computes", "shape", "FLOP", "bytes", *(["µs", "GF/s"] if timed else []), "line", "module"]
        rows = [self._row(kernel, timed) for kernel in self.kernels]
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        numeric = range(3, 7 if timed else 5)
        for row in [head, *rows]:
            cells = [
                c.rjust(w) if i in numeric else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
            ]
            lines.append("  ".join(cells).rstrip())
        return "\n".join(lines) + (f"\n\n{self.code}" if self.code else "")

    def _row(self, kernel: KernelReport, timed: bool) -> list[str]:
        times = []
        if timed:
            seconds = kernel.seconds or 0.0
            rate = f"{kernel.flops / seconds / 1e9:.1f}" if seconds and kernel.flops else ""
            times = [f"{seconds * 1e6:.1f}", rate]
        more = f" (and {len(kernel.lines) - 1} more)" if len(kernel.lines) > 1 else ""
        line = kernel.lines[0] + more if kernel.lines else ""
        return [
            f"{kernel.number} {kernel.kind}", _short(kernel.name, 60), kernel.shape, _count(kernel.flops),
            _size(kernel.bytes), *times, _short(line, 70), ", ".join(kernel.modules[:2]),
        ]  # fmt: skip


def report(executable: Executable, name: str, time: bool = False, code: bool = False) -> Report:
    """What an executable is made of.

    Args:
        name: of the function.
        time: measure every kernel by itself.
        code: generate the code again, as text.
    """
    captured = executable.captured
    program: Any = executable.program
    graph = captured.graph
    kernels = [_kernel(number, record, graph.ops) for number, record in enumerate(program.kernels)]
    if time:
        for kernel, seconds in zip(kernels, timed(graph, executable.inputs()), strict=True):
            kernel.seconds = seconds
    state = {id(array): array.nbytes for s in captured.states for array in [s.variable._value]}
    computed = {value for op in graph.ops for value in op.outputs} - set(graph.outputs)
    return Report(
        name=name,
        arguments=[str(spec) for spec in captured.specs],
        kernels=kernels,
        raw_operations=len(captured.raw.ops),
        operations=len(graph.ops),
        state=sum(state.values()),
        arena=program.arena,
        values=sum(value.nbytes for value in computed),
        threads=program.threads,
        seconds=executable.seconds,
        cached=program.cached,
        code=generated(graph) if code else "",
    )


_KINDS = {"host": "NumPy"}


def _kernel(number: int, record: KernelRecord, ops: Sequence[Op]) -> KernelReport:
    covered = [ops[i] for i in record.ops]
    inside = [inner for op in covered for inner in _inside(op)]
    by_weight = sorted(inside or covered, key=flops, reverse=True)
    lines = list(dict.fromkeys(str(place) for op in by_weight if (place := source.resolve(op.place)) is not None))
    modules = list(dict.fromkeys(op.path for op in by_weight if op.path))
    largest = max((v for op in covered for v in op.outputs), key=lambda v: v.size, default=None)
    return KernelReport(
        number,
        _KINDS.get(record.kind, record.kind),
        dict(Counter(op.primitive.name for op in (*covered, *inside))),
        lines,
        modules,
        "" if largest is None else str(ShapeDtype(largest.shape, largest.dtype)),
        sum(map(flops, covered)),
        record.nbytes,
    )


def _inside(op: Op) -> list[Op]:
    """The operations of a branch or a loop."""
    graphs = op.primitive.graphs if isinstance(op.primitive, Nested) else ()
    return [found for graph in graphs for inner in graph.ops for found in (inner, *_inside(inner))]


def _count(number: float) -> str:
    for unit in ("", "k", "M", "G", "T"):
        if number < 1000:
            return f"{number:.0f} {unit}" if not unit or number >= 100 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.0f} P"


def _size(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024 or unit == "GiB":
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1024
    raise AssertionError


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
