"""Which slot of the pointer table every buffer of a schedule has, and where in it the buffer begins."""

from __future__ import annotations

from dataclasses import dataclass, field

from ...core.primitive import table
from ..code.attention import AttentionPlan
from ..code.branch import scratch_bytes
from ..code.dense import plan_of
from ..code.expression import Affine, Load, nodes
from ..code.ir import is_native
from ..code.sort import sort_scratch
from ..code.target import Target
from ..graph import Op, Value
from ..memory import Lifetime, plan
from ..schedule.kernels import AttentionKernel, GemmKernel, Kernel, LoopKernel, NestedKernel, RowKernel, Schedule, Store
from ..schedule.prepare import Prepared
from .lanes import cut
from .work import is_shared


@dataclass
class Layout:
    """Buffers of a program.

    The slots of the pointer table are the graph's inputs, its outputs, its constants, and last the arena.

    Attributes:
        kernels: the schedule's, and copies into outputs that are no kernel's own.
        slots: for every buffer its slot and its first byte there.
        constants: the constants that are read from memory, in the order of their slots.
        arena: bytes of the arena.
        aliases: slots that may be the same memory: output and input of an update.
    """

    kernels: list[Kernel]
    slots: dict[Value, tuple[int, int]]
    constants: list[Value]
    arena: int
    prepared: Prepared
    aliases: dict[int, int] = field(default_factory=dict)

    def overwrites_state(self, kernel: Kernel) -> bool:
        """Whether a kernel may write where the state was."""
        return any(self.slots[v][0] in self.aliases for v in kernel.writes)


def layout(schedule: Schedule, target: Target, threads: int) -> Layout:
    """Slots and offsets of all buffers, for a number of threads."""
    graph = schedule.graph
    kernels = list(schedule.kernels)
    inputs = {v: i for i, v in enumerate(graph.inputs)}
    slots: dict[Value, tuple[int, int]] = {v: (i, 0) for v, i in inputs.items()}
    first: list[Kernel] = []
    last: list[Kernel] = []
    written: set[Value] = set()
    aliases: dict[int, int] = {}
    constants: dict[Value, None] = {}
    for position, source in enumerate(schedule.sources):
        slot = len(inputs) + position
        replaced = graph.updates.get(position)
        if replaced is not None:
            aliases[slot] = replaced
        if source in inputs or source in graph.constants:
            if source in graph.constants:
                constants[source] = None
            if replaced is not None and inputs.get(source) == replaced:
                last.append(_copy(source, graph.outputs[position], slots, slot))
            else:
                first.append(_copy(source, graph.outputs[position], slots, slot))
        elif source in written or (
            replaced is not None and not _may_overwrite(kernels, source, graph.inputs[replaced])
        ):
            last.append(_copy(source, graph.outputs[position], slots, slot))
        else:
            written.add(source)
            slots[source] = (slot, 0)
    kernels = [*first, *kernels, *last]
    for kernel in kernels:
        if isinstance(kernel, GemmKernel):
            kernel.plan = plan_of(kernel.gemm, target, threads)
            kernel.room = kernel.plan.scratch
            kernel.scratch = Value((kernel.room * threads,), "uint8", name="scratch")
        elif isinstance(kernel, AttentionKernel):
            kernel.plan = AttentionPlan(kernel.work, target)
            kernel.room = kernel.plan.scratch
            kernel.scratch = Value((kernel.room * threads,), "uint8", name="scratch")
        elif isinstance(kernel, NestedKernel):
            kernel.threads = threads if is_shared(kernel) else 1
            kernel.plans = [layout(body, target, kernel.threads) for body in kernel.bodies]
            kernel.scratch = Value((scratch_bytes(kernel),), "uint8", name="scratch")
        elif isinstance(kernel, RowKernel) and kernel.op.primitive.name == "argsort":
            kernel.scratch = Value((sort_scratch(kernel.op) * threads,), "uint8", name="scratch")
    lanes_scratch = cut(kernels, target, threads) if threads > 1 else None
    lifetimes: dict[Value, Lifetime] = {}
    for step, kernel in enumerate(kernels):
        scratch = [v for v in [getattr(kernel, "scratch", None)] if v is not None]
        if kernel.part is not None and lanes_scratch is not None:
            scratch.append(lanes_scratch)
        for value in (*kernel.reads, *kernel.writes, *scratch):
            if value in graph.constants:
                constants[value] = None
            elif value not in slots:
                value = schedule.inside[value][0] if value in schedule.inside else value
                before = lifetimes.get(value)
                lifetimes[value] = Lifetime(value.nbytes, before.first if before else step, step)
    begin = len(inputs) + len(graph.outputs)
    slots.update({v: (begin + i, 0) for i, v in enumerate(constants)})
    arena = plan(lifetimes)
    slots.update({v: (begin + len(constants), offset) for v, offset in arena.offsets.items()})
    for value, (whole, first_element) in schedule.inside.items():
        if whole in slots:
            slot, offset = slots[whole]
            slots[value] = slot, offset + first_element * value.dtype.itemsize
    return Layout(kernels, slots, list(constants), arena.nbytes, schedule.prepared, aliases)


def _copy(source: Value, output: Value, slots: dict[Value, tuple[int, int]], slot: int) -> Kernel:
    """A kernel that writes a value into an output."""
    op = Op(table["identity"], [source], {})
    target = op.output
    slots[target] = (slot, 0)
    if not is_native(source.dtype):
        from ..schedule.build import host_kernel

        return host_kernel(op)
    flat = Affine(0, [(0, 1)]) if source.size != 1 else Affine()
    store = Store(target, flat, Load(source, flat, source.dtype))
    axes = [(0, source.size)] if source.size != 1 else []
    return LoopKernel([op], [source], [target], outer=axes, stores=[store])


def _may_overwrite(kernels: list[Kernel], source: Value, old: Value) -> bool:
    """Whether the kernel that computes `source` may write it where `old` is."""
    writer, *others = (i for i, k in enumerate(kernels) if source in k.writes)
    if others:
        return False
    kernel = kernels[writer]
    if any(old in k.reads for k in kernels[writer + 1 :]):
        return False
    if old not in kernel.reads:
        return True
    if not isinstance(kernel, LoopKernel):
        return False
    if kernel.reductions or sum(s.buffer is source for s in kernel.stores) != 1:
        return False
    own = next(s for s in kernel.stores if s.buffer is source)
    loads = [n for n in nodes(*(s.expression for s in kernel.stores)) if isinstance(n, Load) and n.buffer is old]
    return all(n.guard is None and n.index == own.index for n in loads)
