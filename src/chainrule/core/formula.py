"""Formulas for the reader: a primitive's notation and its local derivative, as LaTeX or text.

Nothing is stated twice: the derivative that autodiff runs is called with symbols in place
of numbers, and the graph it builds is written down.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from .dtypes import complex64, complex128, float32, float64
from .errors import ChainruleError
from .mathml import mathml
from .node import Interpreted, Node, ShapeDtype
from .primitive import Primitive, project
from .tensor import Tensor, new_tensor

Style = Literal["latex", "text", "mathml"]
ATOM = 4
_DOUBLE = {float32: float64, complex64: complex128}

_CONSTANTS = {
    math.log(2): (r"\ln 2", "ln 2"),
    math.log(10): (r"\ln 10", "ln 10"),
    2 / math.sqrt(math.pi): (r"\frac{2}{\sqrt{\pi}}", "2/√π"),
}


class Symbol(Interpreted):
    """A value known by name, shape and data type only."""

    __slots__ = ("dtype", "shape")
    level = -1
    always_recorded = True

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape = shape
        self.dtype = dtype

    def process(self, primitive: Primitive, inputs: tuple[Tensor, ...], params: dict[str, Any]) -> Any:
        """The shape rule in place of the computation."""
        out = primitive.abstract(*(ShapeDtype(t.shape, t.dtype) for t in inputs), **params)
        if isinstance(out, tuple):
            return tuple(Symbol(o.shape, o.dtype) for o in out)
        return Symbol(out.shape, out.dtype)

    def concrete(self, wanted: str) -> Any:
        raise ChainruleError(f"{wanted}: a symbol has no value")


def symbol(shape: tuple[int, ...], dtype: Any) -> Tensor:
    """A tensor that stands for any value of that shape and type."""
    value = Symbol(tuple(shape), dtype)
    return new_tensor(value, Node(None, (), {}, value, True))


def operand_names(count: int) -> list[str]:
    """x for one operand, a, b, c, … for several."""
    return ["x"] if count == 1 else list("abcdefghijklmnopqrstuvwxyz"[:count])


def notation(primitive: Primitive, style: Style = "latex") -> str:
    """How the primitive is written: `\\tanh x`, `a + b`."""
    inputs, params = _example(primitive)
    names = operand_names(len(inputs))
    if style == "mathml":
        return mathml(value_of(primitive, params, names))
    return str(value_of(primitive, params, names, style))


def local_derivative(primitive: Primitive, position: int = 0, style: Style = "latex") -> str:
    r"""The derivative of the output by one input, as an equation.

    For a pointwise primitive y = f(x) the partial derivative, `∂y/∂x = 1 - y²`; for any
    other the cotangent of the input, given ȳ, the cotangent of the output: `ā = ȳ bᵀ`.

    Raises:
        ChainruleError: the primitive has no derivative by that input.
    """
    inputs, params = _example(primitive)
    names = operand_names(len(inputs))
    if not 0 <= position < len(names):
        raise ChainruleError(f"{primitive.name} has no input {position}")
    if not primitive.differentiable:
        raise ChainruleError(f"{primitive.name} has no derivative")
    if style == "mathml":
        return mathml(local_derivative(primitive, position, "latex"))
    specs = [ShapeDtype(tuple(shape), dtype) for shape, dtype in inputs]
    bar = r"\bar{{{}}}" if style == "latex" else "{}\u0304"
    several = primitive.outputs > 1 or isinstance(primitive.abstract(*specs, **params), tuple)
    ys = [f"y_{i}" if style == "latex" else f"y{i}" for i in range(len(specs) + primitive.outputs)] if several else "y"
    if primitive.partials is not None:
        written = partial(primitive, position, specs, params, ys, names, style)
        left = rf"\frac{{\partial y}}{{\partial {names[position]}}}" if style == "latex" else f"∂y/∂{names[position]}"
    else:
        gs = [bar.format(y) for y in ys] if several else bar.format("y")
        written = cotangent(primitive, position, specs, params, gs, ys, names, style)
        left = bar.format(names[position])
    if written is None:
        raise ChainruleError(f"{primitive.name} has no derivative by input {position}")
    return f"{left} = {written}"


def value_of(primitive: Primitive, params: dict[str, Any], names: Sequence[str], style: Style = "latex") -> Written:
    """The primitive applied to operands of these names: `x wᵀ`."""
    if style == "mathml":
        raise ValueError("write LaTeX and translate it")
    return _apply(primitive, [_atom(name) for name in names], params, style)


def partial(
    primitive: Primitive,
    position: int,
    specs: Sequence[ShapeDtype],
    params: dict[str, Any],
    output: Any,
    names: Sequence[str],
    style: Style,
) -> Written | None:
    """The partial derivative of a pointwise primitive by one operand, in terms of the names of output and operands.

    None where there is none. `specs` are the shapes and data types of the operands.
    """
    assert primitive.partials is not None
    rule = primitive.partials[position]
    if rule is None:
        return None
    if not callable(rule):
        return write(rule, {}, style)
    tensors, y, written = _symbols(primitive, specs, params, output, names)
    return write(rule(y, *tensors, **params), written, style)


def cotangent(
    primitive: Primitive,
    position: int,
    specs: Sequence[ShapeDtype],
    params: dict[str, Any],
    upstream: Any,
    output: Any,
    names: Sequence[str],
    style: Style,
) -> Written | None:
    """What the primitive hands back to one operand, given the name of its own cotangent, `upstream`.

    Names are strings or `Written`; of a primitive with several outputs `upstream` and
    `output` are lists of them. None where the derivative is zero everywhere.
    """
    tensors, y, written = _symbols(primitive, specs, params, output, names)
    out = primitive.abstract(*(ShapeDtype(t.shape, t.dtype) for t in tensors), **params)
    g: Any
    if isinstance(out, tuple):
        g = tuple(symbol(o.shape, o.dtype) for o in out)
        written.update({t._node: name for t, name in zip(g, upstream, strict=False)})
    else:
        g = symbol(out.shape, out.dtype)
        written[g._node] = upstream
    result = primitive.vjp(position, g, y, tensors, params)
    return None if result is None else write(result, written, style)


def _symbols(
    primitive: Primitive, specs: Sequence[ShapeDtype], params: dict[str, Any], output: Any, names: Sequence[str]
) -> tuple[list[Tensor], Any, dict[Any, str]]:
    # In double precision constants keep all their digits, so that ln 2 is recognised as such.
    specs = [ShapeDtype(tuple(s.shape), _DOUBLE.get(s.dtype, s.dtype)) for s in specs]
    tensors = [symbol(s.shape, s.dtype) for s in specs]
    written: dict[Any, str] = {t._node: n for t, n in zip(tensors, names, strict=True)}
    out = primitive.abstract(*specs, **params)
    if isinstance(out, tuple):
        y: Any = tuple(symbol(o.shape, o.dtype) for o in out)
        written.update({t._node: name for t, name in zip(y, output, strict=False)})
    else:
        y = symbol(out.shape, out.dtype)
        written[y._node] = output
    return tensors, y, written


def _example(primitive: Primitive) -> Any:
    if primitive.example is None:
        raise ChainruleError(f"{primitive.name} has no example to write it with")
    return primitive.example


class Written(str):
    """An expression with its precedence; `{x:3}` in a template asks for at least that precedence."""

    precedence: int
    kind: str
    parts: tuple[Any, ...]

    def __new__(cls, text: str, precedence: int, kind: str = "", parts: tuple[Any, ...] = ()) -> Written:
        self = super().__new__(cls, text)
        self.precedence = precedence
        self.kind = kind
        self.parts = parts
        return self

    def __format__(self, spec: str) -> str:
        needed = int(spec) if spec else 0
        return f"({self})" if self.precedence < needed else str(self)


def write(result: Any, names: dict[Any, str], style: Style = "latex") -> Written:
    """The expression that computed `result`, in terms of the named nodes."""
    if not isinstance(result, Tensor):
        return _written_number(result, style)
    if result._node is None:
        return _written_number(result.item(), style) if result.size == 1 else Written("c", ATOM)
    done: dict[Any, Written] = {node: _atom(name) for node, name in names.items()}
    stack: list[Any] = [result._node]
    while stack:
        node = stack[-1]
        if node in done:
            stack.pop()
            continue
        waiting = [parent for parent in node.inputs if parent not in done]
        if waiting:
            stack.extend(waiting)
            continue
        stack.pop()
        done[node] = _write_node(node, [done[parent] for parent in node.inputs], style)
    return done[result._node]


def _atom(name: str) -> Written:
    return name if isinstance(name, Written) else Written(name, ATOM)


def _written_number(value: Any, style: Style) -> Written:
    negative = not isinstance(value, complex) and value < 0
    return Written(number(value, style), 1 if negative else ATOM, "number", (value,))


def _write_node(node: Node, parts: list[Written], style: Style) -> Written:
    if node.primitive is None:
        value = node.value
        if isinstance(value, Interpreted):
            return Written("?", ATOM)
        if value.size and (value == value.flat[0]).all():
            return _written_number(value.flat[0].item(), style)
        return Written("c", ATOM)
    if node.primitive is project:
        index = node.params["index"]
        text = f"{parts[0]:4}_{{{index}}}" if style == "latex" else f"{parts[0]:4}[{index}]"
        return Written(text, ATOM)
    return _apply(node.primitive, parts, node.params, style)


def _apply(primitive: Primitive, parts: list[Written], params: dict[str, Any], style: Style) -> Written:
    simpler = _simplify(primitive.name, parts, style)
    if simpler is not None:
        return simpler
    template = primitive.latex if style == "latex" else primitive.text
    if callable(template):
        template = template(**params)
    if template is None:
        # A function without notation of its own is written by its name.
        name = primitive.name.replace("_", r"\_")
        call = ", ".join("{" + n + ":0}" for n in operand_names(len(parts)))
        template = rf"\mathrm{{{{{name}}}}}({call})" if style == "latex" else f"{primitive.name}({call})"
    names = operand_names(len(parts))
    needs = primitive.precedence
    # An infix operator binds its operands at its own level; a function name wants an atom.
    marked = {n: _Operand(p, needs) for n, p in zip(names, parts, strict=True)}
    # Operators that take index arrays after their one differentiable operand call it x.
    marked["x"] = marked[names[0]]
    transparent = template == "{x}"
    text = template.format(**marked, **{k: _param(v) for k, v in params.items()})
    if transparent:
        return parts[0]
    return Written(text, needs, primitive.name, tuple(parts))


class _Operand:
    def __init__(self, written: Written, default: int) -> None:
        self.written = written
        self.default = default

    def __format__(self, spec: str) -> str:
        return format(self.written, spec or str(self.default))


def _param(value: Any) -> Any:
    if isinstance(value, tuple) and value and all(isinstance(entry, tuple) and entry for entry in value):
        return ", ".join(map(_index_entry, value))
    return value if isinstance(value, int | float | str) else str(value)


def _index_entry(entry: tuple[Any, ...]) -> str:
    """One entry of an index pattern (see chainrule.primitives.index) as Python writes it."""
    kind, *rest = entry
    if kind == "s":
        start, stop, step = rest
        return f"{start}:{stop}" + (f":{step}" if step != 1 else "")
    return {"i": str(rest[0]) if rest else "", "n": "None", "a": "i"}.get(kind, str(entry))


def _simplify(name: str, parts: list[Written], style: Style) -> Written | None:
    """What a person would write: no factor 1, squares for products of equals, no nested transposes."""
    numbers = [p.parts[0] if p.kind == "number" else None for p in parts]
    if name == "multiply":
        if numbers[0] == 1:
            return parts[1]
        if numbers[1] == 1:
            return parts[0]
        if parts[0] == parts[1]:
            return Written(f"{parts[0]:4}^2" if style == "latex" else f"{parts[0]:4}²", 3)
        if any(p.kind == "negative" for p in parts):
            bare = [p.parts[0] if p.kind == "negative" else p for p in parts]
            product = _simplify("multiply", bare, style) or Written(
                rf"{bare[0]:2} \, {bare[1]:2}" if style == "latex" else f"{bare[0]:2} · {bare[1]:2}", 2
            )
            both = all(p.kind == "negative" for p in parts)
            return product if both else Written(f"-{product:2}", 2, "negative", (product,))
    if name in ("add", "subtract") and numbers[1] == 0:
        return parts[0]
    if name == "add" and numbers[0] == 0:
        return parts[1]
    if name in ("negative", "permute_dims") and parts[0].kind == name:
        return parts[0].parts[0]
    if name in ("identity", "broadcast_to", "astype", "reshape"):
        return parts[0]
    return None


def number(value: Any, style: Style = "latex") -> str:
    """A number as a person writes it: up to six digits, known constants by their names."""
    known = _CONSTANTS.get(value)
    if known is not None:
        return known[0] if style == "latex" else known[1]
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, complex):
        return "i" if value == 1j else f"{value:g}"
    if math.isinf(value):
        return ("-" if value < 0 else "") + (r"\infty" if style == "latex" else "∞")
    text = f"{value:g}"
    mantissa, e, exponent = text.partition("e")
    if not e:
        return text
    power = int(exponent)
    if style == "latex":
        return rf"{mantissa} \cdot 10^{{{power}}}" if mantissa != "1" else f"10^{{{power}}}"
    return text.replace("e-0", "e-").replace("e+0", "e")
