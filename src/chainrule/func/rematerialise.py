"""`checkpoint`: less memory for more computing.

The forward pass of a part of the network keeps only its inputs and outputs; the backward
pass runs the part again to get the values in between (Chen et al. 2016, "Training deep
nets with sublinear memory cost").
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.autodiff import enable_grad, pull_back
from ..core.errors import GradientError, located
from ..core.node import Interpreted, Node, ShapeDtype, collect, leaf, mode
from ..core.primitive import Primitive, project
from ..core.source import capture
from ..core.tensor import Tensor, new_tensor
from ..core.tree import leaves, rebuild
from ..primitives.shape import identity
from ..random import default_generator


def checkpoint(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`function(*args, **kwargs)`, whose intermediate values are computed again in the backward pass.

    Args:
        function: any function of tensors (a module, too); it runs twice and must do the
            same both times. Random numbers are repeated.

    Returns:
        What the function returns: a tensor or a nested container of tensors. Gradients,
        also higher ones, equal those without `checkpoint`.

    Raises:
        GradientError: in the backward pass, if a weight it uses has changed since.
    """
    tensors = leaves(args)
    if not mode.grad or any(isinstance(t._value, Interpreted) for t in tensors):
        return function(*args, **kwargs)
    draws_from = default_generator.state._value

    def run(values: list[Tensor]) -> Any:
        return function(*rebuild(args, list(values)), **kwargs)

    inputs = [t for t in tensors if t.requires_grad]
    marker = leaf(None)
    out = run([_cut(t) if t.requires_grad else t for t in tensors])
    outputs = leaves(out)
    closure = _boundary([t._node for t in outputs if t._node is not None], marker)
    nodes = tuple(t._node for t in inputs if t._node is not None) + tuple(closure)
    if not nodes:
        return out
    for tensor, node in zip(inputs, nodes, strict=False):
        node.value = tensor._value
    # Positions of the differentiated arguments among all tensor arguments.
    slots = [i for i, t in enumerate(tensors) if t.requires_grad]
    fixed = [None if t.requires_grad else t for t in tensors]

    def again(fresh: list[Tensor]) -> list[Tensor]:
        values: list[Any] = list(fixed)
        for slot, tensor in zip(slots, fresh, strict=True):
            values[slot] = tensor
        return leaves(run(values))

    part = Part(again, len(inputs), draws_from)
    place = capture()
    if len(outputs) == 1:
        whole = Node(part, nodes, {}, outputs[0]._value, True, place)
        return rebuild(out, [new_tensor(outputs[0]._value, whole)])
    values = tuple(t._value for t in outputs)
    whole = Node(part, nodes, {}, values, True, place)
    return rebuild(
        out,
        [
            new_tensor(t._value, Node(project, (whole,), {"index": i}, t._value, t.requires_grad, place))
            for i, t in enumerate(outputs)
        ],
    )


def _cut(tensor: Tensor) -> Tensor:
    return new_tensor(tensor._value, leaf(tensor._value, True))


def _boundary(roots: list[Node], marker: Node) -> list[Node]:
    """The nodes made before `marker` that nodes made after it were computed from."""
    found: dict[Node, None] = {}
    seen: set[Node] = set()
    stack = [node for node in roots if node.requires_grad]
    while stack:
        node = stack.pop()
        if node in seen:
            continue
        seen.add(node)
        if node.order < marker.order:
            found[node] = None
        else:
            stack.extend(parent for parent in node.inputs if parent.requires_grad)
    return list(found)


class Part(Primitive):
    """A part of the network as one node; its vjp runs the part again to get the graph inside."""

    __slots__ = ("again", "arguments", "draws_from", "pending")

    def __init__(self, again: Callable[[list[Tensor]], list[Tensor]], arguments: int, draws_from: Any) -> None:
        super().__init__("checkpoint", _unused, abstract=_unused, vjps=_unused, registered=False)
        self.again = again
        self.arguments = arguments
        self.draws_from = draws_from
        self.pending: tuple[Any, list[Tensor | None]] | None = None

    def vjp(self, position: int, g: Any, y: Any, inputs: Any, params: dict[str, Any]) -> Tensor | None:
        # One run gives the cotangents of all inputs, which are asked for one by one.
        if self.pending is None or self.pending[0] is not g:
            self.pending = (g, self._run_again(g, inputs))
        return self.pending[1][position]

    def opened(self, inputs: list[Tensor]) -> list[Tensor]:
        """The outputs with the graph that the part is: what was computed from `inputs`, computed again.

        Random numbers are those of the forward pass.
        """
        state = default_generator.state
        drawn_since = state._value
        state.assign(self.draws_from)
        try:
            with enable_grad():
                return self.again(inputs[: self.arguments])
        finally:
            state.assign(drawn_since)

    def _run_again(self, g: Any, inputs: list[Tensor]) -> list[Tensor | None]:
        recording = mode.grad
        closure = inputs[self.arguments :]
        with enable_grad():
            fresh = [identity(t) if recording else _cut(t) for t in inputs[: self.arguments]]
        outputs = self.opened(fresh)
        cotangents = g if isinstance(g, list | tuple) else [g]
        seeds = {y._node: c for y, c in zip(outputs, cotangents, strict=True) if c is not None and y._node is not None}
        reached = set(collect(seeds))
        nodes = [t._node for t in fresh] + [t._node for t in closure]
        if any(t._node not in reached for t in closure) and set(seeds) >= {y._node for y in outputs}:
            raise GradientError(
                located("a weight used inside checkpoint() changed between the forward and the backward pass")
            )
        wanted = {n for n in nodes if n is not None}
        found = pull_back(seeds, wanted, create_graph=recording, through=False)
        return [None if n is None else found.get(n) for n in nodes]


def _unused(*_: Any, **__: Any) -> ShapeDtype:
    raise NotImplementedError("a checkpointed part has no rule of its own; its vjp runs the part again")


_unused.reads = (False, True)  # type: ignore[attr-defined]
