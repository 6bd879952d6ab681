"""softmax(q kᵀ + bias) v block by block, with a running maximum and sum for each query."""

from __future__ import annotations

from . import math
from .attention import AttentionPlan, Blocks
from .ir import Function, Module, Value

_INFINITY = float("inf")


def emit_attention(module: Module, name: str, plan: AttentionPlan) -> Function:
    """The function `name(addresses of all operands, scratch, thread, threads)`."""
    return _Forward(module, name, plan).f


class _Forward(Blocks):
    def __init__(self, module: Module, name: str, plan: AttentionPlan) -> None:
        super().__init__(module, name, plan)
        f, work = self.f, plan.work
        with f.loop(self.low, self.high, carry=[f.index(-1)]) as units:
            head, block = units.index // plan.query_blocks, units.index % plan.query_blocks
            with f.when(f.compare("ne", head, units.carried[0])):
                self.turned(work.k, head, work.width, plan.k_turned)
                self.rows(work.v, head, work.depth, 0, work.keys, plan.all_keys, plan.v_rows)
            self._block(head, block * plan.query_block)
            units.carry(head)
        f.ret()

    def _block(self, head: Value, first: Value) -> None:
        """A block of queries."""
        f, plan, work = self.f, self.plan, self.work
        count = f.pairwise("smin", work.queries - first, plan.query_block)
        self.rows(work.q, head, work.width, first, count, plan.query_block, plan.q_rows, work.scale)
        self.clear(self.scratch(plan.y_rows), plan.query_block * plan.depth)
        self.clear(self.scratch(plan.sums), plan.query_block * self.lanes)
        with f.loop(0, plan.query_block, self.lanes) as loop:
            f.store(f.constant(self.wide, -_INFINITY), self.scratch(plan.largest), loop.index)
        blocks: Value | int = plan.key_blocks
        if work.is_causal:
            last = (first + (plan.query_block - 1)) // plan.key_block + 1
            blocks = f.pairwise("smin", last, plan.key_blocks)
        with f.loop(0, blocks) as keys:
            turned = self.scratch(plan.k_turned, keys.index * (work.width * plan.key_block))
            size = (plan.query_block, plan.key_block, work.width)
            self.product(self.scratch(plan.q_rows), turned, self.scratch(plan.scores), size, (plan.width, 1), add=False)
            self._weights(head, first, keys.index * plan.key_block)
            values = self.scratch(plan.v_rows, keys.index * (plan.key_block * plan.depth))
            size = (plan.query_block, plan.depth, plan.key_block)
            self.product(
                self.scratch(plan.scores), values, self.scratch(plan.y_rows), size, (plan.key_block, 1), add=True
            )
        self._finish(head, first, count)

    def _weights(self, head: Value, first: Value, column: Value) -> None:
        """Scores become weights relative to the largest so far; sums and results so far are brought in line."""
        f, plan = self.f, self.plan
        never = f.constant(self.wide, -_INFINITY)
        with f.loop(0, plan.query_block) as rows:
            row = rows.index
            scores = self.scratch(plan.scores, row * plan.key_block)
            top: Value | None = None
            for at, mask in self.vectors(self.seen(first + row, column)):
                value = self.added(f.load(self.wide, scores, at), head, first + row, column + at, mask)
                if mask is not None:
                    value = f.select(mask, value, never)
                if mask is not None or self.work.bias is not None:
                    f.store(value, scores, at)
                top = value if top is None else _larger(f, top, value)
            assert top is not None
            f.store(f.reduce("fmax", top), self.scratch(plan.factors), row)
        with f.loop(0, plan.query_block, self.lanes) as rows:
            before = f.load(self.wide, self.scratch(plan.largest), rows.index)
            largest = _larger(f, f.load(self.wide, self.scratch(plan.factors), rows.index), before)
            # As long as a query sees nothing, its largest score is -∞, and every weight 0.
            base = f.select(f.equal(largest, -_INFINITY), 0.0, largest)
            f.store(largest, self.scratch(plan.largest), rows.index)
            f.store(base, self.scratch(plan.bases), rows.index)
            f.store(math.exp(f, before - base), self.scratch(plan.factors), rows.index)
        with f.loop(0, plan.query_block) as rows:
            row = rows.index
            scores, sums = self.scratch(plan.scores, row * plan.key_block), self.scratch(plan.sums, row * self.lanes)
            base = f.broadcast(f.load(self.type, self.scratch(plan.bases), row), self.lanes)
            factor = f.broadcast(f.load(self.type, self.scratch(plan.factors), row), self.lanes)
            total = f.load(self.wide, sums) * factor
            for at in range(0, plan.key_block, self.lanes):
                weight = math.exp(f, f.load(self.wide, scores, at) - base)
                f.store(weight, scores, at)
                total = total + weight
            f.store(total, sums)
            result = self.scratch(plan.y_rows, row * plan.depth)
            for at in range(0, plan.depth, self.lanes):
                f.store(f.load(self.wide, result, at) * factor, result, at)

    def _finish(self, head: Value, first: Value, count: Value) -> None:
        f, plan, work = self.f, self.plan, self.work
        with f.loop(0, count) as rows:
            row = rows.index
            inverse = 1.0 / f.reduce("add", f.load(self.wide, self.scratch(plan.sums), row * self.lanes))
            f.store(f.load(self.type, self.scratch(plan.largest), row), self.head(work.largest, head, first + row))
            f.store(inverse, self.head(work.inverse, head, first + row))
            factor = f.broadcast(inverse, self.lanes)
            result = self.scratch(plan.y_rows, row * plan.depth)
            for at in range(0, plan.depth, self.lanes):
                f.store(f.load(self.wide, result, at) * factor, result, at)
        self.give(self.scratch(plan.y_rows), work.y, head, work.depth, first, count)


def _larger(f: Function, a: Value, b: Value) -> Value:
    """The larger; whichever of NaN and a number, since a score of NaN makes all weights of its query NaN."""
    return f.select(f.compare("gt", a, b), a, b)
