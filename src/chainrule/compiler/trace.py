"""Tracing: a function runs once on values that are known by shape and data type only.

Every primitive that meets a `Traced` value becomes an operation of the trace's graph, whether it was
called by the function, by the backward pass or by an optimiser's rule. Computations among plain arrays
run at once; their results are constants of the graph.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core import source
from ..core.errors import TransformError, located
from ..core.node import Interpreted, ShapeDtype, mode
from ..core.primitive import Primitive
from ..core.tensor import Tensor, new_tensor
from ..nn.module import module_path
from .graph import Graph, Op, Value
from .state import Cells


class Traced(Interpreted):
    """A value of the graph under construction."""

    __slots__ = ("__weakref__", "dtype", "shape", "trace", "value")
    level = 0
    always_recorded = True

    def __init__(self, trace: Trace, value: Value) -> None:
        self.trace = trace
        self.value = value
        self.shape = value.shape
        self.dtype = value.dtype

    def process(self, primitive: Primitive, inputs: tuple[Tensor, ...], params: dict[str, Any]) -> Any:
        """One more operation of the graph."""
        trace = mode.trace
        if trace is None:
            raise TransformError(located(f"{primitive.name}: {self.leaked()}"))
        return trace.apply(primitive, inputs, params)

    def concrete(self, wanted: str) -> np.ndarray:
        if mode.trace is None:
            raise TransformError(located(f"{wanted}: {self.leaked()}"))
        raise TransformError(
            located(
                f"{wanted} needs the value of a tensor that cr.compile knows by shape only: "
                f"{self.described()}. {_way_out(wanted)}"
            )
        )

    def described(self) -> str:
        """`float32[128, 10], computed at train.py:7: y = model(x)`."""
        spec = str(ShapeDtype(self.shape, self.dtype))
        if self.value.op is None:
            return f"{spec} {self.value.name}".rstrip()
        place = source.resolve(self.value.op.place)
        return f"{spec}, computed by {self.value.op.primitive.name}" + (f" at {place}" if place else "")

    def leaked(self) -> str:
        """What to say where this value turns up outside of its trace."""
        return (
            f"this tensor was kept from inside a function that cr.compile traced ({self.described()}) and has no "
            "value outside of it; return it from the function instead"
        )


_WAYS_OUT = {
    "bool()": (
        "An if, while, and, or on it would be decided once, for all calls. Choose element by element with "
        "cr.where(condition, a, b), or between computations with cr.cond(condition, f, g, *operands)"
    ),
    "format()": "Return it from the function and print the result; without a format its shape can be printed here",
    "index()": "Select with a tensor index, x[i], or loop with cr.scan(f, init, xs); a length must be a Python number",
    "indexing with a mask": "How many elements a mask selects is not known; keep all with cr.where(mask, x, 0)",
    "randperm": "Draw the permutation outside and pass it as an argument",
}


def _way_out(wanted: str) -> str:
    return _WAYS_OUT.get(wanted) or (
        "Return it from the function and convert the result outside; to decide by it inside, use cr.where or cr.cond"
    )


class Source:
    """Numbers that the graph reads from Python objects at every call, such as an optimiser's hyperparameters.

    Attributes:
        read: what there is now, cheaply; compared with `is`, part by part, to see whether it changed.
        split: what was read, in two parts: what the graph was made for, and the numbers.
        structure: the first part, as it was when the function was traced.
        values: the inputs of the graph for the numbers.
    """

    __slots__ = ("read", "split", "structure", "values")

    def __init__(self, read: Callable[[], Any], split: Callable[[Any], tuple[Any, list[float]]]) -> None:
        self.read = read
        self.split = split
        self.structure, numbers = split(read())
        self.values = [Value((), np.float64, name="setting") for _ in numbers]


class Trace:
    """The graph of a function while it is being traced.

    Attributes:
        graph: what was recorded so far.
        cells: the state that the function reads and writes.
        sources: the numbers that every call reads from Python objects anew.
        entered: the modules that were called, with their attributes at that time.
        constants: the tensors with plain values that operations met, and the arrays they held.
        outer: the trace in which the function is a branch or a loop's body, if any.
        shares: whether equal 0-d states (the step counters of all parameters) become one input.
    """

    def __init__(self, outer: Trace | None = None, shares: bool = True) -> None:
        self.graph = Graph([], [], [])
        self.cells: Any = Cells(self)
        self.outer = outer
        self.sources: dict[Any, Source] = {}
        self.entered: dict[Any, dict[str, Any]] = {}
        self.constants: list[tuple[weakref.ref[Tensor], np.ndarray]] = []
        self._constants: dict[Any, Value] = {}
        self._paths: dict[Any, str] = {}
        self._scopes: list[Any] = []
        self._shared: dict[Any, Tensor] = {}
        self.shares = shares
        self._alive: list[weakref.ref[Traced]] = []

    def input(self, shape: tuple[int, ...], dtype: Any, name: str) -> Tensor:
        """A tensor that stands for a new input of the graph."""
        value = Value(shape, dtype, name=name)
        self.graph.inputs.append(value)
        return self.tensor(value)

    def tensor(self, value: Value) -> Tensor:
        """A handle on a value of the graph, without a node."""
        return new_tensor(self._traced(value), None)

    def _traced(self, value: Value) -> Traced:
        traced = Traced(self, value)
        self._alive.append(weakref.ref(traced))
        return traced

    def state(self, array: np.ndarray, name: str, is_shared: bool = False) -> Tensor:
        """The input for a state that holds `array` now; equal 0-d ones may share it."""
        if not (is_shared and self.shares and array.ndim == 0):
            return self.input(array.shape, array.dtype, name)
        key = (array.dtype, array.tobytes())
        found = self._shared.get(key)
        if found is None:
            found = self._shared[key] = self.input(array.shape, array.dtype, name)
        return self.tensor(found._value.value)

    def settings(self, owner: Any, read: Callable[[], Any], split: Callable[[Any], tuple[Any, list[float]]]) -> Any:
        """Float64 tensors for numbers of `owner` (any key) that every call reads anew (see `Source`)."""
        source = self.sources.get(owner)
        if source is None:
            source = self.sources[owner] = Source(read, split)
            self.graph.inputs.extend(source.values)
        return [self.tensor(value) for value in source.values]

    def owns(self, content: Any) -> bool:
        """Whether a value belongs to this trace."""
        return isinstance(content, Traced)

    def value_of(self, tensor: Tensor) -> Value:
        """The graph's value for a tensor: traced here, or an array, which becomes a constant."""
        held = tensor._value
        if isinstance(held, Traced):
            return held.value if held.trace is self else self.adopt(tensor)
        array = tensor._array("cr.compile")
        key = (array.dtype, array.shape, array.tobytes()) if array.size == 1 else id(array)
        found = self._constants.get(key)
        if found is None:
            found = self._constants[key] = Value(array.shape, array.dtype)
            self.graph.constants[found] = array
            self.constants.append((weakref.ref(tensor), array))
        return found

    def adopt(self, tensor: Tensor) -> Value:
        """The value here for a tensor of another trace, which must be an enclosing one."""
        raise TransformError(located(tensor._value.leaked()))

    def apply(self, primitive: Primitive, inputs: tuple[Tensor, ...], params: dict[str, Any]) -> Any:
        """Record an operation; what `Interpreted.process` returns."""
        op = Op(
            primitive, [self.value_of(t) for t in inputs], params,
            place=mode.place or source.capture(4), path=self._path(),
        )  # fmt: skip
        self.graph.ops.append(op)
        outputs = tuple(self._traced(v) for v in op.outputs)
        return outputs if len(outputs) > 1 else outputs[0]

    def _path(self) -> str:
        scope = mode.scope
        if scope is None:
            return ""
        path = self._paths.get(id(scope))
        if path is None:
            path = self._paths[id(scope)] = module_path(scope)
            self._scopes.append(scope)
        return path

    def enter(self, module: Any) -> None:
        """Note that a module is called."""
        if module not in self.entered:
            self.entered[module] = dict(vars(module))

    def require_same_numbers(self, name: str) -> None:
        """Raise a TransformError if a module that was called has counted something in an attribute."""
        for module, before in self.entered.items():
            for attribute, value in vars(module).items():
                earlier = before.get(attribute)
                if type(value) in (int, float) and type(earlier) in (int, float) and value != earlier:
                    raise TransformError(
                        f"cr.compile: {name} changes {attribute} of {type(module).__name__} from {earlier!r} to "
                        f"{value!r}, which would happen once, not at every call; keep it in an nn.Buffer"
                    )

    def forget(self) -> None:
        """Let branches and loops drop the tensors that they kept for their derivatives."""
        for op in self.graph.ops:
            forget = getattr(op.primitive, "forget", None)
            if forget is not None:
                forget()

    def close(self) -> None:
        """Forget everything but the graph, and see that no traced value has escaped.

        Raises:
            TransformError: a traced value is still referred to: the function stored it somewhere.
        """
        self.cells = None
        self.forget()
        self._shared.clear()
        self._scopes.clear()
        if not any(ref() is not None for ref in self._alive):
            return
        gc.collect()
        for ref in reversed(self._alive):  # the last one is the one that was stored: it keeps its operands alive
            traced = ref()
            if traced is not None:
                raise TransformError(
                    "a traced value was stored outside of the function that cr.compile traced "
                    f"({traced.described()}): in a list, an attribute or a global variable, where it would have no "
                    "value. Return it from the function, or keep it as state in a Variable (nn.Buffer) with assign()"
                )
