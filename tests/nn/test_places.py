"""Nodes made inside layers remember the line of the user's that the layer was called from."""

from __future__ import annotations

from typing import Any

import pytest

import chainrule as cr
from chainrule import nn


class Block(nn.Module):
    """A user's module around a layer of the library."""

    def __init__(self) -> None:
        self.linear = nn.Linear(3, 3)

    def forward(self, x: Any) -> Any:
        y = cr.tanh(x)  # in the block
        return self.linear(y)  # the block's layer


def _lines(y: Any) -> list[tuple[str, str]]:
    node, found = y._node, []
    while node.inputs:
        found.append((node.primitive.name, node.location.text))
        node = node.inputs[0]
    return found


def test_a_node_points_to_the_innermost_line_of_user_code() -> None:
    model = nn.Sequential(Block(), nn.ReLU())
    y = model(cr.tensor([[1.0, 2.0, 3.0]], requires_grad=True))
    call = _lines(y)[0][1]
    assert call.startswith("y = model(")
    assert [(n, t.partition("# ")[2]) for n, t in _lines(y)[1:]] == [
        ("affine", "the block's layer"), ("tanh", "in the block"),
    ]  # fmt: skip


def test_a_hook_is_user_code_even_inside_a_layer() -> None:
    layer = nn.ReLU()
    layer.register_forward_hook(lambda _module, _args, y: y * 2)  # in the hook
    y = layer(cr.tensor([1.0], requires_grad=True))
    assert _lines(y)[0][1].endswith("# in the hook")


def test_a_failed_call_leaves_no_place_behind() -> None:
    from chainrule.core.node import mode

    with pytest.raises(cr.ShapeError):
        nn.Linear(3, 3)(cr.tensor([[1.0]]))
    assert mode.place is None
    assert mode.scope is None
