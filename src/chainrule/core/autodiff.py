"""Reverse mode: the chain rule applied backwards through the graph.

`pull_back` is the whole of backpropagation: visit the nodes from the outputs to the leaves
in reverse order of creation, turn each node's cotangent into those of its inputs by the
primitive's vjp, and add up where several consumers meet. `backward` and `grad` are its two
public faces.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from . import source
from .dtypes import is_differentiable
from .errors import DTypeError, GradientError, ShapeError, located
from .node import Node, collect, cut_off, is_cut, mode
from .primitive import Primitive, project, table
from .tensor import Tensor, Variable, constant, new_tensor, to_array

F = TypeVar("F", bound=Callable[..., Any])


class no_grad:
    """Compute without recording: as a context manager, or as a decorator of functions and generators."""

    _grad, _notes = False, True

    def __new__(cls, function: Callable[..., Any] | None = None) -> no_grad:
        made = super().__new__(cls)
        return made if function is None else made(function)  # type: ignore[return-value]

    def __enter__(self) -> None:
        stack = self.__dict__.setdefault("_entered", [])
        stack.append((mode.grad, mode.notes_cuts))
        mode.grad, mode.notes_cuts = self._grad, self._notes

    def __exit__(self, *exc: object) -> None:
        mode.grad, mode.notes_cuts = self._entered.pop()  # type: ignore[attr-defined]

    def __call__(self, function: F) -> F:
        # A block of its own for every call: calls in several threads have different modes to restore.
        block = type(self)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with block():
                return function(*args, **kwargs)

        @functools.wraps(function)
        def generate(*args: Any, **kwargs: Any) -> Any:
            # Between two items the consumer runs, with the consumer's modes.
            with block():
                items = function(*args, **kwargs)
            try:
                while True:
                    with block():
                        item = next(items, items)
                    if item is items:
                        return
                    yield item
            finally:
                items.close()

        return generate if inspect.isgeneratorfunction(function) else call  # type: ignore[return-value]


class enable_grad(no_grad):
    """Record again inside a `no_grad` block."""

    _grad, _notes = True, False


class unrecorded(no_grad):
    """The library's own `no_grad`: values only, and no note of who cut the graph."""

    _grad, _notes = False, False


def is_grad_enabled() -> bool:
    """Whether operations are being recorded in this thread."""
    return mode.grad


def pull_back(
    cotangents: dict[Node, Any],
    wanted: set[Node] | None = None,
    *,
    create_graph: bool = False,
    through: bool = True,
    order: list[Node] | None = None,
    watch: Callable[[Node, Any, int, Any], None] | None = None,
) -> dict[Node, Tensor]:
    """Propagate cotangents of some nodes back to the nodes they depend on.

    Args:
        cotangents: per output node its cotangent, a tensor of the node's shape.
        wanted: the nodes whose cotangents are returned; every leaf if None. Only nodes
            that lead to a wanted one are visited.
        create_graph: record the computation, so that it can be differentiated again.
        through: False stops at the wanted nodes: a path from one of them to another does
            not count.
        order: `collect(cotangents)`, where the caller has it.
        watch: told every product of the chain rule when it is made, as `watch(node, g, position,
            contribution)`: what a node with the cotangent g hands back to its input at
            `position`; None where the derivative is zero.

    Returns:
        The cotangent of each wanted node that the outputs depend on.
    """
    if order is None:
        order = collect(cotangents)
    pending: dict[Node, Any] = {n: g for n, g in cotangents.items() if n.requires_grad}
    leads = None if wanted is None else _leading(order, wanted)
    found: dict[Node, Tensor] = {}
    spread = _spread if mode.trace is None else _spread_at
    with enable_grad() if create_graph and mode.grad else unrecorded():
        for node in reversed(order):
            g = pending.pop(node, None)
            if g is None:
                if node in wanted if wanted is not None else node.primitive is None:
                    # The outputs depend on it, by steps whose derivative is zero everywhere (floor).
                    found[node] = new_tensor(np.zeros(node.shape, node.dtype), None)
                continue
            if wanted is None:
                if node.primitive is None or node._owner is not None:
                    found[node] = g
            elif node in wanted:
                found[node] = g
                if not through:
                    continue
            if node.inputs:
                spread(node, g, pending, leads, watch)
            elif isinstance(node.primitive, Released):
                node.primitive.complain()
    return found


def _leading(order: list[Node], wanted: set[Node]) -> set[Node]:
    """The nodes from which a wanted node can be reached."""
    leads: set[Node] = set()
    for node in order:
        if node in wanted or any(parent in leads for parent in node.inputs):
            leads.add(node)
    return leads


def _spread(node: Node, g: Any, pending: dict[Node, Any], leads: set[Node] | None, watch: Any) -> None:
    """Add the cotangents of a node's inputs, given that of the node."""
    parents = node.inputs
    primitive = node.primitive
    assert primitive is not None
    if primitive is project:
        whole = parents[0]
        if leads is None or whole in leads:
            parts = pending.setdefault(whole, [None] * len(whole.value))
            index = node.params["index"]
            if watch is not None:
                watch(node, g, 0, g)
            parts[index] = g if parts[index] is None else parts[index] + g
        return
    y = new_tensor(node.value, node) if type(node.value) is not tuple else _handles(node)
    inputs = [new_tensor(parent.value, parent) for parent in parents]
    vjp, params = primitive.vjp, node.params
    for position, parent in enumerate(parents):
        if not parent.requires_grad or (leads is not None and parent not in leads):
            continue
        contribution = vjp(position, g, y, inputs, params)
        if watch is not None:
            watch(node, g, position, contribution)
        if contribution is None:
            continue
        earlier = pending.get(parent)
        pending[parent] = contribution if earlier is None else earlier + contribution


def _spread_at(node: Node, g: Any, pending: dict[Node, Any], leads: set[Node] | None, watch: Any) -> None:
    """`_spread` for a compiler: the operations belong to the line and the module of the forward pass."""
    place, scope = mode.place, mode.scope
    mode.place, mode.scope = node.place or place, node.scope
    try:
        _spread(node, g, pending, leads, watch)
    finally:
        mode.place, mode.scope = place, scope


def _handles(node: Node) -> tuple[Tensor, ...]:
    """The outputs of a node that has several."""
    return tuple(
        new_tensor(v, Node(project, (node,), {"index": i}, v, is_differentiable(v.dtype)))
        for i, v in enumerate(node.value)
    )


def backward(output: Tensor, gradient: Any = None, retain_graph: bool = False, inputs: Any = None) -> None:
    """Add the gradient of this tensor with respect to every leaf to the leaf's `.grad`.

    Args:
        gradient: cotangent of this tensor, same shape; 1 for a scalar if left out.
        retain_graph: keep the graph even after an optimiser has changed the weights.
        inputs: the tensors to compute gradients for, instead of all leaves.

    Raises:
        GradientError: the tensor is no scalar and `gradient` is missing, or nothing
            that it was computed from requires a gradient.
    """
    node = output._node
    if node is None or not node.requires_grad:
        raise GradientError(located(_why_no_gradient(output)))
    given = None if inputs is None else {_node_of(t, "inputs"): t for t in _as_list(inputs)}
    seeds = {node: cotangent_like(output, gradient, "backward")}
    order = collect(seeds)
    found = pull_back(seeds, None if given is None else set(given), order=order)
    graph = None if retain_graph else [weakref.ref(n) for n in order if n.inputs]
    for leaf_node, g in found.items():
        owner = leaf_node.owner if given is None else given[leaf_node]
        if owner is None:
            continue
        earlier = getattr(owner, "_grad", None)
        # A handle of its own: one cotangent may serve several leaves, and `x.grad[i] = v` repoints a handle.
        owner._grad = new_tensor(g._value, g._node) if earlier is None else earlier + g
        if graph is not None and isinstance(owner, Variable):
            owner._graph = graph


Tensor.backward = backward  # type: ignore[assignment, method-assign]


def _why_no_gradient(output: Tensor) -> str:
    node = output._node
    if node is None or not is_cut(node):
        return (
            "backward: nothing that this tensor was computed from requires a gradient; "
            "make a leaf with requires_grad=True, and do not compute the loss under no_grad()"
        )
    return f"backward: {_who_cut(node)}"


def _who_cut(node: Node) -> str:
    return f"the graph was cut by {cut_off(node.value, node).params['cut']} at {node.location}"


def cotangent_like(output: Tensor, gradient: Any, name: str) -> Tensor:
    """The given cotangent of `output`, checked; 1 for a scalar where none is given."""
    if gradient is None:
        if output.size != 1:
            raise GradientError(
                located(
                    f"{name}: the output has shape {output.shape}; only a scalar has a gradient of its "
                    "own. Reduce it (mean(), sum()) or give the cotangent of the output"
                )
            )
        return new_tensor(np.ones(output.shape, output.dtype), None) if output.ndim else constant(1, output.dtype)
    if not isinstance(gradient, Tensor):
        gradient = new_tensor(to_array(gradient, output.dtype), None)
    if gradient.shape != output.shape:
        raise ShapeError(located(f"{name}: cotangent of shape {gradient.shape} for an output of shape {output.shape}"))
    if gradient.dtype != output.dtype:
        if gradient.dtype.kind == "c" and output.dtype.kind != "c":
            raise DTypeError(located(f"{name}: cotangent of type {gradient.dtype} for an output of {output.dtype}"))
        gradient = table["astype"](gradient, dtype=output.dtype)
    return gradient


def _as_list(tensors: Any) -> list[Any]:
    if isinstance(tensors, Tensor):
        return [tensors]
    try:
        return list(tensors)
    except TypeError:
        raise DTypeError(located(f"expected a tensor or a sequence of them, got {type(tensors).__name__}")) from None


def _node_of(tensor: Any, name: str) -> Node:
    """The node of a tensor given as one of `name` ("inputs", "outputs")."""
    if not isinstance(tensor, Tensor):
        raise DTypeError(located(f"grad: {name} must be tensors, got {type(tensor).__name__}"))
    if tensor._node is None or not tensor._node.requires_grad:
        why = "" if tensor._node is None or not is_cut(tensor._node) else f": {_who_cut(tensor._node)}"
        raise GradientError(located(f"grad: a tensor in {name} does not require a gradient{why}"))
    return tensor._node


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    *,
    create_graph: bool = True,
    allow_unused: bool = False,
) -> Any:
    """Gradients of `outputs` with respect to `inputs`, as tensors that can be differentiated again.

    Args:
        outputs: one tensor or several; their gradients are summed.
        inputs: one tensor or several that require a gradient (leaves or intermediate).
        grad_outputs: cotangents of the outputs, of their shapes; 1 for scalars.
        create_graph: False computes the gradients as plain values, in less memory.
        allow_unused: give None, not an error, for an input the outputs do not depend on.

    Returns:
        A tensor for a single input, a tuple for a sequence. Complex gradients follow
        PyTorch's convention (the conjugate Wirtinger derivative, the direction of ascent).

    Raises:
        GradientError: an output is no scalar and has no cotangent, an input requires no
            gradient, or the outputs do not depend on it.
    """
    results = _as_list(outputs)
    targets = _as_list(inputs)
    given = [None] * len(results) if grad_outputs is None else _as_list(grad_outputs)
    if len(given) != len(results):
        raise ShapeError(located(f"grad: {len(given)} cotangents for {len(results)} outputs"))
    seeds: dict[Node, Any] = {}
    for output, g in zip(results, given, strict=True):
        node = _node_of(output, "outputs")
        seed = cotangent_like(output, g, "grad")
        seeds[node] = seeds[node] + seed if node in seeds else seed
    nodes = [_node_of(t, "inputs") for t in targets]
    found = pull_back(seeds, set(nodes), create_graph=create_graph)
    gradients = []
    for position, node in enumerate(nodes):
        g = found.get(node)
        if g is None:
            why = _why_unused(collect(seeds), targets[position])
        if g is None and not allow_unused:
            raise GradientError(
                located(
                    f"grad: the outputs do not depend on input {position} (shape {node.shape}); {why}"
                    "pass allow_unused=True for None instead"
                )
            )
        gradients.append(None if g is None else new_tensor(g._value, g._node))
    return gradients[0] if isinstance(inputs, Tensor) else tuple(gradients)


def _why_unused(graph: list[Node], target: Tensor) -> str:
    for node in graph:
        if isinstance(node.primitive, Released):
            node.primitive.complain()
        if node.owner is target:
            return "it was assigned another value after they were computed; "
    cuts = [parent for node in graph for parent in node.inputs if is_cut(parent)]
    return f"{_who_cut(cuts[-1])}; " if cuts else ""


class Released(Primitive):
    """Stands in the graph where its nodes were let go after an optimiser's step."""

    __slots__ = ("place",)

    def __init__(self, place: Any) -> None:
        super().__init__("released", lambda: None, abstract=lambda: None, registered=False)
        self.place = place

    def complain(self) -> None:
        raise GradientError(
            located(
                f"the graph was released when the weights it was computed with changed, at "
                f"{source.resolve(self.place)}; call backward(retain_graph=True) to keep it"
            )
        )


_released_at = functools.lru_cache(maxsize=64)(Released)  # a training loop steps at the same place again and again


@contextlib.contextmanager
def kept_graphs() -> Iterator[None]:
    """Within this block an optimiser's step releases no graph: it can be explained after the step."""
    before, mode.keeps_graphs = mode.keeps_graphs, True
    try:
        yield
    finally:
        mode.keeps_graphs = before


_NOTHING: dict[str, Any] = {}  # shared and never written


def release_graphs(variables: Sequence[Variable]) -> None:
    """Let go of the graphs whose gradients these variables hold, because their values change.

    An optimiser calls it in `step`. Up to then a graph can still be explained; from then
    on it would only keep the activations of the last batch in memory.
    """
    graphs = {id(graph): graph for v in variables if (graph := getattr(v, "_graph", None)) is not None}
    if not graphs or mode.keeps_graphs:
        return
    released = _released_at(source.capture(2))
    for graph in graphs.values():
        for reference in graph:
            node = reference()
            if node is not None and node.inputs:
                node.primitive, node.inputs, node.params = released, (), _NOTHING
    for v in variables:
        v._graph = None
