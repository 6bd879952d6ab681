"""Scalar expressions over an index space: what one element of a result is.

A kernel has an index space with numbered axes (a loop nest, or the tile of a matrix product). An
expression says what is computed at one index: loads whose address is affine in the index, numbers,
the index itself, and primitives applied to those. It is a tree with shared nodes: a node that occurs
several times is computed once. The same expression is written to code for one element or for a
vector of them (`emit`); how a leaf is read is the kernel's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from .ir import Function, Value
from .pointwise import emit_call, register_type


class Affine:
    """offset + Σ coefficient · index[axis] + Σ coefficient · expression: an address or a position, in elements.

    Attributes:
        offset: the constant.
        terms: pairs (axis, coefficient), by axis, without zeros.
        dynamic: pairs (int64 expression, coefficient): positions that are read from data.
    """

    __slots__ = ("dynamic", "offset", "terms")

    def __init__(
        self,
        offset: int = 0,
        terms: Iterable[tuple[int, int]] = (),
        dynamic: Iterable[tuple[Expression, int]] = (),
    ) -> None:
        self.offset = offset
        self.terms = tuple(sorted((axis, c) for axis, c in terms if c))
        self.dynamic = tuple((e, c) for e, c in dynamic if c)

    def coefficient(self, axis: int) -> int:
        """How far one step along an axis moves."""
        return next((c for a, c in self.terms if a == axis), 0)

    def __add__(self, other: Affine | int) -> Affine:
        if isinstance(other, int):
            return Affine(self.offset + other, self.terms, self.dynamic)
        found = dict(self.terms)
        for axis, c in other.terms:
            found[axis] = found.get(axis, 0) + c
        return Affine(self.offset + other.offset, found.items(), (*self.dynamic, *other.dynamic))

    def __mul__(self, factor: int) -> Affine:
        return Affine(
            self.offset * factor,
            [(axis, c * factor) for axis, c in self.terms],
            [(e, c * factor) for e, c in self.dynamic],
        )

    def _key(self) -> tuple[object, ...]:
        return self.offset, self.terms, tuple((id(e), c) for e, c in self.dynamic)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Affine) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        dynamic = (f"{c}·[{e}]" for e, c in self.dynamic)
        return " + ".join([*(f"{c}·i{axis}" for axis, c in self.terms), *dynamic, str(self.offset)])


class Expression:
    """What one element is. `dtype` is its NumPy data type."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: Any) -> None:
        self.dtype = np.dtype(dtype)

    @property
    def operands(self) -> tuple[Expression, ...]:
        return ()


class Const(Expression):
    """A number."""

    __slots__ = ("value",)

    def __init__(self, value: Any, dtype: Any) -> None:
        super().__init__(dtype)
        self.value = self.dtype.type(value).item()


class Position(Expression):
    """An affine function of the index, as int64."""

    __slots__ = ("index",)

    def __init__(self, index: Affine) -> None:
        super().__init__(np.int64)
        self.index = index

    @property
    def operands(self) -> tuple[Expression, ...]:
        return tuple(e for e, _ in self.index.dynamic)


class Load(Expression):
    """An element of a buffer.

    Attributes:
        buffer: the kernel's name for the buffer.
        index: its address from the buffer's start, in elements.
        guard: a bool expression; where it is false nothing is read and the value is 0.
    """

    __slots__ = ("buffer", "guard", "index")

    def __init__(self, buffer: Any, index: Affine, dtype: Any, guard: Expression | None = None) -> None:
        super().__init__(dtype)
        self.buffer = buffer
        self.index = index
        self.guard = guard

    @property
    def operands(self) -> tuple[Expression, ...]:
        return (*(e for e, _ in self.index.dynamic), *(() if self.guard is None else (self.guard,)))


class Call(Expression):
    """A pointwise primitive applied to expressions.

    Attributes:
        name: the primitive's name (`add`, `where`, `less`, `astype`, …).
        params: its static parameters that are not in the data types (`n` of `integer_power`).
    """

    __slots__ = ("name", "operands_", "params")

    def __init__(self, name: str, operands: Sequence[Expression], dtype: Any, params: Any = None) -> None:
        super().__init__(dtype)
        self.name = name
        self.operands_ = tuple(operands)
        self.params: dict[str, Any] = dict(params or {})

    @property
    def operands(self) -> tuple[Expression, ...]:
        return self.operands_


class Outside(Expression):
    """A value that the kernel has already: the accumulator of a matrix product, the result of a reduction.

    `key` tells the kernel which one.
    """

    __slots__ = ("key",)

    def __init__(self, key: Any, dtype: Any) -> None:
        super().__init__(dtype)
        self.key = key


def nodes(*expressions: Expression) -> list[Expression]:
    """Every node of the expressions once, each after its operands."""
    seen: set[int] = set()
    order: list[Expression] = []
    stack = [(e, False) for e in reversed(expressions)]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif id(node) not in seen:
            seen.add(id(node))
            stack.append((node, True))
            stack.extend((o, False) for o in reversed(node.operands))
    return order


def emit(
    f: Function,
    expression: Expression,
    lanes: int,
    leaf: Callable[[Expression], Value],
    memo: dict[int, Value],
) -> Value:
    """Instructions that compute the expression at the end of `f`.

    Args:
        lanes: how many consecutive elements at once; 0 for a single one.
        leaf: how a `Load`, `Position` or `Outside` is read here: a vector of that many lanes, or a
            scalar where it is the same for all. A bool is an i1.
        memo: values of nodes (by id) that are there already; those computed are added.
    """
    for node in nodes(expression):
        if id(node) in memo:
            continue
        if isinstance(node, Const):
            memo[id(node)] = f.constant(register_type(node.dtype), node.value)
        elif isinstance(node, Call):
            memo[id(node)] = emit_call(f, node, [memo[id(o)] for o in node.operands])
        else:
            memo[id(node)] = leaf(node)
    value = memo[id(expression)]
    return f.broadcast(value, lanes) if lanes and not value.type.lanes else value
