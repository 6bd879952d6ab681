"""The computational graph: nodes, and the mode that decides whether they are made.

A `Node` is one value in the graph: a leaf, or one primitive applied to the nodes it was
computed from. Nodes never change their meaning; a `Tensor` is a handle that points to one.
"""

from __future__ import annotations

import itertools
import math
import operator
import threading
import weakref
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from . import source

if TYPE_CHECKING:
    from .primitive import Primitive

_order = itertools.count()


class Shaped:
    """What follows from a shape and a data type."""

    __slots__ = ()
    shape: tuple[int, ...]
    dtype: np.dtype

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize


class ShapeDtype(Shaped):
    """What is known of an array without its numbers: `shape` and `dtype`."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.shape = shape
        self.dtype = dtype

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ShapeDtype):
            return NotImplemented
        return self.shape == other.shape and self.dtype == other.dtype

    def __hash__(self) -> int:
        return hash((self.shape, self.dtype))

    def __repr__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


class Interpreted(Shaped):
    """A value that stands for another computation: a dual number, a batch, a trace.

    A primitive with such an operand is not evaluated by NumPy; the operand of the highest
    `level` (the innermost transformation) says what happens, in `process`.
    """

    __slots__ = ()
    level: int
    always_recorded = False  # True for traces, which are nothing but their graph

    def process(self, primitive: Primitive, inputs: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """The value (or tuple of values) of `primitive(*inputs, **params)`."""
        raise NotImplementedError

    def detached(self) -> Any:
        """The tensor with this value that no derivative of the computation it stands for passes."""
        raise NotImplementedError

    def concrete(self, wanted: str) -> np.ndarray:
        """The array behind this value, where there is one; `wanted` names who asks."""
        raise NotImplementedError


Value = Any  # np.ndarray | ShapeDtype | Interpreted | tuple of these (several outputs)


class Node:
    """One value of the graph and how it was computed.

    Attributes:
        primitive: what computed it; None for a leaf (a parameter, an input, a constant).
        inputs: the nodes it was computed from.
        params: the primitive's static parameters.
        value: the array; a `ShapeDtype` where no derivative needs the numbers, so that
            they are not kept alive (`materialise` computes them again when asked for).
        order: position in creation order, which is a topological order.
        requires_grad: whether a gradient can flow through.
        place: the user's code that made it (`source.resolve` gives file and line).
        scope: the modules it was made in, innermost first: `(module, outer scope)`.
    """

    __slots__ = (
        "__weakref__", "_owner", "inputs", "order", "params", "place", "primitive",
        "requires_grad", "scope", "value",
    )  # fmt: skip

    primitive: Primitive | None
    inputs: tuple[Node, ...]
    params: dict[str, Any]
    value: Value
    order: int
    requires_grad: bool
    place: Any
    scope: tuple[Any, Any] | None

    def __init__(
        self,
        primitive: Primitive | None,
        inputs: tuple[Node, ...],
        params: dict[str, Any],
        value: Value,
        requires_grad: bool,
        place: Any = None,
    ) -> None:
        self.primitive = primitive
        self.inputs = inputs
        self.params = params
        self.value = value
        self.requires_grad = requires_grad
        self.place = place
        self.order = next(_order)
        self.scope = mode.scope
        self._owner: Any = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> np.dtype:
        return self.value.dtype

    @property
    def location(self) -> source.Location | None:
        """The line of user code that made this node."""
        return source.resolve(self.place)

    @property
    def owner(self) -> Any:
        """The tensor that receives this leaf's gradient in `.grad`; None once it is gone."""
        return None if self._owner is None else self._owner()

    def __repr__(self) -> str:
        name = "leaf" if self.primitive is None else self.primitive.name
        return f"Node({name}: {self.value if type(self.value) is ShapeDtype else ShapeDtype(self.shape, self.dtype)})"


class Constant:
    """A leaf that no gradient flows to: data, masks, numbers. Reads like a `Node`, weighs less."""

    __slots__ = ("value",)

    primitive = None
    inputs: tuple[Node, ...] = ()
    params: dict[str, Any] = {}  # noqa: RUF012 (shared and never written)
    requires_grad = False
    order = -1
    place = scope = owner = location = None

    def __init__(self, value: Value) -> None:
        self.value = value

    shape = Node.shape
    dtype = Node.dtype
    __repr__ = Node.__repr__


def leaf(value: Value, requires_grad: bool = False, owner: Any = None) -> Node:
    """A node that nothing was applied to."""
    node = Node(None, (), {}, value, requires_grad)
    if owner is not None:
        node._owner = weakref.ref(owner)
    return node


def is_cut(node: Any) -> bool:
    """Whether gradients would flow here, had the user not cut the graph at `node.place`."""
    return not node.requires_grad and (node.primitive is not None or "cut" in node.params)


_BY_NO_GRAD = {"cut": "no_grad()"}


def cut_off(value: Value, cause: Node) -> Node:
    """The node of a value computed behind a cut: a constant that remembers who cut."""
    params = cause.params if cause.primitive is None else _BY_NO_GRAD
    return Node(None, (), params, value, False, cause.place)


class Mode(threading.local):
    """What this thread's operations do besides computing values."""

    grad: bool = True  # record operations on tensors that require a gradient
    notes_cuts: bool = False  # inside the user's no_grad: remember which line cut the graph
    scope: tuple[Any, Any] | None = None
    place: Any = None  # inside a layer of the library: the user's code that called it
    level: int = 0  # transformations under way (jvp, vmap)
    keeps_graphs: bool = False  # an optimiser's step lets go of no graph
    trace: Any = None  # the compiler's trace of a function, while one is under way


mode = Mode()


def collect(roots: Iterable[Node]) -> list[Node]:
    """Every node that requires a gradient and that `roots` depend on, in creation order."""
    stack = [node for node in roots if node.requires_grad]
    seen = set(stack)
    while stack:
        for parent in stack.pop().inputs:
            if parent.requires_grad and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return sorted(seen, key=_creation)


_creation = operator.attrgetter("order")


def is_missing(value: Value) -> bool:
    """Whether the numbers of this value were not kept."""
    return type(value) is ShapeDtype or (type(value) is tuple and any(map(is_missing, value)))


def materialise(node: Node) -> Value:
    """The value of a node whose numbers were not kept, computed again from its inputs.

    Primitives are pure functions (random numbers included: they are functions of a
    counter), so the result equals the one of the forward pass to the last bit.
    """
    stack = [node]
    while stack:
        current = stack[-1]
        if not is_missing(current.value):
            stack.pop()
            continue
        missing = [parent for parent in current.inputs if is_missing(parent.value)]
        if missing:
            stack.extend(missing)
            continue
        stack.pop()
        assert current.primitive is not None
        current.value = current.primitive.evaluate([parent.value for parent in current.inputs], current.params)
    return node.value
