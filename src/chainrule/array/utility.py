"""Tests over axes, differences, comparison within a tolerance."""

from __future__ import annotations

from typing import Any

from ..core.errors import OperationError, located
from ..core.tensor import Tensor
from ..primitives import pointwise as p
from ..primitives import reduce
from .arguments import integer, one_axis, public, reduced_axes, tensor_of
from .elementwise import paired
from .manipulation import concat, part, same

__all__ = ["all", "allclose", "any", "diff", "isclose"]

Axis = int | tuple[int, ...] | None


@public
def all(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether all elements over `axis` are true (not 0); true where there are none.

    Raises:
        ShapeError: an axis is out of range or given twice.
    """
    x = tensor_of(x, "all")
    return reduce.all(x, axis=reduced_axes(axis, x.ndim, "all"), keepdims=keepdims)


@public
def any(x: Tensor, /, *, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Whether some element over `axis` is true (not 0); false where there are none.

    Raises:
        ShapeError: an axis is out of range or given twice.
    """
    x = tensor_of(x, "any")
    return reduce.any(x, axis=reduced_axes(axis, x.ndim, "any"), keepdims=keepdims)


@public
def diff(
    x: Tensor, /, *, axis: int = -1, n: int = 1, prepend: Tensor | None = None, append: Tensor | None = None
) -> Tensor:
    """Differences of neighbours along one axis, `n` times over: yᵢ = xᵢ₊₁ - xᵢ.

    Args:
        x: at least one axis.
        axis: the axis along which elements are neighbours.
        n: how often.
        prepend, append: elements to put before and behind x first.

    Raises:
        ShapeError: the axis is out of range, or what is joined does not fit.
        OperationError: n is negative.
    """
    x = tensor_of(x, "diff")
    d = one_axis(axis, x.ndim, "diff")
    times = integer(n, "diff", "n")
    if times < 0:
        raise OperationError(located(f"diff: n is negative: {times}"))
    if prepend is not None or append is not None:
        x = concat([t for t in (prepend, x, append) if t is not None], axis=d)
    y = same(x)
    for _ in range(times):
        length = y.shape[d]
        upper, lower = part(y, d, min(1, length), length), part(y, d, 0, max(length - 1, 0))
        y = p.not_equal(upper, lower) if y.dtype.kind == "b" else upper - lower
    return y


@public
def isclose(x1: Any, x2: Any, /, *, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Whether |x1 - x2| ≤ atol + rtol |x2|, element by element; infinities are close to themselves.

    Raises:
        ShapeError: the shapes do not broadcast.
    """
    a, b = paired(x1, x2, "isclose")
    near = p.less_equal(p.abs(a - b), atol + rtol * p.abs(b))
    close = p.logical_or(p.equal(a, b), p.logical_and(near, p.logical_and(p.isfinite(a), p.isfinite(b))))
    if equal_nan:
        close = p.logical_or(close, p.logical_and(p.isnan(a), p.isnan(b)))
    return close


@public
def allclose(x1: Any, x2: Any, /, *, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all elements are close in the sense of `isclose`."""
    return bool(all(isclose(x1, x2, rtol=rtol, atol=atol, equal_nan=equal_nan)))
