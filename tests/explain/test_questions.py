"""Questions are answered with the operation, the line, the units and the shares that are to blame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.core.tensor import Tensor
from chainrule.nn import functional as F


def leaf(*numbers: float) -> Tensor:
    return Tensor(np.array(numbers), requires_grad=True)


def test_none_names_the_line_that_cut_the_way() -> None:
    v, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    cut = (v * 3).detach()
    e = cr.explain(cr.sum(w * cut), wrt=v)
    assert e.gradient is None
    assert e.steps == [] and e.layers == []
    answer = e.why()
    assert answer.question == "Why is there no gradient?"
    assert "detach()" in str(answer) and "cut = (v * 3).detach()" in str(answer)
    assert answer.evidence[0].value is not None and answer.evidence[0].value.cut == "detach()"


def test_none_behind_no_grad() -> None:
    v, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    with cr.no_grad():
        hidden = v * 2
    assert "hidden = v * 2" in str(cr.explain(cr.sum(hidden), wrt=v).why())
    assert "hidden = v * 2" in str(cr.explain(cr.sum(hidden * w), wrt=v).why())
    assert "behind a cut" in str(cr.explain(cr.sum(hidden * w), wrt=hidden).why())


def test_none_for_other_reasons() -> None:
    v, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    loss = cr.sum(w * 2)
    assert "not used" in cr.explain(loss, wrt=v).why().text
    assert "requires_grad=True" in cr.explain(loss, wrt=Tensor(1.0)).why().text
    assert "requires_grad=True" in cr.explain(Tensor(1.0), wrt=v).why().text
    layer = nn.Linear(2, 1)
    loss = cr.sum(layer(Tensor(np.ones((1, 2), np.float32))))
    layer.weight.assign(layer.weight * 2)
    assert "assigned another value" in cr.explain(loss, wrt=layer.weight).why().text


def test_some_of_several_may_have_none() -> None:
    v, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    e = cr.explain(cr.sum(w * 2), wrt=[w, v])
    assert e.gradient[1] is None
    assert e.gradient[0].tolist() == [2.0, 2.0]
    assert e.missing == [v]


class Dead(nn.Module):
    def __init__(self) -> None:
        self.fc1 = nn.Linear(4, 8)
        self.fc2 = nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        return self.fc2(F.relu(self.fc1(x)))


def dead(units: slice) -> tuple[Dead, Tensor]:
    cr.manual_seed(1)
    model = Dead()
    bias = np.zeros(8, np.float32)
    bias[units] = -100
    model.fc1.bias.assign(bias)
    return model, F.cross_entropy(model(cr.randn(16, 4)), cr.randint(0, 3, (16,)))


def test_zero_names_the_operation_that_stopped_all_of_it() -> None:
    model, loss = dead(slice(None))
    answer = cr.explain(loss, wrt=model.fc1.weight).why()
    assert answer.question == "Why is the gradient zero?"
    assert "relu" in answer.text and "all 8 units, for all 16 samples" in str(answer)
    assert answer.evidence[0].value is not None and answer.evidence[0].value.primitive is not None
    assert answer.evidence[0].value.primitive.name == "relu"


def test_zero_in_part_names_the_units_that_are_dead_for_the_whole_batch() -> None:
    model, loss = dead(slice(2, 5))
    answer = cr.explain(loss, wrt=model.fc1.weight).why_zero()
    assert "rows 2, 3, 4 (3 of 8) entirely" in answer.text
    assert "units 2, 3, 4 (3 of 8) for all 16 samples" in str(answer)


def test_zero_by_a_derivative_that_is_zero_everywhere_and_by_a_zero_factor() -> None:
    a = leaf(0.5, 1.5)
    assert "floor" in cr.explain(cr.sum(cr.floor(a)), wrt=a).why().text
    zeros = Tensor(np.zeros(2))
    answer = cr.explain(cr.sum(a * zeros), wrt=a).why()
    assert "multiply" in answer.text and "derivative is 0" in str(answer)
    x = Tensor(np.zeros((3, 2)))
    w = Tensor(np.ones((2, 4)), requires_grad=True)
    assert "the other factor, x, is zero" in str(cr.explain(cr.sum(x @ w), wrt=w).why())


def test_no_zero_is_denied() -> None:
    a = leaf(0.5, 1.5)
    assert "It is not" in cr.explain(cr.sum(a * 2), wrt=a).why_zero().text


def test_nan_of_the_forward_pass_names_its_first_operation_and_operand() -> None:
    a = leaf(0.0, 1.0, 4.0)
    shifted = a - 1
    answer = cr.explain(cr.sum(cr.log(shifted)), wrt=a).why()
    assert answer.question == "Why is the gradient NaN or infinite?"
    assert "forward pass made NaN" in answer.text and "log" in answer.text
    assert "shifted[0] = -1" in str(answer)


def test_nan_of_the_backward_pass_names_the_derivative_and_the_entry() -> None:
    a = leaf(0.0, 1.0)
    answer = cr.explain(cr.sum(cr.sqrt(a) * 0), wrt=a).why()
    assert "The forward pass is finite" in answer.text and "sqrt" in answer.text
    assert "the gradient 0 and the derivative inf" in str(answer)
    assert "a[0] = 0" in str(answer)


def test_nan_in_a_parameter_is_blamed_on_the_parameter() -> None:
    layer = nn.Linear(2, 1)
    layer.weight.assign(np.array([[np.nan, 1.0]], np.float32))
    answer = cr.explain(cr.sum(layer(Tensor(np.ones((1, 2), np.float32)))), wrt=layer.bias).why_not_finite()
    assert answer.text.startswith("The parameter weight already holds NaN. The last update went wrong")


def test_infinity_that_a_mask_absorbed_is_not_blamed_but_its_derivative_is() -> None:
    a = leaf(0.0, 1.0)
    safe = cr.where(cr.tensor([False, True]), cr.log(a), Tensor(np.zeros(2)))
    answer = cr.explain(cr.sum(safe), wrt=a).why_not_finite()
    assert "What reached the loss is finite. The derivative of `log`" in answer.text
    assert "the gradient 0 and the derivative inf" in str(answer)


def test_size_names_the_layers_that_shrink_it() -> None:
    cr.manual_seed(0)
    blocks = [layer for _ in range(12) for layer in (nn.Linear(16, 16), nn.Sigmoid())]
    net = nn.Sequential(*blocks, nn.Linear(16, 1))
    answer = cr.explain(cr.mean(net(cr.randn(32, 16))), wrt="0.weight").why_size()
    assert "tiny" in answer.text
    assert sum("Sigmoid" in e.text and "its derivative is 0.2" in e.text for e in answer.evidence) >= 3


def test_ways_compare_skip_connection_and_block_with_shares_that_add_up() -> None:
    cr.manual_seed(0)
    block = nn.Sequential(nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
    x = Tensor(np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32), requires_grad=True)
    h = x * 1.5
    out = h + block(h)
    answer = cr.explain(cr.sum(out**2), wrt=x).paths()
    assert "of the norm of ∂L/∂h comes through" in answer.text
    assert "the skip connection" in answer.text and "through 0" in answer.text
    skip, other = (t.share for s in cr.explain(cr.sum(out**2), wrt=x).steps if s.name == "h" for t in s.terms)
    assert skip + other == pytest.approx(1, abs=1e-6)


def test_ways_name_the_heads_of_attention() -> None:
    cr.manual_seed(0)
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    x = Tensor(np.random.default_rng(0).standard_normal((2, 5, 8)).astype(np.float32), requires_grad=True)
    answer = cr.explain(cr.sum(attention(x, x, x)[0] ** 2), wrt=x).paths()
    assert any("head 0" in e.text and "head 1" in e.text for e in answer.evidence)


def test_one_way_only() -> None:
    a = leaf(0.5)
    assert "By one way only" in cr.explain(cr.sum(cr.tanh(a)), wrt=a).paths().text


def test_the_document_carries_the_answers() -> None:
    import json

    model, loss = dead(slice(None))
    d = json.loads(cr.explain(loss, wrt=model.fc1.weight).to_json())
    (answer,) = d["answers"]
    assert answer["question"] == "Why is the gradient zero?"
    assert d["nodes"][answer["evidence"][0]["node"]]["primitive"] == "relu"


def test_a_skip_without_a_name_is_a_way_and_a_second_call_of_a_layer_is_another() -> None:
    cr.manual_seed(0)
    cell, out = nn.GRUCell(4, 4), nn.Linear(4, 4)

    class Block(nn.Module):
        def __init__(self) -> None:
            self.norm, self.inner = nn.LayerNorm(4), nn.Linear(4, 4)

        def forward(self, x: Any) -> Any:
            return x + self.inner(self.norm(x))

    blocks = nn.Sequential(Block(), Block())
    text = str(cr.explain(cr.sum(blocks(cr.randn(3, 4)) ** 2), wrt=blocks[0].inner.weight).paths())
    assert "through the skip connection" in text and "through 1.norm" in text
    h1 = cell(cr.randn(3, 4))
    h2 = cell(cr.randn(3, 4), h1)
    text = str(cr.explain(cr.sum(out(h1) ** 2) + cr.sum(out(h2) ** 2), wrt=h1).paths())
    assert "through GRUCell at" in text and "through Linear at" in text and "subtract" not in text


def test_numbers_that_went_through_numpy_are_looked_for() -> None:
    x, w = cr.randn(3, 4), cr.randn(4, 4, requires_grad=True)
    scale = cr.randn(3, 4, requires_grad=True)

    def lost() -> Tensor:
        copied = cr.tensor((x @ w).numpy())
        return (scale * copied).sum()

    answer = cr.explain(lost(), wrt=w).why()
    assert "numpy(), item()" in answer.text
    (evidence,) = answer.evidence
    assert "the constant copied (3×4)" in evidence.text and "scale * copied" in evidence.text
