"""The graph of a loss as it was when it was explained, with every product of the backward pass.

`trace` copies the structure of the graph and lets `pull_back` run once over it, watching. The
copy outlives the release of the graph by an optimiser; arrays are shared with it, not copied.
Parts under `func.checkpoint` are opened first (`opening`): their values are computed again, as
the backward pass does, and take the part's place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core import source
from ..core.autodiff import Released, pull_back
from ..core.errors import TransformError, located
from ..core.node import Interpreted, Node, collect, is_missing, leaf, materialise
from ..core.primitive import Primitive
from ..core.tensor import Tensor, new_tensor
from .opening import with_parts_opened


class Value:
    """One value of the graph: a node with its gradient and with the values computed from it.

    Attributes:
        index: position in `Trace.values`, where inputs come first.
        primitive, inputs, params, place, scope: as in `Node`; `inputs` are values.
        value: the array, a tuple of arrays, or a `ShapeDtype` (`array()` gets the numbers).
        node: the node it was copied from; the handle for looking names up.
        requires_grad: whether a gradient can flow here.
        gradient: ∂L/∂value as an array (a list of arrays and None for several outputs);
            None where none flows.
        products: what the consumers hand back, in the order in which they arrived.
        cut: who cut the graph here (`detach()`, `no_grad()`), or None.
    """

    __slots__ = (
        "cut", "gradient", "index", "inputs", "node", "params", "place", "primitive", "products", "requires_grad",
        "scope", "value",
    )  # fmt: skip

    index: int
    gradient: Any
    products: list[Product]

    def __init__(self, index: int, node: Any, inputs: tuple[Value, ...]) -> None:
        self.index = index
        self.node = node
        self.primitive: Primitive | None = node.primitive if inputs else None
        self.inputs = inputs
        self.params: dict[str, Any] = node.params if inputs else {}
        self.value = node.value
        self.place = node.place
        self.scope = node.scope
        self.requires_grad: bool = node.requires_grad
        self.gradient = None
        self.products = []
        self.cut: str | None = None
        if not inputs and not node.requires_grad:
            self.cut = node.params.get("cut", "no_grad()" if node.primitive is not None else None)

    @property
    def several(self) -> bool:
        """Whether this is the joint result of a primitive with several outputs."""
        return type(self.value) is tuple

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    @property
    def dtype(self) -> np.dtype:
        return self.value.dtype

    @property
    def size(self) -> int:
        return self.value.size

    @property
    def location(self) -> source.Location | None:
        """The line of user code that made this value."""
        return source.resolve(self.place)

    def array(self) -> Any:
        """The numbers: an array, or a tuple of arrays; computed again where they were not kept."""
        return materialise(self) if is_missing(self.value) else self.value  # type: ignore[arg-type]

    def handle(self) -> Any:
        """The numbers as a tensor without history, or a tuple of tensors."""
        array = self.array()
        return tuple(new_tensor(a, None) for a in array) if type(array) is tuple else new_tensor(array, None)

    def __repr__(self) -> str:
        name = "leaf" if self.primitive is None else self.primitive.name
        return f"Value({self.index}: {name})"


class Product:
    """One product of the chain rule: what a consumer hands back to one of its operands.

    Attributes:
        consumer: the value computed from the operand.
        operand: whose gradient this is a part of.
        position: which operand of the consumer's primitive it is.
        array: the product, of the operand's shape; None where the derivative is zero everywhere.
    """

    __slots__ = ("array", "consumer", "index", "operand", "position")

    def __init__(self, index: int, consumer: Value, operand: Value, position: int, array: Any) -> None:
        self.index = index
        self.consumer = consumer
        self.operand = operand
        self.position = position
        self.array = array

    @property
    def upstream(self) -> Any:
        """The gradient of the consumer."""
        return self.consumer.gradient


class Trace:
    """The values of a graph in order of creation, and the products in order of arrival."""

    def __init__(self, values: list[Value], products: list[Product], loss: Value, found: dict[Any, Value]) -> None:
        self.values = values
        self.products = products
        self.loss = loss
        self._found = found

    def value_of(self, tensor: Tensor) -> Value | None:
        """The value that a tensor is a handle of, if it is part of the graph."""
        if tensor._node is not None:
            return self._found.get(tensor._node)
        return self._found.get(id(tensor._value))

    def leading_to(self, targets: Sequence[Value]) -> set[Value]:
        """The values that a gradient passes on its way to one of `targets`, those included."""
        leads: set[Value] = set()
        wanted = set(targets)
        for value in self.values:
            if value.requires_grad and (value in wanted or any(i in leads for i in value.inputs)):
                leads.add(value)
        return leads


def trace(loss: Tensor, seed: Tensor) -> Trace:
    """Copy the graph of `loss` and run the backward pass over it, given the loss's own gradient.

    Raises:
        GradientError: the graph was released by an optimiser's step.
        TransformError: the loss has no numbers (inside vmap, jvp or compile).
    """
    root = loss._node
    assert root is not None
    order = collect([root])
    for node in order:
        if isinstance(node.primitive, Released):
            node.primitive.complain()
        if isinstance(node.value, Interpreted):
            raise TransformError(
                located(
                    "explain: inside a transformation (vmap, jvp, compile) there are no numbers; explain its result"
                )
            )
    opened, replaced = with_parts_opened(order)
    root = replaced.get(root, root)
    found: dict[Any, Value] = {}
    values: list[Value] = []

    def add(node: Any, inputs: tuple[Value, ...]) -> Value:
        value = Value(len(values), node, inputs)
        values.append(value)
        found[_key(node)] = value
        return value

    for node in opened:
        inputs = tuple(found.get(_key(parent)) or add(parent, ()) for parent in node.inputs)
        add(node, inputs)

    products: list[Product] = []

    def watch(node: Node, g: Any, position: int, contribution: Any) -> None:
        consumer = found[node]
        if consumer.gradient is None:
            consumer.gradient = [None if p is None else _numbers(p) for p in g] if type(g) is list else _numbers(g)
        array = None if contribution is None else _numbers(contribution)
        product = Product(len(products), consumer, consumer.inputs[position], position, array)
        products.append(product)
        consumer.inputs[position].products.append(product)

    for node, g in pull_back({root: seed}, order=opened, watch=watch).items():
        found[node].gradient = _numbers(g)
    if replaced:
        # Sums of leaves' gradients are rounded in the order in which the graph with closed parts adds them up.
        for node, g in pull_back({order[-1]: seed}, order=order).items():
            found[node].gradient = _numbers(g)
        found |= {node: found[stands] for node, stands in replaced.items() if stands in found}
    return Trace(values, products, found[root], found)


def without_graph(loss: Tensor) -> Trace:
    """The trace of a loss that no gradient flows back from: this one value."""
    value = Value(0, loss._node or leaf(loss._value), ())
    return Trace([value], [], value, {loss._node or id(loss._value): value})


def _key(node: Any) -> Any:
    # Each use of a constant makes a `Constant`; the array tells that they are one.
    return node if isinstance(node, Node) else id(node.value)


def _numbers(tensor: Tensor) -> np.ndarray:
    return tensor._array("explain")
