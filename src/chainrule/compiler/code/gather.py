"""Scatters: values added into, or put in, the rows of an array that integers name.

Reading rows that integers name is a load with an address from data, which every loop nest can do.
Writing is not, because several values may go to one place. Each thread owns a range of rows and looks
through all indices for those in its range: the order of additions is that of NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ..schedule.kernels import ScatterKernel
from .ir import I64, PTR, Function, Module, Value, type_of, vector
from .pointwise import cast
from .target import Target

_INT = np.dtype(np.int64)


def emit_scatter(module: Module, name: str, kernel: ScatterKernel, target: Target) -> Function:
    """The function `name(operands…, result, thread, threads)`, operands in the primitive's order."""
    op, out = kernel.op, kernel.op.output
    adds = op.primitive.name == "index_add"
    first = 1 if adds else 2
    arrays, values = op.inputs[first:], op.inputs[first - 1]
    rows = math.prod(out.shape[: len(arrays)])
    length = math.prod(out.shape[len(arrays) :])
    f = module.function(name, [PTR] * (len(op.inputs) + 1) + [I64, I64], internal=True)
    *pointers, result, thread, threads = f.arguments
    low, high = thread * rows // threads, (thread + 1) * rows // threads
    type = type_of(out.dtype)
    lanes = target.lanes(type)
    with _each_vector(f, (high - low) * length, lanes) as (position, mask):
        at = low * length + position
        wide = vector(type, lanes)
        old = f.zero(wide) if adds else f.load_masked(wide, pointers[0], mask, at)
        f.store_masked(old, result, mask, at)
    with f.loop(0, math.prod(arrays[0].shape)) as loop:
        row: Value = f.index(0)
        for array, pointer, n in zip(arrays, pointers[first:], out.shape, strict=False):
            found = cast(f, f.load(type_of(array.dtype), pointer, loop.index), array.dtype, _INT)
            if array.dtype.kind == "i":
                found = f.select(f.compare("lt", found, 0), found + n, found)
            row = row * n + f.pairwise("smin", f.pairwise("smax", found, 0), n - 1)
        with f.when((row >= low) & (row < high)), _each_vector(f, f.index(length), lanes) as (position, mask):
            wide = vector(type, lanes)
            at = row * length + position
            if values.size == 1:
                value = f.broadcast(f.load(type, pointers[first - 1]), lanes)
            else:
                value = f.load_masked(wide, pointers[first - 1], mask, loop.index * length + position)
            if adds:
                value = value + f.load_masked(wide, result, mask, at)
            f.store_masked(value, result, mask, at)
    f.ret()
    return f


@contextmanager
def _each_vector(f: Function, count: Value, lanes: int) -> Iterator[tuple[Value, Value | None]]:
    """The first elements of the vectors that cover `count` elements, each with its mask."""
    with f.loop(0, count, lanes) as loop:
        yield loop.index, f.mask(lanes, count - loop.index)
