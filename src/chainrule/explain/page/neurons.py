"""Single neurons of a graph with their numbers: z = w·x + b, a = f(z), and the way back.

Found by their form: an affine map or matrix product with a weight (or a sum of products of
numbers), and perhaps one pointwise function of the result.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ..explanation import Explanation
from ..steps import local_numbers
from ..trace import Value

LAYERS = 24
NEURONS = 10  # a layer
INPUTS = 8  # shown one by one; the rest as a sum


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
    """The neurons with the largest |∂L/∂z| of every dense layer, in the order of the layers.

    Each is taken for the one sample of the batch in which its |∂L/∂z| is largest:

        layer, node     name of the layer; index of z in the graph
        index, sample   which unit, which row of the batch
        activation      the operation f; empty if none follows directly
        inputs          how many there are
        terms           [{"i", "w", "x", "dW", "dx"}] of the inputs with the largest |w x| and |∂L/∂w|
        rest            {"count", "sum"}: the other inputs and their part of z; or null
        b, z, a, slope, dL_da, dL_dz    the numbers of the textbook's steps
    """
    # From the loss back and one at a time: the last layers are shown, and no more than one is held in memory.
    layers = [_neurons(layer) for layer in itertools.islice(_layers(explanation), LAYERS)]
    return [neuron for layer in reversed(layers) for neuron in layer]


def _neurons(layer: Dense) -> list[dict[str, Any]]:
    strength = np.abs(layer.dL_dz)
    units = np.argsort(-strength.max(axis=0), kind="stable")[:NEURONS]
    return [_neuron(layer, int(unit), int(strength[:, unit].argmax())) for unit in units]


def _neuron(layer: Dense, unit: int, sample: int) -> dict[str, Any]:
    x, w = layer.x[sample].astype(np.float64), layer.w[unit].astype(np.float64)
    back = float(layer.dL_dz[sample, unit])
    products = np.abs(w * x)
    shown = sorted(int(i) for i in np.argsort(-products - np.abs(x) * 1e-9, kind="stable")[:INPUTS])
    rest = np.setdiff1d(np.arange(len(x)), shown)
    return {
        "layer": layer.name,
        "node": layer.node,
        "index": unit,
        "sample": sample,
        "activation": layer.activation,
        "inputs": len(x),
        "terms": [{"i": i, "w": _n(w[i]), "x": _n(x[i]), "dW": _n(back * x[i]), "dx": _n(back * w[i])} for i in shown],
        "rest": {"count": len(rest), "sum": _n(w[rest] @ x[rest])} if len(rest) else None,
        "b": _n(layer.b[unit]),
        "z": _n(layer.z[sample, unit]),
        "a": _n(layer.a[sample, unit]),
        "slope": _n(layer.slope[sample, unit]),
        "dL_da": _n(layer.dL_da[sample, unit]),
        "dL_dz": _n(back),
    }


def _n(value: Any) -> float:
    return float(f"{float(value):.6g}")


def _layers(explanation: Explanation) -> Iterator[Dense]:
    consumers: dict[Value, list[Value]] = {}
    for product in explanation.trace.products:
        consumers.setdefault(product.operand, []).append(product.consumer)
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
    z, b = value, value.inputs[2].array() if affine else np.zeros(w.shape[0])
    name = e.names[w].label.removesuffix(".weight")
    return _dense(name, z, x.array(), w.array(), b, consumers, e)


def _single(value: Value, consumers: dict[Value, list[Value]], e: Explanation) -> Dense | None:
    """The neuron written with numbers: `value` is f of a sum with at least one product in it."""
    if not _is_activation(value) or value.size != 1 or not _real(value):
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
    rows = {"z": z.array(), "dL_dz": z.gradient}
    a = _only(consumers, z)
    if a is not None and _is_activation(a) and a.gradient is not None:
        activation = a.primitive.name if a.primitive else ""
        rows |= {"a": a.array(), "dL_da": a.gradient, "slope": local_numbers(z.products[0])}
    else:
        activation = ""
        rows |= {"a": z.array(), "dL_da": z.gradient, "slope": np.ones(z.shape)}
    flat = {key: np.asarray(array).reshape(-1, units) for key, array in rows.items()}
    inputs = np.asarray(x).reshape(-1, w.shape[1])
    return Dense(name, z.index, inputs, np.asarray(w), np.asarray(b), **flat, activation=activation)


def _only(consumers: dict[Value, list[Value]], value: Value) -> Value | None:
    found = consumers.get(value, [])
    return found[0] if len(found) == 1 else None


def _is(value: Value, name: str) -> bool:
    return value.primitive is not None and value.primitive.name == name


def _is_activation(value: Value) -> bool:
    """Whether a value is a pointwise function of one other value."""
    partials = value.primitive.partials if value.primitive is not None else None
    return partials is not None and len(value.inputs) == 1 and callable(partials[0])


def _real(value: Value) -> bool:
    return value.dtype.kind == "f"
