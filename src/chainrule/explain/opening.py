"""Parts under `func.checkpoint` opened: the graph as it were without them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.autodiff import enable_grad
from ..core.node import Node, collect, is_missing, materialise, mode
from ..core.primitive import project
from ..core.tensor import new_tensor
from ..func.rematerialise import Part
from ..primitives.shape import identity


def with_parts_opened(order: Sequence[Node]) -> tuple[list[Node], dict[Any, Node]]:
    """The graph with the values inside every checkpointed part, in creation order; parts in parts are opened, too.

    Args:
        order: the nodes of the graph of one result, in creation order.

    Returns:
        The nodes, and by which of them those of `order` that are no longer there were replaced.
    """
    replaced: dict[Any, Node] = {}
    opened = list(order)
    while any(isinstance(node.primitive, Part) for node in opened):
        step = _opened_once(opened)
        replaced = {node: step.get(stands, stands) for node, stands in replaced.items()} | step
        root = opened[-1]
        opened = collect([step.get(root, root)])
    return opened, replaced


def _opened_once(order: Sequence[Node]) -> dict[Any, Node]:
    """By which node each node is replaced that is a part's result or is computed from one."""
    replaced: dict[Any, Node] = {}
    results: dict[Any, list[Node | None]] = {}
    for node in order:
        if isinstance(node.primitive, Part):
            results[node] = _inside(node, node.primitive, replaced)
            if type(node.value) is not tuple:
                replaced[node] = results[node][0]  # type: ignore[assignment]
        elif node.primitive is project and node.inputs[0] in results:
            result = results[node.inputs[0]][node.params["index"]]
            assert result is not None
            replaced[node] = result
        elif any(parent in replaced for parent in node.inputs):
            inputs = tuple(replaced.get(parent, parent) for parent in node.inputs)
            copy = Node(node.primitive, inputs, node.params, node.value, node.requires_grad, node.place)
            copy.scope = node.scope
            replaced[node] = copy
    return replaced


def _inside(node: Node, part: Part, replaced: dict[Any, Node]) -> list[Node | None]:
    """The nodes of a part's outputs, computed from the part's arguments."""
    arguments = []
    scope = mode.scope
    mode.scope = node.scope
    try:
        for parent in node.inputs:
            stands = replaced.get(parent, parent)
            value: Any = materialise(stands) if is_missing(stands.value) else stands.value
            arguments.append(new_tensor(value, stands))
        with enable_grad():
            # One reader of each argument, so that what the part hands back is added up before it leaves.
            entered = [identity(t) for t in arguments[: part.arguments]]
        return [t._node for t in part.opened([*entered, *arguments[part.arguments :]])]
    finally:
        mode.scope = scope
