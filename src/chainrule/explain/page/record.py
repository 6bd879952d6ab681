"""One neuron as the page reads it: z = Σ w x + b, a = f(z), with the derivatives of the textbook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..explanation import Explanation
from ..steps import local_numbers
from ..trace import Value

INPUTS = 8  # shown one by one; the rest as a sum


def record(
    layer: str, node: int, index: int | str, sample: int, activation: str, w: Any, x: Any, b: Any, *,
    z: Any, a: Any, slope: Any, dL_da: Any, dL_dz: Any,
    labels: Sequence[str] | None = None, symbols: dict[str, str] | None = None, words: dict[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A neuron as plain values.

    layer, node     name of the layer; index of z in the graph
    index, sample   which unit, which row of the batch
    activation      the operation f; empty if none follows directly
    inputs          how many there are
    terms           [{"i", "w", "x", "dW", "dx"}] of the inputs with the largest |w x|; i is a number or a text
    rest            {"count", "sum"}: the other inputs and their part of z; or null
    b, z, a, slope, dL_da, dL_dz    the numbers of the textbook's steps; b is null where there is none
    symbols         what w, x and z are called where that is not their name
    words           sentences for the steps "z", "dW" and "dx" in place of the usual ones
    """
    x, w = np.asarray(x, np.float64).ravel(), np.asarray(w, np.float64).ravel()
    back = float(dL_dz)
    products = np.abs(w * x)
    shown = sorted(int(i) for i in np.argsort(-products - np.abs(x) * 1e-9, kind="stable")[:INPUTS])
    rest = np.setdiff1d(np.arange(len(x)), shown)
    terms = [
        {
            "i": i if labels is None else labels[i],
            "w": _n(w[i]),
            "x": _n(x[i]),
            "dW": _n(back * x[i]),
            "dx": _n(back * w[i]),
        }
        for i in shown
    ]
    return {
        "layer": layer,
        "node": node,
        "index": index,
        "sample": sample,
        "activation": activation,
        "inputs": len(x),
        "terms": terms,
        "rest": {"count": len(rest), "sum": _n(w[rest] @ x[rest])} if len(rest) else None,
        "b": None if b is None else _n(b),
        "z": _n(z),
        "a": _n(a),
        "slope": _n(slope),
        "dL_da": _n(dL_da),
        "dL_dz": _n(back),
        "symbols": symbols or {},
        "words": words or {},
    }


def _n(value: Any) -> float:
    return float(f"{float(value):.6g}")


def consumers_of(explanation: Explanation) -> dict[Value, list[Value]]:
    """What reads each value and hands a gradient back."""
    consumers: dict[Value, list[Value]] = {}
    for product in explanation.trace.products:
        consumers.setdefault(product.operand, []).append(product.consumer)
    return consumers


def after(z: Value, consumers: dict[Value, list[Value]]) -> tuple[str, dict[str, Any]]:
    """The pointwise function that alone reads z, empty if there is none, and the arrays a, dL_da and slope."""
    found = consumers.get(z, [])
    a = found[0] if len(found) == 1 else None
    if a is not None and is_activation(a) and a.gradient is not None:
        name = a.primitive.name if a.primitive else ""
        return name, {"a": a.array(), "dL_da": a.gradient, "slope": local_numbers(z.products[0])}
    return "", {"a": z.array(), "dL_da": z.gradient, "slope": np.ones(z.shape)}


def is_activation(value: Value) -> bool:
    """Whether a value is a pointwise function of one other value."""
    partials = value.primitive.partials if value.primitive is not None else None
    return partials is not None and len(value.inputs) == 1 and callable(partials[0])
