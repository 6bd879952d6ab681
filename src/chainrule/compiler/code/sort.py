"""Sorting and searching: `argsort` and `searchsorted`, with NaN behind all numbers as NumPy has it.

A number becomes an unsigned integer of the same order, NaN the largest. Short rows are sorted by counting for each
element how many belong before it; long ones digit by digit (least significant first), a byte at a time, where a
byte that is the same everywhere costs nothing. Both keep the order of equal elements.
"""

from __future__ import annotations

import math

import numpy as np

from ..graph import Op
from .ir import I8, I32, I64, PTR, Function, Module, Type, Value, type_of, vector
from .rows import Rows, share
from .target import Target

_COUNTED = 64  # elements of a row that is sorted by counting
_BUCKETS = 256


def _key_type(dtype: np.dtype) -> Type:
    return I64 if dtype.itemsize == 8 else I32


def _padded(elements: int, nbytes: int) -> int:
    return -(-elements * nbytes // 64) * 64


def sort_scratch(op: Op) -> int:
    """Bytes of working memory that a thread needs."""
    x = op.inputs[0]
    n = x.shape[op.params["axis"]]
    key = _key_type(x.dtype).nbytes
    return 2 * (_padded(n + 64, key) + _padded(n, 4)) + 4 * _BUCKETS * x.dtype.itemsize


def emit_argsort(module: Module, name: str, op: Op, target: Target) -> None:
    """The function `name(operand, result, scratch, thread, threads)`."""
    x = op.inputs[0]
    rows = Rows.of(x.shape, op.params["axis"])
    f = module.function(name, [PTR] * 3 + [I64, I64], internal=True)
    if rows.count and rows.length:
        sort = _Sort(f, rows, x.dtype, bool(op.params["descending"]), sort_scratch(op))
        low, high = share(rows.count, *f.arguments[3:])
        with f.loop(low, high) as loop:
            row = loop.index
            first = row // rows.inner * (rows.length * rows.inner) + row % rows.inner
            if rows.length <= _COUNTED:
                sort.by_counting(first, target.lanes(_key_type(x.dtype)))
            else:
                sort.by_digits(first)
    f.ret()


class _Sort:
    """Sorting of one row at a time, in a thread's own working memory."""

    def __init__(self, f: Function, rows: Rows, dtype: np.dtype, descending: bool, scratch: int) -> None:
        self.f, self.rows, self.dtype, self.descending = f, rows, dtype, descending
        self.source, self.result = f.arguments[:2]
        self.type = _key_type(dtype)
        sizes = [_padded(rows.length + 64, self.type.nbytes), _padded(rows.length, 4)] * 2
        base = f.offset(f.arguments[2], f.arguments[3] * scratch)
        self.keys, self.order, self.other_keys, self.other_order, self.counts = (
            f.offset(base, sum(sizes[:i])) for i in range(5)
        )

    def _key(self, at: Value) -> Value:
        """An element as an unsigned integer of the same order."""
        f, dtype, type = self.f, self.dtype, self.type
        x = f.load(type_of(dtype), self.source, at)
        if dtype.kind == "f":
            bits = f.bitcast(x + 0.0, type)  # -0 becomes 0
            sign = f.binary("ashr", bits, type.bits - 1)
            key = bits ^ (sign | f.constant(type, -(1 << (type.bits - 1))))
            key = f.select(f.is_nan(x), f.constant(type, -1), key)
        else:
            key = f.convert(x, type, signed=dtype.kind == "i")
            if dtype.kind == "i":
                key = key ^ (-(1 << (type.bits - 1)) if dtype.itemsize >= 4 else 1 << (8 * dtype.itemsize - 1))
                key = key if dtype.itemsize >= 4 else key & ((1 << 8 * dtype.itemsize) - 1)
        if not self.descending:
            return key
        return ~key if dtype.itemsize >= 4 else key ^ ((1 << 8 * dtype.itemsize) - 1)

    def by_counting(self, first: Value, lanes: int) -> None:
        """Each element's place is the number of those that belong before it."""
        f, n = self.f, self.rows.length
        with f.loop(0, n) as loop:
            f.store(self._key(first + loop.index * self.rows.inner), self.keys, loop.index)
        wide = vector(self.type, lanes)
        with f.loop(0, n) as loop:
            own = f.broadcast(f.load(self.type, self.keys, loop.index), lanes)
            index = f.cast("trunc", loop.index, I32)
            total = f.constant(vector(I32, lanes), 0)
            for start in range(0, n, lanes):
                others = f.load(wide, self.keys, start)
                earlier = f.compare("lt", f.lanes(I32, range(start, start + lanes)), f.broadcast(index, lanes))
                before = f.compare("ult", others, own) | (f.equal(others, own) & earlier)
                mask = f.mask(lanes, n - start)
                before = before if mask is None else before & mask
                total = total + f.cast("zext", before, vector(I32, lanes))
            place = f.cast("sext", f.reduce("add", total), I64)
            f.store(loop.index, self.result, first + place * self.rows.inner)

    def by_digits(self, first: Value) -> None:
        """Least significant byte first; each pass keeps the order of equal bytes."""
        f, n, digits = self.f, self.rows.length, self.dtype.itemsize
        with f.loop(0, _BUCKETS * digits) as loop:
            f.store(f.constant(I32, 0), self.counts, loop.index)
        with f.loop(0, n) as loop:
            key = self._key(first + loop.index * self.rows.inner)
            f.store(key, self.keys, loop.index)
            f.store(f.cast("trunc", loop.index, I32), self.order, loop.index)
            for digit in range(digits):
                at = self._bucket(key, digit)
                f.store(f.load(I32, self.counts, at) + 1, self.counts, at)
        now = [self.keys, self.order, self.other_keys, self.other_order]
        for digit in range(digits):
            sample = f.load(I32, self.counts, self._bucket(f.load(self.type, now[0]), digit))
            now = f.cond(f.equal(sample, n), lambda: now, lambda: self._pass(now, digit))  # noqa: B023
        with f.loop(0, n) as loop:
            position = f.cast("sext", f.load(I32, now[1], loop.index), I64)
            f.store(position, self.result, first + loop.index * self.rows.inner)

    def _bucket(self, key: Value, digit: int) -> Value:
        f = self.f
        byte = f.cast("trunc", key >> (8 * digit), I8)
        return f.cast("zext", byte, I64) + digit * _BUCKETS

    def _pass(self, now: list[Value], digit: int) -> list[Value]:
        f = self.f
        keys, order, other_keys, other_order = now
        with f.loop(digit * _BUCKETS, (digit + 1) * _BUCKETS, carry=[f.constant(I32, 0)]) as loop:
            count = f.load(I32, self.counts, loop.index)
            f.store(loop.carried[0], self.counts, loop.index)
            loop.carry(loop.carried[0] + count)
        with f.loop(0, self.rows.length) as loop:
            key = f.load(self.type, keys, loop.index)
            bucket = self._bucket(key, digit)
            place = f.load(I32, self.counts, bucket)
            f.store(place + 1, self.counts, bucket)
            at = f.cast("sext", place, I64)
            f.store(key, other_keys, at)
            f.store(f.load(I32, order, loop.index), other_order, at)
        return [other_keys, other_order, keys, order]


def emit_searchsorted(module: Module, name: str, op: Op, target: Target) -> None:
    """The function `name(sorted, operand, result, thread, threads)`: a search by halves without branches."""
    values, x = op.inputs
    n, count, type = values.size, math.prod(x.shape), type_of(x.dtype)
    lanes = target.lanes(I64)
    f = module.function(name, [PTR] * 3 + [I64, I64], internal=True)
    low, high = share(-(-count // lanes), *f.arguments[3:])
    wide = vector(type, lanes)
    relation = "" if x.dtype.kind in "fi" else "u"

    def comes_before(position: Value, sought: Value) -> Value:
        """Whether a sorted value is less than what is sought (left), or not greater (right)."""
        value = f.gather(wide, f.arguments[0], position)
        if op.params["side"] == "left":
            less = f.compare(relation + "lt", value, sought)
            return less | (f.is_nan(sought) & f.equal(value, value)) if type.is_float else less
        not_greater = f.compare(relation + "le", value, sought)
        return not_greater | f.is_nan(sought) if type.is_float else not_greater

    with f.loop(low, high) as loop:
        first = loop.index * lanes
        mask = f.mask(lanes, f.index(count) - first) if count % lanes else None
        sought = f.load_masked(wide, f.arguments[1], mask, first)
        at = f.constant(vector(I64, lanes), 0)
        rest = n
        while rest > 1:
            half = rest // 2
            at = f.select(comes_before(at + (half - 1), sought), at + half, at)
            rest -= half
        if n:
            at = f.select(comes_before(at, sought), at + 1, at)
        f.store_masked(at, f.arguments[2], mask, first)
    f.ret()
