"""Loops: what a step need not do is done before or after the loop, or is known from another loop.

A recurrent network's step multiplies the input of that step by a matrix: one product of all steps before the loop.
Its gradient adds the gradient of a weight at each step: one product of all steps after the loop. And the
derivative of a step begins with the step itself; what the loop forwards has computed is read from there.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...core.primitive import table
from ..graph import Graph, Op, Value
from ..nested import Branch, Loop, Nested
from .loop_parts import Carry, LoopParts

_MOVEMENT = frozenset(
    ("reshape", "permute_dims", "broadcast_to", "index", "flip", "identity", "expand_dims", "squeeze")
)
_DEAR = frozenset(
    ("matmul", "affine", "conv", "exp", "expm1", "log", "log1p", "tanh", "sigmoid", "erf", "sin", "cos", "softplus",
     "power", "sum", "prod", "max", "min", "mean", "softmax", "log_softmax", "logsumexp", "random_bits", "scan", "cond")
)  # fmt: skip


def improve_loops(graph: Graph, optimise: Callable[[Graph], Graph]) -> Graph:
    """Loops of the graph, and those inside of its loops and branches; `optimise` is applied to changed bodies.

    Only for graphs that will not be differentiated any more.
    """
    if not any(isinstance(op.primitive, Nested) for op in graph.ops):
        return graph
    loops = {op: LoopParts(op) for op in graph.ops if isinstance(op.primitive, Loop)}
    _prune(graph, loops)
    earlier: list[LoopParts] = []
    for parts in loops.values():
        for other in earlier:
            recall(parts, other)
        earlier.append(parts)
    _prune(graph, loops)
    for parts in loops.values():
        move_invariants(parts, graph)
        move_products_before(parts)
        move_sums_after(parts, graph)
        move_products_after(parts)
    _prune(graph, loops)
    return _rebuilt(graph, loops, lambda body: improve_loops(optimise(body), optimise))


def _prune(graph: Graph, loops: dict[Op, LoopParts]) -> None:
    """Drop results that nobody reads, from the last loop to the first."""
    needed = set(graph.outputs)
    for op in reversed(graph.ops):
        parts = loops.get(op)
        if parts is None:
            if any(v in needed for v in op.outputs):
                needed.update(op.inputs)
            continue
        needed.update(new for old, new in parts.replaced.items() if old in needed)
        for after in reversed(parts.after):
            needed.update(after.inputs if after.output in needed else ())
        parts.after = [a for a in parts.after if a.output in needed]
        parts.prune(needed)
        needed.update(parts.operands())


def recall(parts: LoopParts, other: LoopParts) -> None:
    """Read from an earlier loop what its steps have computed of the same values."""
    if parts.length != other.length:
        return
    known = _common_inputs(parts, other)
    computed = {_key(op, op.inputs): op for op in other.ops}
    dear: set[Value] = set()
    for op in parts.ops:
        inputs = [known.get(v) for v in op.inputs]
        same = computed.get(_key(op, inputs)) if None not in inputs else None
        if same is not None:
            known.update(zip(op.outputs, same.outputs, strict=True))
            if op.primitive.name in _DEAR or any(v in dear for v in op.inputs):
                dear.update(op.outputs)
    unknown = [op for op in parts.ops if op.outputs[0] not in known]
    wanted = {v for op in unknown for v in op.inputs} | {c.after for c in parts.carries} | {v for v, _ in parts.stacked}
    parts.substitute({v: parts.slice(other.stack(known[v])) for op in parts.ops for v in op.outputs
                      if v in dear and v in wanted and not _is_movement(op)})  # fmt: skip


def _common_inputs(parts: LoopParts, other: LoopParts) -> dict[Value, Value]:
    """For the inputs and constants of a loop's body the equal values of another's."""
    around = dict((*other.constants, *other.slices))
    around |= {outer: inside for inside, outer in other.stacked}
    around |= {c.history: c.inside for c in other.carries if c.history is not None}
    known = {v: around[outer] for outer, v in (*parts.constants, *parts.slices) if outer in around}
    # An array may be a constant in one loop and cut into slices in the other.
    cut = {v for _, v in other.constants}
    known = {v: w for v, w in known.items() if (v in {s for _, s in parts.constants}) == (w in cut)}
    arrays = {(a.dtype, a.shape, a.tobytes()): v for v, a in other.arrays.items()}
    for value, array in parts.arrays.items():
        found = arrays.get((array.dtype, array.shape, array.tobytes()))
        if found is not None:
            known[value] = found
    return known


def _key(op: Op, inputs: object) -> object:
    return op.primitive, tuple(inputs), tuple(op.params.items())  # type: ignore[arg-type]


def _is_movement(op: Op) -> bool:
    return op.primitive.name in _MOVEMENT and len(op.inputs) == 1


def move_invariants(parts: LoopParts, graph: Graph) -> None:
    """Compute what is the same at each step before the loop; a carry that never changes is a constant."""
    for carry in [c for c in parts.carries if c.after is c.inside]:
        parts.carries.remove(carry)
        parts.constants.append((carry.first, carry.inside))
        parts.replaced[carry.last] = carry.first
        if carry.history is not None:
            shape = (parts.length, *carry.first.shape)
            parts.replaced[carry.history] = _add(parts.after, parts, "broadcast_to", carry.first, shape=shape)
    outside: dict[Value, Value] = {v: outer for outer, v in parts.constants}
    stays: list[Op] = []
    new: dict[Value, Value] = {}
    for op in parts.ops:
        if isinstance(op.primitive, Nested) or not any(v in outside for v in op.inputs) or not all(
            v in outside or v in parts.arrays for v in op.inputs
        ):  # fmt: skip
            stays.append(op)
            continue
        for v in op.inputs:
            if v in parts.arrays:
                graph.constants[v] = parts.arrays[v]
        made = op.on(tuple(outside.get(v, v) for v in op.inputs))
        parts.before.append(made)
        outside.update(zip(op.outputs, made.outputs, strict=True))
        if _is_movement(op):
            stays.append(op)  # for those inside it is no more than an address
            continue
        for v, outer in zip(op.outputs, made.outputs, strict=True):
            new[v] = Value(v.shape, v.dtype)
            parts.constants.append((outer, new[v]))
    parts.ops = stays
    parts.substitute(new)


def move_products_before(parts: LoopParts) -> None:
    """Products of a slice and a constant matrix: one product of the whole array."""
    sliced = {v: outer for outer, v in parts.slices}
    fixed = {v: outer for outer, v in parts.constants}
    new: dict[Value, Value] = {}
    for op in parts.ops:
        if _is_product(op) and op.inputs[0] in sliced and all(v in fixed for v in op.inputs[1:]):
            outer = (sliced[op.inputs[0]], *(fixed[v] for v in op.inputs[1:]))
            new[op.output] = parts.slice(_add(parts.before, parts, op.primitive.name, *outer, **op.params))
    parts.substitute(new)


def _is_product(op: Op) -> bool:
    """Whether it is a product of two matrices whose first operand's rows are those of the result."""
    return (
        op.primitive.name in ("matmul", "affine")
        and op.inputs[0].ndim == op.inputs[1].ndim == 2
        and not op.params.get("transpose_a")
        and op.output.dtype.kind == "f"
    )


def move_sums_after(parts: LoopParts, graph: Graph) -> None:
    """Sums over all steps of matrix products, or of sums: one product, or one sum, of what the steps left.

    What changes is the order of the additions, and 0 + x is x where the sum begins with 0, but for its sign.
    """
    uses = parts.uses()
    for kind in ("matmul", "sum"):
        for carry in list(parts.carries):
            term = _term(carry, uses)
            if term is None or term.op is None or term.op.primitive.name != kind or term.op not in parts.ops:
                continue
            total = _product_of_all(parts, term.op) if kind == "matmul" else _sum_of_all(parts, term.op)
            if total is None:
                continue
            begin = graph.constants.get(carry.first)
            if begin is None or np.any(begin):
                total = _add(parts.after, parts, "add", carry.first, total)
            parts.carries.remove(carry)
            parts.replaced[carry.last] = total


def _term(carry: Carry, uses: dict[Value, int]) -> Value | None:
    """What every step adds to a carry that is nothing but a sum."""
    op = carry.after.op
    if op is None or op.primitive.name != "add" or carry.history is not None or carry.after.dtype.kind != "f":
        return None
    if uses.get(carry.inside) != 1 or uses[carry.after] != 1 or carry.inside not in op.inputs:
        return None
    term = op.inputs[op.inputs[0] is carry.inside]
    return term if term.shape == carry.inside.shape and term.dtype == carry.inside.dtype else None


def _product_of_all(parts: LoopParts, op: Op) -> Value | None:
    a, b = op.inputs
    if a.ndim != 2 or b.ndim != 2 or not all(_moves(parts, v) for v in op.inputs):
        return None
    depth_first = (bool(op.params["transpose_a"]), not op.params["transpose_b"])
    sides = []
    for v, first in zip(op.inputs, depth_first, strict=True):
        stacked = parts.stack(v)
        if not first:
            stacked = _add(parts.after, parts, "permute_dims", stacked, axes=(0, 2, 1))
        rows, columns = stacked.shape[0] * stacked.shape[1], stacked.shape[2]
        sides.append(_add(parts.after, parts, "reshape", stacked, shape=(rows, columns)))
    return _add(parts.after, parts, "matmul", *sides, transpose_a=True, transpose_b=False)


def _sum_of_all(parts: LoopParts, op: Op) -> Value | None:
    (v,) = op.inputs
    if op.params["keepdims"] or not parts.is_stacked(v):
        return None
    axis = (0, *(a + 1 for a in op.params["axis"]))
    return _add(parts.after, parts, "sum", parts.stack(v), axis=axis, keepdims=False)


def _moves(parts: LoopParts, value: Value) -> bool:
    """Whether a value of the body is another one at each step."""
    return value not in parts.arrays and all(value is not v for _, v in parts.constants)


def move_products_after(parts: LoopParts) -> None:
    """A stacked product with a constant matrix is one product of the stacked operands."""
    uses = parts.uses()
    fixed = {v: outer for outer, v in parts.constants}
    for value, outer in list(parts.stacked):
        op = value.op
        if op is None or op not in parts.ops or not _is_product(op) or uses[value] != 1:
            continue
        left = op.inputs[0]
        if all(v in fixed for v in op.inputs[1:]) and _moves(parts, left):
            if not parts.is_stacked(left) and left.size > value.size:
                continue
            parts.stacked.remove((value, outer))
            operands = (parts.stack(left), *(fixed[v] for v in op.inputs[1:]))
            parts.replaced[outer] = _add(parts.after, parts, op.primitive.name, *operands, **op.params)


def _add(ops: list[Op], parts: LoopParts, name: str, *inputs: Value, **params: object) -> Value:
    op = Op(table[name], inputs, params, place=parts.op.place, path=parts.op.path)
    ops.append(op)
    return op.output


def _rebuilt(graph: Graph, loops: dict[Op, LoopParts], improved: Callable[[Graph], Graph]) -> Graph:
    new: dict[Value, Value] = {}
    ops: list[Op] = []

    def put(op: Op, outputs: tuple[Value, ...]) -> None:
        made = op.on(tuple(new.get(v, v) for v in op.inputs)) if any(v in new for v in op.inputs) else op
        ops.append(made)
        new.update((a, b) for a, b in zip(outputs, made.outputs, strict=True) if a is not b)

    for op in graph.ops:
        parts = loops.get(op)
        if parts is None:
            if isinstance(op.primitive, Branch):
                branch = Branch([improved(inside) for inside in op.primitive.graphs])
                put(Op(branch, op.inputs, {}, place=op.place, path=op.path), op.outputs)
            else:
                put(op, op.outputs)
            continue
        for before in parts.before:
            put(before, before.outputs)
        if parts.carries or parts.stacked:
            operands = [*(c.first for c in parts.carries), *(v for v, _ in (*parts.constants, *parts.slices))]
            made, results = parts.rebuild(improved(parts.body()), [new.get(v, v) for v in operands])
            ops.append(made)
            new.update(zip(results, made.outputs, strict=True))
        for after in parts.after:
            put(after, after.outputs)
        new.update((old, new.get(value, value)) for old, value in parts.replaced.items())
    outputs = [new.get(v, v) for v in graph.outputs]
    return Graph(list(graph.inputs), ops, outputs, dict(graph.constants), dict(graph.updates))
