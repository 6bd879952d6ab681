"""Elements of a loop nest: where it is in its index space, and how leaves are read and results written there."""

from __future__ import annotations

import numpy as np

from ..schedule.kernels import Store
from .expression import Affine, Call, Const, Expression, Load, Position, nodes
from .ir import I1, I8, I64, Function, Value, type_of, vector
from .pointwise import emit_call, register_type

_BOOL = np.dtype(bool)


class LoopElements:
    """The state of the code of a loop nest, with what turns expressions into instructions there.

    Attributes:
        f, arguments: the function, and which of its arguments is the address of a buffer with an offset.
        width: elements of a vector.
        vector_axis, length: the axis that runs in vectors, if any, and its length.
        vertical: whether it is an outer axis, along which reductions keep their lanes apart.
        inner: the other inner axes.
        axis: the index along each axis but that one.
        base, part: the first vector along the vector axis, and how many vectors further on the code is.
        mask: the lanes that exist; None for all.
        changing: nodes that change along the inner axes.
        kept, kept_at: memory for values that later passes need again, and the pass that computes them.
        now: the pass.
    """

    f: Function
    arguments: dict[tuple[object, int], int]
    width: int
    vector_axis: int | None
    length: int
    vertical: bool
    inner: list[tuple[int, int]]
    axis: dict[int, Value]
    base: Value | None
    part: int
    mask: Value | None
    changing: set[int]
    kept: dict[int, Value]
    kept_at: dict[int, int]
    now: int

    def _vector_base(self) -> Value:
        assert self.base is not None
        return self.base + self.part * self.width if self.vertical else self.base

    def _wide(self, value: Value) -> Value:
        return value if value.type.lanes or self.vector_axis is None else self.f.broadcast(value, self.width)

    def _evaluate(self, expression: Expression, memo: dict[int, Value]) -> Value:
        for node in nodes(expression) if id(expression) not in memo else ():
            if id(node) in memo:
                continue
            if isinstance(node, Const):
                memo[id(node)] = self.f.constant(register_type(node.dtype), node.value)
            elif isinstance(node, Call):
                memo[id(node)] = self._call(node, memo)
            elif isinstance(node, Load):
                memo[id(node)] = self._load(node, memo)
            elif isinstance(node, Position):
                memo[id(node)] = self._position(node.index, memo)
            else:
                raise AssertionError(f"{node} is not known yet")
        return memo[id(expression)]

    def _call(self, node: Call, memo: dict[int, Value]) -> Value:
        scratch = self.kept.get(id(node)) if id(node) in self.changing else None
        if scratch is not None and self.kept_at[id(node)] < self.now:
            return self.f.load(vector(register_type(node.dtype), self.width), scratch, self._inner_position())
        value = emit_call(self.f, node, [memo[id(o)] for o in node.operands])
        if scratch is not None:
            self.f.store(self._wide(value), scratch, self._inner_position())
        return value

    def _inner_position(self) -> Value:
        """The place of a vector in a row that is kept between passes."""
        total = self.f.index(0)
        step = self.length
        for axis, n in reversed(self.inner):
            total = total + self.axis[axis] * step
            step *= n
        return total + self._vector_base()

    def _scalar_part(self, at: Affine, memo: dict[int, Value]) -> tuple[Value, list[Value]]:
        """The address of the first lane, and what is added in each lane beside the vector axis."""
        f = self.f
        total: Value = f.index(0)
        for axis, c in at.terms:
            if axis == self.vector_axis:
                total = total + self._vector_base() * c
            elif axis in self.axis:
                total = total + self.axis[axis] * c
        wide = []
        for e, c in at.dynamic:
            value = memo[id(e)] * c
            if value.type.lanes:
                wide.append(value)
            else:
                total = total + value
        return total, wide

    def _position(self, at: Affine, memo: dict[int, Value]) -> Value:
        total, wide = self._scalar_part(at, memo)
        total = total + at.offset
        c = at.coefficient(self.vector_axis) if self.vector_axis is not None else 0
        if c:
            wide.append(self.f.lanes(I64, [c * i for i in range(self.width)]))
        for value in wide:
            total = self.f.binary("add", total, value)
        return total

    def _load(self, node: Load, memo: dict[int, Value]) -> Value:
        f = self.f
        pointer = f.arguments[self.arguments[node.buffer, node.index.offset]]
        memory = type_of(node.dtype)
        guard = memo[id(node.guard)] if node.guard is not None else None
        c = node.index.coefficient(self.vector_axis) if self.vector_axis is not None else 0
        total, wide = self._scalar_part(node.index, memo)
        if not c and not wide and (guard is None or not guard.type.lanes):
            if guard is None:
                value = f.load(memory, pointer, total)
            else:
                # The start of the buffer can be read whatever the guard says.
                safe = f.select(guard, total, -node.index.offset)
                value = f.select(guard, f.load(memory, pointer, safe), 0)
        else:
            type = vector(memory, self.width)
            mask = self.mask
            if guard is not None:
                wide_guard = guard if guard.type.lanes else f.broadcast(guard, self.width)
                mask = wide_guard if mask is None else mask & wide_guard
            if c == 1 and not wide:
                value = f.load_masked(type, pointer, mask, total)
            elif c == 2 and not wide and mask is None:
                # Every second of two vectors; the last element of them may lie outside.
                left = f.load(type, pointer, total)
                right = f.load_masked(type, pointer, f.mask(self.width, self.width - 1), total + self.width)
                value = f.shuffle(left, right, range(0, 2 * self.width, 2))
            else:
                index = f.lanes(I64, [c * i for i in range(self.width)])
                for more in wide:
                    index = index + more
                value = f.gather(type, pointer, f.binary("add", index, total), mask)
        return f.compare("ne", value, 0) if node.dtype == _BOOL else value

    def _store(self, s: Store, value: Value) -> None:
        f = self.f
        pointer = f.arguments[self.arguments[s.buffer, s.index.offset]]
        if value.type.scalar is I1:
            value = f.cast("zext", value, vector(I8, value.type.lanes))
        total, _ = self._scalar_part(s.index, {})
        c = s.index.coefficient(self.vector_axis) if self.vector_axis is not None else 0
        if not c:
            f.store(f.extract(value, 0) if value.type.lanes else value, pointer, total)
            return
        value = self._wide(value)
        if c == 1:
            f.store_masked(value, pointer, self.mask, total)
        else:
            index = f.binary("add", f.lanes(I64, [c * i for i in range(self.width)]), total)
            f.scatter(value, pointer, index, self.mask)
