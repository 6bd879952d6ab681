"""Neurons that share their weights: pixels of convolutions, entries of attention heads, gates of recurrent layers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..explanation import Explanation
from ..forms.cells import CELLS
from ..forms.recurrent import sweep_back
from ..trace import Value
from .record import after, consumers_of, record

Records = list[dict[str, Any]]
_GATES = {
    "lstm": ("input gate i", "forget gate f", "content g", "output gate o"),
    "gru": ("reset gate r", "update gate z", "content n"),
    "rnn_tanh": ("state h",),
    "rnn_relu": ("state h",),
}


def shared_units(e: Explanation, count: int) -> Iterator[Records]:
    """The units of each such layer with the largest |∂L/∂z|, at most `count` of each, from the loss back."""
    consumers = consumers_of(e)
    for value in reversed(e.trace.values):
        name = value.primitive.name if value.primitive else ""
        units: Records = []
        if name == "conv":
            units = _pixels(e, value, consumers, count)
        elif name == "matmul":
            units = _entries(e, value, count)
        elif name in _GATES:
            units = _gates(e, value, count)
        if units:
            yield units


def _pixels(e: Explanation, conv: Value, consumers: dict[Value, list[Value]], count: int) -> Records:
    """Pixels of a convolution's output, one of each channel."""
    x, kernel = conv.inputs
    added = consumers.get(conv, [])
    z = added[0] if len(added) == 1 and added[0].primitive and added[0].primitive.name == "add" else conv
    if (
        not e.is_parameter(kernel)
        or z.gradient is None
        or z.shape != conv.shape
        or not _finite(z.gradient)
        or not z.size
    ):
        return []
    activation, rows = after(z, consumers)
    w, image, delta = kernel.array(), x.array(), np.asarray(z.gradient)
    bias = z.array() - conv.array() if z is not conv else None
    name = e.names[kernel].label.removesuffix(".weight")
    strength = np.abs(delta).max(axis=(0, *range(2, delta.ndim)))
    found = []
    for channel in np.argsort(-strength, kind="stable")[:count]:
        sample, *place = np.unravel_index(int(np.abs(delta[:, channel]).argmax()), (delta.shape[0], *delta.shape[2:]))
        at = (int(sample), int(channel), *map(int, place))
        patch, labels = _patch(image, w, conv.params, at)
        words = {
            "z": f"Channel {channel} at {_place(place)}: the kernel lies over {patch.size} entries, given as "
            "(channel, place).",
            "dW": "What this one pixel adds to the gradient of each weight: all pixels share the kernel.",
            "dx": "What this pixel hands back; an entry of the image gets parts from all windows that it lies in.",
        }
        found.append(
            record(
                name, z.index, f"{channel} at {_place(place)}", at[0], activation, w[channel], patch,
                None if bias is None else bias[at], z=z.array()[at], dL_dz=delta[at],
                **{key: np.asarray(array)[at] for key, array in rows.items()}, labels=labels, words=words,
            )
        )  # fmt: skip
    return found


def _patch(
    image: np.ndarray, w: np.ndarray, params: dict[str, Any], at: tuple[int, ...]
) -> tuple[np.ndarray, list[str]]:
    """What the kernel sees from one place of the output, 0 beyond the border, and where each entry lies."""
    sample, channel, *place = at
    channels, kernel = w.shape[1], w.shape[2:]
    first = channel // (w.shape[0] // params["groups"]) * channels
    patch = np.zeros((channels, *kernel))
    labels = []
    for c, *k in np.ndindex(channels, *kernel):
        where = [p * s + i * d - before for p, s, i, d, (before, _) in
                 zip(place, params["stride"], k, params["dilation"], params["padding"], strict=True)]  # fmt: skip
        if all(0 <= i < n for i, n in zip(where, image.shape[2:], strict=True)):
            patch[(c, *k)] = image[(sample, first + c, *where)]
        labels.append(", ".join(map(str, (first + c, *where))))
    return patch, labels


def _entries(e: Explanation, mixed: Value, count: int) -> Records:
    """Entries of what the heads of an attention return: weighted means of the values."""
    source = mixed.inputs[0]
    while source.primitive is not None and source.primitive.name in ("reshape", "multiply", "where") and source.inputs:
        source = next((i for i in source.inputs if i.requires_grad), source.inputs[0])
    if (
        source.primitive is None
        or source.primitive.name != "softmax"
        or mixed.gradient is None
        or mixed.params["transpose_a"]
    ):
        return []
    weights, values, delta = mixed.inputs[0].array(), mixed.inputs[1].array(), np.asarray(mixed.gradient)
    if mixed.params["transpose_b"] or delta.ndim < 2 or not delta.size or not _finite(delta):
        return []
    name = (e.places.path(mixed) or "attention") + ", heads"
    heads = delta.shape[-3] if delta.ndim > 2 else 1
    by_head = np.moveaxis(np.abs(delta), -3, 0) if delta.ndim > 2 else np.abs(delta)[None]
    found = []
    for head in np.argsort(-by_head.reshape(heads, -1).max(axis=1), kind="stable")[:count]:
        front = np.unravel_index(int(by_head[head].argmax()), by_head.shape[1:])
        *batch, row, column = map(int, front)
        lead = (*batch, int(head)) if delta.ndim > 2 else ()
        at = (*lead, row, column)
        z = mixed.array()[at]
        words = {
            "z": f"Entry {column} of what query {row} gets: the mean of the values at {weights.shape[-1]} positions, "
            "weighted by the attention A, which adds up to 1.",
            "dW": "What this entry asks of the attention: more where the value helps; softmax then takes the mean off.",
            "dx": "What this entry hands back to the values: as much as it looked at them.",
        }
        found.append(
            record(
                name, mixed.index, f"head {head}, query {row}, entry {column}", batch[0] if batch else 0, "",
                weights[(*lead, row)], values[(*lead, slice(None), column)], None, z=z, a=z, slope=1.0, dL_da=delta[at],
                dL_dz=delta[at], symbols={"w": "A", "x": "v", "z": "o"}, words=words,
            )
        )  # fmt: skip
    return found


def _gates(e: Explanation, sweep: Value, count: int) -> Records:
    """Gates of a recurrent layer, each at the step of time where its gradient is largest."""
    primitive: Any = sweep.primitive
    if not hasattr(primitive, "steps") or sweep.gradient is None:
        return []
    name = primitive.name
    cell, sums = CELLS[name.upper()], sweep.inputs[0]
    if sums.primitive is None or sums.primitive.name not in ("affine", "matmul"):
        return []
    u = sweep.inputs[1 + cell.states].array().astype(np.float64)
    inner = sweep.inputs[2 + cell.states].array() if len(sweep.inputs) > 2 + cell.states else None
    swept = sweep_back(cell, sweep, u, inner)
    rows, w = sums.inputs[0].array(), sums.inputs[1].array()
    input_bias = np.broadcast_to(sums.inputs[2].array() if len(sums.inputs) > 2 else 0.0, u.shape[0])
    bias = input_bias + (0.0 if inner is None else inner)
    if not _finite(swept.sums) or not swept.sums.size:
        return []
    hidden = u.shape[1]
    label = e.names[sweep.inputs[1 + cell.states]].label.replace("weight_hh_", "").replace("weight_hh", "")
    steps = {row: t for t, (start, stop) in enumerate(primitive.steps) for row in range(start, stop)}
    labels = [f"x {i}" for i in range(rows.shape[1])] + [f"h {i}" for i in range(hidden)]
    found = []
    reset = _reset(swept.total) if name == "gru" else None
    for number, gate in enumerate(_GATES[name]):
        block = np.abs(swept.sums[:, number * hidden : (number + 1) * hidden])
        content = reset if gate == "content n" else None
        for unit in np.argsort(-block.max(axis=0), kind="stable")[: max(1, count // len(_GATES[name]))]:
            row, column = int(block[:, unit].argmax()), number * hidden + int(unit)
            h, b, back = swept.hidden[row], bias[column], swept.sums[row, column]
            words = {
                "z": f"The {gate} of unit {unit} at step {steps[row]} reads the {rows.shape[1]} inputs x and the "
                f"{hidden} states h of the step before.",
                "dW": "What this one step adds to the gradient of each weight: all steps share W and U.",
                "dx": "What the gate hands back: to the inputs x of this step, and by the states h to the step before.",
            }
            shown = labels
            if content is not None:
                # r stands before the product with U and its bias.
                r = float(content[row, unit])
                h, b = r * h, input_bias[column] + r * (inner[column] if inner is not None else 0.0)
                shown = [label.replace("h ", "r h ") for label in labels]
                words["z"] += f" The states count r = {r:.4g} times: the reset gate of this unit."
                words["dx"] += f" There they arrive times r = {r:.4g}."
            z = float(w[column] @ rows[row] + u[column] @ h + b)
            kind = "relu" if name == "rnn_relu" else "tanh" if gate[0] in "cs" else "sigmoid"
            a, slope = _activated(kind, z)
            found.append(
                record(
                    label, sweep.index, f"{gate}, unit {unit}, step {steps[row]}", row, kind,
                    np.concatenate([w[column], u[column]]), np.concatenate([rows[row], h]), b,
                    z=z, a=a, slope=slope, dL_da=back / slope if slope else 0.0, dL_dz=back, labels=shown, words=words,
                )
            )  # fmt: skip
    return found


def _reset(total: np.ndarray) -> np.ndarray:
    """The reset gates r of a GRU, (rows, units), from what its gates get."""
    return 1 / (1 + np.exp(-total[:, : total.shape[1] // 3]))


def _activated(kind: str, z: float) -> tuple[float, float]:
    """f(z) and f′(z)."""
    if kind == "sigmoid":
        a = 1 / (1 + np.exp(-z))
        return a, a * (1 - a)
    return (np.tanh(z), 1 - np.tanh(z) ** 2) if kind == "tanh" else (max(z, 0.0), float(z > 0))


def _place(place: Any) -> str:
    return f"({', '.join(str(int(p)) for p in place)})"


def _finite(array: np.ndarray) -> bool:
    return bool(np.isfinite(array).all())
