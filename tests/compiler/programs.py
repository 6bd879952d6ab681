"""Small graphs for tests, built primitive by primitive, and their comparison with `evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from chainrule.compiler.code.target import Target, can_run, target
from chainrule.compiler.graph import Graph, Op, Value, evaluate
from chainrule.compiler.runtime import build
from chainrule.core.primitive import table

TARGETS = [t for t in (target(n) for n in ("avx512", "avx2", "generic")) if can_run(t)]


class Builder:
    """A graph under construction: `b.exp(x)` applies a primitive."""

    def __init__(self) -> None:
        self.inputs: list[Value] = []
        self.ops: list[Op] = []
        self.constants: dict[Value, np.ndarray] = {}

    def input(self, *shape: int, dtype: Any = "float32") -> Value:
        self.inputs.append(Value(shape, dtype))
        return self.inputs[-1]

    def constant(self, array: Any, dtype: Any = "float32") -> Value:
        array = np.asarray(array, dtype)
        made = Value(array.shape, array.dtype)
        self.constants[made] = array
        return made

    def __getattr__(self, name: str) -> Any:
        def apply(*inputs: Value, **params: Any) -> Any:
            op = Op(table[name], inputs, params)
            self.ops.append(op)
            return op.output if len(op.outputs) == 1 else op.outputs

        return apply

    def graph(self, *outputs: Value, updates: dict[int, int] | None = None) -> Graph:
        return Graph(self.inputs, self.ops, list(outputs), self.constants, updates or {})


_FENCE = 256  # bytes


def run(graph: Graph, arrays: Sequence[np.ndarray], wanted: Target | None = None) -> list[np.ndarray]:
    """The outputs of the compiled graph, which must not have written beside them."""
    memory = [np.full(v.nbytes + 2 * _FENCE, 0xA5, np.uint8) for v in graph.outputs]
    outputs = [
        m[_FENCE : _FENCE + v.nbytes].view(v.dtype).reshape(v.shape) for m, v in zip(memory, graph.outputs, strict=True)
    ]
    build(graph, wanted).bind([np.ascontiguousarray(a).reshape(a.shape) for a in arrays], outputs)()
    for m, v in zip(memory, graph.outputs, strict=True):
        beside = np.concatenate([m[:_FENCE], m[_FENCE + v.nbytes :]])
        assert (beside == 0xA5).all(), f"written beside {v} of\n{graph}"
    return outputs


def check(graph: Graph, arrays: Sequence[np.ndarray], wanted: Target | None = None, scale: float = 16) -> None:
    """Compiled and evaluated outputs agree within `scale` units of the last place of each output's largest number.

    Sums of n numbers differ by their order; callers pass a scale that grows with n.
    """
    with np.errstate(all="ignore"):
        expected = evaluate(graph, arrays)
    for position, (got, value) in enumerate(zip(run(graph, arrays, wanted), expected, strict=True)):
        if value.dtype.kind != "f":
            np.testing.assert_array_equal(got, value, err_msg=f"output {position} of\n{graph}")
            continue
        finite = np.abs(value[np.isfinite(value)])
        largest = float(finite.max()) if finite.size else 0.0
        bound = scale * float(np.finfo(value.dtype).eps)
        np.testing.assert_allclose(
            got, value, rtol=bound, atol=bound * largest, err_msg=f"output {position} of\n{graph}"
        )


def random_arrays(graph: Graph, seed: int = 0) -> list[np.ndarray]:
    """Normal numbers for floating inputs, small integers for others."""
    rng = np.random.default_rng(seed)
    arrays = []
    for v in graph.inputs:
        if v.dtype.kind == "f":
            arrays.append(rng.standard_normal(v.shape).astype(v.dtype))
        elif v.dtype.kind == "b":
            arrays.append(rng.random(v.shape) < 0.5)
        else:
            arrays.append(rng.integers(0, 5, v.shape).astype(v.dtype))
    return arrays
