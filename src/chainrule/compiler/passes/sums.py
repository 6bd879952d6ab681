"""Sums of many terms, as backpropagation through time and through slices leaves them.

Where an array was cut into parts, its gradient is a sum of arrays that are zero but for one part each: the
parts side by side. Where a weight was used at every step, its gradient is a sum of products: one product of
all steps side by side.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ...core.primitive import table
from ..graph import Graph, Op, Value
from .rewrite import Rewriting

_PRODUCTS = 4  # matrix products that are worth putting side by side
_LONG = 256  # a contraction of this length runs at full speed by itself


def join_sums(graph: Graph) -> Graph:
    """Rewrite sums of placed parts (exact but for the sign of zero) and of matrix products (up to rounding)."""
    return _Joining(graph).join()


class _Joining(Rewriting):
    def __init__(self, graph: Graph) -> None:
        super().__init__(graph)
        readers: dict[Value, list[Op]] = graph.uses()
        outputs = set(graph.outputs)
        # Sums that only go into another sum are parts of a larger one.
        self._inner = {
            op.output
            for op in graph.ops
            if _is_sum(op) and op.output not in outputs and [_is_sum(r) for r in readers.get(op.output, [])] == [True]
        }
        self._open: dict[Value, list[Value]] = {}

    def join(self) -> Graph:
        return self.run(self._rule)

    def _rule(self, op: Op, inputs: tuple[Value, ...]) -> Any:
        if not _is_sum(op):
            return None
        terms = [term for value in inputs for term in self._open.pop(value, [value])]
        if op.output in self._inner:
            kept = self.keep(op, inputs)
            self._open[kept[0]] = terms
            return kept
        joined = self._placed(terms, op.output) if len(terms) > 1 else None
        rest = terms if joined is None else joined
        rest = self._products(rest)
        if len(rest) == len(terms):
            return None
        total = rest[0]
        for term in rest[1:]:
            total = self.emit(table["add"], total, term)
        return (total,)

    def _placed(self, terms: Sequence[Value], like: Value) -> list[Value] | None:
        """The terms with all that are placed side by side along one axis made one."""
        placed = [(t, _region(t)) for t in terms]
        for axis in range(like.ndim):
            whole = [(0, n) for n in like.shape]
            strips = [
                (region[axis], term)
                for term, region in placed
                if region is not None and [*region[:axis], *region[axis + 1 :]] == [*whole[:axis], *whole[axis + 1 :]]
            ]
            strips.sort(key=lambda strip: strip[0])
            if len(strips) < 2 or any(a[0][1] > b[0][0] for a, b in pairwise(strips)):
                continue
            chosen = {term for _, term in strips}
            if len(chosen) < len(strips):
                continue
            return [self._side_by_side(strips, axis, like), *(t for t in terms if t not in chosen)]
        return None

    def _side_by_side(self, strips: Sequence[tuple[tuple[int, int], Value]], axis: int, like: Value) -> Value:
        parts = []
        position = 0
        for (start, stop), term in strips:
            if start > position:
                parts.append(self._zeros(like, axis, start - position))
            assert term.op is not None
            shape = (*like.shape[:axis], stop - start, *like.shape[axis + 1 :])
            part = term.op.inputs[0]
            parts.append(part if part.shape == shape else self.emit(table["reshape"], part, shape=shape))
            position = stop
        if position < like.shape[axis]:
            parts.append(self._zeros(like, axis, like.shape[axis] - position))
        return self.emit(table["concat"], *parts, axis=axis)

    def _zeros(self, like: Value, axis: int, length: int) -> Value:
        zero = self.constant(np.zeros((), like.dtype))
        return self.emit(table["broadcast_to"], zero, shape=(*like.shape[:axis], length, *like.shape[axis + 1 :]))

    def _products(self, terms: Sequence[Value]) -> list[Value]:
        """The terms with short matrix products of one kind made one."""
        kinds: dict[Any, list[Value]] = {}
        for term in terms:
            op = term.op
            if op is not None and op.primitive.name == "matmul" and op.inputs[0].ndim == op.inputs[1].ndim == 2:
                a, b = op.inputs
                if a.shape[0 if op.params["transpose_a"] else 1] < _LONG and a.dtype == b.dtype:
                    kinds.setdefault((term.dtype, *op.params.items()), []).append(term)
        joined = []
        gone: set[Value] = set()
        for (_, *flags), products in kinds.items():
            if len(products) < _PRODUCTS or len(set(products)) < len(products):
                continue
            # Backwards, the last step's comes first. In the order of time they may lie side by side already.
            products.reverse()
            params = dict(flags)
            operands = [[p.op.inputs[side] for p in products] for side in (0, 1)]  # type: ignore[union-attr]
            a = self.emit(table["concat"], *operands[0], axis=0 if params["transpose_a"] else 1)
            b = self.emit(table["concat"], *operands[1], axis=1 if params["transpose_b"] else 0)
            joined.append(self.emit(table["matmul"], a, b, **params))
            gone.update(products)
        return [*(t for t in terms if t not in gone), *joined]


def _is_sum(op: Op) -> bool:
    """Whether it is the sum of two arrays of equal shape and type."""
    return op.primitive.name == "add" and all(
        v.shape == op.output.shape and v.dtype == op.output.dtype for v in op.inputs
    )


def _region(value: Value) -> list[tuple[int, int]] | None:
    """Start and stop along each axis of the part that is not zero, where the rest is; None if that is not known."""
    op = value.op
    if op is None or op.primitive.name != "index_add" or len(op.inputs) != 1:
        return None
    region = []
    for entry in op.params["pattern"]:
        if entry[0] == "i":
            region.append((entry[1], entry[1] + 1))
        elif entry[0] == "s" and entry[3] == 1:
            region.append((entry[1], entry[2]))
        else:
            return None
    return region if len(region) == value.ndim and all(a < b for a, b in region) else None
