"""The matrix product of the Array API standard (1-d operands included), from the primitive."""

from __future__ import annotations

from ..core.errors import ShapeError, located
from ..core.tensor import Tensor
from .matmul import matmul
from .shape import reshape


def matrix_product(x: Tensor, y: Tensor) -> Tensor:
    """x @ y: a 1-d x is a row, a 1-d y a column, and their axis disappears from the result.

    Raises:
        ShapeError: an operand is 0-d, or the inner lengths differ.
    """
    if x.ndim > 1 and y.ndim > 1:
        return matmul(x, y, transpose_a=False, transpose_b=False)
    if not x.ndim or not y.ndim:
        raise ShapeError(located(f"matmul: operands must have axes, got shapes {x.shape} and {y.shape}"))
    row = x if x.ndim > 1 else reshape(x, shape=(1, *x.shape))
    column = y if y.ndim > 1 else reshape(y, shape=(*y.shape, 1))
    product = matmul(row, column, transpose_a=False, transpose_b=False)
    shape = product.shape
    if y.ndim == 1:
        shape = shape[:-1]
    if x.ndim == 1:
        shape = shape[:-1] if y.ndim == 1 else (*shape[:-2], shape[-1])
    return reshape(product, shape=shape)
