"""Primitives that move elements without changing them: all linear, transposes of one another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.errors import DTypeError, ShapeError
from ..core.node import ShapeDtype
from ..core.primitive import Primitive, table
from ..core.tensor import Tensor, new_tensor
from .families import linear, unbroadcast

_F = np.dtype("float32")
_SMALL = 1024


identity = linear(
    "identity", lambda x: x, latex="{x}", text="{x}", abstract=lambda x: ShapeDtype(x.shape, x.dtype),
    transpose=lambda g, _x: g, batch=lambda _s, _b, inputs, _p: identity(inputs[0]), example=([((3,), _F)], {}),
    doc="The same value under another node, so that it can be differentiated by on its own.",
)  # fmt: skip


def _reshape_rule(x: Any, shape: tuple[int, ...]) -> ShapeDtype:
    if math.prod(shape) != x.size:
        raise ShapeError(f"{x.size} elements do not fill shape {shape}")
    return ShapeDtype(tuple(shape), x.dtype)


reshape = linear(
    "reshape", lambda x, shape: x.reshape(shape), latex=r"\mathrm{{reshape}}({x:0})",
    abstract=_reshape_rule, transpose=lambda g, _x, shape: reshape(g, shape=_x.shape),
    batch=lambda size, _b, inputs, p: reshape(inputs[0], shape=(size, *p["shape"])),
    example=([((2, 3), _F)], {"shape": (3, 2)}),
)  # fmt: skip


def _inverse(axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argsort(axes))


permute_dims = linear(
    "permute_dims", lambda x, axes: x.transpose(axes), latex="{x:4}^{{\\top}}", text="{x:4}ᵀ",
    abstract=lambda x, axes: ShapeDtype(tuple(x.shape[a] for a in axes), x.dtype),
    transpose=lambda g, _x, axes: permute_dims(g, axes=_inverse(axes)),
    batch=lambda _s, _b, inputs, p: permute_dims(inputs[0], axes=(0, *(a + 1 for a in p["axes"]))),
    example=([((2, 3), _F)], {"axes": (1, 0)}),
)  # fmt: skip


def _broadcast_rule(x: Any, shape: tuple[int, ...]) -> ShapeDtype:
    padded = (1,) * (len(shape) - len(x.shape)) + tuple(x.shape)
    if len(padded) != len(shape) or any(a != b and a != 1 for a, b in zip(padded, shape, strict=True)):
        raise ShapeError(f"shape {x.shape} cannot be broadcast to {shape}")
    return ShapeDtype(tuple(shape), x.dtype)


def _broadcast_batch(size: int, _batched: Any, inputs: Sequence[Tensor], params: dict[str, Any]) -> Tensor:
    x, shape = inputs[0], params["shape"]
    missing = len(shape) - (x.ndim - 1)
    x = reshape(x, shape=(size, *(1,) * missing, *x.shape[1:]))
    return broadcast_to(x, shape=(size, *shape))


def _broadcast_value(x: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if x.shape == () and math.prod(shape) < _SMALL:
        # NumPy's view takes longer to make than these few numbers to write.
        filled = np.empty(shape, x.dtype)
        filled.fill(x)
        return filled
    return np.broadcast_to(x, shape)


broadcast_to = linear(
    "broadcast_to", _broadcast_value, latex="{x}", text="{x}",
    abstract=_broadcast_rule, transpose=lambda g, _x, shape: unbroadcast(g, _x.shape),
    batch=_broadcast_batch, example=([((3,), _F)], {"shape": (2, 3)}),
)  # fmt: skip

flip = linear(
    "flip", lambda x, axis: np.flip(x, axis), latex=r"\mathrm{{flip}}({x:0})",
    abstract=lambda x, axis: ShapeDtype(x.shape, x.dtype), transpose=lambda g, _x, axis: flip(g, axis=axis),
    batch=lambda _s, _b, inputs, p: flip(inputs[0], axis=tuple(a + 1 for a in p["axis"])),
    example=([((2, 3), _F)], {"axis": (1,)}),
)  # fmt: skip


def _pad_rule(x: Any, widths: tuple[tuple[int, int], ...], value: Any = 0) -> ShapeDtype:
    if len(widths) != len(x.shape):
        raise ShapeError(f"{len(widths)} pairs of widths for {len(x.shape)} axes")
    return ShapeDtype(tuple(n + a + b for n, (a, b) in zip(x.shape, widths, strict=True)), x.dtype)


def _pad_transpose(g: Tensor, _x: Any, widths: tuple[tuple[int, int], ...], value: Any = 0) -> Tensor:
    index = tuple(("s", before, before + n, 1) for (before, _), n in zip(widths, _x.shape, strict=True))
    return table["index"](g, pattern=index)


pad = linear(
    "pad", lambda x, widths, value=0: np.pad(x, widths, constant_values=value), latex=r"\mathrm{{pad}}({x:0})",
    abstract=_pad_rule, transpose=_pad_transpose,
    batch=lambda _s, _b, inputs, p: pad(inputs[0], **{**p, "widths": ((0, 0), *p["widths"])}),
    example=([((2, 3), _F)], {"widths": ((0, 1), (2, 0))}),
)  # fmt: skip
# A constant border does not move with x: the tangent is padded with zeros.
pad.jvp = lambda tangents, _y, _x, widths, value=0: pad(tangents[0], widths=widths)


def _concat_rule(*parts: Any, axis: int) -> ShapeDtype:
    first = parts[0]
    for part in parts[1:]:
        same = len(part.shape) == len(first.shape) and all(
            a == b for d, (a, b) in enumerate(zip(part.shape, first.shape, strict=True)) if d != axis
        )
        if not same:
            raise ShapeError(f"all shapes must agree except along axis {axis}, got {first.shape} and {part.shape}")
    length = sum(part.shape[axis] for part in parts)
    shape = (*first.shape[:axis], length, *first.shape[axis + 1 :])
    return ShapeDtype(shape, np.result_type(*(part.dtype for part in parts)))


def _concat_vjp(position: int, g: Tensor, _y: Any, *_parts: Tensor, axis: int) -> Tensor:
    start = sum(part.shape[axis] for part in _parts[:position])
    stop = start + _parts[position].shape[axis]
    pattern = tuple(("s", start, stop, 1) if d == axis else ("s", 0, n, 1) for d, n in enumerate(g.shape))
    piece = table["index"](g, pattern=pattern)
    own = _parts[position].dtype
    return piece if piece.dtype == own else table["astype"](piece, dtype=own)


def _concat_jvp(tangents: Sequence[Tensor | None], y: Tensor, *parts: Tensor, axis: int) -> Tensor:
    filled = [
        new_tensor(np.zeros(p.shape, y.dtype), None) if t is None else t for t, p in zip(tangents, parts, strict=True)
    ]
    return concat(*filled, axis=axis)


def _concat_batch(size: int, batched: Sequence[bool], inputs: Sequence[Tensor], params: dict[str, Any]) -> Tensor:
    spread = [x if b else broadcast_to(x, shape=(size, *x.shape)) for x, b in zip(inputs, batched, strict=True)]
    return concat(*spread, axis=params["axis"] + 1)


concat = Primitive(
    "concat", lambda *parts, axis: np.concatenate(parts, axis=axis), abstract=_concat_rule,
    vjps=_concat_vjp, jvp=_concat_jvp, batch=_concat_batch, latex=r"[{a:0}; {b:0}]", text="[{a:0}; {b:0}]",
    example=([((2, 3), _F), ((1, 3), _F)], {"axis": 0}),
)  # fmt: skip


def require_numeric(x: Any) -> None:
    """Raise DTypeError for booleans, which have no arithmetic."""
    if x.dtype.kind == "b":
        raise DTypeError("not defined for bool")
