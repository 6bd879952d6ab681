"""Operations along one axis that have code of their own: positions of extrema, running sums, sorting, searching."""

from __future__ import annotations

from ..code.ir import is_native
from ..graph import Op

EXTREMA = ("argmax", "argmin")
CUMULATIVE = ("cumulative_sum", "cumulative_prod")


def is_along_axis(op: Op) -> bool:
    """Whether there is code for an operation along one axis."""
    name = op.primitive.name
    if name not in (*EXTREMA, *CUMULATIVE, "argsort", "searchsorted"):
        return False
    if not all(is_native(v.dtype) and v.size < 2**31 for v in op.inputs):
        return False
    if name == "searchsorted":
        return op.inputs[0].dtype == op.inputs[1].dtype
    return name not in CUMULATIVE or op.inputs[0].dtype.kind != "b"
