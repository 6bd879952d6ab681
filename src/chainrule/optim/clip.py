"""Gradient clipping, with PyTorch's names and formulas."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ..core.autodiff import unrecorded
from ..core.dtypes import default_dtype
from ..core.errors import DTypeError, GradientError, OperationError, located
from ..core.tensor import Tensor, Variable, constant
from ..primitives import pointwise as p
from ..primitives.products import matrix_product
from ..primitives.reduce import max as largest
from ..primitives.reduce import sum as total
from ..primitives.shape import reshape


def get_total_norm(
    tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: bool | None = None
) -> Tensor:
    """The p-norm of all entries of several tensors together, as a 0-d tensor.

    Args:
        tensors: a tensor or several.
        norm_type: p > 0, or infinity for the largest absolute value.
        error_if_nonfinite: raise where the norm is NaN or infinite.
        foreach: chooses among PyTorch's implementations; without effect.

    Raises:
        OperationError: norm_type is not positive.
        DTypeError: something is no tensor.
        GradientError: the norm is not finite and `error_if_nonfinite` is set.
    """
    given = _listed(tensors, "get_total_norm")
    labels = [f"tensor {index}" for index in range(len(given))]
    with unrecorded():
        return _total_norm("get_total_norm", given, norm_type, labels if error_if_nonfinite else None)


def clip_grad_norm_(
    parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False,
    foreach: bool | None = None,
) -> Tensor:  # fmt: skip
    """Scale the gradients of all parameters so that their total norm is at most `max_norm`.

        g ← g · min(1, max_norm / (‖all gradients‖ + 1e-6))

    Pascanu, Mikolov & Bengio 2013, "On the difficulty of training recurrent neural networks".

    Args:
        parameters: a parameter or several; those without a gradient are passed over.
        max_norm: the largest norm allowed.
        norm_type: p > 0, or infinity.
        error_if_nonfinite: raise where the norm is NaN or infinite, naming the gradients.
        foreach: chooses among PyTorch's implementations; without effect.

    Returns:
        The norm before clipping, a 0-d tensor.

    Raises:
        OperationError: norm_type is not positive, or max_norm is NaN or negative.
        DTypeError: a parameter is no tensor.
        GradientError: the norm is not finite and `error_if_nonfinite` is set.
    """
    if not float(max_norm) >= 0:
        raise OperationError(located(f"clip_grad_norm_: max_norm must be at least 0, got {max_norm!r}"))
    holders = [q for q in _listed(parameters, "clip_grad_norm_") if q.grad is not None]
    gradients: list[Tensor] = [q.grad for q in holders]  # type: ignore[misc]
    labels = [
        f"gradient {q.name}" if isinstance(q, Variable) and q.name else f"gradient {i}" for i, q in enumerate(holders)
    ]
    with unrecorded():
        norm = _total_norm("clip_grad_norm_", gradients, norm_type, labels if error_if_nonfinite else None)
        factor = p.minimum(float(max_norm) / (norm + 1e-6), 1.0)
        for holder, g in zip(holders, gradients, strict=True):
            holder.grad = g * p.astype(factor, dtype=g.dtype)
    return norm


def clip_grad_value_(parameters: Any, clip_value: float, foreach: bool | None = None) -> None:
    """Limit every entry of every gradient to [-clip_value, clip_value]; NaN stays NaN.

    Raises:
        OperationError: clip_value is NaN or negative.
        DTypeError: a parameter is no tensor, or its gradient is complex.
    """
    limit = float(clip_value)
    if not limit >= 0:
        raise OperationError(located(f"clip_grad_value_: clip_value must be at least 0, got {clip_value!r}"))
    with unrecorded():
        for holder in _listed(parameters, "clip_grad_value_"):
            if holder.grad is not None:
                if holder.dtype.kind == "c":
                    raise DTypeError(located("clip_grad_value_: complex gradients have no order; clip their norm"))
                holder.grad = p.minimum(p.maximum(holder.grad, -limit), limit)


def _listed(tensors: Any, name: str) -> list[Tensor]:
    given = [tensors] if isinstance(tensors, Tensor) else list(tensors) if isinstance(tensors, Iterable) else [tensors]
    for index, tensor in enumerate(given):
        if not isinstance(tensor, Tensor):
            raise DTypeError(located(f"{name}: entry {index} is no tensor but {type(tensor).__name__}"))
    return given


def _total_norm(name: str, tensors: list[Tensor], norm_type: float, labels: list[str] | None) -> Tensor:
    """The joint norm; with labels, an error that names the tensors that are not finite."""
    order = float(norm_type)
    if not order > 0:
        raise OperationError(located(f"{name}: norm_type must be positive, got {norm_type!r}"))
    if not tensors:
        return constant(0.0, default_dtype())
    parts = [_part(t, order) for t in tensors]
    joined = parts[0]
    for part in parts[1:]:
        joined = p.maximum(joined, part) if order == math.inf else joined + part
    norm: Tensor = joined if order in (1, math.inf) else p.sqrt(joined) if order == 2 else joined ** (1 / order)
    if labels is not None and not math.isfinite(float(norm)):
        broken = [label for label, part in zip(labels, parts, strict=True) if not math.isfinite(float(part))]
        culprits = ", ".join(broken) or "the sum overflows"
        raise GradientError(located(f"{name}: the total norm of order {order:g} is {float(norm)}: {culprits}"))
    return norm


def _part(tensor: Tensor, order: float) -> Tensor:
    """One tensor's part of the joint norm: the sum of |x|^p, or the largest |x|."""
    flat = reshape(tensor, shape=(tensor.size,))
    if order == 2 and tensor.dtype.kind == "f":
        # A dot product reads the tensor once and stores nothing.
        return matrix_product(flat, flat)
    size = p.abs(flat)
    if order == math.inf:
        return largest(size, axis=(0,), keepdims=False) if tensor.size else constant(0.0, size.dtype)
    return total(size if order == 1 else size**order, axis=(0,), keepdims=False)
