"""Pooling over windows that do not overlap and fill the image: means and maxima."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from .call import Call, Candidate, equation, form, numbers, plain


def _windows(call: Call) -> tuple[np.ndarray, np.ndarray, int] | None:
    """The image as (N, C, then per axis windows and places in one), δ in that shape, and the size of a window."""
    if not call.data():
        return None
    x = call.data()[0]
    inner, outer = x.shape[2:], call.output.shape[2:]
    if len(outer) != len(inner) or not outer or any(o == 0 or n % o for n, o in zip(inner, outer, strict=True)):
        return None
    sizes = [n // o for n, o in zip(inner, outer, strict=True)]
    split = [n for pair in zip(outer, sizes, strict=True) for n in pair]
    delta = call.delta.reshape(*call.delta.shape[:2], *(n for o in outer for n in (o, 1)))
    return numbers(x).reshape(*x.shape[:2], *split), delta, math.prod(sizes)


@form(
    "AvgPool1d", "AvgPool2d", "AvgPool3d", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
)  # fmt: skip
def mean(call: Call) -> Iterator[Candidate]:
    """y = the mean of a window."""
    found = _windows(call)
    if found is None:
        return
    split, delta, size = found
    x = call.data()[0]
    equations = [
        plain("y = Σ x / k", r"y = \frac{1}{k} \sum x", f"over the k = {size} entries of a window"),
        equation("x", "δ / k", r"\frac{\delta}{k}", "every entry of a window gets the same part of its gradient"),
    ]
    legend = call.legend(("x", "x", "the input", x), call.delta_row())
    yield Candidate(equations, legend, {x: np.broadcast_to(delta / size, split.shape).reshape(x.shape)})


@form(
    "MaxPool1d", "MaxPool2d", "MaxPool3d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AdaptiveMaxPool3d",
    "max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d",
)  # fmt: skip
def maximum(call: Call) -> Iterator[Candidate]:
    """y = the largest entry of a window, the first of several."""
    found = _windows(call)
    if found is None:
        return
    split, delta, _ = found
    x = call.data()[0]
    spatial = len(x.shape) - 2
    places = tuple(range(3, 2 + 2 * spatial, 2))
    order = (*(d for d in range(split.ndim) if d not in places), *places)
    rows = split.transpose(order)
    flat = rows.reshape(*rows.shape[: 2 + spatial], -1)
    chosen = np.zeros_like(flat)
    np.put_along_axis(chosen, flat.argmax(axis=-1)[..., None], 1.0, axis=-1)
    mask = chosen.reshape(rows.shape).transpose(np.argsort(order))
    equations = [
        plain("y = max x", r"y = \max x", "over the entries of a window"),
        equation("x", "δ where x is the maximum, 0 elsewhere",
                 r"\begin{cases} \delta & x = y \\ 0 & \text{otherwise} \end{cases}",
                 "each gradient goes back to the entry that was the maximum, the first of several"),
    ]  # fmt: skip
    legend = call.legend(("x", "x", "the input", x), call.delta_row())
    yield Candidate(equations, legend, {x: (delta * mask).reshape(x.shape)})
