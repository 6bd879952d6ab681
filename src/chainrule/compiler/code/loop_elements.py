"""Elements of a loop nest: where it is in its index space, and how leaves are read and results written there."""

from __future__ import annotations

import math

import numpy as np

from ..schedule.kernels import Store
from .expression import Affine, Call, Const, Expression, Load, Position, nodes
from .ir import I1, I8, I64, Function, Type, Value, type_of, vector
from .pointwise import emit_call, register_type

_BOOL = np.dtype(bool)
_SHORTEST, _LONGEST = 1 << 11, 1 << 13  # bytes that follow one another, of which the next are asked for ahead


class LoopElements:
    """The state of the code of a loop nest, with what turns expressions into instructions there.

    Attributes:
        f, arguments: the function, and which of its arguments is the address of a buffer with an offset.
        width: elements of a vector.
        vector_axis, length: the axis that runs in vectors, if any, and its length, with that of `folded`.
        folded: axes before it, with their lengths, that share its one vector.
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
    folded: list[tuple[int, int]]
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

    def _steps(self, at: Affine) -> int | list[int]:
        """How an address moves from lane to lane: by as much each time, or to these distances from the first."""
        if self.vector_axis is None:
            return 0
        if not self.folded:
            return at.coefficient(self.vector_axis)
        own = self.length // math.prod(n for _, n in self.folded)
        distances = [0]
        for axis, n in (*self.folded, (self.vector_axis, own)):
            c = at.coefficient(axis)
            distances = [d + c * i for d in distances for i in range(n)]
        step = distances[1] if len(distances) > 1 else 0
        if distances == [step * i for i in range(self.length)]:
            return step
        return distances + [distances[-1]] * (self.width - self.length)

    def _lanes_of(self, steps: int | list[int]) -> Value:
        return self.f.lanes(I64, [steps * i for i in range(self.width)] if isinstance(steps, int) else steps)

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
        steps = self._steps(at)
        if steps:
            wide.append(self._lanes_of(steps))
        for value in wide:
            total = self.f.binary("add", total, value)
        return total

    def _load(self, node: Load, memo: dict[int, Value]) -> Value:
        f = self.f
        pointer = f.arguments[self.arguments[node.buffer, node.index.offset]]
        memory = type_of(node.dtype)
        guard = memo[id(node.guard)] if node.guard is not None else None
        steps = self._steps(node.index)
        total, wide = self._scalar_part(node.index, memo)
        if not steps and not wide and (guard is None or not guard.type.lanes):
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
            if steps == 1 and not wide:
                value = f.load_masked(type, pointer, mask, total)
                self._prefetch(node.index, pointer, total, memory)
            elif isinstance(steps, list) and not wide and guard is None and max(steps) - min(steps) < self.width:
                # A few neighbours, that the lanes choose from.
                near = f.mask(self.width, max(steps) - min(steps) + 1)
                some = f.load_masked(type, pointer, near, total + min(steps))
                value = f.shuffle(some, some, [d - min(steps) for d in steps])
            elif steps == 2 and not wide and mask is None:
                # Every second of two vectors; the last element of them may lie outside.
                left = f.load(type, pointer, total)
                right = f.load_masked(type, pointer, f.mask(self.width, self.width - 1), total + self.width)
                value = f.shuffle(left, right, range(0, 2 * self.width, 2))
            else:
                index = self._lanes_of(steps)
                for more in wide:
                    index = index + more
                value = f.gather(type, pointer, f.binary("add", index, total), mask)
        return f.compare("ne", value, 0) if node.dtype == _BOOL else value

    def _prefetch(self, at: Affine, pointer: Value, total: Value, memory: Type) -> None:
        """Asks for what the next row of a short stretch of memory holds here: no stretch is long enough for the
        processor to see where it goes on. In later passes it is near already."""
        if self.vertical or not self.inner or self.now or self.vector_axis is None:
            return
        step, stretch = at.coefficient(self.inner[-1][0]) * memory.nbytes, self.length * memory.nbytes
        if _SHORTEST <= stretch <= _LONGEST and step >= 4 * stretch:
            self.f.prefetch(self.f.offset(self.f.element(pointer, total, memory), step))

    def _store(self, s: Store, value: Value) -> None:
        f = self.f
        pointer = f.arguments[self.arguments[s.buffer, s.index.offset]]
        if value.type.scalar is I1:
            value = f.cast("zext", value, vector(I8, value.type.lanes))
        total, _ = self._scalar_part(s.index, {})
        steps = self._steps(s.index)
        if not steps:
            f.store(f.extract(value, 0) if value.type.lanes else value, pointer, total)
            return
        value = self._wide(value)
        if steps == 1:
            f.store_masked(value, pointer, self.mask, total)
        else:
            f.scatter(value, pointer, f.binary("add", self._lanes_of(steps), total), self.mask)
