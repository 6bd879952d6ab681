"""Weights of the face detector's shapes that find bright squares, in TensorFlow.js's files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from chainrule.data.packages import PACKAGES

CHANNELS = (3, 16, 32, 64, 128, 256, 512)


def write_small_face(folder: Path) -> Path:
    """A detector whose score grows with the brightness of a cell, and whose boxes have the first shape."""
    weights: dict[str, np.ndarray] = {}
    filters = np.zeros((3, 3, 3, 16), np.float32)
    filters[1, 1, :, 0] = 1 / 3
    weights["conv0/filters"], weights["conv0/bias"] = filters, np.zeros(16, np.float32)
    for i in range(1, 6):
        depthwise = np.zeros((3, 3, CHANNELS[i], 1), np.float32)
        depthwise[1, 1, 0] = 1
        pointwise = np.zeros((1, 1, CHANNELS[i], CHANNELS[i + 1]), np.float32)
        pointwise[0, 0, 0, 0] = 1
        weights[f"conv{i}/depthwise_filter"], weights[f"conv{i}/pointwise_filter"] = depthwise, pointwise
        weights[f"conv{i}/bias"] = np.zeros(CHANNELS[i + 1], np.float32)
    output, bias = np.zeros((1, 1, 512, 25), np.float32), np.full(25, 0, np.float32)
    bias[4::5] = -20
    output[0, 0, 0, 4], bias[4] = 80, -20
    weights["conv8/filters"], weights["conv8/bias"] = output, bias
    manifest, data = (file.name for file in PACKAGES["tiny-face"].files)
    entries = [{"name": name, "shape": list(array.shape), "dtype": "float32"} for name, array in weights.items()]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / manifest).write_text(json.dumps([{"weights": entries, "paths": [data]}]))
    (folder / data).write_bytes(b"".join(array.astype("<f4").tobytes() for array in weights.values()))
    return folder
