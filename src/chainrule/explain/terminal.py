"""An explanation on a terminal: tables, equations and small heat maps, with colours where there are some."""

from __future__ import annotations

import io
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from .formulas import forward_formula
from .sentences import brief, percent
from .statistics import cells, magnitude
from .steps import Step, norm

if TYPE_CHECKING:
    from .explanation import Explanation
    from .layers import Layer

_plain_width = 110
BARS = " ▁▂▃▄▅▆▇█"
SHADES = " ░▒▓█"
STRIP, MAP = 12, (8, 32)  # cells of a heat map in a table, and of one of its own


def set_plain_width(columns: int) -> None:
    """How wide explanations are where the output is no terminal; a lesson sets it to the width of its text."""
    global _plain_width
    _plain_width = columns


def text(explanation: Explanation, *, steps: bool = False, colour: bool | None = None) -> str:
    """The explanation as text; coloured if standard output is a terminal, unless `colour` says.

    Args:
        explanation: what to print.
        steps: every operation instead of whole layers.
        colour: True or False to have it so; NO_COLOR in the environment is obeyed otherwise.
    """
    terminal = sys.stdout.isatty() and "NO_COLOR" not in os.environ if colour is None else colour
    width = shutil.get_terminal_size((_plain_width, 0)).columns if sys.stdout.isatty() else _plain_width
    out = io.StringIO()
    console = Console(
        file=out, force_terminal=terminal, color_system="256" if terminal else None, width=max(width, 60),
        highlight=False, emoji=False, markup=False, legacy_windows=False,
    )  # fmt: skip
    console.print(rendering(explanation, steps=steps))
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip("\n").split("\n"))


def rendering(explanation: Explanation, *, steps: bool = False) -> Any:
    """What rich prints."""
    e = explanation
    if not e.targets:
        return Group(_heading(e.title), *_note(e), _answers(e))
    parts: list[Any] = [_heading(e.title), *_note(e), *_facts(e), Text()]
    if any(s.scalars is not None for s in e.steps):
        parts += [_heading("Forward"), _forward(e), Text(), _heading("Backward"), _blackboard(e)]
        return Group(*parts) if np.any(e.targets[0].gradient) else Group(*parts, Text(), _answers(e))
    if steps or not any(x.agreement is not None for x in e.layers):
        parts.append(_step_table(e))
    else:
        parts += _layers(e)
    if e.targets[0].size > 1:
        parts += [Text(), *_picture(e)]
    return Group(*parts, Text(), _answers(e))


def _heading(title: str) -> Text:
    return Text(title, style="bold")


def _note(e: Explanation) -> list[Text]:
    return [Text(e.note, style="italic")] if e.note else []


def _facts(e: Explanation) -> list[Text]:
    loss = e.trace.loss
    value = loss.array()
    number = brief(float(np.real(value).item())) if value.size == 1 else f"of shape {value.shape}"
    name = e.names[loss].label
    line = Text("L = " + (f"{name} = " if name != "L" else "") + number)
    if loss.location is not None:
        line.append(f"   {loss.location.where}", style="dim")
    facts = [line]
    for target in e.targets[:6]:
        if target.several:
            continue
        shape = " × ".join(map(str, target.shape)) or "a number"
        size = norm(target.gradient) if target.gradient is not None else 0.0
        facts.append(Text(f"{e.names[target].label}: {shape}, {target.dtype}; gradient of norm {brief(size)}"))
    if len(e.targets) > 6:
        facts.append(Text(f"and {len(e.targets) - 6} more"))
    return facts


def _answers(e: Explanation) -> Group:
    lines = []
    for answer in e.answers:
        lines.append(Text(answer.question, style="bold"))
        lines.append(Text(answer.text))
        lines += [Text(f"  - {x.text}", style="dim") for x in answer.evidence if x.text not in answer.text]
    return Group(*lines)


def _place(step: Step) -> str:
    return step.location.where if step.location is not None else ""


def number(value: Any) -> str:
    """A number in a line of arithmetic: five significant digits, in parentheses after an operator if negative."""
    if isinstance(value, complex):
        return f"({value:.5g})".replace("-", "−")
    text = f"{value:.5g}".replace("-", "−")
    return f"({text})" if text.startswith("−") else text


def arithmetic(step: Step) -> str:
    """`0.13710 · 0.89250 = 0.12236`: a step's derivative by one entry, in numbers."""
    scalars = step.scalars
    assert scalars is not None
    value = number(scalars.value).strip("()")
    products = [f"{number(t.upstream)} · {number(t.local)}" for t in scalars.terms]
    count, rest = scalars.rest
    if count:
        products.append(f"({count} more: {number(rest).strip('()')})")
    if not products or (len(products) == 1 and scalars.terms and scalars.terms[0].local == 1):
        return f"= {value}"
    return "= " + " + ".join(products) + f" = {value}"


def equation(step: Step) -> str:
    """The step's formula with the entry that is followed, where its value has several."""
    entry = step.scalars.entry if step.scalars is not None else ()
    left, _, right = step.formula.text.partition(" = ")
    at = f"[{', '.join(map(str, entry))}]" if entry and (step.node.several or step.node.size > 1) else ""
    return f"{left}{at} = {right}"


def _blackboard(e: Explanation) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", style="dim")
    table.add_column(style="bold", overflow="fold")
    table.add_column(overflow="fold")
    table.add_column(style="dim", overflow="fold")
    shown = [s for s in e.steps if s.scalars is not None and not s.passed_on]
    for count, step in enumerate(shown, 1):
        is_loss = step.node is e.trace.loss
        table.add_row(str(count), equation(step), "" if is_loss else arithmetic(step), _place(step))
    return table


def _forward(e: Explanation) -> Table:
    """How the values on the way were computed, with the entry that is followed."""
    table = Table.grid(padding=(0, 2))
    table.add_column(overflow="fold")
    table.add_column(overflow="fold")
    table.add_column(style="dim", overflow="fold")
    for step in reversed(e.steps):
        formula = forward_formula(step.node, e.names)
        if formula is None or step.scalars is None or step.node.several:
            continue
        entry = step.scalars.entry
        left, _, right = formula.text.partition(" = ")
        at = f"[{', '.join(map(str, entry))}]" if entry and (step.node.several or step.node.size > 1) else ""
        table.add_row(f"{left}{at} = {right}", f"= {number(step.value[entry].item()).strip('()')}", _place(step))
    return table


def _step_table(e: Explanation) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("derivative", overflow="fold", ratio=3)
    table.add_column("norm", justify="right")
    table.add_column("entries")
    table.add_column("where", style="dim", overflow="fold")
    for step in e.steps:
        if step.passed_on:
            continue
        size = norm(step.gradient) if step.gradient is not None else 0.0
        place = " ".join(p for p in (step.module, _place(step)) if p)
        told = Text(step.formula.text, style="bold")
        if len(step.terms) > 1:
            told.append("\n" + _shares(step), style="dim")
        table.add_row(told, brief(size), strip(step.gradient), place)
    return table


def _shares(step: Step) -> str:
    return ", ".join(f"{percent(t.share)} through {t.consumer}" for t in step.terms[:6])


def _layers(e: Explanation) -> list[Any]:
    """The layers in backward order; equations that were shown for a layer of the same kind are not repeated."""
    shown: dict[tuple[str, ...], str] = {}
    parts = []
    for layer in e.layers:
        key = tuple(q.formula.text for q in layer.equations)
        known = shown.get(key) if layer.agreement is not None else None
        parts.append(_layer(layer, known))
        shown.setdefault(key, layer.module or layer.group.kind)
    return parts


def _layer(layer: Layer, known: str | None) -> Any:
    head = Text(layer.title, style="bold cyan")
    if layer.location is not None:
        head.append(f"   {layer.location.where}", style="dim not bold")
    parts: list[Any] = [head]
    body = Table.grid(padding=(0, 2))
    body.add_column(overflow="fold")
    body.add_column(style="dim", overflow="fold")
    for q in layer.equations if known is None else ():
        body.add_row(q.formula.text, q.meaning)
    legend = ", ".join(
        f"{row.symbol.text} = {row.meaning} ({'×'.join(map(str, row.shape)) or 'a number'})" for row in layer.legend
    )
    tail = Text()
    if layer.agreement is not None:
        tail.append(f"agrees with autodiff to {brief(layer.agreement)}. ", style="green")
    tail.append(layer.sentence)
    tail.append(" ")
    tail.append_text(strip(layer.group.values[-1].gradient))
    if known is None:
        parts.append(Padding(body, (0, 0, 0, 2)))
    else:
        parts.append(Text(f"  the equations of {known} above", style="dim"))
    if legend:
        parts.append(Padding(Text(legend, style="dim"), (0, 0, 0, 2)))
    parts.append(Padding(tail, (0, 0, 0, 2)))
    return Group(*parts)


def strip(gradient: Any) -> Text:
    """A row of bars: the sizes of the entries, red where they are positive and blue where they are negative."""
    if gradient is None or isinstance(gradient, list) or gradient.size < 2:
        return Text()
    with np.errstate(invalid="ignore", over="ignore"):
        row = cells(magnitude(gradient).reshape(1, -1), 1, STRIP)[0]
    return _shaded(row, float(np.abs(row[np.isfinite(row)]).max(initial=0.0)), BARS)


def _shaded(row: np.ndarray, scale: float, levels: str) -> Text:
    out = Text()
    for value in row:
        if not np.isfinite(value):
            out.append("!", style="bold magenta")
            continue
        level = int(np.ceil(abs(value) / scale * (len(levels) - 1))) if scale else 0
        out.append(levels[level], style="red" if value > 0 else "blue")
    return out


def _picture(e: Explanation) -> list[Text]:
    """The first asked tensor's gradient as a heat map."""
    gradient = e.targets[0].gradient
    if gradient is None or isinstance(gradient, list):
        return []
    with np.errstate(invalid="ignore", over="ignore"):
        matrix = cells(magnitude(gradient), *MAP)
    scale = float(np.abs(matrix[np.isfinite(matrix)]).max(initial=0.0))
    rows = " × ".join(map(str, matrix.shape))
    shrunk = "" if matrix.size == gradient.size else f", means of blocks, {rows}"
    head = Text(f"∂L/∂{e.names[e.targets[0]].label}{shrunk}; full scale ±{brief(scale)}", style="dim")
    return [head, *(_shaded(row, scale, SHADES) for row in matrix)]
