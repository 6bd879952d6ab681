"""Convolutions as the dense kernels take them: with two spatial axes, and the result's axes by number."""

from __future__ import annotations

from typing import Any

from ..code.conv import Convolution, backward, forward
from ..code.conv_points import as_product
from ..code.conv_weights import WeightGradient, weight_gradient
from ..code.expression import Outside
from ..code.gemm import Gemm
from ..graph import Op
from .access import Index
from .kernels import Store, View

_MISSING = -100  # axes of length 1 have no number; these are in no address


def convolution(
    op: Op, a: View, b: View, index: Index, product: Outside, stores: list[Store]
) -> Convolution | WeightGradient | Gemm:
    """The work of `conv`, `conv_transpose` or `conv_weight` on two operands.

    Args:
        index: the result's index in the kernel's axes.
    """
    flat = len(a.shape) == 3
    params: dict[str, Any] = {name: op.params[name] for name in ("stride", "padding", "dilation")}
    numbers = [at.terms[0][0] if at.terms else _MISSING - d for d, at in enumerate(index)]
    if flat:
        a, b = _upright(a), _upright(b)
        params = {name: (((0, 0) if name == "padding" else 1), *value) for name, value in params.items()}
        numbers.insert(2, _MISSING - 3)
    axes = (numbers[0], numbers[1], numbers[2], numbers[3])
    params |= {"groups": op.params["groups"], "axes": axes, "product": product, "stores": stores}
    height, width = (1, op.output.shape[2]) if flat else op.output.shape[2:]
    make = {"conv": forward, "conv_transpose": backward}.get(op.primitive.name, weight_gradient)
    work = make(a, b, (height, width), **params)
    return as_product(work) or work


def _upright(view: View) -> View:
    """A view of one spatial axis as one of a single row."""
    (n, c, length), (image, channel, step) = view.shape, view.strides
    return View(view.base, view.offset, (image, channel, 0, step), (n, c, 1, length), view.dtype)
