"""Formulas of steps: the derivatives of `core.formula`, with gaps for the names of the user's values.

A formula is written once for a primitive, its shapes and its parameters; the names are filled in
when it is shown.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..core import formula
from ..core.errors import ChainruleError
from ..core.formula import Style, Written
from ..core.mathml import mathml
from ..core.node import ShapeDtype
from ..core.primitive import project, table
from .names import Name
from .trace import Product, Value

FIRST_GAP = 0xE000
# Gaps of a product: the output, the value whose derivative is the upstream gradient, operands, outputs of several.
_OUTPUT, _UPSTREAM, _OPERAND, _PARTS = 0, 1, 2, 4000
_GAP = re.compile("[\ue000-\uf8ff]")
PRODUCT = 2  # precedence
LONGEST = 400  # characters of a formula that somebody reads


def gap(number: int) -> str:
    """The character that stands for the name of this number in a template."""
    return chr(FIRST_GAP + number)


class Formula(NamedTuple):
    """A formula with gaps, and the names that fill them."""

    text_template: str
    latex_template: str
    names: tuple[Name, ...]

    @property
    def text(self) -> str:
        """Plain text: `∂L/∂z = ∂L/∂a · (1 - a²)`."""
        return _GAP.sub(lambda m: self.names[ord(m[0]) - FIRST_GAP].text, self.text_template)

    @property
    def latex(self) -> str:
        """LaTeX, without delimiters."""
        return _GAP.sub(lambda m: self.names[ord(m[0]) - FIRST_GAP].latex, self.latex_template)

    @property
    def mathml(self) -> str:
        """MathML, without the element <math>."""
        return _GAP.sub(lambda m: named_mathml(self.names[ord(m[0]) - FIRST_GAP]), template_mathml(self.latex_template))

    def with_numbers(self, numbers: Mapping[str, str]) -> str:
        """The text with numbers in place of names: `1 − 0.3278²` for `1 − a²` and {"a": "0.3278"}."""

        def filled(match: re.Match[str]) -> str:
            name = self.names[ord(match[0]) - FIRST_GAP]
            return numbers.get(name.label, name.text)

        return _GAP.sub(filled, self.text_template)

    def __str__(self) -> str:
        return self.text


@functools.lru_cache(maxsize=4096)
def template_mathml(latex: str) -> str:
    """The MathML of a template; each gap is left as the bare character."""
    return re.sub("<mi>([\ue000-\uf8ff])</mi>", r"\1", mathml(latex))


@functools.lru_cache(maxsize=4096)
def _mathml(latex: str) -> str:
    return mathml(latex)


def named_mathml(name: Name) -> str:
    """A name as MathML."""
    return _mathml(name.latex)


def literal(text: str, latex: str | None = None) -> Formula:
    """A formula without names."""
    return Formula(text.replace("-", "−"), text if latex is None else latex, ())


def joined(parts: Sequence[Formula | str], *, latex: Sequence[str] | None = None) -> Formula:
    """Formulas and strings one after the other; `latex` gives the LaTeX of the strings where it differs."""
    text, tex = "", ""
    names: list[Name] = []
    strings = iter(latex or ())
    for part in parts:
        if isinstance(part, str):
            text += part
            tex += next(strings) if latex else part
            continue
        shift = len(names)
        text += _GAP.sub(lambda m, s=shift: chr(ord(m[0]) + s), part.text_template)  # type: ignore[misc]
        tex += _GAP.sub(lambda m, s=shift: chr(ord(m[0]) + s), part.latex_template)  # type: ignore[misc]
        names += part.names
    return Formula(text, tex, tuple(names))


def derivative_symbol(name: Name) -> Formula:
    """∂L/∂name."""
    return Formula(f"∂L/∂{gap(0)}", rf"\frac{{\partial L}}{{\partial {gap(0)}}}", (name,))


class _Templates(NamedTuple):
    text: str
    latex: str
    precedence: int
    used: tuple[int, ...]


def forward_formula(value: Value, names: dict[Value, Name]) -> Formula | None:
    """`z = x wᵀ`: how a value was computed."""
    primitive = value.primitive
    if primitive is None:
        return None
    operands = [names[i] for i in value.inputs]
    if primitive is project:
        index = value.params["index"]
        return Formula(f"{gap(0)} = {gap(1)}[{index}]", f"{gap(0)} = {gap(1)}_{{{index}}}", (names[value], operands[0]))
    gaps = [gap(1 + i) for i in range(len(operands))]
    try:
        text, latex = (formula.value_of(primitive, value.params, gaps, style) for style in ("text", "latex"))
    except (KeyError, IndexError, ValueError):
        return None
    return Formula(f"{gap(0)} = {text.replace('-', '−')}", f"{gap(0)} = {latex}", (names[value], *operands))


def local_formula(product: Product, names: dict[Value, Name]) -> Formula | None:
    """`∂a/∂z = 1 - a²`, the local derivative of a pointwise operation; None for others."""
    templates = _templates(product, "partial")
    if templates is None:
        return None
    given = _names(product, names)
    left_text, left_latex = f"∂{gap(0)}/∂{gap(1)}", rf"\frac{{\partial {gap(0)}}}{{\partial {gap(1)}}}"
    left = Formula(left_text, left_latex, (names[product.consumer], names[product.operand]))
    return joined([left, " = ", _filled(templates, given)])


def product_formula(product: Product, names: dict[Value, Name]) -> Formula | None:
    """`∂L/∂a · (1 - a²)`, what a consumer hands back; None where it is zero everywhere."""
    if product.array is None:
        return None
    given = _names(product, names)
    templates = _templates(product, "product")
    if templates is None:
        return derivative_symbol(names[product.consumer])
    return _filled(templates, given)


def _filled(templates: _Templates, given: dict[int, Name]) -> Formula:
    order = {number: place for place, number in enumerate(templates.used)}

    def renumber(text: str) -> str:
        return _GAP.sub(lambda m: gap(order[ord(m[0]) - FIRST_GAP]), text)

    return Formula(renumber(templates.text), renumber(templates.latex), tuple(given[n] for n in templates.used))


def _names(product: Product, names: dict[Value, Name]) -> dict[int, Name]:
    consumer = product.consumer
    given = {_OUTPUT: names[consumer], _UPSTREAM: names[same_gradient(consumer, names)]}
    given |= {_OPERAND + i: names[v] for i, v in enumerate(consumer.inputs)}
    if consumer.several:
        parts = {p.consumer.params["index"]: p.consumer for p in consumer.products}
        for index in range(len(consumer.value)):
            part = parts.get(index)
            given[_PARTS + index] = names[part] if part is not None else Name("0", "0", "an output nobody used", "0")
    return given


def same_gradient(value: Value, names: dict[Value, Name]) -> Value:
    """The named value whose gradient this one's is: `w x` has that of `z` in z = w x + b."""
    while is_passed_on(value, names):
        value = value.products[0].consumer
    return value


def is_passed_on(value: Value, names: dict[Value, Name]) -> bool:
    """Whether a value without a name of its own gets its one consumer's gradient as it is."""
    if len(value.products) != 1 or value.primitive is None or not names[value].numbered:
        return False
    product = value.products[0]
    primitive = product.consumer.primitive
    if primitive is None or primitive.partials is None or value.several or product.consumer.gradient is None:
        return False
    return primitive.partials[product.position] == 1 and product.consumer.shape == value.shape


def _templates(product: Product, kind: str) -> _Templates | None:
    consumer = product.consumer
    primitive = consumer.primitive
    if primitive is None or primitive is project:
        return None
    specs = tuple((v.shape, v.dtype) for v in consumer.inputs)
    if table.get(primitive.name) is not primitive:
        # Made for one call (a whole sequence, a checkpoint): its derivative is a program and no formula.
        return _opaque(product.position) if kind == "product" else None
    params = tuple(sorted(consumer.params.items()))
    outputs = len(consumer.value) if consumer.several else 0
    if kind == "product" and not consumer.products and is_one(consumer.gradient):
        kind = "product of 1"  # the loss itself: ∂L/∂L need not be written
    try:
        return _written(primitive, product.position, specs, params, outputs, kind)
    except TypeError:  # a parameter that is not hashable
        return _written.__wrapped__(primitive, product.position, specs, params, outputs, kind)


def is_one(gradient: Any) -> bool:
    """Whether a gradient is the number 1."""
    return gradient is not None and not isinstance(gradient, list) and gradient.size == 1 and gradient.item() == 1


@functools.lru_cache(maxsize=4096)
def _written(primitive: Any, position: int, specs: Any, params: Any, outputs: int, kind: str) -> _Templates | None:
    shapes = [ShapeDtype(shape, dtype) for shape, dtype in specs]
    operands = [gap(_OPERAND + i) for i in range(len(specs))]
    parts = [gap(_PARTS + i) for i in range(outputs)]
    written = {}
    for style in ("text", "latex"):
        try:
            if primitive.partials is not None:
                part = formula.partial(primitive, position, shapes, dict(params), gap(_OUTPUT), operands, style)
                if kind != "partial" and part is not None:
                    out = primitive.abstract(*shapes, **dict(params)).shape
                    part = _times(_upstream(kind, style), part, style, summed=out != specs[position][0])
            elif kind == "partial":
                return None
            else:
                upstream: Any = [_derivative(p, style) for p in parts] if outputs else _upstream(kind, style)
                part = formula.cotangent(
                    primitive, position, shapes, dict(params), upstream, parts or gap(_OUTPUT), operands, style
                )
        except ChainruleError:
            return _opaque(position)  # the rule looks at numbers, which symbols do not have
        if part is None:
            return None
        written[style] = part
    if len(written["text"]) > LONGEST:
        return _opaque(position)
    used = sorted({ord(c) - FIRST_GAP for s in written.values() for c in _GAP.findall(s)})
    text, latex = written["text"].replace("-", "−"), stretched(str(written["latex"]))
    return _Templates(text, latex, written["text"].precedence, tuple(used))


def stretched(latex: str) -> str:
    """LaTeX whose parentheses are as high as the fractions in them."""
    found, opened = list(latex), []
    for at, character in enumerate(latex):
        if character == "(" and not latex.endswith(r"\left", 0, at):
            opened.append(at)
        elif character == ")" and not latex.endswith(r"\right", 0, at) and opened:
            start = opened.pop()
            if r"\frac" in latex[start:at]:
                found[start], found[at] = r"\left(", r"\right)"
    return "".join(found)


def _opaque(position: int) -> _Templates:
    """∂L/∂y · ∂y/∂x without the inside of ∂y/∂x."""
    y, x = gap(_OUTPUT), gap(_OPERAND + position)
    text = f"∂L/∂{y} · ∂{y}/∂{x}"
    latex = rf"\frac{{\partial L}}{{\partial {y}}} \cdot \frac{{\partial {y}}}{{\partial {x}}}"
    return _Templates(text, latex, PRODUCT, (_OUTPUT, _OPERAND + position))


def _upstream(kind: str, style: Style) -> Written:
    if kind == "product of 1":
        return Written("1", formula.ATOM, "number", (1,))
    return _derivative(gap(_UPSTREAM), style)


def _derivative(name: str, style: Style) -> Written:
    # It needs parentheses before a transpose, none in a product.
    return Written(rf"\frac{{\partial L}}{{\partial {name}}}" if style == "latex" else f"∂L/∂{name}", PRODUCT)


def _times(upstream: Written, factor: Written, style: Style, summed: bool) -> Written:
    """upstream · factor, summed where the operand was broadcast."""
    sum_sign = r"\sum " if style == "latex" else "Σ "
    if factor.kind == "number" and factor.parts[0] == 0:
        return factor
    if upstream.kind == "number":
        return Written(f"{sum_sign}{factor:2}", PRODUCT) if summed else factor
    if factor.kind == "number" and factor.parts[0] == 1:
        product = upstream
    elif factor.kind == "number" and factor.parts[0] == -1:
        product = Written(f"-{upstream}", 1)
    elif factor.kind == "negative":
        inner = factor.parts[0]
        product = Written(f"-{upstream}{_dot(style)}{inner:2}", 1)
    else:
        product = Written(f"{upstream}{_dot(style)}{factor:2}", PRODUCT)
    return Written(f"{sum_sign}{product:2}", PRODUCT) if summed else product


def _dot(style: Style) -> str:
    return r" \cdot " if style == "latex" else " · "
