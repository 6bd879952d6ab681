"""Finite differences of fourth order, with a step that fits the numbers.

The difference of second order beside that of fourth says how far both can be trusted; of
several steps the one whose differences agree best is taken, whatever is expected.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

# Steps (relative to the size of the numbers, and whether numbers below 1 count as 1) in the order they are tried.
# The last is for units close to a kink.
STEPS = ((1e-3, True), (1e-3, False), (1e-6, True), (1e-8, True))
CONSISTENT = 1e-9  # agreement of second and fourth order at which no other step is tried


def slope_along(
    f: Callable[[np.ndarray], float], x: np.ndarray, v: np.ndarray, noise: float
) -> tuple[float, float, float]:
    """Derivative of f(x + t v) at t = 0, and the slopes on the left and on the right."""
    middle = f(x)
    found: list[tuple[float, float]] = []
    left = right = 0.0
    reach = float(np.abs(v).max()) or 1.0
    moved = np.abs(x[v != 0])
    for size, at_least_one in STEPS:
        typical = float(moved.mean()) if moved.size else 1.0
        h = size * (max(typical, 1.0) if at_least_one else typical or 1.0) / reach
        ends = {k: f(x + k * h * v) for k in (-2, -1, 1, 2)}
        second = (ends[1] - ends[-1]) / (2 * h)
        fourth = (8 * (ends[1] - ends[-1]) - (ends[2] - ends[-2])) / (12 * h)
        # A kink close by may leave both differences the same, but not how much the two sides differ.
        bend = abs((ends[2] + ends[-2] - 2 * middle) / (2 * h) - 2 * (ends[1] + ends[-1] - 2 * middle) / h)
        doubt = abs(fourth - second) + bend + 1e-16 * noise / h if np.isfinite(fourth) else np.inf
        found.append((doubt, fourth))
        left, right = (middle - ends[-1]) / h, (ends[1] - middle) / h
        if abs(fourth - second) <= CONSISTENT * abs(fourth) and abs(left - right) <= 1e-2 * abs(fourth):
            break
    return min(found)[1], left, right


def entry_slopes(
    f: Callable[[np.ndarray], np.ndarray], x: np.ndarray, unit: Any
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Slopes of a pointwise function: of every entry of f(x + t unit) at t = 0, and on the left and right of it."""
    middle = f(x)
    best: Any = None
    doubt: Any = None
    for size, at_least_one in STEPS:
        h = size * _scale(x, at_least_one)
        ends = {k: f(x + k * h * unit) for k in (-2, -1, 1, 2)}
        wide = np.broadcast_to(h, middle.shape)
        second = (ends[1] - ends[-1]) / (2 * wide)
        fourth = (8 * (ends[1] - ends[-1]) - (ends[2] - ends[-2])) / (12 * wide)
        uncertain = np.where(np.isfinite(fourth), np.abs(fourth - second), np.inf)
        # Rounding: what the difference cannot see.
        uncertain = uncertain + 1e-16 * np.abs(middle) / wide
        if best is None:
            best, doubt = fourth, uncertain
        else:
            best, doubt = np.where(uncertain < doubt, fourth, best), np.minimum(uncertain, doubt)
        if size == STEPS[-1][0]:
            left, right = (middle - ends[-1]) / wide, (ends[1] - middle) / wide
    return best, left, right


def _scale(x: np.ndarray, at_least_one: bool) -> np.ndarray:
    size = np.abs(x)
    return np.maximum(size, 1.0) if at_least_one else np.where(size == 0, 1.0, size)
