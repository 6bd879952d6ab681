"""A small detector of faces, with the weights of face-api.js (Mühler 2018; MIT).

After YOLOv2 (Redmon and Farhadi 2017, arXiv:1612.08242): the picture is cut into cells of 32
pixels, and for each cell and each of five shapes of boxes the network states whether a face is
there and how its box differs from the shape. Convolutions are separable: one 3×3 filter a
channel, then a mixing of channels. 0.19 million weights.
"""

from __future__ import annotations

import math
import os
from itertools import pairwise
from pathlib import Path

import numpy as np

from .. import nn
from ..core.autodiff import no_grad
from ..core.errors import DataError, OperationError, ShapeError
from ..core.tensor import Tensor
from ..data.packages import PACKAGES, require_package
from ..interop.tfjs import read_tfjs
from ..nn import functional as F
from ..nn.functional.detection import nms
from ..train.average_precision import Boxes
from ..train.compiling import compiled_if

MEAN = np.array([117.001, 114.697, 97.404], np.float32)
"""Of red, green and blue, from 0 to 255."""
SHAPES = np.array(
    [(1.603231, 2.094468), (6.041143, 7.080126), (2.882459, 3.518061), (4.266906, 5.178857), (9.041765, 10.66308)]
)
"""Widths and heights of the five shapes, in cells."""
CELL = 32
OVERLAP = 0.4
CHANNELS = (16, 32, 64, 128, 256, 512)


class SeparableConv(nn.Module):
    """A 3×3 filter for each channel, then every output channel a mixture of them."""

    def __init__(self, channels_in: int, channels_out: int) -> None:
        self.depthwise = nn.Conv2d(channels_in, channels_in, 3, padding=1, groups=channels_in, bias=False)
        self.pointwise = nn.Conv2d(channels_in, channels_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


class TinyFaceDetector(nn.Module):
    """Pictures (N, 3, S, S), normalised, to (N, cells, cells, shapes, 5): x, y, log width, log height, score."""

    def __init__(self) -> None:
        self.conv0 = nn.Conv2d(3, CHANNELS[0], 3)
        self.separable = nn.ModuleList([SeparableConv(a, b) for a, b in pairwise(CHANNELS)])
        self.output = nn.Conv2d(CHANNELS[-1], 5 * len(SHAPES), 1)
        self.activation = nn.LeakyReLU(0.1)
        self.halve = nn.MaxPool2d(2, ceil_mode=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.conv0(x))
        for layer in self.separable:
            x = self.activation(layer(self.halve(x)))
        x = F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-math.inf), 2, stride=1)
        x = self.output(x).permute(0, 2, 3, 1)
        return x.reshape(*x.shape[:3], len(SHAPES), 5)


def load_tiny_face(folder: str | os.PathLike[str] | None = None, *, compile: bool = False) -> TinyFaceDetector:
    """The detector with its weights, in evaluation mode.

    Args:
        folder: where the manifest and its file are; as `chainrule data tiny-face` gets them if None.
        compile: compile it, once for each size of pictures.

    Raises:
        DataError: the files are missing, damaged, or of another network.
    """
    place = require_package("tiny-face") if folder is None else Path(folder).expanduser()
    manifest = place / PACKAGES["tiny-face"].files[0].name
    stored = read_tfjs(manifest)
    names = {"conv0.weight": "conv0/filters", "conv0.bias": "conv0/bias"}
    names |= {"output.weight": "conv8/filters", "output.bias": "conv8/bias"}
    for i in range(len(CHANNELS) - 1):
        names[f"separable.{i}.depthwise.weight"] = f"conv{i + 1}/depthwise_filter"
        names[f"separable.{i}.pointwise.weight"] = f"conv{i + 1}/pointwise_filter"
        names[f"separable.{i}.pointwise.bias"] = f"conv{i + 1}/bias"
    if lacking := [name for name in names.values() if name not in stored]:
        raise DataError(f"{manifest}: not the weights of the tiny face detector: it lacks {', '.join(lacking)}")
    # Filters are (h, w, in, out) there, and (h, w, channel, 1) where each channel has its own.
    orders = {1: (0,), 4: (3, 2, 0, 1)}
    state = {}
    for ours, theirs in names.items():
        array = stored[theirs]
        state[ours] = array.transpose((2, 3, 0, 1) if "depthwise" in ours else orders.get(array.ndim))
    with nn.init.skipped():
        model = TinyFaceDetector()
    model.load_state_dict(state)
    return compiled_if(compile, model.eval().requires_grad_(False))


def prepare(picture: np.ndarray, size: int) -> np.ndarray:
    """A picture of bytes or numbers from 0 to 255 (H, W, 3) as the network's input (1, 3, size, size).

    It is filled up to a square with black at the right or the bottom, and resized bilinearly;
    corner pixels map to corner pixels of the source's grid, as in TensorFlow.js.
    """
    if picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise ShapeError(f"a picture has the shape (height, width, 3), got {picture.shape}")
    side = max(picture.shape[:2])
    square = np.zeros((side, side, 3), np.float32)
    square[: picture.shape[0], : picture.shape[1]] = picture
    if side != size:
        place = np.arange(size, dtype=np.float32) * np.float32(side / size)
        low = np.floor(place).astype(int)
        high, part = np.minimum(low + 1, side - 1), (place - low.astype(np.float32))[:, None]
        rows = square[low] + (square[high] - square[low]) * part[:, :, None]
        square = rows[:, low] + (rows[:, high] - rows[:, low]) * part
    return ((square - MEAN) / 255).transpose(2, 0, 1)[None]


def detect_faces(model: TinyFaceDetector, picture: np.ndarray, size: int = 416, least: float = 0.5) -> Boxes:
    """The faces in a picture, the surest first, each once.

    Args:
        model: as `load_tiny_face` gives it.
        picture: (H, W, 3), red, green and blue from 0 to 255.
        size: the side that the picture is resized to, a multiple of 32; larger finds smaller faces.
        least: the least score, from 0 to 1.

    Returns:
        Corners in pixels of the picture, labels 0, and scores.
    """
    if size < CELL or size % CELL:
        raise OperationError(f"size must be a positive multiple of {CELL}, got {size}")
    with no_grad():
        out = model(Tensor(prepare(picture, size))).numpy()[0].astype(np.float64)
    cells = out.shape[0]
    scores = 1 / (1 + np.exp(-out[..., 4]))
    rows, columns, shapes = np.nonzero(scores > least)
    found, sure = out[rows, columns, shapes], scores[rows, columns, shapes]
    centres = np.stack([columns, rows], 1) + 1 / (1 + np.exp(-found[:, :2]))
    halves = np.exp(found[:, 2:4]) * SHAPES[shapes] / 2
    corners = np.concatenate([centres - halves, centres + halves], 1) * (max(picture.shape[:2]) / cells)
    kept = nms(Tensor(corners), Tensor(sure), OVERLAP).numpy()
    return Boxes(corners[kept], np.zeros(len(kept), np.int64), sure[kept])
