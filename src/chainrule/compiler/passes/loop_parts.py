"""A loop of a graph taken apart, so that passes can move work into it, out of it and past it."""

from __future__ import annotations

from dataclasses import dataclass

from ..graph import Graph, Op, Value
from ..nested import Loop


@dataclass(eq=False)
class Carry:
    """What one step hands to the next.

    Attributes:
        first: its value before the first step, in the graph around the loop.
        inside, after: an input of the body, and the body's value for the next step.
        last: the result after all steps, in the graph around the loop.
        history: the stacked values that the steps began with, there; None where nobody wants them.
    """

    first: Value
    inside: Value
    after: Value
    last: Value
    history: Value | None


class LoopParts:
    """A loop under change.

    Values around the loop are those of the graph that it is in, or new ones, made by `before` or `after`.

    Attributes:
        op: the loop as it was.
        carries: what is carried.
        constants, slices: pairs of an operand and the body's input for it.
        stacked: pairs of a value of the body and the result in which it is stacked.
        ops, arrays: the body's operations and constants.
        before, after: operations that run before and after the loop.
        replaced: results of the loop as it was that are other values now.
    """

    def __init__(self, op: Op) -> None:
        loop = op.primitive
        assert isinstance(loop, Loop)
        self.op, self.length, self.reverse = op, loop.length, loop.reverse
        graph, n, fixed = loop.graph, loop.carried, loop.carried + loop.constants
        outputs = len(graph.outputs)
        histories = dict(zip(loop.keeps, op.outputs[outputs:], strict=True))
        self.carries = [
            Carry(op.inputs[i], graph.inputs[i], graph.outputs[i], op.outputs[i], histories.get(i)) for i in range(n)
        ]
        self.constants = list(zip(op.inputs[n:fixed], graph.inputs[n:fixed], strict=True))
        self.slices = list(zip(op.inputs[fixed:], graph.inputs[fixed:], strict=True))
        self.stacked = list(zip(graph.outputs[n:], op.outputs[n:outputs], strict=True))
        self.ops = list(graph.ops)
        self.arrays = dict(graph.constants)
        self.before: list[Op] = []
        self.after: list[Op] = []
        self.replaced: dict[Value, Value] = {}

    def operands(self) -> list[Value]:
        """What the loop, and what was moved out of it, reads."""
        inside = [v for op in (*self.before, *self.after) for v in op.inputs]
        return [*(c.first for c in self.carries), *(v for v, _ in (*self.constants, *self.slices)), *inside]

    def uses(self) -> dict[Value, int]:
        """How often each value of the body is read, by operations, as an output and as what is carried."""
        counts: dict[Value, int] = {}
        read = [v for op in self.ops for v in op.inputs]
        for value in (*read, *(c.after for c in self.carries), *(v for v, _ in self.stacked)):
            counts[value] = counts.get(value, 0) + 1
        return counts

    def stack(self, value: Value) -> Value:
        """The values that a value of the body has in all steps, around the loop."""
        for outer, inside in self.slices:
            if inside is value:
                return outer
        for carry in self.carries:
            if carry.inside is value:
                if carry.history is None:
                    carry.history = Value((self.length, *value.shape), value.dtype)
                return carry.history
        for inside, outer in self.stacked:
            if inside is value:
                return outer
        made = Value((self.length, *value.shape), value.dtype)
        self.stacked.append((value, made))
        return made

    def is_stacked(self, value: Value) -> bool:
        """Whether all values of the steps are in memory anyway."""
        inside = [v for _, v in self.slices] + [v for v, _ in self.stacked]
        return value in inside or any(c.inside is value and c.history is not None for c in self.carries)

    def slice(self, outer: Value) -> Value:
        """A new input of the body, which runs along an array."""
        made = Value(outer.shape[1:], outer.dtype)
        self.slices.append((outer, made))
        return made

    def substitute(self, new: dict[Value, Value]) -> None:
        """Read other values wherever the body reads the keys."""
        moved = dict(new)
        ops = []
        for op in self.ops:
            if any(v in moved for v in op.inputs):
                again = op.on(tuple(moved.get(v, v) for v in op.inputs))
                for old, value in zip(op.outputs, again.outputs, strict=True):
                    moved.setdefault(old, value)
                op = again
            ops.append(op)
        self.ops = ops
        for carry in self.carries:
            carry.after = moved.get(carry.after, carry.after)
        self.stacked = [(moved.get(v, v), outer) for v, outer in self.stacked]

    def prune(self, needed: set[Value]) -> None:
        """Drop what no needed result depends on."""
        self.stacked = [(v, outer) for v, outer in self.stacked if outer in needed]
        for carry in self.carries:
            if carry.history not in needed:
                carry.history = None
        alive = [c for c in self.carries if c.last in needed or c.history is not None]
        while True:
            read = {v for v, _ in self.stacked} | {c.after for c in alive}
            ops = []
            for op in reversed(self.ops):
                if any(v in read for v in op.outputs):
                    ops.append(op)
                    read.update(op.inputs)
            more = [c for c in self.carries if c not in alive and c.inside in read]
            if not more:
                break
            alive += more
        self.ops = ops[::-1]
        self.carries = [c for c in self.carries if c in alive]
        self.constants = [(v, inside) for v, inside in self.constants if inside in read]
        self.slices = [(v, inside) for v, inside in self.slices if inside in read]
        self.arrays = {v: array for v, array in self.arrays.items() if v in read}

    def body(self) -> Graph:
        """What a step computes."""
        inputs = [*(c.inside for c in self.carries), *(v for _, v in (*self.constants, *self.slices))]
        outputs = [*(c.after for c in self.carries), *(v for v, _ in self.stacked)]
        return Graph(inputs, self.ops, outputs, self.arrays)

    def rebuild(self, graph: Graph, operands: list[Value]) -> tuple[Op, list[Value]]:
        """The loop with another graph for its body, and the values that its results stood for."""
        keeps = [i for i, c in enumerate(self.carries) if c.history is not None]
        made = Loop(graph, len(self.carries), len(self.constants), self.length, self.reverse, keeps)
        results = [*(c.last for c in self.carries), *(outer for _, outer in self.stacked)]
        results += [c.history for c in self.carries if c.history is not None]
        return Op(made, operands, {}, place=self.op.place, path=self.op.path), results
