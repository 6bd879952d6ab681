"""Convolution in any number of dimensions, closed under differentiation.

The sum Σ x[n, c, p·s + k·d - a] w[o, c, k] g[n, o, p] over all indices is linear in the image
x, in the weight w and in the cotangent g of the result. Its three partial sums are the three
primitives here: `conv` (what meets g), `conv_transpose` (what meets x) and `conv_weight` (what
meets w). Each one's derivatives are the other two.

Layouts are PyTorch's: x (N, C, spatial…), w (O, C / groups, kernel…), g (N, O, spatial…).
`stride` s and `dilation` d have one number per spatial axis, `padding` a pair (before, after),
negative to crop. How the values are computed is the subject of `columns`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..core.errors import DTypeError, ShapeError
from ..core.node import ShapeDtype
from ..core.primitive import Primitive
from ..core.tensor import Tensor, new_tensor
from . import columns
from .pointwise import conj
from .shape import permute_dims, reshape

_F = np.dtype("float32")
Sizes = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]


def output_size(size: Sizes, kernel: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes) -> Sizes:
    """How many positions a kernel has along each axis of an image."""
    return tuple(
        (n + before + after - d * (k - 1) - 1) // s + 1
        for n, k, s, (before, after), d in zip(size, kernel, stride, padding, dilation, strict=True)
    )


def _check_kinds(a: Any, b: Any) -> None:
    if a.dtype.kind not in "fc" or b.dtype.kind not in "fc":
        raise DTypeError(f"needs floating operands, got {a.dtype} and {b.dtype}; convert them with astype")
    if a.dtype != b.dtype:
        raise DTypeError(f"the operands are of data types {a.dtype} and {b.dtype}; convert one with astype")


def _check_layout(
    channels: int, outputs: int, axes: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int
) -> None:
    ranks = {len(stride), len(padding), len(dilation), *(n - 2 for n in axes)}
    if len(ranks) > 1:
        raise ShapeError(
            f"operands of {axes[0]} and {axes[1]} axes with {len(stride)} strides, {len(padding)} pairs of padding "
            f"and {len(dilation)} dilations: they must agree on the number of spatial axes"
        )
    if groups < 1 or channels % groups or outputs % groups:
        raise ShapeError(f"{channels} input and {outputs} output channels cannot be divided into groups={groups}")
    if min(*stride, *dilation) < 1:
        raise ShapeError(f"stride {stride} and dilation {dilation} must be positive")


def _positions(size: Sizes, kernel: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes) -> Sizes:
    if min(kernel) < 1 or min(size) < 1:
        raise ShapeError(f"an image of size {size} and a kernel of size {kernel} must have a length of 1 or more")
    out = output_size(size, kernel, stride, padding, dilation)
    if min(out) < 1:
        reach = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
        padded = tuple(n + before + after for n, (before, after) in zip(size, padding, strict=True))
        raise ShapeError(
            f"a kernel that reaches over {reach} does not fit into the padded input of size {padded} "
            f"(size {size}, padding {padding}): use more padding, a smaller kernel or a larger input"
        )
    return out


def _conv_rule(x: Any, w: Any, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int) -> ShapeDtype:
    _check_kinds(x, w)
    channels = w.shape[1] * groups
    _check_layout(channels, w.shape[0], (x.ndim, w.ndim), stride, padding, dilation, groups)
    if x.shape[1] != channels:
        raise ShapeError(
            f"the input of shape {x.shape} has {x.shape[1]} channels, the weight of shape {w.shape} "
            f"with groups={groups} takes {channels}"
        )
    out = _positions(x.shape[2:], w.shape[2:], stride, padding, dilation)
    return ShapeDtype((x.shape[0], w.shape[0], *out), x.dtype)


def _transpose_rule(
    g: Any, w: Any, size: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int
) -> ShapeDtype:
    _check_kinds(g, w)
    channels = w.shape[1] * groups
    _check_layout(channels, w.shape[0], (g.ndim, w.ndim), stride, padding, dilation, groups)
    if g.shape[1] != w.shape[0]:
        raise ShapeError(
            f"the input of shape {g.shape} has {g.shape[1]} channels, the weight of shape {w.shape} takes {w.shape[0]}"
        )
    if min(size) < 1:
        raise ShapeError(
            f"the output would have size {size} for an input of shape {g.shape} and a weight of shape {w.shape}: "
            "use less padding or a larger input"
        )
    out = _positions(size, w.shape[2:], stride, padding, dilation)
    if out != g.shape[2:]:
        raise ShapeError(f"an output of size {size} belongs to an input of size {out}, got shape {g.shape}")
    return ShapeDtype((g.shape[0], channels, *size), g.dtype)


def _weight_rule(
    x: Any, g: Any, kernel: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int
) -> ShapeDtype:
    _check_kinds(x, g)
    _check_layout(x.shape[1], g.shape[1], (x.ndim, g.ndim), stride, padding, dilation, groups)
    if x.shape[0] != g.shape[0]:
        raise ShapeError(f"{x.shape[0]} images for {g.shape[0]} cotangents (shapes {x.shape} and {g.shape})")
    out = _positions(x.shape[2:], kernel, stride, padding, dilation)
    if out != g.shape[2:]:
        raise ShapeError(f"a kernel of size {kernel} has {out} positions on shape {x.shape}, got shape {g.shape}")
    return ShapeDtype((g.shape[1], x.shape[1] // groups, *kernel), x.dtype)


def _checked(rule: Callable[..., ShapeDtype], value: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    # NumPy would broadcast, or convolve integers, where the rule refuses.
    def checked(a: np.ndarray, b: np.ndarray, **params: Any) -> np.ndarray:
        return value(a, b, rule(a, b, **params).shape, **params)

    return checked


# Which axis of an operand carries an index that it shares with another: sample n (x and g),
# output channel o (w and g), input channel c (x and w). "grouped" channels run group by group.
_AXIS = {
    ("x", "n"): (0, False), ("x", "c"): (1, True),
    ("w", "o"): (0, True), ("w", "c"): (1, False),
    ("g", "n"): (0, False), ("g", "o"): (1, True),
}  # fmt: skip
_GROUP_AXIS = {"x": 1, "w": 0, "g": 1}
_SHARED = {frozenset("xg"): "n", frozenset("wg"): "o", frozenset("xw"): "c"}


def _join(t: Tensor, axis: int, groups: int) -> Tensor:
    """Make the leading batch axis a part of `axis` of the operand, inside each of its groups."""
    batch, *shape = t.shape
    split = (batch, *shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :])
    order = (*range(1, axis + 2), 0, *range(axis + 2, len(split)))
    joined = (*shape[:axis], batch * shape[axis], *shape[axis + 1 :])
    return reshape(permute_dims(reshape(t, shape=split), axes=order), shape=joined)


def _leave(t: Tensor, axis: int, groups: int, batch: int) -> Tensor:
    """Undo `_join` for a result: the batch becomes the leading axis again."""
    shape = t.shape
    each = shape[axis] // (groups * batch)
    split = (*shape[:axis], groups, batch, each, *shape[axis + 1 :])
    order = (axis + 1, *range(axis + 1), *range(axis + 2, len(split)))
    left = (batch, *shape[:axis], groups * each, *shape[axis + 1 :])
    return reshape(permute_dims(reshape(t, shape=split), axes=order), shape=left)


def _batch_rule(primitive: Callable[[], Primitive], first: str, second: str, result: str) -> Any:
    """A batch axis joins the index that the batched operand shares with the result; of both operands, the groups."""

    def batch(size: int, batched: Sequence[bool], inputs: Sequence[Tensor], params: dict[str, Any]) -> Tensor:
        roles, groups = (first, second), params["groups"]
        if size == 0:
            specs = [ShapeDtype(t.shape[b:], t.dtype) for t, b in zip(inputs, batched, strict=True)]
            one = primitive().abstract(*specs, **params)
            return new_tensor(np.zeros((0, *one.shape), one.dtype), None)
        if all(batched):
            joined = [_join(t, _GROUP_AXIS[role], 1) for t, role in zip(inputs, roles, strict=True)]
            y = primitive()(*joined, **{**params, "groups": groups * size})
            return _leave(y, _GROUP_AXIS[result], 1, size)
        moving = roles[0] if batched[0] else roles[1]
        index = _SHARED[frozenset(moving + result)]
        places = {}
        for role in (*roles, result):
            axis, grouped = _AXIS.get((role, index), (0, False))
            places[role] = axis, groups if grouped else 1
        joined = [_join(t, *places[role]) if b else t for t, b, role in zip(inputs, batched, roles, strict=True)]
        return _leave(primitive()(*joined, **params), *places[result], size)

    return batch


def _bilinear_jvp(primitive: Callable[[], Primitive]) -> Any:
    def jvp(tangents: Sequence[Tensor | None], _y: Any, a: Tensor, b: Tensor, **params: Any) -> Tensor | None:
        da, db = tangents
        left = None if da is None else primitive()(da, b, **params)
        right = None if db is None else primitive()(a, db, **params)
        if left is None or right is None:
            return left if right is None else right
        return left + right

    return jvp


def _bar(x: Tensor) -> Tensor:
    return conj(x) if x.dtype.kind == "c" else x


_EXAMPLE_PARAMS: dict[str, Any] = {
    "stride": (2, 1), "padding": ((1, 1), (0, 1)), "dilation": (1, 2), "groups": 2,
}  # fmt: skip

conv = Primitive(
    "conv", _checked(_conv_rule, columns.conv), abstract=_conv_rule,
    vjps=(
        lambda g, _y, _x, w, **p: conv_transpose(g, _bar(w), size=_x.shape[2:], **p),
        lambda g, _y, x, _w, **p: conv_weight(_bar(x), g, kernel=_w.shape[2:], **p),
    ),
    jvp=_bilinear_jvp(lambda: conv), batch=_batch_rule(lambda: conv, "x", "w", "g"),
    latex=r"{a:3} \star {b:3}", text="{a:3} ⋆ {b:3}", precedence=2,
    example=([((2, 4, 3, 4), _F), ((2, 2, 2, 2), _F)], _EXAMPLE_PARAMS),
    doc="y[n, o, p] = Σ x[n, c, p·stride + k·dilation - before] w[o, c, k]: the cross-correlation of networks.",
)  # fmt: skip

conv_transpose = Primitive(
    "conv_transpose", _checked(_transpose_rule, columns.conv_transpose), abstract=_transpose_rule,
    vjps=(
        lambda h, _y, _g, w, size, **p: conv(h, _bar(w), **p),
        lambda h, _y, g, _w, size, **p: conv_weight(h, _bar(g), kernel=_w.shape[2:], **p),
    ),
    jvp=_bilinear_jvp(lambda: conv_transpose), batch=_batch_rule(lambda: conv_transpose, "g", "w", "x"),
    latex=r"{a:3} \star^{{\top}} {b:3}", text="{a:3} ⋆ᵀ {b:3}", precedence=2,
    example=([((2, 2, 2, 3), _F), ((2, 2, 2, 2), _F)], {"size": (3, 4), **_EXAMPLE_PARAMS}),
    doc="The transpose of x ↦ conv(x, w): its cotangent by the image, and the layer ConvTranspose.",
)  # fmt: skip

conv_weight = Primitive(
    "conv_weight", _checked(_weight_rule, columns.conv_weight), abstract=_weight_rule,
    vjps=(
        lambda v, _y, _x, g, kernel, **p: conv_transpose(_bar(g), v, size=_x.shape[2:], **p),
        lambda v, _y, x, _g, kernel, **p: conv(_bar(x), v, **p),
    ),
    jvp=_bilinear_jvp(lambda: conv_weight), batch=_batch_rule(lambda: conv_weight, "x", "g", "w"),
    latex=r"\mathrm{{conv}}_w^{{\top}}({a:0}, {b:0})", text="convᵀ_w({a:0}, {b:0})",
    example=([((2, 4, 3, 4), _F), ((2, 2, 2, 3), _F)], {"kernel": (2, 2), **_EXAMPLE_PARAMS}),
    doc="The transpose of w ↦ conv(x, w): its cotangent by the weight.",
)  # fmt: skip


def transposed_size(size: Sizes, kernel: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes) -> Sizes:
    """The smallest image on which a kernel has `size` positions."""
    return tuple(
        (n - 1) * s - before - after + d * (k - 1) + 1
        for n, k, s, (before, after), d in zip(size, kernel, stride, padding, dilation, strict=True)
    )
