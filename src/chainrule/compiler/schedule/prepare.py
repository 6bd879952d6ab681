"""Primitives that a kernel takes apart, written as those it is made of.

Softmax is a maximum, an exponential, a sum and a quotient; apart they can be fused with what comes
before and after, and a part that a later kernel needs again (the row's maximum and sum, not the row)
can be kept instead of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...core.primitive import table
from ..graph import Graph, Op, Value
from ..nested import Loop, Nested
from .turned import read_turned, reads_turned

_SPLIT = 1 << 16  # elements of a sum over everything that are worth more than one thread


class Rewriter:
    """A graph under construction, with what the values of the old one have become."""

    def __init__(self, graph: Graph) -> None:
        self.ops: list[Op] = []
        self.constants = dict(graph.constants)
        self.new: dict[Value, Value] = {}
        self.one_hot: dict[Value, Value] = {}
        self.often_turned = read_turned(graph)
        self.turned: dict[Value, Value] = {}
        self.faults: dict[tuple[Value, int], Fault] = {}
        self.origin: Op | None = None
        self.origins: dict[Op, Op] = {}

    def apply(self, name: str, *inputs: Value, **params: Any) -> Value:
        assert self.origin is not None
        op = Op(table[name], inputs, params, place=self.origin.place, path=self.origin.path)
        self.append(op)
        return op.output

    def append(self, op: Op) -> None:
        assert self.origin is not None
        self.ops.append(op)
        self.origins[op] = self.origin

    def product(self, op: Op, x: Value, w: Value) -> Value | None:
        """x wᵀ for a product that reads w turned, with a copy of w where others do, too; None where none do."""
        if not reads_turned(op) or op.inputs[1] not in self.often_turned:
            return None
        if w not in self.turned:
            # Joined with nothing, so that it is written to memory.
            self.turned[w] = self.apply("concat", self.apply("permute_dims", w, axes=(1, 0)), axis=0)
        return self.apply("matmul", x, self.turned[w], transpose_a=False, transpose_b=False)

    def number(self, value: Any, dtype: Any) -> Value:
        return self.constant(np.asarray(value, dtype))

    def constant(self, array: np.ndarray) -> Value:
        made = Value(array.shape, array.dtype)
        self.constants[made] = array
        return made


@dataclass(frozen=True)
class Fault:
    """An index that may be out of range.

    Attributes:
        value: whether one is.
        ops: the operation that reads it, behind those whose graphs it is in.
        length: of the axis.
    """

    value: Value
    ops: tuple[Op, ...]
    length: int


@dataclass(frozen=True)
class Prepared:
    """A graph ready to be scheduled.

    Attributes:
        graph: composite primitives taken apart. Behind the outputs comes `fault`, if there is one, and then
            the values of `faults`, if there are several.
        origins: for every operation the one of the user's graph that it comes from.
        faults: the indices that are read from data.
        fault: whether any of them is out of range; None if there are none.
    """

    graph: Graph
    origins: dict[Op, Op]
    faults: list[Fault]
    fault: Value | None


def prepare(graph: Graph) -> Prepared:
    """Take composite primitives apart, and add the checks of indices."""
    r = Rewriter(graph)
    for op in graph.ops:
        inputs = [r.new.get(v, v) for v in op.inputs]
        r.origin = op
        if isinstance(op.primitive, Nested):
            _take_inside(r, op, inputs)
            continue
        if op.primitive.name in ("index", "index_add", "index_set"):
            _check_indices(r, op, inputs)
        rewrite = _REWRITES.get(op.primitive.name)
        result = rewrite(r, op, *inputs) if rewrite is not None else None
        if result is not None:
            r.new[op.output] = result
        elif all(a is b for a, b in zip(inputs, op.inputs, strict=True)):
            r.append(op)
        else:
            again = Op(op.primitive, inputs, op.params, place=op.place, path=op.path)
            again.postponed = op.postponed
            r.append(again)
            r.new.update(zip(op.outputs, again.outputs, strict=True))
    outputs = [r.new.get(v, v) for v in graph.outputs]
    faults = list(r.faults.values())
    fault: Value | None = None
    for f in faults:
        fault = f.value if fault is None else r.apply("logical_or", fault, f.value)
    checks = [] if fault is None else [fault] if len(faults) == 1 else [fault, *(f.value for f in faults)]
    prepared = Graph(graph.inputs, r.ops, [*outputs, *checks], r.constants, graph.updates)
    return Prepared(prepared, r.origins, faults, fault)


def _take_inside(r: Rewriter, op: Op, inputs: Sequence[Value]) -> None:
    """Prepare the graphs of a branch or a loop: their checks become outputs of it, their constants the graph's."""
    primitive = op.primitive
    assert isinstance(primitive, Nested)
    inside = [prepare(graph) for graph in primitive.graphs]
    faults = [fault for part in inside for fault in part.faults]
    is_loop = isinstance(primitive, Loop)
    first = primitive.carried if isinstance(primitive, Loop) else len(op.outputs)
    graphs = []
    for part, graph in zip(inside, primitive.graphs, strict=True):
        checked = Graph(list(graph.inputs), list(part.graph.ops), part.graph.outputs[: len(graph.outputs)])
        checked.constants = dict(part.graph.constants)
        flags: list[Value] = []
        for fault in faults:
            # Whether an index was out of range at any step so far is carried from step to step.
            before = Value((), np.bool_)
            checked.inputs[first + len(flags) : first + len(flags)] = [before] if is_loop else []
            if fault not in part.faults:
                checked.constants[before] = np.asarray(False)
                flags.append(before)
            elif is_loop:
                either = Op(table["logical_or"], [before, fault.value], {}, place=op.place, path=op.path)
                checked.ops.append(either)
                flags.append(either.output)
            else:
                flags.append(fault.value)
        checked.outputs[first:first] = flags
        graphs.append(checked)
        r.constants.update(checked.constants)
    begin = [r.number(False, np.bool_) for _ in faults] if is_loop else []
    made = Op(
        primitive.with_graphs(graphs), [*inputs[:first], *begin, *inputs[first:]], {}, place=op.place, path=op.path
    )
    r.append(made)
    checks = made.outputs[first : first + len(faults)]
    r.new.update(zip(op.outputs, [v for v in made.outputs if v not in checks], strict=True))
    for fault, value in zip(faults, checks, strict=True):
        r.faults[value, fault.length] = Fault(value, (op, *fault.ops), fault.length)


def _check_indices(r: Rewriter, op: Op, inputs: Sequence[Value]) -> None:
    """Whether the index arrays that are no constants stay within the axes that they index."""
    name, pattern = op.primitive.name, op.params["pattern"]
    shape = op.params["shape"] if name == "index_add" else op.inputs[0].shape
    arrays = inputs[2:] if name == "index_set" else inputs[1:]
    axis = 0
    for entry in pattern:
        if entry[0] == "a":
            array, length = arrays[entry[1]], shape[axis]
            if array not in r.constants and (array, length) not in r.faults and array.dtype.kind in "iu":
                wide = array if array.dtype == np.int64 else r.apply("astype", array, dtype=np.dtype(np.int64))
                low = r.apply("less", wide, r.number(-length, np.int64))
                high = r.apply("greater_equal", wide, r.number(length, np.int64))
                outside = r.apply("logical_or", low, high)
                if array.size != 1:
                    outside = r.apply("any", outside, axis=tuple(range(array.ndim)), keepdims=False)
                r.faults[array, length] = Fault(outside, (op,), length)
        axis += entry[0] != "n"


def _kept(r: Rewriter, x: Value, axis: int) -> tuple[Value, Value]:
    """x shifted so that its largest element along an axis is 0, and that element."""
    largest = r.apply("max", x, axis=(axis,), keepdims=True)
    return r.apply("subtract", x, largest), largest


def _matmul(r: Rewriter, op: Op, x: Value, w: Value) -> Value | None:
    return r.product(op, x, w)


def _affine(r: Rewriter, op: Op, x: Value, w: Value, b: Value) -> Value:
    product = r.product(op, x, w)
    if product is None:
        product = r.apply("matmul", x, w, transpose_a=False, transpose_b=True)
    return r.apply("add", product, b)


def _softmax(r: Rewriter, op: Op, x: Value) -> Value | None:
    axis = op.params["axis"]
    if not x.size or x.dtype.kind != "f":
        return None
    shifted, _ = _kept(r, x, axis)
    weights = r.apply("exp", shifted)
    total = r.apply("sum", weights, axis=(axis,), keepdims=True)
    return r.apply("multiply", weights, r.apply("reciprocal", total))


def _log_softmax(r: Rewriter, op: Op, x: Value) -> Value | None:
    axis = op.params["axis"]
    if not x.size or x.dtype.kind != "f":
        return None
    shifted, _ = _kept(r, x, axis)
    total = r.apply("sum", r.apply("exp", shifted), axis=(axis,), keepdims=True)
    return r.apply("subtract", shifted, r.apply("log", total))


def _logsumexp(r: Rewriter, op: Op, x: Value) -> Value | None:
    if not x.size or x.dtype.kind != "f":
        return None
    axis = op.params["axis"]
    largest = r.apply("max", x, axis=axis, keepdims=True)
    shift = r.apply("where", r.apply("isfinite", largest), largest, r.number(0, x.dtype))
    total = r.apply("sum", r.apply("exp", r.apply("subtract", x, shift)), axis=axis, keepdims=True)
    y = r.apply("add", r.apply("log", total), shift)
    return y if op.params["keepdims"] else r.apply("reshape", y, shape=op.output.shape)


def _mean(r: Rewriter, op: Op, x: Value) -> Value | None:
    if x.dtype.kind != "f":
        return None
    count = math.prod(x.shape[a] for a in op.params["axis"])
    total = _sum(r, op, x) or r.apply("sum", x, **op.params)
    return r.apply("divide", total, r.number(count, x.dtype))


def _sum(r: Rewriter, op: Op, x: Value) -> Value | None:
    """A large sum of everything as sums of parts, and the sum of these; the sum of one element is that element."""
    chosen = r.one_hot.get(x)
    if chosen is not None and op.params["axis"] == (1,):
        return r.apply("reshape", chosen, shape=op.output.shape)
    if math.prod(op.output.shape) != 1 or x.size < _SPLIT or x.dtype.kind != "f":
        return None
    parts = next((d for d in range(1024, 7, -1) if x.size % d == 0 and x.size // d >= 1024), 0)
    if not parts:
        return None
    rows = r.apply("reshape", x, shape=(parts, x.size // parts))
    total = r.apply("sum", r.apply("sum", rows, axis=(1,), keepdims=False), axis=(0,), keepdims=False)
    return total if total.shape == op.output.shape else r.apply("reshape", total, shape=op.output.shape)


def _one_hot(r: Rewriter, op: Op, g: Value, *arrays: Value) -> Value | None:
    """One element added in each row, as the gradient of a choice by class does: a comparison, no scatter."""
    spread = _spread(r, op, g, *arrays)
    if spread is not None:
        return spread
    shape, pattern = op.params["shape"], op.params["pattern"]
    if pattern != (("a", 0), ("a", 1)) or len(shape) != 2:
        return None
    rows = r.constants.get(arrays[0])
    if rows is None or rows.shape != (shape[0],) or g.shape != (shape[0],) or arrays[1].shape != (shape[0],):
        return None
    if not np.array_equal(rows, np.arange(shape[0])):
        return None
    wide = r.apply("astype", arrays[1], dtype=np.dtype(np.int64))
    if arrays[1].dtype.kind == "i":
        from_end = r.apply("add", wide, r.number(shape[1], np.int64))
        wide = r.apply("where", r.apply("less", wide, r.number(0, np.int64)), from_end, wide)
    column = r.apply("reshape", wide, shape=(shape[0], 1))
    chosen = r.apply("equal", column, r.constant(np.arange(shape[1], dtype=np.int64)))
    result = r.apply("where", chosen, r.apply("reshape", g, shape=(shape[0], 1)), r.number(0, g.dtype))
    r.one_hot[result] = g
    return result


def _spread(r: Rewriter, op: Op, *inputs: Value) -> Value | None:
    """A scatter with index arrays that are broadcast against each other, as one with arrays of one shape."""
    first = 1 if op.primitive.name == "index_add" else 2
    arrays = inputs[first:]
    if len({a.shape for a in arrays}) < 2:
        return None
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    wide = [a if a.shape == shape else r.apply("broadcast_to", a, shape=shape) for a in arrays]
    return r.apply(op.primitive.name, *inputs[:first], *wide, **op.params)


_REWRITES: dict[str, Callable[..., Value | None]] = {
    "affine": _affine,
    "matmul": _matmul,
    "softmax": _softmax,
    "log_softmax": _log_softmax,
    "logsumexp": _logsumexp,
    "mean": _mean,
    "sum": _sum,
    "index_add": _one_hot,
    "index_set": _spread,
}
