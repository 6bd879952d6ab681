"""What the user's source says about an instruction: its expression, and the name its result is given.

Works from the positions that Python keeps for every instruction (PEP 657), so that of
`z = w * x + b` the product is `w * x` and the sum is `z`.
"""

from __future__ import annotations

import ast
import functools
import linecache
from types import CodeType
from typing import Any, NamedTuple

Span = tuple[int, int, int, int]  # first line, last line, first column, end column (in bytes)


class Expression(NamedTuple):
    """One expression of the user's code.

    Attributes:
        text: as written, on one line.
        targets: the names that its value is assigned to, one for each output it is unpacked
            into; empty where it is part of a larger expression.
        operands: its operands or arguments as written, in order.
        function: the last part of the name of the function that it calls (`relu` of `F.relu(x)`);
            empty if it is no call.
    """

    text: str
    targets: tuple[str, ...]
    operands: tuple[str, ...]
    function: str


def expression_at(place: tuple[CodeType, int] | None) -> Expression | None:
    """The expression whose evaluation was under way at a place that `source.capture` returned."""
    if place is None:
        return None
    code, offset = place
    span = _spans(code)[offset // 2]
    found = _expressions(code.co_filename).get(span)
    if found is None:
        return None
    node, target = found
    if isinstance(node, ast.AugAssign):
        written = _written(node.target)
        return Expression(written, _names(node.target), (written, _written(node.value)), "")
    function = _written(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""
    return Expression(_written(node), () if target is None else _names(target), _operands(node), function)


@functools.lru_cache(maxsize=256)
def _spans(code: CodeType) -> list[Any]:
    return list(code.co_positions())


_files: dict[str, tuple[list[str], Any]] = {}


def _expressions(filename: str) -> dict[Span, tuple[Any, Any]]:
    """Every expression of a file by where it stands, with what it is assigned to."""
    lines = linecache.getlines(filename)
    known = _files.get(filename)
    if known is None or known[0] is not lines:
        known = _files[filename] = lines, _read("".join(lines))
    return known[1]


def _read(text: str) -> dict[Span, tuple[Any, Any]]:
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return {}
    found: dict[Span, tuple[Any, Any]] = {}
    targets: dict[Span, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            targets[_span(node.value)] = node.targets[0]
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            targets[_span(node.value)] = node.target
        elif isinstance(node, ast.AugAssign):
            found[_span(node)] = node, None  # its instruction covers the statement: `x += v`
    for part in ast.walk(tree):
        if isinstance(part, ast.expr):
            found.setdefault(_span(part), (part, targets.get(_span(part))))
    return found


def _span(node: ast.expr | ast.stmt) -> Span:
    assert node.end_lineno is not None and node.end_col_offset is not None
    return node.lineno, node.end_lineno, node.col_offset, node.end_col_offset


def _names(target: ast.expr) -> tuple[str, ...]:
    if isinstance(target, ast.Tuple | ast.List):
        return tuple(_names(t)[0] if len(_names(t)) == 1 else "" for t in target.elts)
    if isinstance(target, ast.Name | ast.Attribute):
        return (_written(target).removeprefix("self."),)
    return ("",)


def _operands(node: ast.expr) -> tuple[str, ...]:
    if isinstance(node, ast.BinOp):
        return _written(node.left), _written(node.right)
    if isinstance(node, ast.UnaryOp):
        return (_written(node.operand),)
    if isinstance(node, ast.Subscript):
        return (_written(node.value),)
    if isinstance(node, ast.Call):
        return tuple(map(_written, node.args))
    return ()


def _written(node: ast.expr) -> str:
    return ast.unparse(node)
