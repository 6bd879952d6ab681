"""How things are timed here: candidates take turns in one process, and ratios are formed turn by turn.

A machine's speed drifts (frequency, neighbours), so two numbers measured one after the other
say little. Here every round runs each candidate once, in alternating order; a round's ratio
compares neighbours in time, and the median over many rounds, with its spread, is reported.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True)
class Comparison:
    """The times of several candidates at one task.

    Attributes:
        task: what was timed.
        seconds: per candidate the median time of one call.
        ratio: the first candidate's time over that of the second: median over the rounds.
        low, high: the tenth and the ninetieth percentile of that ratio.
        undisturbed: the ratio of the two candidates' tenth percentiles: what remains of the
            comparison where other programs take turns on the processor.
        rounds: how many rounds were measured.
        target: the ratio aimed for; None where there is none.
    """

    task: str
    seconds: dict[str, float]
    ratio: float
    low: float
    high: float
    undisturbed: float
    rounds: int
    target: float | None = None

    @property
    def holds(self) -> bool | None:
        """Whether the target is met."""
        return None if self.target is None else self.ratio <= self.target


def compare(
    task: str,
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 60,
    block: float = 5e-3,
    warm_up: float = 0.5,
    target: float | None = None,
) -> Comparison:
    """Time candidates in turns.

    Args:
        task: what is timed, for the table.
        candidates: a function without arguments per name; the ratio is first over second.
        rounds: how often each candidate has its turn.
        block: seconds that one turn takes at least; short calls are repeated to fill it.
        warm_up: seconds that each candidate runs before anything is measured.
        target: the ratio aimed for.
    """
    calls = {name: max(1, round(block / _warm(run, warm_up))) for name, run in candidates.items()}
    times: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    for turn in range(rounds):
        for name in names if turn % 2 else reversed(names):
            times[name].append(_timed(candidates[name], calls[name]))
    return summarise(task, times, target)


def summarise(task: str, times: Mapping[str, list[float]], target: float | None = None) -> Comparison:
    """The comparison of times taken in turns, the same number for each candidate."""
    first, second = list(times.values())[:2]
    ratios = [a / b for a, b in zip(first, second, strict=True)]
    tenths = statistics.quantiles(ratios, n=10)
    mine, theirs = (statistics.quantiles(values, n=10)[0] for values in (first, second))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return Comparison(
        task, medians, statistics.median(ratios), tenths[0], tenths[-1], mine / theirs, len(ratios), target
    )


def _warm(run: Callable[[], object], seconds: float) -> float:
    """Run for a while; the median time of a call."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    while time.perf_counter() < until or len(times) < 3:
        times.append(_timed(run, 1))
    return statistics.median(times)


def _timed(run: Callable[[], object], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - started) / calls


def machine(*packages: str) -> dict[str, str]:
    """What the numbers were measured on: processor, cores, versions, date."""
    model, flags = _processor()
    vectors = [name for flag, name in (("avx2", "AVX2"), ("avx512f", "AVX-512"), ("asimd", "NEON")) if flag in flags]
    facts = {
        "date": datetime.date.today().isoformat(),
        "processor": f"{model}, {os.cpu_count()} cores, {vectors[-1] if vectors else 'no vector unit known'}",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
    }
    return facts | {name: metadata.version(name) for name in packages}


def _processor() -> tuple[str, set[str]]:
    fields = {}
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            fields.setdefault(key.strip().lower(), value.strip())
    except OSError:
        pass
    model = fields.get("model name") or platform.processor() or platform.machine()
    if "vendor_id" in fields and "cpu family" in fields:
        model += f" (family {fields['cpu family']}, model {fields.get('model', '?')})"
    return model, set((fields.get("flags") or fields.get("features") or "").split())


def markdown(comparisons: list[Comparison], facts: Mapping[str, str]) -> str:
    """A table of the results under a line that says where they come from."""
    names = list(dict.fromkeys(name for c in comparisons for name in c.seconds))
    head = ["task", *names, "ratio", "10 % to 90 %", "undisturbed", "target"]
    rows = [
        [
            c.task,
            *(_readable(c.seconds.get(n)) for n in names),
            f"{c.ratio:.2f}",
            f"{c.low:.2f} to {c.high:.2f}",
            f"{c.undisturbed:.2f}",
            _aim(c),
        ]
        for c in comparisons
    ]
    lines = ["| " + " | ".join(r) + " |" for r in [head, ["---"] + ["---:"] * (len(head) - 1), *rows]]
    return ", ".join(f"{k} {v}" for k, v in facts.items()) + "\n\n" + "\n".join(lines) + "\n"


def _readable(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds * 1e6:.0f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def _aim(comparison: Comparison) -> str:
    if comparison.target is None:
        return ""
    return f"≤ {comparison.target:g}: {'met' if comparison.holds else 'not met'}"


def save(path: Path, comparisons: list[Comparison], facts: Mapping[str, str]) -> None:
    """Write results as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = {"machine": dict(facts), "results": [asdict(c) for c in comparisons]}
    path.write_text(json.dumps(data, indent=2) + "\n")
