"""The expression that an instruction belongs to, and the names its result is given."""

from __future__ import annotations

from typing import Any

import chainrule as cr
from chainrule.core.program import expression_at


def place(tensor: Any) -> Any:
    return tensor._node.place


def leaf() -> Any:
    return cr.tensor([1.0, 2.0], requires_grad=True)


def test_a_sub_expression_and_the_whole_are_told_apart() -> None:
    w, x, b = leaf(), leaf(), leaf()
    z = w * x + b
    whole = expression_at(place(z))
    part = expression_at(z._node.inputs[0].place)
    assert whole is not None and part is not None
    assert (whole.text, whole.targets, whole.operands) == ("w * x + b", ("z",), ("w * x", "b"))
    assert (part.text, part.targets, part.operands) == ("w * x", (), ("w", "x"))


def test_targets_of_every_kind_of_assignment() -> None:
    x = leaf()
    y: Any = x * 2
    x2 = x
    x2 += y
    if (v := x * 3) is not None:
        pass
    assert expression_at(place(y)).targets == ("y",)
    assert expression_at(place(x2)).targets == ("x2",)
    assert expression_at(place(v)).targets == ("v",)


def test_calls_name_their_function_and_arguments() -> None:
    x = leaf()
    y = cr.tanh(x)
    found = expression_at(place(y))
    assert found is not None
    assert (found.function, found.operands, found.targets) == ("tanh", ("x",), ("y",))


def test_unpacking_names_every_output() -> None:
    matrix = cr.tensor([[2.0, 1.0], [1.0, 3.0]], requires_grad=True)
    values, vectors = cr.linalg.eigh(matrix)
    assert expression_at(place(values)).targets == ("values", "vectors")
    assert expression_at(place(vectors)).targets == ("values", "vectors")


def test_an_expression_over_several_lines() -> None:
    w, x = leaf(), leaf()
    z = (
        w
        * x
    )  # fmt: skip
    assert expression_at(place(z)).targets == ("z",)


def test_code_without_source_has_no_expression() -> None:
    names: dict[str, Any] = {"x": leaf()}
    exec(compile("y = x * 2", "<nowhere>", "exec"), names)
    assert expression_at(place(names["y"])) is None
    assert expression_at(None) is None
