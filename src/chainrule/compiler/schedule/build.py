"""A schedule: the groups of a graph written out as kernels with their expressions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..code.expression import Affine, Call, Expression, Load, Outside, nodes
from ..code.gemm import Gemm, Operand
from ..code.ir import is_native
from ..graph import Graph, Op, Value
from ..memory import ALIGNMENT
from ..nested import Nested
from .access import Index, NotAffine, Reader, SplitAxis, linear, strides
from .attention import attention_kernel, is_attention
from .convolution import convolution
from .group import Group
from .groups import Grouping
from .kernels import (
    GemmKernel,
    HostKernel,
    Kernel,
    LoopKernel,
    NestedKernel,
    RandomKernel,
    Reduction,
    RowKernel,
    ScatterKernel,
    Schedule,
    Store,
    View,
    WindowKernel,
)
from .kinds import CONVOLUTIONS, REDUCTIONS
from .pooling import is_window
from .prepare import Prepared, prepare
from .rows import is_along_axis
from .storage import stored_values


def schedule(graph: Graph) -> Schedule:
    """The kernels of a graph."""
    return scheduled(prepare(graph))


def scheduled(prepared: Prepared) -> Schedule:
    """The kernels of a graph that has been prepared."""
    graph = prepared.graph
    grouping = Grouping(graph, takes_views, [] if prepared.fault is None else [prepared.fault])
    renamed = grouping.output_sources()
    plain: set[int] = set()
    while True:
        try:
            stored = stored_values(grouping, plain)
            sources = [renamed.get(v, v) for v in graph.outputs]
            inside = _parts_in_place(grouping, stored, set(sources))
            return Schedule(_kernels(grouping, stored, plain, inside), sources, prepared, inside)
        except _Unreadable as failed:
            plain.add(failed.position)


class _Unreadable(Exception):
    """A kernel cannot compute again what it needs: it has to find it in memory."""

    def __init__(self, position: int) -> None:
        super().__init__(str(position))
        self.position = position


def _kernels(
    grouping: Grouping, stored: set[Value], plain: set[int], inside: dict[Value, tuple[Value, int]]
) -> list[Kernel]:
    kernels: list[Kernel] = []
    for group in grouping.groups:
        if group.is_assembled:
            kernels.extend(_copies(grouping, group, inside))
        elif group.opaque is not None:
            kernels.extend(_opaque(grouping, group, group.opaque))
        elif group.product is not None:
            try:
                kernels.append(_product(grouping, group, stored))
            except (NotAffine, SplitAxis):
                if group.position in plain:
                    raise
                raise _Unreadable(group.position) from None
        elif group.slices or any(v in stored for v in group.values):
            try:
                kernels.append(_loops(grouping, group, stored))
            except NotAffine:
                if group.position in plain:
                    raise
                raise _Unreadable(group.position) from None
    return kernels


def takes_views(op: Op, position: int) -> bool:
    """Whether an operation's operand may be any strided array."""
    is_random = op.primitive.name == "random_bits"
    return not (is_scatter(op) or is_random or is_window(op) or is_nested(op) or is_along_axis(op))


def _opaque(grouping: Grouping, group: Group, op: Op) -> list[Kernel]:
    """The kernels of an operation that is no loop nest."""
    name = op.primitive.name
    if is_scatter(op):
        return [ScatterKernel([op], list(op.inputs), list(op.outputs))]
    if name == "random_bits":
        return [RandomKernel([op], list(op.inputs), list(op.outputs))]
    if is_window(op):
        return [WindowKernel([op], list(op.inputs), list(op.outputs))]
    if is_along_axis(op):
        return [RowKernel([op], list(op.inputs), list(op.outputs))]
    if is_nested(op):
        return [_nested(op)]
    if is_attention(op):
        return [attention_kernel(op, [_view(grouping, value, group.position) for value in op.inputs])]
    return [_host(grouping, group, op)]


def is_nested(op: Op) -> bool:
    """Whether an operation is a branch or a loop."""
    return isinstance(op.primitive, Nested)


def _nested(op: Op) -> Kernel:
    """The kernel of a branch or a loop: native if all that is inside is."""
    assert isinstance(op.primitive, Nested)
    bodies = [scheduled(Prepared(graph, {}, [], None)) for graph in op.primitive.graphs]
    inside = [kernel for body in bodies for kernel in body.kernels]
    outside = [v for body in bodies for v in (*body.graph.inputs, *body.graph.outputs)]
    if any(isinstance(kernel, HostKernel) for kernel in inside) or not all(is_native(v.dtype) for v in outside):
        return host_kernel(op)
    constants = [v for body in bodies for v in body.constants]
    return NestedKernel([op], list(dict.fromkeys([*op.inputs, *constants])), list(op.outputs), bodies)


def is_scatter(op: Op) -> bool:
    """Whether an operation scatters to places along the leading axes that index arrays of one shape name."""
    if op.primitive.name not in ("index_add", "index_set"):
        return False
    first = 1 if op.primitive.name == "index_add" else 2
    arrays, pattern, out = op.inputs[first:], op.params["pattern"], op.output
    if not arrays or out.dtype.kind != "f" or out.dtype.itemsize < 4 or any(a.dtype.kind not in "iu" for a in arrays):
        return False
    if pattern[: len(arrays)] != tuple(("a", i) for i in range(len(arrays))):
        return False
    rest = tuple(("s", 0, n, 1) for n in out.shape[len(arrays) :])
    region = (*arrays[0].shape, *out.shape[len(arrays) :])
    values = op.inputs[first - 1]
    return (
        pattern[len(arrays) :] == rest
        and all(a.shape == arrays[0].shape for a in arrays)
        and (values.shape == region or values.size == 1)
        and values.dtype == out.dtype
    )


def _parts_in_place(grouping: Grouping, stored: set[Value], outputs: set[Value]) -> dict[Value, tuple[Value, int]]:
    """Parts of concatenations that others read, too, and that can lie there from the beginning: see `Schedule.inside`.

    A part can if it is one stretch of the concatenation, which is not where an output has to be, and if a kernel
    writes it as it is. Of two concatenations the first has it.
    """
    found: dict[Value, tuple[Value, int]] = {}
    wholes: set[Value] = set()
    for group in grouping.groups:
        op = group.opaque
        if not group.is_assembled or op is None or op.output in outputs or op.output in found:
            continue
        out, axis = op.output, op.params["axis"]
        if any(n != 1 for n in out.shape[:axis]):
            continue
        step = strides(out.shape)[axis]
        for value, start in group.parts:
            maker = grouping.group_of.get(value)
            if (
                maker is not None
                and (maker.is_assembled or (maker.opaque is None and value in stored))
                and value not in outputs
                and value not in found
                and value not in wholes
                and start * step * out.dtype.itemsize % ALIGNMENT == 0
            ):
                found[value] = out, start * step
                wholes.add(out)
    return found


def _copies(grouping: Grouping, group: Group, inside: dict[Value, tuple[Value, int]]) -> list[Kernel]:
    """A copy for each part of a concatenation that its maker does not write in its place."""
    op = group.opaque
    assert op is not None
    out, axis = op.output, op.params["axis"]
    steps = strides(out.shape)
    kernels: list[Kernel] = []
    for value, start in group.parts:
        if inside.get(value) == (out, start * steps[axis]):
            continue
        view = _view(grouping, value, group.position)
        axes = [(d, n) for d, n in enumerate(value.shape) if n != 1]
        source = Affine(view.offset, [(d, view.strides[d]) for d, _ in axes])
        place = Affine(start * steps[axis], [(d, steps[d]) for d, _ in axes])
        store = Store(out, place, Load(view.base, source, value.dtype))
        kernels.append(LoopKernel([op], [view.base], [out], outer=axes, stores=[store] if value.size else []))
    return kernels


def _view(grouping: Grouping, value: Value, position: int) -> View:
    """Where the kernel at a position reads an operand."""
    if grouping.is_before(value, position):
        return View(value, 0, strides(value.shape), value.shape, value.dtype)
    found = grouping.view(value, position)
    assert found is not None
    return View(found[0], found[1].offset, found[2], value.shape, value.dtype)


def _host(grouping: Grouping, group: Group, op: Op) -> Kernel:
    operands = [_view(grouping, value, group.position) for value in op.inputs]
    return HostKernel([op], [v.base for v in operands], list(op.outputs), operands)


def host_kernel(op: Op) -> HostKernel:
    """The kernel of an operation whose operands are in memory as they are."""
    operands = [View(v, 0, strides(v.shape), v.shape, v.dtype) for v in op.inputs]
    return HostKernel([op], list(op.inputs), list(op.outputs), operands)


def _loops(grouping: Grouping, group: Group, stored: set[Value]) -> LoopKernel:
    """The kernel of a group; an axis is split where an index asks for it."""
    while True:
        try:
            return _written_out(grouping, group, stored)
        except SplitAxis as split_axis:
            group.refine(split_axis)


def _written_out(grouping: Grouping, group: Group, stored: set[Value]) -> LoopKernel:
    name = _names(grouping, group, stored)
    results: dict[Value, Outside] = {}
    reader = Reader(group.sizes, name, grouping.graph.constants, results)
    kernel = LoopKernel([])
    kernel.outer = [(a, group.sizes[a]) for a in group.order if a not in (group.inner or ())]
    kernel.inner = [(a, group.sizes[a]) for a in group.order if a in (group.inner or ())]
    for value in group.values:
        op = value.op
        assert op is not None
        if op.primitive.name in REDUCTIONS:
            reader.ops[op] = None
            operand = reader.at(op.inputs[0], group.operand[value])
            if op.primitive.name in ("all", "any") and operand.dtype != np.bool_:
                operand = Call("astype", [operand], np.bool_)
            results[value] = Outside(value, value.dtype)
            kernel.reductions.append(Reduction(op.primitive.name, operand, results[value]))
    kernel.stores = _stores(group, reader, stored)
    kernel.ops = _in_order(grouping, reader)
    kernel.reads = _buffers([*(r.operand for r in kernel.reductions), *(s.expression for s in kernel.stores)])
    kernel.writes = [*(v for v in group.values if v in stored), *(out for out, *_ in group.slices)]
    return kernel


def _names(grouping: Grouping, group: Group, stored: set[Value]) -> Callable[[Value], Value | None]:
    """Which values a kernel finds in memory."""

    def name(value: Value) -> Value | None:
        if value in grouping.sources:
            return value
        maker = grouping.group_of.get(value)
        return value if value in stored and maker is not None and maker.position < group.position else None

    return name


def _stores(group: Group, reader: Reader, stored: set[Value]) -> list[Store]:
    """What a kernel writes for every index: values, and parts of values. There is nothing to write without elements."""
    stores = []
    for value in group.values:
        if value in stored and value not in group.sums and value.size:
            index = group.place[value]
            stores.append(Store(value, linear(value.shape, index), reader.at(value, index)))
    return stores + [Store(out, at, reader.at(part, index)) for out, at, part, index in group.slices if part.size]


def _in_order(grouping: Grouping, reader: Reader, *first: Op) -> list[Op]:
    """The operations that a kernel computes, as they stand in the graph."""
    return sorted({*first, *reader.ops}, key=grouping.order.__getitem__)


def _buffers(expressions: list[Expression]) -> list[Value]:
    """What expressions read, each once."""
    return list(dict.fromkeys(n.buffer for n in nodes(*expressions) if isinstance(n, Load)))


def _product(grouping: Grouping, group: Group, stored: set[Value]) -> GemmKernel:
    """The kernel of a matrix product or a convolution, and of what is computed from its elements."""
    op = group.product
    assert op is not None
    if op.primitive.name in CONVOLUTIONS:
        return _convolution(grouping, group, op, stored)
    product = Outside(op.output, op.output.dtype)
    reader = Reader(group.sizes, _names(grouping, group, stored), grouping.graph.constants, {op.output: product})
    a, b = (_view(grouping, v, group.position) for v in op.inputs)
    index = group.place[op.output]
    reduced, fresh = len(group.sizes), len(group.sizes) + 1
    depth = op.inputs[0].shape[-2 if op.params["transpose_a"] else -1]
    a_row, a_depth = a.strides[-2:] if not op.params["transpose_a"] else a.strides[:-3:-1]
    b_depth, b_column = b.strides[-2:] if not op.params["transpose_b"] else b.strides[:-3:-1]
    a_index = _batch_address(a, index) + index[-2] * a_row + Affine(0, [(reduced, a_depth)])
    b_index = _batch_address(b, index) + index[-1] * b_column + Affine(0, [(reduced, b_depth)])
    columns = [axis for axis, _ in index[-1].terms] or [fresh]
    others = [axis for axis in group.order if axis not in columns]
    batch = [axis for axis in others if b_index.coefficient(axis)]
    stores = _stores(group, reader, stored)
    sums = [
        Store(v, linear(v.shape, group.place[v]), reader.at(v.op.inputs[0], at))  # type: ignore[union-attr]
        for v, at in group.sums.items()
    ]
    gemm = Gemm(
        batch=[(axis, group.sizes[axis]) for axis in batch],
        rows=[(axis, group.sizes[axis]) for axis in others if axis not in batch],
        columns=(columns[0], group.sizes.get(columns[0], 1)),
        reduced=[(reduced, depth)],
        a=Operand(a.base, a_index),
        b=Operand(b.base, b_index),
        product=product,
        stores=stores,
        sums=sums,
    )
    ops = _in_order(grouping, reader, op, *(v.op for v in group.sums if v.op is not None))
    reads = [a.base, b.base, *_buffers([s.expression for s in (*stores, *sums)])]
    return GemmKernel(ops, list(dict.fromkeys(reads)), [s.buffer for s in (*stores, *sums)], gemm)


def _convolution(grouping: Grouping, group: Group, op: Op, stored: set[Value]) -> GemmKernel:
    product = Outside(op.output, op.output.dtype)
    reader = Reader(group.sizes, _names(grouping, group, stored), grouping.graph.constants, {op.output: product})
    a, b = (_view(grouping, v, group.position) for v in op.inputs)
    stores = _stores(group, reader, stored)
    work = convolution(op, a, b, group.place[op.output], product, stores)
    ops = _in_order(grouping, reader, op)
    reads = [a.base, b.base, *_buffers([s.expression for s in stores])]
    return GemmKernel(ops, list(dict.fromkeys(reads)), [s.buffer for s in stores], work)


def _batch_address(view: View, index: Index) -> Affine:
    """The address of an operand's matrix for the result at an index."""
    total = Affine(view.offset)
    for n, step, at in zip(view.shape[-3::-1], view.strides[-3::-1], index[-3::-1], strict=False):
        if n != 1:
            total = total + at * step
    return total
