"""A lesson in the terminal: formatted where there is one, plain text in a pipe; questions answered by typing."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO

from ..explain.terminal import set_plain_width
from .guide import Part

WIDTH = 100
INDENT = 2


def shower(stream: IO[str]) -> Callable[[Part], None]:
    """A function that shows the parts of a lesson on a stream."""
    if not stream.isatty():
        return lambda part: print(_plain(part), file=stream, flush=True)
    from rich.console import Console
    from rich.markdown import Markdown
    from rich.padding import Padding
    from rich.syntax import Syntax
    from rich.text import Text

    console = Console(file=stream)
    width = min(WIDTH, console.width)
    set_plain_width(width - INDENT)  # what the code prints is caught, and shown here

    def show(part: Part) -> None:
        if part.kind == "text":
            console.print(Markdown(part.content), width=width)
        elif part.kind == "code":
            console.print(
                Padding(Syntax(part.content.rstrip(), "python", theme="ansi_dark", word_wrap=True), (1, 0, 0, INDENT))
            )
        else:
            console.print(Padding(Text(part.content.rstrip(), style="green"), (0, 0, 1, INDENT)))

    return show


def _plain(part: Part) -> str:
    if part.kind == "text":
        return f"\n{part.content}\n"
    mark = "    " if part.kind == "code" else "  > "
    return "\n".join((mark + line).rstrip() for line in part.content.rstrip().split("\n"))


def ask(number: int, question: str) -> str | None:
    """Ask a question; None if the reader just presses Enter or ends the input."""
    print(f"\nExercise {number}. {question}")
    try:
        return input("Your answer (a number, or Enter to go on): ").strip() or None
    except EOFError:
        print()
        return None
