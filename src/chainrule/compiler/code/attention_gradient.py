"""The gradients of attention, whose weights are computed again block by block.

With weights P, the cotangent dP = g vᵀ of P, and for each query D = Σ P · dP = Σ g · y, the scores' is
dS = P · (dP - D); then dv = Pᵀ g, dq = dS k and dk = dSᵀ q.
"""

from __future__ import annotations

from . import math
from .attention import AttentionPlan, Blocks
from .ir import Function, Module, Value


def emit_attention_gradient(module: Module, name: str, plan: AttentionPlan) -> Function:
    """The function `name(addresses of all operands, scratch, thread, threads)`."""
    return _Gradient(module, name, plan).f


class _Gradient(Blocks):
    def __init__(self, module: Module, name: str, plan: AttentionPlan) -> None:
        super().__init__(module, name, plan)
        with self.f.loop(self.low, self.high) as units:
            self._head(units.index)
        self.f.ret()

    def _head(self, head: Value) -> None:
        f, plan, work = self.f, self.plan, self.work
        assert work.g is not None
        dq, dk, dv = work.gradients
        self.turned(work.k, head, work.width, plan.k_turned)
        self.turned(work.v, head, work.depth, plan.v_turned)
        self.rows(work.k, head, work.width, 0, work.keys, plan.all_keys, plan.k_rows)
        self.rows(work.q, head, work.width, 0, work.queries, plan.all_queries, plan.q_rows, work.scale)
        self.rows(work.g, head, work.depth, 0, work.queries, plan.all_queries, plan.g_rows)
        self.clear(self.scratch(plan.dq), plan.all_queries * plan.width)
        self._along(head)
        with f.loop(0, plan.key_blocks) as keys:
            column = keys.index * plan.key_block
            self.clear(self.scratch(plan.dk), plan.key_block * plan.width)
            self.clear(self.scratch(plan.dv), plan.key_block * plan.depth)
            start = column // plan.query_block if work.is_causal else f.index(0)
            with f.loop(start, plan.query_blocks) as queries:
                self._block(head, queries.index * plan.query_block, keys.index)
            count = f.pairwise("smin", work.keys - column, plan.key_block)
            self.give(self.scratch(plan.dk), dk, head, work.width, column, count)
            self.give(self.scratch(plan.dv), dv, head, work.depth, column, count)
        self.give(self.scratch(plan.dq), dq, head, work.width, 0, f.index(work.queries))

    def _along(self, head: Value) -> None:
        """D of every query."""
        f, plan, work = self.f, self.plan, self.work
        step = work.y.strides[-1]
        with f.loop(0, work.queries) as rows:
            total = f.zero(self.wide)
            for at in range(0, work.depth, self.lanes):
                mask = f.mask(self.lanes, work.depth - at)
                here = f.element(self.head(work.y, head, rows.index), at * step, self.type)
                y = self.strided(f, here, step, mask)
                total = f.fma(y, f.load(self.wide, self.scratch(plan.g_rows, rows.index * plan.depth), at), total)
            f.store(f.reduce("add", total), self.scratch(plan.along), rows.index)

    def _block(self, head: Value, row: Value, key: Value) -> None:
        """The block of scores from a query on, for a block of keys."""
        plan, work = self.plan, self.work
        queries, keys = plan.query_block, plan.key_block
        q, g = self.scratch(plan.q_rows, row * plan.width), self.scratch(plan.g_rows, row * plan.depth)
        scores, into = self.scratch(plan.scores), self.scratch(plan.into)
        turned = self.scratch(plan.k_turned, key * (work.width * keys))
        self.product(q, turned, scores, (queries, keys, work.width), (plan.width, 1), add=False)
        turned = self.scratch(plan.v_turned, key * (work.depth * keys))
        self.product(g, turned, into, (queries, keys, work.depth), (plan.depth, 1), add=False)
        self._cotangents(head, row, key * keys)
        dk, dv, dq = self.scratch(plan.dk), self.scratch(plan.dv), self.scratch(plan.dq, row * plan.width)
        self.product(scores, g, dv, (keys, plan.depth, queries), (1, keys), add=True)
        self.product(into, q, dk, (keys, plan.width, queries), (1, keys), add=True)
        k = self.scratch(plan.k_rows, key * (keys * plan.width))
        self.product(into, k, dq, (queries, plan.width, keys), (keys, 1), add=True)

    def _cotangents(self, head: Value, first: Value, column: Value) -> None:
        """Scores become weights, and cotangents of weights those of scores."""
        f, plan, work = self.f, self.plan, self.work
        zero = f.zero(self.wide)
        with f.loop(0, plan.query_block) as rows:
            row = first + rows.index
            there = row
            if plan.all_queries != work.queries:
                there = f.pairwise("smin", row, work.queries - 1)
            largest = f.broadcast(f.load(self.type, self.head(work.largest, head, there)), self.lanes)
            inverse = f.broadcast(f.load(self.type, self.head(work.inverse, head, there)), self.lanes)
            along = f.broadcast(f.load(self.type, self.scratch(plan.along), there), self.lanes)
            scores = self.scratch(plan.scores, rows.index * plan.key_block)
            into = self.scratch(plan.into, rows.index * plan.key_block)
            for at, mask in self.vectors(self.seen(row, column)):
                score = self.added(f.load(self.wide, scores, at), head, row, column + at, mask)
                weight = math.exp(f, score - largest) * inverse
                cotangent = weight * (f.load(self.wide, into, at) - along)
                if mask is not None:
                    weight, cotangent = f.select(mask, weight, zero), f.select(mask, cotangent, zero)
                f.store(weight, scores, at)
                f.store(cotangent, into, at)
