"""How a run reports: a progress bar on a terminal, plain lines in a pipe or a file."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, TextIO


class Status(NamedTuple):
    """Where a run stands: what a progress bar shows."""

    epoch: int  # counts from 1
    epochs: int
    step: int  # within all epochs
    steps: int
    numbers: Mapping[str, float]  # loss and metrics, averaged over the epoch so far
    rate: float  # samples a second
    remaining: float  # seconds
    unit: str = "samples"

    def __str__(self) -> str:
        return f"epoch {self.epoch}/{self.epochs}  step {self.step}/{self.steps}  {self.progress}"

    @property
    def progress(self) -> str:
        """Numbers, speed and time left."""
        return f"{in_words(self.numbers)}  {self.rate:,.0f} {self.unit}/s  {duration(self.remaining)} left"


class Reporter:
    """Plain lines: what happens, and every `interval` seconds where the run stands."""

    def __init__(self, stream: TextIO | None = None, interval: float = 10.0) -> None:
        self.stream = stream or sys.stdout
        self.interval = interval
        self._last = time.monotonic()

    def __enter__(self) -> Reporter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        pass

    def update(self, status: Status) -> None:
        """A step was made."""
        if time.monotonic() - self._last >= self.interval:
            self.say(str(status))

    def say(self, text: str = "") -> None:
        """Print a line that stays."""
        self._last = time.monotonic()
        print(text, file=self.stream, flush=True)


class BarReporter(Reporter):
    """A progress bar that is redrawn in place, with the lines that stay above it."""

    def __enter__(self) -> Reporter:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = Console(file=self.stream)
        columns = (
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[text]}"),
        )
        self._bar = Progress(*columns, console=self._console, refresh_per_second=8, transient=True, expand=True)
        self._task: Any = None
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self._bar.stop()
        self._task = None

    def update(self, status: Status) -> None:
        fields: dict[str, Any] = {"epoch": f"{status.epoch}/{status.epochs}", "text": status.progress}
        if self._task is None:
            self._task = self._bar.add_task("", total=status.steps, **fields)
        self._bar.update(self._task, completed=status.step, **fields)

    def say(self, text: str = "") -> None:
        if getattr(self, "_task", None) is None:
            super().say(text)
        else:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def reporter_for(stream: TextIO) -> Reporter:
    """A bar where `stream` is a terminal, plain lines elsewhere."""
    return BarReporter(stream) if stream.isatty() else Reporter(stream)


def in_words(numbers: Mapping[str, float]) -> str:
    """Named numbers in a line: shares as percentages, small numbers with an exponent."""
    return "  ".join(f"{name} {_written(name, value)}" for name, value in numbers.items())


def _written(name: str, value: float) -> str:
    if "accuracy" in name:
        return f"{value:.2%}"
    return f"{value:.4f}" if value == 0 or abs(value) >= 1e-3 else f"{value:.1e}"


def duration(seconds: float) -> str:
    """Seconds for people: `42 s`, `3:05 min`, `2:10 h`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def text_table(headers: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Aligned columns, the first `left` of them to the left and the others to the right."""
    table = [list(headers), *map(list, rows)]
    widths = [max(len(row[i]) for row in table) for i in range(len(headers))]
    lines = [
        "  ".join(c.ljust(w) if i < left else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True)))
        for row in table
    ]
    lines.insert(1, "  ".join("─" * w for w in widths))
    return "\n".join(line.rstrip() for line in lines)
