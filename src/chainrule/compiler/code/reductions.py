"""Reductions as instructions: what they begin with, one step, and the lanes of a vector added up."""

from __future__ import annotations

import numpy as np

from ..schedule.kernels import Reduction
from .ir import I1, Function, Value


def identity(kind: str, dtype: np.dtype) -> int | float | bool:
    """What a reduction begins with."""
    if kind in ("sum", "any"):
        return 0
    if kind in ("prod", "all"):
        return 1
    if dtype.kind == "f":
        return float("-inf") if kind == "max" else float("inf")
    if dtype.kind == "b":
        return kind != "max"
    limits = np.iinfo(dtype)
    return int(limits.min if kind == "max" else limits.max)


def combine(f: Function, r: Reduction, a: Value, b: Value) -> Value:
    """A partial result and what comes next, or another partial result."""
    if r.kind in ("any", "all"):
        return a | b if r.kind == "any" else a & b
    if r.kind in ("max", "min"):
        if b.type.is_float:
            # NaN wins: it stays in the sum, and comparing with it is false.
            better = f.compare("gt" if r.kind == "max" else "lt", a, b)
            return f.select(better | f.is_nan(a), a, b)
        if r.operand.dtype.kind == "b":
            return a | b if r.kind == "max" else a & b
        sign = "s" if r.operand.dtype.kind == "i" else "u"
        return f.pairwise(sign + r.kind, a, b)
    if r.operand.dtype.kind == "b":
        return a | b if r.kind == "sum" else a & b
    return a + b if r.kind == "sum" else a * b


def across(f: Function, r: Reduction, value: Value) -> Value:
    """The lanes of a vector of partial results as one number."""
    if r.kind in ("sum", "prod") and value.type.scalar is not I1:
        return f.reduce("add" if r.kind == "sum" else "mul", value)
    if value.type.is_float:
        # Halving with the same comparison as in the loop.
        lanes = value.type.lanes
        while lanes > 1:
            lanes //= 2
            left = f.shuffle(value, value, range(lanes))
            right = f.shuffle(value, value, range(lanes, 2 * lanes))
            value = combine(f, r, left, right)
        return f.extract(value, 0)
    if value.type.scalar is I1:
        return f.reduce("or" if r.kind in ("any", "sum", "max") else "and", value)
    sign = "s" if r.operand.dtype.kind == "i" else "u"
    return f.reduce(sign + r.kind, value)
