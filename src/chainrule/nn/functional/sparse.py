"""Functions of integer indices: embedding, one-hot vectors."""

from __future__ import annotations

import numpy as np

from ...core.autodiff import unrecorded
from ...core.errors import DTypeError, IndexingError, OperationError, ShapeError, located
from ...core.tensor import Tensor, Variable, new_tensor
from ...primitives import pointwise as p
from ...primitives.index import index
from .common import beyond, concrete, expand, floating, positions


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of `weight` that `input` names.

    Args:
        input: integers in [0, V), any shape.
        weight: shape (V, D).
        padding_idx: this row gets no gradient.
        max_norm: first scale the rows read down to at most this norm, in the weight itself.
        norm_type: order of that norm.
        scale_grad_by_freq: divide the gradient of a row by how often it occurs in `input`.
        sparse: only False; gradients are dense.

    Returns:
        Shape (*input.shape, D).

    Raises:
        DTypeError: the input holds no integers.
        IndexingError: an index is out of range; the message names it.
    """
    if not isinstance(input, Tensor):
        input = Tensor(input)
    if input.dtype.kind not in "iu":
        raise DTypeError(located(f"embedding: indices are integers, got {input.dtype}{list(input.shape)}"))
    w = floating(weight, "embedding (weight)")
    if w.ndim != 2:
        raise ShapeError(located(f"embedding: the weight has shape (V, D), got {w.shape}"))
    if sparse:
        raise OperationError(located("embedding: gradients are dense here; leave sparse=False"))
    rows, width = w.shape
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise IndexingError(located(f"embedding: padding_idx {padding_idx} is out of range for {rows} rows"))
        padding_idx %= rows
    values = concrete(input)
    if values is not None and beyond(values, rows):
        odd = values[(values < 0) | (values >= rows)].flat[0]
        raise IndexingError(located(f"embedding: index {odd} is out of range for {rows} rows (0 to {rows - 1})"))
    if max_norm is not None:
        _limit_norm(w, input._array("embedding with max_norm"), max_norm, norm_type)
    found = index(w, input, pattern=(("a", 0), ("s", 0, width, 1)))
    if padding_idx is not None:
        found = p.where(expand(p.equal(input, padding_idx), input.ndim), found.detach(), found)
    if scale_grad_by_freq:
        numbers = input._array("embedding with scale_grad_by_freq")
        share = 1.0 / np.bincount(numbers.reshape(-1), minlength=rows)[numbers]
        factor = expand(new_tensor(np.asarray(share, dtype=w.dtype), None), input.ndim)
        found = found * factor + found.detach() * (1.0 - factor)
    return found


def _limit_norm(weight: Tensor, used: np.ndarray, max_norm: float, order: float) -> None:
    if not isinstance(weight, Variable):
        raise OperationError(located("embedding: max_norm changes the weight, which must be a Parameter"))
    with unrecorded():
        values = np.array(weight._array("embedding with max_norm"))
        rows = np.unique(used)
        sizes = np.linalg.norm(values[rows], ord=order, axis=1, keepdims=True)
        values[rows] *= np.where(sizes > max_norm, max_norm / (sizes + 1e-7), 1.0).astype(values.dtype)
        weight.assign(values)


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """1 at the position that each integer names, 0 elsewhere; int64 of shape (*tensor.shape, num_classes).

    `num_classes=-1`: one more than the largest entry.

    Raises:
        IndexingError: an entry is negative or not less than num_classes.
    """
    if tensor.dtype.kind not in "iu":
        raise DTypeError(located(f"one_hot: class indices are integers, got {tensor.dtype}"))
    if num_classes == -1:
        if not tensor.size:
            raise ShapeError(located("one_hot: num_classes is needed for an empty tensor"))
        num_classes = int(tensor._array("one_hot without num_classes").max()) + 1
    values = concrete(tensor)
    if values is not None and beyond(values, num_classes):
        raise IndexingError(
            located(
                f"one_hot: class indices from {values.min()} to {values.max()} are out of range for "
                f"{num_classes} classes"
            )
        )
    same = p.equal(expand(tensor, tensor.ndim), positions(num_classes))
    return p.astype(same, dtype=np.dtype(np.int64))
