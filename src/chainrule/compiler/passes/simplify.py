"""Simplification: operations that compute what is there already, or what is known.

What a rule may change is stated beside it. Most are exact: they keep every value, infinity, NaN and the
sign of zero included (the sign of NaN means nothing). x + 0 therefore stays, which turns -0 into 0, unless
x is an integer, and x · 0 stays for floats, as NaN · 0 is NaN. A sum over copies, which becomes a product,
may differ in rounding, and the sum of a single -0 is -0, where NumPy's is 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ...core.primitive import table
from ..graph import Graph, Op, Value
from .rewrite import Rewriting

_FOLDED = 1 << 16  # bytes; a larger constant is worth more computed than stored

Rule = Callable[["_Simplifying", Op, tuple[Value, ...]], Value | None]


def simplify(graph: Graph) -> Graph:
    """Apply the rules to every operation, in order."""
    return _Simplifying(graph).run_rules()


class _Simplifying(Rewriting):
    """The rewriting, with what a rule asks about values."""

    def run_rules(self) -> Graph:
        return self.run(self._rule)

    def _rule(self, op: Op, inputs: tuple[Value, ...]) -> Any:
        constants = self.graph.constants
        if not [value for value in inputs if value not in constants]:
            folded = self._folded(op, inputs)
            if folded is not None:
                return folded
        name = op.primitive.name
        for rule in _RULES_OF.get(name, ()):
            value = rule(self, op, inputs)
            if value is not None:
                assert value.shape == op.output.shape and value.dtype == op.output.dtype, (op, value)
                return (value,)
        return None

    def _folded(self, op: Op, inputs: tuple[Value, ...]) -> tuple[Value, ...] | None:
        """Constants for an operation on constants, where they are no larger than what they come from."""
        arrays = [self.constant_of(value) for value in inputs]
        if not arrays or any(a is None for a in arrays) or op.primitive.name in _VIEWS:
            return None
        size = sum(value.nbytes for value in op.outputs)
        if size > max(_FOLDED, sum(value.nbytes for value in inputs)):
            return None
        result = op.primitive.evaluate(arrays, op.params)
        return tuple(self.constant(r) for r in (result if isinstance(result, tuple) else (result,)))

    def number(self, value: Value) -> Any:
        """The number that all elements of a constant are; None for any other value."""
        if value.op is not None:
            return None
        array = self.constant_of(value)
        if array is None or not array.size or array.dtype.kind == "c":
            return None
        first = array.flat[0]
        if array.size > 1 and not (array == first).all():
            return None
        if first == 0 and array.dtype.kind == "f" and (np.signbit(array) != np.signbit(first)).any():
            return None
        return first

    def fitted(self, value: Value, op: Op) -> Value | None:
        """`value` as the result of `op`: of its data type, broadcast to its shape."""
        if value.dtype != op.output.dtype:
            return None
        if value.shape == op.output.shape:
            return value
        return self.emit(table["broadcast_to"], value, shape=op.output.shape)


_VIEWS = frozenset(("reshape", "permute_dims", "broadcast_to"))


def is_pointwise(op: Op) -> bool:
    """Whether the operation acts on each element by itself, its operands broadcast to the result's shape."""
    name = op.primitive.name
    return (
        name in _POINTWISE_NAMES
        and len(op.outputs) == 1
        and np.broadcast_shapes(*(v.shape for v in op.inputs)) == op.output.shape
    )


def _pointwise_names() -> frozenset[str]:
    from ...primitives import pointwise

    found = {p.name for p in vars(pointwise).values() if getattr(p, "name", None) in table}
    return frozenset(found | {"softplus"})


_POINTWISE_NAMES = _pointwise_names()


def _is(number: Any, wanted: float) -> bool:
    return number is not None and bool(number == wanted)


# Arithmetic. Exact.


def _add(s: _Simplifying, op: Op, inputs: tuple[Value, ...]) -> Value | None:
    for x, y in (inputs, inputs[::-1]):
        number = s.number(y)
        kind = op.output.dtype.kind
        if _is(number, 0) and (kind in "iu" or (kind == "f" and y.dtype.kind == "f" and np.signbit(number))):
            return s.fitted(x, op)
        if y.op is not None and y.op.primitive.name == "negative" and op.output.dtype.kind in "fiu":
            return s.emit(table["subtract"], x, y.op.inputs[0])
    return None


def _subtract(s: _Simplifying, op: Op, inputs: tuple[Value, ...]) -> Value | None:
    x, y = inputs
    number = s.number(y)
    if _is(number, 0) and op.output.dtype.kind in "fiu" and (y.dtype.kind != "f" or not np.signbit(number)):
        return s.fitted(x, op)
    if y.op is not None and y.op.primitive.name == "negative":
        return s.emit(table["add"], x, y.op.inputs[0])
    return None


def _multiply(s: _Simplifying, op: Op, inputs: tuple[Value, ...]) -> Value | None:
    kind = op.output.dtype.kind
    for x, y in (inputs, inputs[::-1]):
        number = s.number(y)
        if _is(number, 1) and kind in "fiu":
            return s.fitted(x, op)
        if _is(number, -1) and kind in "fi" and x.shape == op.output.shape and x.dtype == op.output.dtype:
            return s.emit(table["negative"], x)
        if _is(number, 0) and kind in "iu" and y.dtype == op.output.dtype:
            return s.emit(table["broadcast_to"], _scalar(s, y), shape=op.output.shape)
    x, y = inputs
    if x is y and kind in "fiu":
        return s.emit(table["square"], x)
    if all(v.op is not None and v.op.primitive.name == "negative" for v in inputs) and kind in "fiu":
        return s.emit(table["multiply"], x.op.inputs[0], y.op.inputs[0])  # type: ignore[union-attr]
    return None


def _divide(s: _Simplifying, op: Op, inputs: tuple[Value, ...]) -> Value | None:
    x, y = inputs
    if op.output.dtype.kind != "f":
        return None
    number = s.number(y)
    if _is(number, 1):
        return s.fitted(x, op)
    # A power of two has an exact reciprocal.
    if number is not None and number.dtype == op.output.dtype and np.isfinite(number) and number != 0:
        inverse = 1 / number
        if (
            math.frexp(float(number))[0] in (0.5, -0.5)
            and np.isfinite(inverse)
            and abs(inverse) >= _tiny(inverse.dtype)
        ):
            return s.emit(table["multiply"], x, s.constant(np.asarray(inverse)))
    return None


def _tiny(dtype: np.dtype) -> float:
    return float(np.finfo(dtype).smallest_normal)


def _scalar(s: _Simplifying, value: Value) -> Value:
    return value if not value.shape else s.constant(np.asarray(s.number(value)))


def _negative(s: _Simplifying, op: Op, inputs: tuple[Value, ...]) -> Value | None:
    (x,) = inputs
    return x.op.inputs[0] if x.op is not None and x.op.primitive.name == "negative" else None


def _integer_power(s: _Simplifying, op: Op, inputs: tuple[Value, ...]) -> Value | None:
    if op.params["n"] == 1:
        return inputs[0]
    if op.params["n"] == 2 and op.output.dtype.kind in "fiu":
        return s.emit(table["square"], inputs[0])
    return None


def _where(s: _Simplifying, op: Op, inputs: tuple[Value, ...]) -> Value | None:
    condition, x, y = inputs
    if x is y:
        return s.fitted(x, op)
    number = s.number(condition)
    return None if number is None else s.fitted(x if number else y, op)


def _astype(s: _Simplifying, op: Op, inputs: tuple[Value, ...]) -> Value | None:
    """A conversion to the type that is there; one conversion for two of which the first loses nothing."""
    (x,) = inputs
    if x.dtype == op.output.dtype:
        return x
    if x.op is not None and x.op.primitive.name == "astype":
        (origin,) = x.op.inputs
        if np.can_cast(origin.dtype, x.dtype, "safe") and "c" not in origin.dtype.kind + op.output.dtype.kind:
            return origin if origin.dtype == op.output.dtype else s.emit(table["astype"], origin, dtype=op.output.dtype)
    return None


# Where elements are. Exact.


def _identity(s: _Simplifying, op: Op, inputs: tuple[Value, ...]) -> Value | None:
    return inputs[0]


def _unmoved(s: _Simplifying, op: Op, inputs: tuple[Value, ...]) -> Value | None:
    """Movement that moves nothing."""
    x = inputs[0]
    if x.shape != op.output.shape:
        return None
    if op.primitive.name == "permute_dims":
        long = [a for a in op.params["axes"] if x.shape[a] != 1]
        return x if long == sorted(long) else None
    if op.primitive.name == "flip":
        return x if all(x.shape[a] == 1 for a in op.params["axis"]) else None
    if op.primitive.name == "index":
        whole = tuple(("s", 0, n, 1) for n in x.shape)
        return x if op.params["pattern"] == whole else None
    return x


def _reshape(s: _Simplifying, op: Op, inputs: tuple[Value, ...]) -> Value | None:
    """A reshape of a reshape is one; so is a reshape of a permutation that moves only axes of length 1."""
    (x,) = inputs
    if x.op is None:
        return None
    name = x.op.primitive.name
    source = x.op.inputs[0] if x.op.inputs else None
    if source is None or not (name == "reshape" or (name == "permute_dims" and _moves_ones(x.op))):
        return None
    return source if source.shape == op.output.shape else s.emit(table["reshape"], source, shape=op.output.shape)


def _moves_ones(op: Op) -> bool:
    long = [a for a in op.params["axes"] if op.inputs[0].shape[a] != 1]
    return long == sorted(long)


def _permute(s: _Simplifying, op: Op, inputs: tuple[Value, ...]) -> Value | None:
    (x,) = inputs
    if _moves_ones(op):
        return s.emit(table["reshape"], x, shape=op.output.shape)
    if x.op is not None and x.op.primitive.name == "permute_dims":
        axes = tuple(x.op.params["axes"][a] for a in op.params["axes"])
        source = x.op.inputs[0]
        return source if axes == tuple(range(len(axes))) else s.emit(table["permute_dims"], source, axes=axes)
    return None


def _broadcast(s: _Simplifying, op: Op, inputs: tuple[Value, ...]) -> Value | None:
    """A broadcast of a broadcast is one; of an array without copies, a reshape."""
    (x,) = inputs
    if x.size == op.output.size:
        return s.emit(table["reshape"], x, shape=op.output.shape)
    if x.op is not None and x.op.primitive.name == "broadcast_to":
        return s.emit(table["broadcast_to"], x.op.inputs[0], shape=op.output.shape)
    array = s.constant_of(x)
    if array is not None and x.ndim and s.number(x) is not None:
        return s.emit(table["broadcast_to"], _scalar(s, x), shape=op.output.shape)
    return None


def _index(s: _Simplifying, op: Op, inputs: tuple[Value, ...]) -> Value | None:
    """A slice of a slice is one."""
    x = inputs[0]
    if x.op is None or x.op.primitive.name != "index" or len(x.op.inputs) != 1 or len(inputs) != 1:
        return None
    outer, inner = op.params["pattern"], x.op.params["pattern"]
    entries = [e for e in inner if e[0] == "s"]
    if any(e[0] != "s" or e[3] != 1 or e[1] >= e[2] for e in outer) or any(e[0] == "n" for e in inner):
        return None
    if any(e[3] != 1 for e in entries):
        return None
    moved = iter(("s", e[1] + o[1], e[1] + o[2], 1) for e, o in zip(entries, outer, strict=True))
    pattern = tuple(next(moved) if e[0] == "s" else e for e in inner)
    return s.emit(table["index"], x.op.inputs[0], pattern=pattern)


def _concat(s: _Simplifying, op: Op, inputs: tuple[Value, ...]) -> Value | None:
    """One part alone; neighbouring slices of one array side by side."""
    if len(inputs) == 1:
        return inputs[0]
    axis = op.params["axis"]
    merged: list[Value] = []
    for value in inputs:
        before = merged[-1] if merged else None
        joined = None if before is None else _next_to(s, before, value, axis)
        if joined is None:
            merged.append(value)
        else:
            merged[-1] = joined
    if len(merged) == len(inputs) or any(v.dtype != op.output.dtype for v in merged):
        return None
    return merged[0] if len(merged) == 1 else s.emit(table["concat"], *merged, axis=axis)


def _next_to(s: _Simplifying, a: Value, b: Value, axis: int) -> Value | None:
    """Two slices of one array that touch along an axis, as one."""
    if a.op is None or b.op is None or a.op.primitive.name != "index" or b.op.primitive.name != "index":
        return None
    p, q = a.op.params["pattern"], b.op.params["pattern"]
    if a.op.inputs[0] is not b.op.inputs[0] or len(a.op.inputs) != 1 or len(b.op.inputs) != 1:
        return None
    if len(p) != a.ndim or any(e[0] != "s" or e[3] != 1 for e in (*p, *q)):
        return None
    if any(e != f for d, (e, f) in enumerate(zip(p, q, strict=True)) if d != axis) or p[axis][2] != q[axis][1]:
        return None
    source = a.op.inputs[0]
    pattern = (*p[:axis], ("s", p[axis][1], q[axis][2], 1), *p[axis + 1 :])
    whole = tuple(("s", 0, n, 1) for n in source.shape)
    return source if pattern == whole else s.emit(table["index"], source, pattern=pattern)


def _flip(s: _Simplifying, op: Op, inputs: tuple[Value, ...]) -> Value | None:
    (x,) = inputs
    if x.op is not None and x.op.primitive.name == "flip" and set(x.op.params["axis"]) == set(op.params["axis"]):
        return x.op.inputs[0]
    return None


# Pointwise operations. Exact.


def _narrow_operand(s: _Simplifying, op: Op, inputs: tuple[Value, ...]) -> Value | None:
    """Pointwise operations broadcast: a broadcast operand, or a constant of equal numbers, is smaller before."""
    narrow = []
    for value in inputs:
        if value.op is not None and value.op.primitive.name == "broadcast_to":
            value = value.op.inputs[0]
        elif value.shape and value in s.graph.constants and s.number(value) is not None:
            value = _scalar(s, value)
        narrow.append(value)
    if tuple(narrow) == inputs or not is_pointwise(op):
        return None
    shape = np.broadcast_shapes(*(v.shape for v in narrow))
    result = s.emit(op.primitive, *narrow, **op.params)
    return result if shape == op.output.shape else s.emit(table["broadcast_to"], result, shape=op.output.shape)


# Reductions.


def _reduced_ones(s: _Simplifying, op: Op, inputs: tuple[Value, ...]) -> Value | None:
    """A sum, product, maximum or minimum over axes of length 1 is the element. Exact but for the sum of -0."""
    (x,) = inputs
    if all(x.shape[a] == 1 for a in op.params["axis"]) and x.dtype == op.output.dtype:
        return x if x.shape == op.output.shape else s.emit(table["reshape"], x, shape=op.output.shape)
    return None


def _sum_of_copies(s: _Simplifying, op: Op, inputs: tuple[Value, ...]) -> Value | None:
    """A sum along axes where all elements are copies is a product with their number. Differs in rounding."""
    (x,) = inputs
    if x.op is None or x.op.primitive.name != "broadcast_to" or x.dtype.kind not in "f" or not x.size:
        return None
    (source,) = x.op.inputs
    missing = x.ndim - source.ndim
    copies = [a for a in op.params["axis"] if a < missing or (source.shape[a - missing] == 1 and x.shape[a] != 1)]
    if not copies or x.dtype != op.output.dtype:
        return None
    count = math.prod(x.shape[a] for a in copies)
    # The axes of copies shrink to length 1; those that are summed besides stay as they are.
    shape = tuple(1 if a in copies else n for a, n in enumerate(x.shape))
    kept = s.emit(table["reshape"], source, shape=(*(1,) * missing, *source.shape))
    if kept.shape != shape:
        kept = s.emit(table["broadcast_to"], kept, shape=shape)
    total = s.emit(table["sum"], kept, **op.params)
    return s.emit(table["multiply"], total, s.constant(np.asarray(count, x.dtype)))


_RULES: dict[str, tuple[Rule, ...]] = {
    "add": (_add,),
    "subtract": (_subtract,),
    "multiply": (_multiply,),
    "divide": (_divide,),
    "negative": (_negative,),
    "integer_power": (_integer_power,),
    "where": (_where,),
    "astype": (_astype,),
    "identity": (_identity,),
    "reshape": (_unmoved, _reshape),
    "permute_dims": (_unmoved, _permute),
    "broadcast_to": (_unmoved, _broadcast),
    "flip": (_unmoved, _flip),
    "index": (_unmoved, _index),
    "concat": (_concat,),
    "pad": (_unmoved,),
    "sum": (_reduced_ones, _sum_of_copies),
    "prod": (_reduced_ones,),
    "max": (_reduced_ones,),
    "min": (_reduced_ones,),
}
_RULES_OF = {
    name: (*_RULES.get(name, ()), *((_narrow_operand,) if name in _POINTWISE_NAMES else ()))
    for name in (*_RULES, *_POINTWISE_NAMES)
}
