"""Where values live: offsets in one block of memory, shared by values that are never needed together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ALIGNMENT = 64


@dataclass(frozen=True)
class Lifetime:
    """A buffer: its bytes, and the first and the last step at which it is needed."""

    nbytes: int
    first: int
    last: int


@dataclass(frozen=True)
class Arena:
    """Offsets of the buffers in a block of `nbytes`."""

    offsets: dict[Any, int]
    nbytes: int


def plan(buffers: Mapping[Any, Lifetime]) -> Arena:
    """Offsets such that no two buffers that are needed at the same step overlap.

    Large buffers are placed first, each in the tightest gap that is free during its whole lifetime
    (greedy by size: Pisarchyk and Lee 2020, "Efficient memory management for deep neural net inference").
    """
    placed: list[tuple[int, int, Lifetime]] = []
    offsets: dict[Any, int] = {}
    total = 0
    for key, lifetime in sorted(buffers.items(), key=lambda item: -item[1].nbytes):
        size = -(-max(lifetime.nbytes, 1) // ALIGNMENT) * ALIGNMENT
        occupied = sorted(
            (begin, end)
            for begin, end, other in placed
            if other.first <= lifetime.last and lifetime.first <= other.last
        )
        offset = _gap(occupied, size)
        offsets[key] = offset
        placed.append((offset, offset + size, lifetime))
        total = max(total, offset + size)
    return Arena(offsets, total)


def _gap(occupied: Sequence[tuple[int, int]], size: int) -> int:
    """The start of the smallest gap between sorted intervals that holds `size`; behind them if there is none."""
    best, best_room, end = -1, 0, 0
    for begin, stop in occupied:
        room = begin - end
        if room >= size and (best < 0 or room < best_room):
            best, best_room = end, room
        end = max(end, stop)
    return best if best >= 0 else end
