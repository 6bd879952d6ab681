"""Pooling as the window kernels take it: with two axes, and all axes before them as one."""

from __future__ import annotations

import math
from typing import Any

from ..code.ir import I8, Type, type_of
from ..code.window import Windows, windows
from ..graph import Op

WINDOWS = ("window_max", "window_argmax", "window_take", "window_put", "window_sum", "window_spread")


def is_window(op: Op) -> bool:
    """Whether an operation is pooling over one or two axes that there is code for."""
    if op.primitive.name not in WINDOWS or len(op.params["kernel"]) > 2:
        return False
    return all(v.size and v.dtype.str[1:] in ("f4", "f8", "u1", "u2") for v in (*op.inputs, *op.outputs))


def window_work(op: Op) -> tuple[str, Windows, Type, Type]:
    """What `emit_windows` is given: kind, layout, and the types of pixels and of the numbers of taps."""
    kind = op.primitive.name.removeprefix("window_")
    rank = len(op.params["kernel"])
    image, small = (op.output, op.inputs[0]) if kind in ("put", "spread") else (op.inputs[0], op.output)
    size, out = image.shape[image.ndim - rank :], small.shape[small.ndim - rank :]
    params: dict[str, Any] = {name: op.params[name] for name in ("kernel", "stride", "padding", "dilation")}
    if rank == 1:
        size, out = (1, *size), (1, *out)
        params = {name: ((0, 0) if name == "padding" else 1, *value) for name, value in params.items()}
    planes = math.prod(image.shape[: image.ndim - rank])
    pixels = next(v.dtype for v in (*op.inputs, op.output) if v.dtype.kind == "f")
    numbers = [type_of(v.dtype) for v in (*op.inputs, op.output) if v.dtype.kind == "u"]
    return kind, windows(planes, (size[0], size[1]), (out[0], out[1]), **params), type_of(pixels), (*numbers, I8)[0]
