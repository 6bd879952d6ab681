"""Single neurons of a graph with their numbers: z = w·x + b, a = f(z), and the way back.

Units of dense layers are found by their form: an affine map or matrix product with a weight (or
a sum of products of numbers), and perhaps one pointwise function of the result. `units` has
those of layers that share their weights.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..explanation import Explanation
from ..trace import Value
from .record import after, consumers_of, is_activation, record
from .units import shared_units

LAYERS = 24
NEURONS = 10  # a layer


class Dense(NamedTuple):
    """A layer of neurons: arrays of rows (samples) and the index of z in the graph."""

    name: str
    node: int
    x: np.ndarray  # (rows, inputs)
    w: np.ndarray  # (units, inputs)
    b: np.ndarray  # (units,)
    z: np.ndarray  # (rows, units), as are the following
    a: np.ndarray
    slope: np.ndarray
    dL_dz: np.ndarray
    dL_da: np.ndarray
    activation: str  # empty where no single operation follows


def neurons(explanation: Explanation) -> list[dict[str, Any]]:
    """The neurons with the largest |∂L/∂z| of every layer, in the order of the layers, as `record` writes them.

    Neurons are the units of dense layers, the output pixels of convolutions, the entries of what
    attention heads return and the gates of recurrent layers. Each is taken for the one sample of
    the batch in which its |∂L/∂z| is largest.
    """
    # From the loss back and one at a time: the last layers are shown, and no more than one is held in memory.
    layers = [_neurons(layer) for layer in itertools.islice(_layers(explanation), LAYERS)]
    layers += itertools.islice(shared_units(explanation, NEURONS), LAYERS)
    layers.sort(key=lambda units: units[0]["node"])
    return [neuron for layer in layers for neuron in layer]


def _neurons(layer: Dense) -> list[dict[str, Any]]:
    strength = np.abs(layer.dL_dz)
    units = np.argsort(-strength.max(axis=0), kind="stable")[:NEURONS]
    return [_neuron(layer, int(unit), int(strength[:, unit].argmax())) for unit in units]


def _neuron(layer: Dense, unit: int, sample: int) -> dict[str, Any]:
    numbers = {name: getattr(layer, name)[sample, unit] for name in ("z", "a", "slope", "dL_da", "dL_dz")}
    return record(
        layer.name, layer.node, unit, sample, layer.activation, layer.w[unit], layer.x[sample], layer.b[unit],
        **numbers,
    )  # fmt: skip


def _layers(explanation: Explanation) -> Iterator[Dense]:
    consumers = consumers_of(explanation)
    for value in reversed(explanation.trace.values):
        layer = _matrix_layer(value, consumers, explanation) or _single(value, consumers, explanation)
        if layer is not None and layer.dL_dz.size and all(np.isfinite(a).all() for a in layer[2:10]):
            yield layer


def _matrix_layer(value: Value, consumers: dict[Value, list[Value]], e: Explanation) -> Dense | None:
    """The layer whose affine map, or whose product x Wᵀ, `value` is."""
    affine = _is(value, "affine")
    product = _is(value, "matmul") and value.params.get("transpose_b") and not value.params.get("transpose_a")
    if not (affine or product) or not _real(value):
        return None
    x, w = value.inputs[:2]
    if not e.is_parameter(w) or len(w.shape) != 2:
        return None
    if any(hasattr(r.primitive, "steps") for r in consumers.get(value, ())):
        return None  # the inputs' part of a recurrent layer's sums: its gates are shown whole
    z, b = value, value.inputs[2].array() if affine else np.zeros(w.shape[0])
    name = e.names[w].label.removesuffix(".weight").removesuffix("_weight")
    return _dense(name, z, x.array(), w.array(), b, consumers, e)


def _single(value: Value, consumers: dict[Value, list[Value]], e: Explanation) -> Dense | None:
    """The neuron written with numbers: `value` is f of a sum with at least one product in it."""
    if not is_activation(value) or value.size != 1 or not _real(value):
        return None
    z = value.inputs[0]
    pairs: list[tuple[Value, Value]] = []
    b = 0.0
    waiting = [z]
    while waiting:
        part = waiting.pop(0)
        if _is(part, "add"):
            waiting[:0] = part.inputs
        elif _is(part, "multiply"):
            left, right = part.inputs
            pairs.append((left, right) if e.names[left].label.startswith("x") else (right, left))
        elif part.primitive is None and part.size == 1:
            b += float(part.array().reshape(()))
        else:
            return None
    if not pairs or z.gradient is None:
        return None
    if any(operand.size != 1 for pair in pairs for operand in pair):
        return None
    x, w = (np.array([[float(p[k].array().reshape(())) for p in pairs]]) for k in (0, 1))
    return _dense(e.names[value].label, z, x, w, np.array([b]), consumers, e)


def _dense(
    name: str, z: Value, x: Any, w: Any, b: Any, consumers: dict[Value, list[Value]], e: Explanation
) -> Dense | None:
    if z.gradient is None:
        return None
    units = w.shape[0]
    activation, rows = after(z, consumers)
    rows |= {"z": z.array(), "dL_dz": z.gradient}
    flat = {key: np.asarray(array).reshape(-1, units) for key, array in rows.items()}
    inputs = np.asarray(x).reshape(-1, w.shape[1])
    return Dense(name, z.index, inputs, np.asarray(w), np.asarray(b), **flat, activation=activation)


def _is(value: Value, name: str) -> bool:
    return value.primitive is not None and value.primitive.name == name


def _real(value: Value) -> bool:
    return value.dtype.kind == "f"
