"""Pooling: means and maxima over windows, which may overlap, have gaps, or reach over the edge."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..trace import Value
from .call import Call, Candidate, equation, form, numbers, plain

Slices = tuple[slice, ...]


class _Windows:
    """An image with its border, and what each place of the window sees of it from all windows."""

    def __init__(self, x: np.ndarray, node: Value, border: float) -> None:
        kernel, stride, padding, dilation = (node.params[k] for k in ("kernel", "stride", "padding", "dilation"))
        rank = len(kernel)
        front = x.ndim - rank
        self.padded: Any = np.pad(x, [(0, 0)] * front + list(padding), constant_values=border)
        self.inside: Any = (..., *(slice(a, a + n) for n, (a, _) in zip(x.shape[front:], padding, strict=True)))
        windows = node.shape[len(node.shape) - rank :]
        self.places: list[Any] = [
            (..., *(slice(k * d, k * d + (n - 1) * s + 1, s)
                    for k, d, s, n in zip(place, dilation, stride, windows, strict=True)))
            for place in np.ndindex(*kernel)
        ]  # fmt: skip

    def spread(self, parts: Iterator[np.ndarray]) -> np.ndarray:
        """The sum, over the places of the window, of what each window hands to it."""
        total: Any = np.zeros(self.padded.shape)
        for place, part in zip(self.places, parts, strict=True):
            total[place] += part
        return total[self.inside]


def _bins(size: int, count: int) -> list[slice]:
    """The parts of an axis that adaptive pooling takes together."""
    return [slice(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def _adaptive(call: Call, x: Value) -> Iterator[tuple[tuple[Any, ...], tuple[Any, ...]]]:
    """Every window of an adaptive pooling: where it lies in the image, and its place in the output."""
    rank = int(call.group.kind[-2])
    axes = list(zip(x.shape[-rank:], call.output.shape[-rank:], strict=True))
    for place in np.ndindex(*(n for _, n in axes)):
        yield (..., *(_bins(*axis)[i] for axis, i in zip(axes, place, strict=True))), (..., *place)


@form(
    "AvgPool1d", "AvgPool2d", "AvgPool3d", "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
)  # fmt: skip
def mean(call: Call) -> Iterator[Candidate]:
    """y = the mean of a window."""
    if not call.data():
        return
    x = call.data()[0]
    node = call.node("window_sum")
    if node is not None:
        windows = _Windows(numbers(x), node, 0.0)
        scale = next((v for v in call.group.values if node in v.inputs), None)
        others = [numbers(i) for i in scale.inputs if i is not node] if scale is not None else [np.ones(())]
        divided = scale is not None and scale.primitive is not None and scale.primitive.name == "divide"
        part = call.delta / others[0] if divided else call.delta * others[0]
        to_x = windows.spread(itertools.repeat(part, len(windows.places)))
        size = f"over the k = {len(windows.places)} entries of a window"
    else:
        if "adaptive" not in call.group.kind.lower():
            return
        to_x = np.zeros(x.shape)
        for window, place in _adaptive(call, x):
            count = to_x[window][(0,) * (len(x.shape) - int(call.group.kind[-2]))].size
            to_x[window] += (call.delta[place] / count)[(..., *(None,) * int(call.group.kind[-2]))]
        size = "over the k entries of a window"
    equations = [
        plain("y = Σ x / k", r"y = \frac{1}{k} \sum x", size),
        equation("x", "Σ δ / k", r"\sum \frac{\delta}{k}",
                 "every entry of a window gets the same part of its gradient; added up over the windows that it is in"),
    ]  # fmt: skip
    yield Candidate(equations, call.legend(("x", "x", "the input", x), call.delta_row()), {x: to_x})


@form(
    "MaxPool1d", "MaxPool2d", "MaxPool3d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d", "AdaptiveMaxPool3d",
    "max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d",
)  # fmt: skip
def maximum(call: Call) -> Iterator[Candidate]:
    """y = the largest entry of a window, the first of several."""
    if not call.data():
        return
    x = call.data()[0]
    values = numbers(x)
    node = call.node("window_max")
    adaptive = "adaptive" in call.group.kind.lower()
    if adaptive:
        to_x = np.zeros(x.shape)
        rank = int(call.group.kind[-2])
        front = x.shape[: len(x.shape) - rank]
        for window, place in _adaptive(call, x):
            seen = values[window].reshape(*front, -1)
            chosen = np.zeros_like(seen)
            np.put_along_axis(chosen, seen.argmax(-1)[..., None], call.delta[place][..., None], axis=-1)
            to_x[window] += chosen.reshape(to_x[window].shape)
    elif node is not None:
        windows = _Windows(values, node, -np.inf)
        first = np.stack([windows.padded[place] for place in windows.places]).argmax(0)
        to_x = windows.spread(call.delta * (first == number) for number in range(len(windows.places)))
    else:
        return
    equations = [
        plain("y = max x", r"y = \max x", "over the entries of a window"),
        equation("x", "Σ δ over the windows where x is the maximum", r"\sum_{y = x} \delta",
                 "each gradient goes back to the entry that was the maximum, the first of several; others get 0"),
    ]  # fmt: skip
    yield Candidate(equations, call.legend(("x", "x", "the input", x), call.delta_row()), {x: to_x})
