"""Expressions of a dense kernel's results, evaluated for a vector of consecutive elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..schedule.kernels import Store
from .expression import Affine, Call, Const, Expression, Load, Position, nodes
from .ir import I1, I8, I64, Function, Value, type_of, vector
from .pointwise import emit_call, register_type

_LINE = 64  # bytes of a line of the caches


class Elements:
    """Where a kernel is in its index space, and how leaves are read and results written there.

    Attributes:
        f: the function to write to; its arguments begin with the buffers' addresses.
        arguments: for each buffer and offset the position of its address.
        vector_axis: the axis that runs in vectors; `step` is how far its index moves from lane to lane.
        axis: the index along each axis (that of the first lane); an axis that is missing has length 1.
        mask: the lanes that exist; None for all.
    """

    def __init__(
        self, f: Function, arguments: dict[tuple[Any, int], int], vector_axis: int, lanes: int, step: int = 1
    ) -> None:
        self.f, self.arguments, self.vector_axis, self.lanes, self.step = f, arguments, vector_axis, lanes, step
        self.axis: dict[int, Value] = {}
        self.mask: Value | None = None

    def evaluate(self, expression: Expression, memo: dict[int, Value]) -> Value:
        """The expression's value; `memo` holds values of nodes (by id) and is added to."""
        f = self.f
        for node in nodes(expression) if id(expression) not in memo else ():
            if id(node) in memo:
                continue
            if isinstance(node, Const):
                memo[id(node)] = f.constant(register_type(node.dtype), node.value)
            elif isinstance(node, Call):
                memo[id(node)] = emit_call(f, node, [memo[id(o)] for o in node.operands])
            elif isinstance(node, Load):
                memo[id(node)] = self._load(node)
            elif isinstance(node, Position):
                memo[id(node)] = self._position(node.index)
            else:
                raise AssertionError(f"{node} is not known here")
        return memo[id(expression)]

    def wide(self, value: Value) -> Value:
        return value if value.type.lanes else self.f.broadcast(value, self.lanes)

    def prefetch(self, stores: Sequence[Store], count: Value | int) -> None:
        """Asks for what the stores will read and write along the vector axis, for so many elements from here on."""
        f = self.f
        loads = [n for n in nodes(*(s.expression for s in stores)) if isinstance(n, Load)]
        places = [(n.buffer, n.index, n.dtype) for n in loads]
        places += [(s.buffer, s.index, s.expression.dtype) for s in stores]
        for buffer, index, dtype in places:
            first, step = self._at(index)
            if step == 1:
                pointer, memory = f.arguments[self.arguments[buffer, index.offset]], type_of(dtype)
                with f.loop(first, first + count, _LINE // memory.nbytes) as loop:
                    f.prefetch(f.element(pointer, loop.index, memory))

    def _at(self, index: Affine) -> tuple[Value, int]:
        """The address of the first lane, and the step from lane to lane."""
        total: Value = self.f.index(0)
        for axis, c in index.terms:
            if axis in self.axis:
                total = total + self.axis[axis] * c
        return total, index.coefficient(self.vector_axis) * self.step

    def _lanes(self, first: Value, step: int) -> Value:
        return self.f.binary("add", self.f.lanes(I64, [step * i for i in range(self.lanes)]), first)

    def _position(self, index: Affine) -> Value:
        first, step = self._at(index)
        first = first + index.offset
        return self._lanes(first, step) if step else first

    def _load(self, node: Load) -> Value:
        f = self.f
        pointer = f.arguments[self.arguments[node.buffer, node.index.offset]]
        memory = type_of(node.dtype)
        first, step = self._at(node.index)
        if not step:
            value = f.load(memory, pointer, first)
        elif step == 1:
            value = f.load_masked(vector(memory, self.lanes), pointer, self.mask, first)
        else:
            value = f.gather(vector(memory, self.lanes), pointer, self._lanes(first, step), self.mask)
        return f.compare("ne", value, 0) if node.dtype == np.dtype(bool) else value

    def store(self, s: Store, memo: dict[int, Value]) -> None:
        """Writes the value of a store's expression."""
        f = self.f
        value = self.wide(self.evaluate(s.expression, memo))
        pointer = f.arguments[self.arguments[s.buffer, s.index.offset]]
        if value.type.scalar is I1:
            value = f.cast("zext", value, vector(I8, self.lanes))
        first, step = self._at(s.index)
        if step == 1:
            f.store_masked(value, pointer, self.mask, first)
        else:
            f.scatter(value, pointer, self._lanes(first, step), self.mask)


def pointers(operands: Sequence[tuple[Any, int]], stores: Sequence[Store]) -> list[tuple[Any, int]]:
    """Buffers with offsets (in elements) whose addresses a kernel takes: operands, then what expressions read."""
    loads = [n for n in nodes(*(s.expression for s in stores)) if isinstance(n, Load)]
    found = [*operands, *((n.buffer, n.index.offset) for n in loads), *((s.buffer, s.index.offset) for s in stores)]
    return list(dict.fromkeys(found))


def can_fuse(expression: Expression) -> bool:
    """Whether an expression may be computed with a dense kernel's results: its addresses are affine and valid."""
    return all(
        not n.index.dynamic and getattr(n, "guard", None) is None
        for n in nodes(expression)
        if isinstance(n, Load | Position)
    )
