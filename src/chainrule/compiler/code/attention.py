"""Attention in blocks of queries and keys: what both directions share.

A block of scores is multiplied, masked and exponentiated while it is in the first-level cache. Operands are copied
into working memory once for each head, with as many rows as whole blocks have, so that all products inside have
the same few sizes; what is beyond the operands is zero, or masked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .ir import I1, I64, PTR, VOID, Function, Module, Type, Value, type_of, vector
from .packing import Packing, emit_packing
from .target import Target
from .tile import Micro, choose, emit_micro

_BLOCK = 64  # queries and keys of a block


@dataclass(frozen=True)
class Operand:
    """An array (…, rows, columns) in memory: strides in elements, 0 along axes that it is broadcast along."""

    buffer: Any
    offset: int
    strides: tuple[int, ...]


@dataclass(frozen=True)
class Attention:
    """What is computed.

    Attributes:
        dtype: of all operands.
        batch: the axes before queries and keys, the last of them the heads.
        queries, keys, width, depth: lengths of the axes of q (queries × width), k (keys × width), v (keys × depth).
        scale: of q. is_causal: whether query i sees the keys 0 … i only.
        q, k, v: operands. bias: what is added to the scores.
        largest, inverse: for each query its largest score and one over the sum of its weights.
        y: the result, g its cotangent.
        gradients: those of scaled q, k and v; empty for the forward direction.
    """

    dtype: Any
    batch: tuple[int, ...]
    queries: int
    keys: int
    width: int
    depth: int
    scale: float
    is_causal: bool
    q: Operand
    k: Operand
    v: Operand
    y: Operand
    largest: Operand
    inverse: Operand
    bias: Operand | None = None
    g: Operand | None = None
    gradients: tuple[Operand, ...] = ()

    @property
    def operands(self) -> list[Operand]:
        """All arrays, in the order in which the function takes their addresses."""
        found = [self.q, self.k, self.v, self.y, self.largest, self.inverse, self.bias, self.g, *self.gradients]
        return [o for o in found if o is not None]

    @property
    def key(self) -> tuple[Any, ...]:
        """What the code depends on."""
        sizes = (self.batch, self.queries, self.keys, self.width, self.depth)
        kinds = (self.bias is None, self.g is None, self.scale, self.is_causal)
        return str(self.dtype), sizes, kinds, tuple(o.strides for o in self.operands)


class AttentionPlan:
    """How it is cut up.

    Attributes:
        lanes: of a vector.
        query_block, key_block: rows and columns of a block; query_blocks, key_blocks: how many.
        width, depth: those of the operands, in whole vectors.
        units: pieces of work that threads share: blocks of queries, or heads for the gradients.
        scratch: bytes of working memory for each thread.
    """

    def __init__(self, work: Attention, target: Target) -> None:
        self.work, self.target = work, target
        self.type = type_of(work.dtype)
        self.lanes = lanes = target.lanes(self.type)
        self.query_blocks, self.query_block = _blocks(work.queries, 1)
        self.key_blocks, self.key_block = _blocks(work.keys, lanes)
        self.width, self.depth = (-(-n // lanes) * lanes for n in (work.width, work.depth))
        self.heads = math.prod(work.batch)
        self.all_queries = self.query_blocks * self.query_block
        self.all_keys = self.key_blocks * self.key_block
        self.units = self.heads if work.gradients else self.heads * self.query_blocks
        self._end = 0
        block = self.query_block * self.key_block
        if work.gradients:
            self.k_turned, self.v_turned = (
                self._room(work.width * self.all_keys),
                self._room(work.depth * self.all_keys),
            )
            self.k_rows, self.q_rows = self._room(self.all_keys * self.width), self._room(self.all_queries * self.width)
            self.g_rows, self.dq = self._room(self.all_queries * self.depth), self._room(self.all_queries * self.width)
            self.along = self._room(self.all_queries)
            self.dk, self.dv = self._room(self.key_block * self.width), self._room(self.key_block * self.depth)
            self.scores, self.into = self._room(block), self._room(block)
        else:
            self.k_turned, self.v_rows = self._room(work.width * self.all_keys), self._room(self.all_keys * self.depth)
            self.q_rows, self.y_rows = (self._room(self.query_block * n) for n in (self.width, self.depth))
            self.scores = self._room(block)
            self.largest, self.bases, self.factors = (self._room(self.query_block) for _ in range(3))
            self.sums = self._room(self.query_block * lanes)
        self.scratch = self._end

    def _room(self, count: int) -> int:
        """The first byte of working memory for so many elements, and a vector behind them."""
        start = self._end
        self._end += -(-(count + self.lanes) * self.type.nbytes // 64) * 64
        return start


def _blocks(length: int, multiple: int) -> tuple[int, int]:
    """How many blocks, and the length of each."""
    count = -(-length // _BLOCK)
    return count, -(-length // count // multiple) * multiple if multiple > 1 else -(-length // count)


class Blocks:
    """The code of one direction, under construction.

    Its function takes the addresses of all operands, the working memory, thread and threads.
    """

    def __init__(self, module: Module, name: str, plan: AttentionPlan) -> None:
        self.module, self.name, self.plan, self.work = module, name, plan, plan.work
        self.type, self.lanes = plan.type, plan.lanes
        self.wide = vector(plan.type, plan.lanes)
        self._helpers: dict[Any, str] = {}
        count = len(plan.work.operands)
        self.f = f = module.function(name, [PTR] * (count + 1) + [I64, I64], internal=True)
        self._address = dict(zip(map(id, plan.work.operands), f.arguments, strict=False))
        self.mine = f.offset(f.arguments[count], f.arguments[count + 1] * plan.scratch)
        thread, threads = f.arguments[count + 1 :]
        self.low, self.high = thread * plan.units // threads, (thread + 1) * plan.units // threads

    def scratch(self, start: int, index: Value | int = 0) -> Value:
        """An element of the working memory that begins at a byte."""
        return self.f.element(self.f.offset(self.mine, start), index, self.type)

    def head(self, operand: Operand, head: Value, row: Value | int = 0) -> Value:
        """The address of a row of a head."""
        f = self.f
        total = f.as_type(I64, row) * operand.strides[len(self.work.batch)]
        for position, n in reversed(list(enumerate(self.work.batch))):
            total = total + (head % n if position else head) * operand.strides[position]
            head = head // n
        return f.element(self._address[id(operand)], total, self.type)

    def helper(self, key: Any, make: Callable[[str], Any]) -> str:
        """The name of a function that is made when it is first asked for."""
        if key not in self._helpers:
            self._helpers[key] = f"{self.name}_{len(self._helpers)}"
            make(self._helpers[key])
        return self._helpers[key]

    def turned(self, operand: Operand, head: Value, columns: int, start: int) -> None:
        """Copy the keys of a head so that, in every block of keys, those of one column are neighbours."""
        f, plan, lanes = self.f, self.plan, self.lanes
        row, step = operand.strides[-2:]
        groups, rest = divmod(self.work.keys, lanes)
        in_registers = step == 1 and row != 1 and columns >= lanes // 2
        in_block = plan.key_block // lanes

        def copy(group: Value | int, count: int) -> None:
            at = f.as_type(I64, group)
            place = self.scratch(start, at // in_block * (columns * plan.key_block) + at % in_block * lanes)
            source = self.head(operand, head, at * lanes)
            if in_registers:
                offsets = tuple(i * row for i in range(count))
                packing = Packing(self.type, count, plan.key_block, offsets, ((columns, step),))
                name = self.helper(packing, lambda name: emit_packing(self.module, name, packing, plan.target))
                f.call(name, VOID, source, place, f.index(columns))
                return
            with f.loop(0, columns) as loop:
                here = f.element(source, loop.index * step, self.type)
                value = self.strided(f, here, row, f.mask(lanes, count))
                f.store(value, place, loop.index * plan.key_block)

        if groups:
            with f.loop(0, groups) as loop:
                copy(loop.index, lanes)
        if rest:
            copy(groups, rest)

    def rows(
        self, operand: Operand, head: Value, columns: int, first: Value | int, wanted: Value | int, whole: int,
        start: int, scale: float = 1.0,
    ) -> None:  # fmt: skip
        """Copy rows of a head, times a factor; there are `wanted` of them, and zeros up to `whole`."""
        f, lanes = self.f, self.lanes
        row, step = operand.strides[-2:]
        width = -(-columns // lanes) * lanes

        def make(name: str) -> None:
            g = self.module.function(name, [PTR, PTR, I64], internal=True)
            source, target, count = g.arguments
            with g.loop(0, count) as loop:
                for at in range(0, columns, lanes):
                    mask = g.mask(lanes, columns - at)
                    here = g.element(source, loop.index * row + at * step, self.type)
                    value = self.strided(g, here, step, mask)
                    g.store(value * scale if scale != 1.0 else value, target, loop.index * width + at)
            with g.loop(count, whole) as loop:
                for at in range(0, width, lanes):
                    g.store(g.zero(self.wide), target, loop.index * width + at)
            g.ret()

        name = self.helper(("rows", row, step, columns, whole, scale), make)
        f.call(name, VOID, self.head(operand, head, first), self.scratch(start), f.as_type(I64, wanted))

    def strided(self, f: Function, pointer: Value, step: int, mask: Value | None) -> Value:
        """A vector of elements that lie `step` apart."""
        if step == 1:
            return f.load_masked(self.wide, pointer, mask)
        if step == 0:
            return f.broadcast(f.load(self.type, pointer), self.lanes)
        return f.gather(self.wide, pointer, f.lanes(I64, [i * step for i in range(self.lanes)]), mask)

    def give(self, start: Value, operand: Operand, head: Value, columns: int, first: Value | int, count: Value) -> None:
        """Copy rows of working memory to a result."""
        f, lanes = self.f, self.lanes
        row = operand.strides[-2]
        width = -(-columns // lanes) * lanes

        def make(name: str) -> None:
            g = self.module.function(name, [PTR, PTR, I64], internal=True)
            source, target, wanted = g.arguments
            with g.loop(0, wanted) as loop:
                for at in range(0, columns, lanes):
                    value = g.load(self.wide, source, loop.index * width + at)
                    g.store_masked(value, target, g.mask(lanes, columns - at), loop.index * row + at)
            g.ret()

        name = self.helper(("give", row, columns), make)
        f.call(name, VOID, start, self.head(operand, head, first), count)

    def clear(self, start: Value, count: int) -> None:
        """Zeros, a whole number of vectors."""
        with self.f.loop(0, count, self.lanes) as loop:
            self.f.store(self.f.zero(self.wide), start, loop.index)

    def product(
        self, a: Value, b: Value, out: Value, size: tuple[int, int, int], a_steps: tuple[int, int], *, add: bool
    ) -> None:
        """out (+)= A B in working memory, rows × columns × depth; A advances by `a_steps` along rows and depth."""
        key = ("product", size, a_steps)
        name = self.helper(
            key, lambda name: emit_product(self.module, name, self.type, self.plan.target, size, a_steps)
        )
        self.f.call(name, VOID, a, b, out, self.f.constant(I1, int(add)))

    def seen(self, row: Value, first: Value) -> Value:
        """How many of the keys from `first` on a query sees: none if there is no such query."""
        f, work = self.f, self.work
        last: Value | int = work.keys
        if work.is_causal:
            last = f.pairwise("smin", row + 1, work.keys)
        count = f.as_type(I64, last) - first
        return count if self.plan.all_queries == work.queries else f.select(row < work.queries, count, f.index(0))

    def added(self, value: Value, head: Value, row: Value, column: Value, mask: Value | None) -> Value:
        """Scores with the bias."""
        bias = self.work.bias
        if bias is None:
            return value
        f, step = self.f, bias.strides[-1]
        if self.plan.all_queries != self.work.queries:
            row = f.pairwise("smin", row, self.work.queries - 1)
        here = f.element(self.head(bias, head, row), column * step, self.type)
        if step == 0:
            return value + f.load(self.type, here)
        return value + self.strided(f, here, step, mask if mask is not None else f.constant(vector(I1, self.lanes), 1))

    def vectors(self, count: Value) -> list[tuple[int, Value | None]]:
        """The vectors of a row of a block, and which of their lanes are before `count`."""
        return [(at, self.f.mask(self.lanes, count - at)) for at in range(0, self.plan.key_block, self.lanes)]


def emit_product(
    module: Module, name: str, type: Type, target: Target, size: tuple[int, int, int], a_steps: tuple[int, int]
) -> Function:
    """The function `name(a, b, out, i1 add)`: rows of B and of the result are whole vectors, without gaps."""
    rows, columns, depth = size
    f = module.function(name, [PTR, PTR, PTR, I1], internal=True)
    a, b, out, add = f.arguments
    shape = choose([rows], columns, type, target)
    made: dict[tuple[int, int], str] = {}

    def tile(i: Value | int, j: Value | int, height: int, vectors: int) -> None:
        if (height, vectors) not in made:
            made[height, vectors] = micro = f"{name}_tile{len(made)}"
            steps = ((depth, a_steps[1], columns),)
            offsets, places = ([r * step for r in range(height)] for step in (a_steps[0], columns))
            emit_micro(
                module, micro,
                Micro(type, tuple(offsets), shape.lanes, vectors, shape.lanes, steps, tuple(places), False, False),
            )  # fmt: skip
        first, column = f.as_type(I64, i) * shape.rows, f.as_type(I64, j) * shape.columns
        f.call(
            made[height, vectors], VOID, f.element(a, first * a_steps[0], type), f.element(b, column, type),
            f.element(out, first * columns + column, type), f.index(depth), add,
        )  # fmt: skip

    def panel(j: Value | int, vectors: int) -> None:
        whole, rest = divmod(rows, shape.rows)
        if whole:
            with f.loop(0, whole) as loop:
                tile(loop.index, j, shape.rows, vectors)
        if rest:
            tile(whole, j, rest, vectors)

    whole, rest = divmod(columns, shape.columns)
    if whole:
        with f.loop(0, whole) as loop:
            panel(loop.index, shape.vectors)
    if rest:
        panel(whole, rest // shape.lanes)
    f.ret()
    return f


def operand(buffer: Any, offset: int, strides: Sequence[int], shape: Sequence[int], like: Sequence[int]) -> Operand:
    """An array that is broadcast to the shape `like`."""
    missing = len(like) - len(shape)
    own = [0 if n == 1 and m != 1 else s for n, m, s in zip(shape, like[missing:], strides, strict=True)]
    return Operand(buffer, offset, (*[0] * missing, *own))
