"""LaTeX to MathML: well-formed, complete, escaped."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from chainrule.core.formula import local_derivative, notation
from chainrule.core.mathml import UnknownLatex, mathml
from chainrule.primitives import table
from tests.primitives.samples import names

NAMESPACE = '<math xmlns="http://www.w3.org/1998/Math/MathML">{}</math>'


def words(markup: str) -> str:
    return "".join(ET.fromstring(NAMESPACE.format(markup)).itertext())


@pytest.mark.parametrize(
    ("latex", "markup"),
    [
        (r"\frac{1}{x}", "<mfrac><mn>1</mn><mi>x</mi></mfrac>"),
        ("x^2", "<msup><mi>x</mi><mn>2</mn></msup>"),
        ("x_1^2", "<msubsup><mi>x</mi><mn>1</mn><mn>2</mn></msubsup>"),
        (r"\sqrt{x}", "<msqrt><mi>x</mi></msqrt>"),
        ("a - b", "<mrow><mi>a</mi><mo>−</mo><mi>b</mi></mrow>"),
        (r"\mathrm{fc1.weight}", "<mi>fc1.weight</mi>"),
        ("12.5", "<mn>12.5</mn>"),
    ],
)
def test_it_writes(latex: str, markup: str) -> None:
    assert mathml(latex) == markup


@pytest.mark.parametrize("name", list(names()))
def test_every_primitive_s_notation_is_well_formed(name: str) -> None:
    assert words(notation(table[name], "mathml"))
    if table[name].differentiable:
        for position in range(len(table[name].example[0])):
            try:
                markup = local_derivative(table[name], position, "mathml")
            except Exception as error:
                assert "no derivative" in str(error)  # noqa: PT017
                continue
            assert "=" in words(markup)


def test_cases_become_a_table() -> None:
    root = ET.fromstring(NAMESPACE.format(mathml(r"\begin{cases} 1 & y > 0 \\ 0 & \text{otherwise} \end{cases}")))
    rows = [e for e in root.iter() if e.tag.endswith("mtr")]
    assert ["".join(r.itertext()) for r in rows] == ["1y>0", "0otherwise"]


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", "a & b", 'x" onload="y'])
def test_markup_in_names_stays_text(text: str) -> None:
    from chainrule.explain.names import latex_text

    markup = mathml(rf"\mathrm{{{latex_text(text)}}}")
    assert words(markup) == text
    assert "<script" not in markup


@pytest.mark.parametrize("latex", [r"\unknown{x}", r"\frac{1}", "{x", r"\left( x", r"\begin{cases} x"])
def test_what_is_not_known_is_an_error(latex: str) -> None:
    with pytest.raises(UnknownLatex):
        mathml(latex)
