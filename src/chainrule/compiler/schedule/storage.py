"""Which values are written to memory, and which are computed again where they are needed.

A value that only its own kernel reads stays in registers. One that a later kernel reads is stored,
unless computing it again from what is in memory anyway costs no more than reading it would.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..graph import Op, Value
from .access import is_movement
from .groups import Grouping
from .kinds import DEAR, is_pointwise

_RARE = frozenset(
    ("power", "tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "asinh", "acosh", "atanh", "hypot", "nextafter",
     "remainder", "floor_divide")
)  # fmt: skip
_SMALL = 1 << 12  # elements that are stored without further thought


def cost(name: str) -> int:
    """Roughly how many additions one element of a pointwise primitive takes."""
    return 100 if name in _RARE else DEAR.get(name, 1)


def weight(ops: Sequence[Op]) -> int:
    """The sum of the costs of a kernel's pointwise operations and reductions."""
    return sum(cost(op.primitive.name) for op in ops if not is_movement(op)) + 1


def stored_values(grouping: Grouping, plain: set[int]) -> set[Value]:
    """The computed values that are to be in memory; the kernels `plain` compute nothing again."""
    readers: dict[Value, set[int]] = {}
    forced = set(grouping.output_sources().values()) | {v for v in grouping.graph.outputs if v in grouping.group_of}
    for group in grouping.groups:
        if group.opaque is not None:
            forced.update(group.opaque.outputs)
            operands = [v for v, _ in group.parts] if group.is_assembled else group.opaque.inputs
            forced.update(_base(grouping, v, group.position) for v in operands)
            continue
        if group.product is not None:
            forced.update(_base(grouping, v, group.position) for v in group.product.inputs)
        for value in group.values:
            if value in group.sums:
                forced.add(value)
            for leaf in grouping.leaves(value, group.position):
                readers.setdefault(leaf, set()).add(group.position)
    stored: set[Value] = set()
    for group in grouping.groups:
        if group.opaque is not None:
            stored.update(group.opaque.outputs)
            continue
        for value in group.values:
            foreign = readers.get(value, set()) - {group.position}
            if not foreign and value not in forced:
                continue
            if value in forced or foreign & plain or not _cheaper(grouping, value, stored, readers, foreign):
                stored.add(value)
    return stored


def _base(grouping: Grouping, value: Value, position: int) -> Value:
    """What is in memory where an operand is read by the kernel at a position."""
    if grouping.is_before(value, position):
        return value
    found = grouping.view(value, position)
    assert found is not None
    return found[0]


def _cheaper(
    grouping: Grouping,
    value: Value,
    stored: set[Value],
    readers: dict[Value, set[int]],
    foreign: set[int],
) -> bool:
    """Whether to compute a value again in the kernels `foreign`; what that reads then counts as read by them."""
    total = 0
    large: list[Value] = []
    small: list[Value] = []
    seen: set[Value] = set()
    stack = [value]
    while stack:
        v = stack.pop()
        if v in seen:
            continue
        seen.add(v)
        at_hand = v in stored or v in grouping.sources
        if at_hand:
            (large if v.size * 4 >= value.size else small).append(v)
            continue
        op = v.op
        assert op is not None
        if is_pointwise(op):
            total += cost(op.primitive.name) * (v.size > 1)
        elif not is_movement(op):
            if v.size * 16 > value.size:
                return False
            small.append(v)
            continue
        elif len(op.inputs) > 1:
            return False
        stack.extend(op.inputs)
    most = 0 if value.size <= _SMALL else 40
    if not (len(large) <= 1 and total <= most) and not (len(large) <= 2 and total <= 4):
        return False
    for leaf in (*large, *small):
        if leaf in grouping.group_of:
            readers.setdefault(leaf, set()).update(foreign)
            stored.add(leaf)
    return True
