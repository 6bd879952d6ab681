"""Sums, products, averages, extrema and running sums."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.dtypes import int64, uint64
from ..core.errors import DTypeError, ShapeError, located
from ..core.tensor import Tensor, new_tensor
from ..primitives import reduce
from ..primitives.pointwise import astype, conj, equal, real, sqrt, square, where
from ..primitives.shape import concat
from .arguments import dtype_of, floating, floating_real, one_axis, public, reduced_axes, tensor_of

__all__ = [
    "cumulative_prod", "cumulative_sum", "logsumexp", "max", "mean", "min", "prod", "std", "sum", "var",
]  # fmt: skip

Axis = int | tuple[int, ...] | None


def _accumulator(x: Tensor, dtype: Any, name: str) -> Tensor:
    """x in the type it is added up in: at least 64 bits for integers."""
    if dtype is not None:
        wanted = dtype_of(dtype, name)
    elif x.dtype.kind in "bi":
        wanted = int64
    elif x.dtype.kind == "u":
        wanted = uint64
    else:
        return x
    return x if x.dtype == wanted else astype(x, dtype=wanted)


@public
def sum(x: Tensor, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """Sum of the elements over `axis`.

    Args:
        x: any shape; numeric or bool.
        axis: one axis or several; all of them if None.
        dtype: type to convert to before summing; integers are summed in 64 bits otherwise.
        keepdims: keep the summed axes with length 1.

    Returns:
        The sum, 0 where nothing is summed.

    Raises:
        ShapeError: an axis is out of range or given twice.
    """
    x = _accumulator(tensor_of(x, "sum"), dtype, "sum")
    return reduce.sum(x, axis=reduced_axes(axis, x.ndim, "sum"), keepdims=keepdims)


@public
def prod(x: Tensor, /, *, axis: Axis = None, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """Product of the elements over `axis`; arguments and types as in `sum`, 1 where nothing is multiplied.

    The gradient is the product of all other elements, right where some of them are 0.
    """
    x = _accumulator(tensor_of(x, "prod"), dtype, "prod")
    return reduce.prod(x, axis=reduced_axes(axis, x.ndim, "prod"), keepdims=keepdims)


@public
def mean(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Arithmetic mean over `axis`: the sum divided by the number of elements.

    Args:
        x: any shape; integers are converted to the default floating type.
        axis: one axis or several; all of them if None.
        keepdims: keep the reduced axes with length 1.

    Returns:
        The mean, of x's floating or complex type; NaN where there are no elements.

    Raises:
        ShapeError: an axis is out of range or given twice.
    """
    x = floating(x, "mean")
    return reduce.mean(x, axis=reduced_axes(axis, x.ndim, "mean"), keepdims=keepdims)


def _variance(x: Any, axis: Axis, correction: float, keepdims: bool, name: str) -> Tensor:
    x = floating(x, name)
    axes = reduced_axes(axis, x.ndim, name)
    deviation = x - reduce.mean(x, axis=axes, keepdims=True)
    squared = real(deviation * conj(deviation)) if x.dtype.kind == "c" else square(deviation)
    degrees = math.prod(x.shape[a] for a in axes) - float(correction)
    return reduce.sum(squared, axis=axes, keepdims=keepdims) / (degrees if degrees > 0 else 0.0)


@public
def var(x: Tensor, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """Variance over `axis`: the mean squared (absolute) deviation from the mean.

    Args:
        x: any shape; integers are converted to the default floating type.
        axis: one axis or several; all of them if None.
        correction: the sum is divided by n - correction: 0 for the population, 1 (Bessel's
            correction, PyTorch's default) for a sample.
        keepdims: keep the reduced axes with length 1.

    Returns:
        The variance, real; NaN or infinity where n - correction is not positive.

    Raises:
        ShapeError: an axis is out of range or given twice.
    """
    return _variance(x, axis, correction, keepdims, "var")


@public
def std(x: Tensor, /, *, axis: Axis = None, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """Standard deviation over `axis`, the square root of `var`; arguments as there.

    Where all elements are equal, it has no derivative; the gradient there is 0, as in PyTorch.
    """
    v = _variance(x, axis, correction, keepdims, "std")
    constant = equal(v, 0)
    return where(constant, 0.0, sqrt(where(constant, 1.0, v)))


def _ordered(x: Any, name: str) -> Tensor:
    x = tensor_of(x, name)
    if x.dtype.kind == "c":
        raise DTypeError(located(f"{name}: complex numbers have no order, got {x.dtype}"))
    return x


@public
def max(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Largest element over `axis`; NaN if there is one.

    Where several elements attain the maximum, they share the gradient evenly.

    Args:
        x: any shape; real.
        axis: one axis or several; all of them if None.
        keepdims: keep the reduced axes with length 1.

    Raises:
        ShapeError: there are no elements, or an axis is out of range or given twice.
        DTypeError: x is complex.
    """
    x = _ordered(x, "max")
    return reduce.max(x, axis=reduced_axes(axis, x.ndim, "max"), keepdims=keepdims)


@public
def min(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Smallest element over `axis`; everything else as in `max`."""
    x = _ordered(x, "min")
    return reduce.min(x, axis=reduced_axes(axis, x.ndim, "min"), keepdims=keepdims)


@public
def logsumexp(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """ln Σ exp(x) over `axis`, without overflow; -inf where there are no elements.

    Its derivative is softmax; 0 where all elements are -inf (PyTorch gives NaN there).

    Raises:
        ShapeError: an axis is out of range or given twice.
        DTypeError: x is complex.
    """
    x = floating_real(x, "logsumexp")
    return reduce.logsumexp(x, axis=reduced_axes(axis, x.ndim, "logsumexp"), keepdims=keepdims)


def _scan(x: Any, axis: int | None, dtype: Any, include_initial: bool, name: str) -> Tensor:
    x = tensor_of(x, name)
    if axis is None:
        if x.ndim != 1:
            raise ShapeError(located(f"{name}: give the axis of a tensor with {x.ndim} axes (shape {x.shape})"))
        axis = 0
    x = _accumulator(x, dtype, name)
    position = one_axis(axis, x.ndim, name)
    primitive, start = (reduce.cumulative_sum, 0) if name == "cumulative_sum" else (reduce.cumulative_prod, 1)
    y = primitive(x, axis=position)
    if include_initial:
        first = np.full((*x.shape[:position], 1, *x.shape[position + 1 :]), start, x.dtype)
        y = concat(new_tensor(first, None), y, axis=position)
    return y


@public
def cumulative_sum(
    x: Tensor, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Tensor:
    """Running sums along one axis: yᵢ = x₀ + … + xᵢ.

    Args:
        x: at least one axis.
        axis: may be left out for one axis only.
        dtype: type to convert to first; integers are summed in 64 bits otherwise.
        include_initial: begin with 0, which makes the axis one longer.

    Raises:
        ShapeError: the axis is missing or out of range.
    """
    return _scan(x, axis, dtype, include_initial, "cumulative_sum")


@public
def cumulative_prod(
    x: Tensor, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
) -> Tensor:
    """Running products along one axis: yᵢ = x₀ · … · xᵢ; arguments as in `cumulative_sum`, beginning with 1.

    The gradient is right where some elements are 0.
    """
    return _scan(x, axis, dtype, include_initial, "cumulative_prod")
