"""What is computed together: every operation is given a kernel.

Operations are taken in order. One that only moves elements belongs to no kernel: whoever reads its
result computes the address. A pointwise operation or a reduction joins the latest kernel among those
that compute its operands, if it reads them at the index at which they are computed and everything
else is in memory before that kernel runs; otherwise it starts a kernel. A kernel's reductions all run
over the same axes, its inner ones: what is computed from their results (a row's mean, and then the
row minus it) stays in the kernel, as further passes over a row that is in the cache by then.

All other operations (scatters, what NumPy has to do) are kernels of
their own, with operands in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..code.expression import Affine, Expression, Load, nodes
from ..graph import Graph, Op, Value
from .access import Index, NotAffine, Reader, Sizes, SplitAxis, broadcast, is_movement, linear, split
from .group import Group, axes_of
from .kinds import (
    CONVOLUTIONS,
    DEAR,
    REDUCTIONS,
    is_pointwise,
    is_product,
    is_representable,
    late_values,
    needed_operations,
)

_MOST = 100  # values of one kernel: what a person can still read
_SMALL = 1 << 14  # elements that may be computed long before they are read
_EARLY = 1 << 30  # what the positions of kernels that run first are lowered by
_SERIAL = 1 << 15  # elements below which a kernel needs no second thread
_SAME_MEMORY = ("reshape", "identity")


class Grouping:
    """The kernels of a graph. `groups` are in the order in which they can run."""

    def __init__(
        self, graph: Graph, opaque_layout: Callable[[Op, int], bool], before_updates: Sequence[Value] = ()
    ) -> None:
        self.graph = graph
        self.groups: list[Group] = []
        self.group_of: dict[Value, Group] = {}
        self._readers: dict[Value, list[Group]] = {}
        self._scalars: Group | None = None
        self._latest: int | None = None
        self.sources = set(graph.inputs) | set(graph.constants)
        self._takes_views = opaque_layout
        needed = needed_operations(graph)
        self.order = {op: position for position, op in enumerate(graph.ops)}
        late = late_values(graph)
        for op in needed:
            if op.outputs[0] not in late:
                self._assign(op, late=False)
        for value in before_updates:
            if not self.is_leaf(value):
                self._store(value)
        for op in needed:
            if op.outputs[0] in late:
                self._assign(op, late=True)
        self._outputs()
        self.groups.sort(key=lambda group: group.position)

    def is_leaf(self, value: Value) -> bool:
        """Whether a kernel other than its own finds the value in memory (if that is what is decided for it)."""
        return value in self.group_of or value in self.sources

    def is_before(self, value: Value, position: int) -> bool:
        """Whether the kernel at a position finds the value in memory (if that is what is decided for it)."""
        maker = self.group_of.get(value)
        return value in self.sources or (maker is not None and maker.position < position)

    def _assign(self, op: Op, late: bool) -> None:
        name = op.primitive.name
        if is_movement(op) and is_representable(op):
            return
        if is_pointwise(op):
            if op.output.size != 1:
                self._pointwise(op.output, late)
            elif name in DEAR and self._is_early(op.output):
                self._scalar(op.output)
            return
        if name in REDUCTIONS and is_representable(op):
            self._reduction(op, late)
            return
        if is_product(op):
            self._product(op, late)
            return
        if name == "concat" and is_representable(op) and all(v.dtype == op.output.dtype for v in op.inputs):
            self._concat(op, late)
            return
        for position, value in enumerate(op.inputs):
            self._ensure(value, views=self._takes_views(op, position))
        group = Group(len(self.groups), op, late=late)
        self.groups.append(group)
        for value in op.outputs:
            self.group_of[value] = group

    def _pointwise(self, value: Value, late: bool) -> None:
        self._latest = None
        for group in self._candidates(value, late):
            if self._comes_too_early(group):
                continue
            if _is_postponed(value) and not any(map(_is_postponed, group.values)):
                continue
            index = group.fit(value.shape)
            if index is not None and self._can_join(group, value, index):
                self._join(group, value, index)
                return
        group = self._new(value, value.shape, late)
        self._join(group, value, group.place.pop(value))

    def _product(self, op: Op, late: bool) -> None:
        for value in op.inputs:
            self._ensure(value, views=True)
        group = Group(len(self.groups), product=op, late=late)
        self.groups.append(group)
        self._join(group, op.output, group.index_space(op.output.shape))

    def _concat(self, op: Op, late: bool) -> None:
        """Parts are written where they belong by the kernels that compute them; the rest is copied."""
        out, axis = op.output, op.params["axis"]
        group = Group(0, op, late=late)
        group.is_assembled = True
        start = 0
        for value in op.inputs:
            found = self._made_by(value, late)
            if found is None:
                self._ensure(value, views=True)
                group.parts.append((value, start))
            else:
                maker, index = found
                at = linear(out.shape, (*index[:axis], index[axis] + start, *index[axis + 1 :]))
                maker.slices.append((out, at, value, index))
            start += value.shape[axis]
        group.position = len(self.groups)
        self.groups.append(group)
        self.group_of[out] = group

    def _made_by(self, value: Value, late: bool) -> tuple[Group, Index] | None:
        """The kernel that computes a value's elements, and the value's index there; None if that does not suit.

        It suits if the kernel can write the elements in their new order without losing its step of one.
        """
        chain: list[Op] = []
        source = value
        while not self.is_leaf(source):
            op = source.op
            if op is None or op.primitive.name not in ("reshape", "permute_dims", "identity"):
                return None
            chain.append(op)
            source = op.inputs[0]
        group = self.group_of.get(source)
        if group is None or group.opaque is not None or group.late != late or source in group.sums:
            return None
        index = group.place[source]
        if not group.order or axes_of(index) != frozenset(group.order):
            return None
        for op in reversed(chain):
            if op.primitive.name == "permute_dims":
                index = tuple(index[a] for a in op.params["axes"])
            elif op.primitive.name == "reshape":
                try:
                    index = split(linear(op.inputs[0].shape, index), op.output.shape, group.sizes, source)
                except (NotAffine, SplitAxis):
                    return None
        if linear(value.shape, index).coefficient(group.order[-1]) != 1:
            return None
        return group, index

    def _scalar(self, value: Value) -> None:
        """A number that only what is given determines: computed once, at the beginning."""
        index = (Affine(),) * value.ndim
        group = self._scalars
        if group is None or len(group.values) >= _MOST or not self._can_join(group, value, index):
            self._scalars = self._new(value, value.shape, late=False)
            self._scalars.place.clear()
            group = self._scalars
        self._join(group, value, index)

    def _is_early(self, value: Value) -> bool:
        """Whether inputs and constants, or kernels that read only those, determine a value."""
        return all(v in self.sources or self.group_of[v].position < 0 for v in self.leaves(value))

    def leaves(self, value: Value, position: int | None = None) -> set[Value]:
        """What is in memory, or computed by a kernel (up to the one at a position), and a value is computed from."""
        last = len(self.groups) if position is None else position + 1
        found: set[Value] = set()
        stack = list(value.op.inputs) if value.op is not None else []
        seen: set[Value] = set()
        while stack:
            v = stack.pop()
            if v in seen:
                continue
            seen.add(v)
            if self.is_before(v, last):
                found.add(v)
            elif v.op is not None:
                stack.extend(v.op.inputs)
        return found

    def _reduction(self, op: Op, late: bool) -> None:
        x, value = op.inputs[0], op.output
        axes = op.params["axis"]
        axes = (axes,) if isinstance(axes, int) else axes
        self._latest = None
        for group in self._candidates(value, late):
            if self._comes_too_early(group):
                continue
            index = group.fit(x.shape, whole=True)
            if index is None or not self._can_join(group, value, index, operand=True):
                continue
            inner = axes_of(index[a] for a in axes)
            kept = axes_of(index[d] for d in range(x.ndim) if d not in axes)
            if group.product is not None:
                if op.primitive.name == "sum" and _adds_rows(group, inner):
                    group.sums[value] = index
                    self._join(group, value, _result_index(index, axes, value.ndim))
                    return
                continue
            if inner & kept or group.inner not in (None, inner):
                continue
            if group.inner is None and not self._worth(group, inner):
                continue
            group.inner = inner
            group.operand[value] = index
            self._join(group, value, _result_index(index, axes, value.ndim))
            return
        group = self._new(value, x.shape, late, operand=True)
        index = group.place.pop(value)
        group.inner = axes_of(index[a] for a in axes)
        group.operand[value] = index
        self._join(group, value, _result_index(index, axes, value.ndim))

    def _worth(self, group: Group, inner: frozenset[int]) -> bool:
        """Whether a kernel should be turned into one with these inner axes: it keeps enough to share."""
        outer = group.elements(a for a in group.order if a not in inner)
        return outer >= 8 or group.elements(group.order) <= _SERIAL

    def _join(self, group: Group, value: Value, index: Index) -> None:
        group.values.append(value)
        group.place[value] = index
        self.group_of[value] = group
        for leaf in self.leaves(value):
            if leaf.size > 1 and group not in self._readers.setdefault(leaf, []):
                self._readers[leaf].append(group)

    def _new(self, value: Value, shape: Sequence[int], late: bool, *, operand: bool = False) -> Group:
        """A kernel over `shape`, with everything that it cannot address in memory before it."""
        while True:
            group = Group(0, late=late)
            group.place[value] = group.index_space(shape)
            try:
                while True:
                    try:
                        self.loads(group, value, group.place[value], operand=operand)
                        break
                    except SplitAxis as split_axis:
                        group.refine(split_axis)
            except NotAffine as missing:
                self._store(missing.value, late)
                continue
            # What the inputs alone determine comes first, where it is small: any kernel can then read it.
            early = group.elements(group.order) <= _SMALL and not late and self._is_early(value)
            group.position = len(self.groups) - (_EARLY if early else 0)
            self.groups.append(group)
            return group

    def _store(self, value: Value, late: bool = False) -> None:
        """Have a value that is only moved written to memory: by the kernel that computes it, or one of its own."""
        found = self._made_by(value, late)
        if found is not None:
            self._join(found[0], value, found[1])
            return
        group = self._new(value, value.shape, late)
        self._join(group, value, group.place.pop(value))

    def _ensure(self, value: Value, *, views: bool) -> None:
        """Have a value in memory: as it is, or (`views`) moved about."""
        if self.is_leaf(value):
            return
        try:
            if views and self.view(value) is not None:
                return
        except (NotAffine, SplitAxis):
            pass
        self._store(value)

    def view(self, value: Value, position: int | None = None) -> tuple[Value, Affine, tuple[int, ...]] | None:
        """Where in memory the kernel at a position (by default, one that comes last) can read a value: what is there,
        the address of the first element as `Affine` constant and the strides; None if it has to be computed."""
        index = tuple(Affine(0, [(d, 1)]) if n != 1 else Affine() for d, n in enumerate(value.shape))
        sizes = Sizes(dict(enumerate(value.shape)))
        last = len(self.groups) if position is None else position
        reader = Reader(sizes, lambda v: v if self.is_before(v, last) else None, {})
        found = reader.at(value, index)
        if not isinstance(found, Load) or found.guard is not None or found.index.dynamic:
            return None
        steps = tuple(found.index.coefficient(d) for d in range(value.ndim))
        return found.buffer, Affine(found.index.offset), steps

    def loads(self, group: Group, value: Value, index: Index, *, operand: bool = False) -> list[Load]:
        """What the computation of a value at an index reads.

        Raises:
            NotAffine, SplitAxis: it cannot be addressed in the kernel's axes.
        """
        if group.reader is None:
            group.reader = Reader(group.sizes, self._name, self.graph.constants)
        found = self._expressions(group.reader, value, index, operand)
        return [n for n in nodes(*found) if isinstance(n, Load)]

    def _expressions(self, reader: Reader, value: Value, index: Index, operand: bool) -> list[Expression]:
        op = value.op
        assert op is not None
        if operand:
            return [reader.at(op.inputs[0], index)]
        if is_movement(op):
            return [reader.at(value, index)]
        return [reader.at(v, broadcast(index, v.shape)) for v in op.inputs]

    def _name(self, value: Value) -> Value | None:
        return value if self.is_leaf(value) else None

    def _candidates(self, value: Value, late: bool) -> list[Group]:
        """The kernels that compute what a value is computed from, or read the same: the latest first."""
        makers: dict[int, Group] = {}
        siblings: dict[int, Group] = {}
        for leaf in self.leaves(value):
            group = self.group_of.get(leaf)
            if group is not None:
                makers[group.position] = group
            # A product's epilogue may be computed again by whoever reads it: all that read any of it meet.
            for read in group.values if group is not None and group.product is not None else (leaf,):
                siblings.update((g.position, g) for g in self._readers.get(read, ()))
        ordered = [makers[p] for p in sorted(makers, reverse=True)]
        others = [siblings[p] for p in sorted(siblings, reverse=True) if p not in makers]
        ordered += [group for group in others if group.product is None]
        return [g for g in ordered if g.opaque is None and g.late == late and len(g.values) < _MOST]

    def _comes_too_early(self, group: Group) -> bool:
        """Whether a kernel runs before one that the value in question reads from, as was found for another kernel.

        The readers of one array may be many, such as all steps of a recurrent network.
        """
        return self._latest is not None and group.position < self._latest

    def _can_join(self, group: Group, value: Value, index: Index, *, operand: bool = False) -> bool:
        try:
            loads = self.loads(group, value, index, operand=operand)
        except (NotAffine, SplitAxis):
            return False
        makers = [self.group_of.get(load.buffer) for load in loads]
        self._latest = max((maker.position for maker in makers if maker is not None), default=None)
        for load, maker in zip(loads, makers, strict=True):
            if group.product is not None and (load.guard is not None or load.index.dynamic):
                return False
            if maker is group:
                if load.buffer in group.sums:
                    return False
                if load.index != linear(load.buffer.shape, group.place[load.buffer]):
                    return False
            elif maker is not None and maker.position >= group.position:
                return False
        return True

    def _outputs(self) -> None:
        """Have every output in memory."""
        scalars = None
        for value in self.graph.outputs:
            if self.is_leaf(value):
                continue
            if value.size != 1 or scalars is None or len(scalars.values) >= _MOST:
                if self._stored_source(value) is not None:
                    continue
                self._store(value, late=True)
                if value.size == 1:
                    scalars = self.group_of[value]
            else:
                self._join(scalars, value, (Affine(),) * value.ndim)

    def _stored_source(self, value: Value) -> Value | None:
        """The computed value of which this one is a reshape: it can be put where the output is wanted."""
        source = value
        while not self.is_leaf(source) and source.op is not None and source.op.primitive.name in _SAME_MEMORY:
            source = source.op.inputs[0]
        if source in self.group_of and source not in self.graph.outputs and source.dtype == value.dtype:
            others = [o for o in self.graph.outputs if o is not value and self._root(o) is source]
            return source if not others else None
        return None

    def _root(self, value: Value) -> Value:
        while not self.is_leaf(value) and value.op is not None and value.op.primitive.name in _SAME_MEMORY:
            value = value.op.inputs[0]
        return value

    def output_sources(self) -> dict[Value, Value]:
        """For outputs that are reshapes of computed values: that value."""
        found = {}
        for value in self.graph.outputs:
            if not self.is_leaf(value):
                source = self._stored_source(value)
                assert source is not None
                found[value] = source
        return found


def _is_postponed(value: Value) -> bool:
    return value.op is not None and value.op.postponed


def _adds_rows(group: Group, inner: frozenset[int]) -> bool:
    """Whether a sum over these axes leaves the columns of a product that has no batch."""
    assert group.product is not None
    if group.product.primitive.name in CONVOLUTIONS:
        return False
    _, b = group.product.inputs
    columns = axes_of(group.place[group.product.output][-1:])
    return bool(inner) and int(np.prod(b.shape[:-2])) == 1 and inner == frozenset(group.order) - columns


def _result_index(index: Index, axes: Sequence[int], ndim: int) -> Index:
    if ndim == len(index):
        return tuple(Affine() if d in axes else at for d, at in enumerate(index))
    return tuple(at for d, at in enumerate(index) if d not in axes)
