"""Rematerialisation: what is cheap to compute is computed again for late readers instead of being kept for them.

The forward pass leaves values that the backward pass reads much later: a normalised array, an activation that the
gradient of a weight multiplies. If they follow by a few cheap operations from what is kept anyway, they take up
memory for nothing. The copies are marked `postponed`, and the schedule computes them where they are read.
"""

from __future__ import annotations

from ..graph import Graph, Op, Value
from ..schedule.storage import cost
from .simplify import is_pointwise

_MOST = 40  # additions that an element may cost
_MOVEMENT = frozenset(("reshape", "permute_dims", "identity", "broadcast_to"))
_PRODUCTS = frozenset(("matmul", "affine", "conv", "conv_weight", "conv_transpose"))


def rematerialise(graph: Graph, *, least: int = 1 << 14, late: float = 0.15) -> Graph:
    """Give late readers copies of cheap values. What is computed stays the same to the last bit.

    Args:
        least: elements of a value that is worth it.
        late: how long after a value readers are late, as a part of the graph's operations.
    """
    work = _Rematerialising(graph, least, round(late * len(graph.ops)))
    return work.rebuilt() if work.chosen else graph


class _Rematerialising:
    """A graph, and for positions in it the values that are computed again there with the operations this takes."""

    def __init__(self, graph: Graph, least: int, far: int) -> None:
        self.graph = graph
        self.order = {op: position for position, op in enumerate(graph.ops)}
        self._uses = graph.uses()
        self._outputs = set(graph.outputs)
        self._given = {*graph.inputs, *graph.constants}
        self.chosen: dict[int, list[tuple[Value, list[Op]]]] = {}
        for op in graph.ops:
            if len(op.outputs) == 1 and is_pointwise(op) and op.output.size >= least:
                self._consider(op.output, self.order[op] + far)

    def _readers(self, value: Value) -> list[tuple[int, str]]:
        """Position and name of the operations that read a value, as it is or moved about; outputs are read last."""
        found = [(len(self.order), "output")] if value in self._outputs else []
        for op in self._uses.get(value, ()):
            if op.primitive.name in _MOVEMENT:
                found += self._readers(op.output)
            else:
                found.append((self.order[op], op.primitive.name))
        return found

    def _consider(self, value: Value, far: int) -> None:
        if value in self._outputs:
            return
        readers = sorted(self._readers(value))
        early = [r for r in readers if r[0] <= far]
        late = readers[len(early) :]
        if not early or not late or late[-1][1] == "output":
            return
        chain, leaves = self._chain(value, late[0][0])
        if chain is None or sum(cost(op.primitive.name) for op in chain) > _MOST:
            return
        if not any(name in _PRODUCTS for _, name in readers) and all(op.primitive.name != "reshape" for op in chain):
            return  # a value that only loops read at one index the schedule computes again by itself
        # A product wants its operand in memory either way. Others read what it is computed from instead.
        if leaves <= (2 if all(name in _PRODUCTS for _, name in late) else 1):
            self.chosen.setdefault(late[0][0], []).append((value, sorted(chain, key=self.order.__getitem__)))

    def _chain(self, value: Value, position: int) -> tuple[list[Op] | None, int]:
        """The operations from values that are there at a position anyway, and how many large ones of these."""
        chain: list[Op] = []
        leaves = 0
        seen = {value}
        stack = [value]
        while stack:
            v = stack.pop()
            if v is not value and (v in self._given or any(at > position for at, _ in self._readers(v))):
                leaves += v.size * 4 >= value.size
                continue
            op = v.op
            if op is None or len(op.outputs) != 1 or not (is_pointwise(op) or op.primitive.name in _MOVEMENT):
                return None, 0
            chain.append(op)
            stack += [w for w in op.inputs if w not in seen]
            seen.update(op.inputs)
        return chain, leaves

    def rebuilt(self) -> Graph:
        """The graph with the copies."""
        ops: list[Op] = []
        new: dict[Value, Value] = {}

        def put(op: Op, *, postponed: bool = False) -> None:
            if postponed or any(v in new for v in op.inputs):
                made = op.on(tuple(new.get(v, v) for v in op.inputs))
                made.postponed = made.postponed or postponed
                new.update(zip(op.outputs, made.outputs, strict=True))
                op = made
            ops.append(op)

        for position, op in enumerate(self.graph.ops):
            for value, chain in self.chosen.get(position, ()):
                for link in chain:
                    put(link, postponed=True)
                moved = [value]
                while moved:
                    for reader in self._uses.get(moved.pop(), ()):
                        if reader.primitive.name in _MOVEMENT and self.order[reader] < position:
                            put(reader)
                            moved.append(reader.output)
            put(op)
        outputs = [new.get(v, v) for v in self.graph.outputs]
        return Graph(list(self.graph.inputs), ops, outputs, dict(self.graph.constants), dict(self.graph.updates))
