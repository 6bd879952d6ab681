"""Linear and bilinear maps."""

from __future__ import annotations

import math
from typing import Any

from ...core.errors import DTypeError, ShapeError, located
from ...core.tensor import Tensor
from ...primitives.matmul import affine, matmul
from ...primitives.pointwise import add
from ...primitives.shape import permute_dims, reshape
from .common import floating


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y = x Wᵀ + b along the last axis.

    Args:
        input: shape (…, in).
        weight: shape (out, in), or (in,) for one output without an axis.
        bias: shape (out,), or () beside a 1-d weight.

    Returns:
        Shape (…, out).

    Raises:
        DTypeError: the input is not floating, or not of the weight's data type.
        ShapeError: the last axis of the input is not `in` long.
    """
    try:
        x_shape, w_shape = input._value.shape, weight._value.shape
        fits = x_shape[-1] == w_shape[-1] and input._value.dtype == weight._value.dtype
    except (AttributeError, IndexError):
        fits = False
    if not fits:
        raise _linear_error(input, weight)
    if len(w_shape) == 2 and len(x_shape) > 1:
        if bias is not None and bias.shape == w_shape[:1]:
            return affine(input, weight, bias)
        y = matmul(input, weight, transpose_a=False, transpose_b=True)
    else:
        rows = input if len(x_shape) > 1 else reshape(input, shape=(1, *x_shape))
        columns = weight if len(w_shape) > 1 else reshape(weight, shape=(1, *w_shape))
        y = matmul(rows, columns, transpose_a=False, transpose_b=True)
        y = reshape(y, shape=(*x_shape[:-1], *w_shape[:-1]))
    return y if bias is None else add(y, bias)


def _linear_error(input: Any, weight: Any) -> Exception:
    x, w = floating(input, "linear"), floating(weight, "linear (weight)")
    if x.ndim == 0 or w.ndim == 0:
        return ShapeError(located(f"linear: input and weight have axes, got shapes {x.shape} and {w.shape}"))
    if x.shape[-1] != w.shape[-1]:
        return ShapeError(
            located(
                f"linear: the last axis of the input has length {x.shape[-1]} (shape {x.shape}), the weight "
                f"of shape {w.shape} takes {w.shape[-1]}"
            )
        )
    return DTypeError(
        located(f"linear: the input is {x.dtype} and the weight {w.dtype}; convert one: x.astype({str(w.dtype)!r})")
    )


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y_k = x₁ᵀ W_k x₂ + b_k along the last axes.

    Args:
        input1, input2: shapes (…, in1) and (…, in2), equal in front.
        weight: shape (out, in1, in2).
        bias: shape (out,).

    Returns:
        Shape (…, out).
    """
    x, z = floating(input1, "bilinear"), floating(input2, "bilinear")
    outputs, in1, in2 = weight.shape
    if x.shape[:-1] != z.shape[:-1] or x.shape[-1] != in1 or z.shape[-1] != in2:
        raise ShapeError(
            located(f"bilinear: inputs of shape {x.shape} and {z.shape} for a weight of shape {weight.shape}")
        )
    front = x.shape[:-1]
    rows = math.prod(front)
    # x₁ times all W_k at once, then the products with x₂ as one batched matrix product.
    stacked = reshape(permute_dims(weight, axes=(1, 0, 2)), shape=(in1, outputs * in2))
    halfway = matmul(reshape(x, shape=(rows, in1)), stacked, transpose_a=False, transpose_b=False)
    y = matmul(
        reshape(halfway, shape=(rows, outputs, in2)), reshape(z, shape=(rows, in2, 1)),
        transpose_a=False, transpose_b=False,
    )  # fmt: skip
    y = reshape(y, shape=(*front, outputs))
    return y if bias is None else add(y, bias)
