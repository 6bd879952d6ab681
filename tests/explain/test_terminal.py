"""What `print` shows: formulas with numbers for single entries, layers for networks, answers for what is wrong."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest

import chainrule as cr
from chainrule.core.tensor import Tensor
from tests.explain.samples import network


def neuron() -> tuple[Tensor, Tensor]:
    x, w, b = (cr.tensor(v, requires_grad=True) for v in (1.5, -0.8, 0.2))
    z = w * x + b
    a = cr.tanh(z)
    return (a - 0.5) ** 2 / 2, w


def test_a_neuron_prints_as_on_a_blackboard() -> None:
    x, w, b = (cr.tensor(v, requires_grad=True) for v in (1.5, -0.8, 0.2))
    z = w * x + b
    a = cr.tanh(z)
    loss = (a - 0.5) ** 2 / 2
    lines = [" ".join(line.split()) for line in str(cr.explain(loss, wrt=w)).splitlines()]
    assert lines[0] == "∂L/∂w"
    assert any(line.startswith("a = tanh(z) = −0.76159") for line in lines)
    assert any(line.startswith("5 ∂L/∂z = ∂L/∂a · (1 − a²) = (−1.2616) · 0.41997 = −0.52984") for line in lines)
    assert any(line.startswith("6 ∂L/∂w = ∂L/∂z · x = (−0.52984) · 1.5 = −0.79476") for line in lines)


def test_several_numbers_print_together() -> None:
    x, w, b = (cr.tensor(v, requires_grad=True) for v in (1.5, -0.8, 0.2))
    z = w * x + b
    loss = cr.tanh(z)
    printed = str(cr.explain(loss, wrt=[x, w, b]))
    for line in ("∂L/∂x = ∂L/∂z · w", "∂L/∂w = ∂L/∂z · x", "∂L/∂b = ∂L/∂z"):
        assert line in printed


def test_a_network_prints_layer_by_layer_and_opens_into_steps() -> None:
    model, loss = network()
    e = cr.explain(loss, wrt=model.fc1.weight)
    printed = str(e)
    assert "fc2 = Linear(in_features=8, out_features=3, bias=True)" in printed
    assert "∂L/∂W = δᵀ x" in printed and "agrees with autodiff to" in printed
    assert "the equations of fc2 above" not in printed  # fc1 hands nothing on: it has one equation less
    opened = e.text(steps=True)
    assert "∂L/∂fc1 = ∂L/∂h₁ · (1 − h₁²)" in opened
    assert len(opened.splitlines()) > 20


def test_one_entry_of_a_network_prints_with_its_entries() -> None:
    model, loss = network()
    printed = str(cr.explain(loss, wrt=model.fc1.weight, at=(2, 1)))
    assert "∂L/∂fc1.weight[2, 1]" in printed.splitlines()[0]
    assert "more: " in printed
    assert "Forward" in printed and "Backward" in printed


def test_an_answer_takes_the_place_of_steps_that_are_not_there() -> None:
    v = cr.tensor([1.0], requires_grad=True)
    cut = v.detach()
    printed = str(cr.explain(cr.sum(cut), wrt=v))
    assert printed.startswith("no gradient\nWhy is there no gradient?")
    assert "cut = v.detach()" in printed


def test_plain_text_has_no_escape_codes_and_a_terminal_has_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    model, loss = network()
    e = cr.explain(loss, wrt=model.fc1.weight)
    assert "\x1b[" not in str(e)
    assert "\x1b[" in e.text(colour=True)

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", Terminal())
    coloured = str(e)
    monkeypatch.setenv("NO_COLOR", "1")
    plain = str(e)
    monkeypatch.undo()
    assert "\x1b[" in coloured
    assert "\x1b[" not in plain


def test_names_are_shown_as_they_are() -> None:
    w = cr.tensor([1.0, 2.0], requires_grad=True)
    names = {"[bold]w[/bold]": w}
    printed = str(cr.explain(cr.sum(w * w), wrt=w, names=names))
    assert "[bold]w[/bold]" in printed


def test_gradients_that_are_not_finite_print() -> None:
    a = Tensor(np.array([0.0, 1.0]), requires_grad=True)
    printed = str(cr.explain(cr.sum(cr.sqrt(a) * 0), wrt=a))
    assert "Why is the gradient NaN or infinite?" in printed


def test_latex_is_one_aligned_environment() -> None:
    loss, w = neuron()
    latex = cr.explain(loss, wrt=w).to_latex()
    assert latex.startswith("\\begin{aligned}\n") and latex.endswith("\n\\end{aligned}")
    assert r"\frac{\partial L}{\partial a}" in latex
