"""What the functions of `nn.functional` share: checks of their arguments, reductions, constants."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ...core.errors import DTypeError, IndexingError, OperationError, ShapeError, located
from ...core.node import Interpreted
from ...core.tensor import Tensor, constant, new_tensor, to_array
from ...primitives import reduce
from ...primitives.index import index
from ...primitives.pointwise import where
from ...primitives.shape import reshape


def floating(x: Any, name: str) -> Tensor:
    """`x` if it is a floating tensor (arrays become tensors); an error that says what it is otherwise.

    Raises:
        DTypeError: `x` is no tensor, or an integer or boolean one.
    """
    if not isinstance(x, Tensor):
        if not isinstance(x, np.ndarray | np.generic):
            raise DTypeError(located(f"{name}: expected a tensor, got {type(x).__name__}"))
        x = new_tensor(to_array(x), None)
    if x._value.dtype.kind not in "fc":
        raise DTypeError(
            located(
                f"{name}: needs a floating tensor, got {x.dtype}{list(x.shape)}; convert it with x.astype('float32')"
            )
        )
    return x


def axis_of(dim: Any, ndim: int, name: str) -> int:
    """`dim` as an axis that is not negative.

    Raises:
        IndexingError: there is no such axis.
    """
    try:
        axis = operator.index(dim)
    except TypeError:
        raise DTypeError(located(f"{name}: dim is an integer, got {dim!r}")) from None
    if not -ndim <= axis < ndim:
        raise IndexingError(located(f"{name}: dim {axis} is out of range for a tensor with {ndim} axes"))
    return axis % ndim


def number(value: float, like: Tensor) -> Tensor:
    """A Python number as a 0-d tensor of the data type of `like`."""
    return constant(value, like._value.dtype)


def select(condition: Tensor, x: Any, y: Any, like: Tensor) -> Tensor:
    """`where(condition, x, y)`; numbers among x and y take the data type of `like`."""
    if not isinstance(x, Tensor):
        x = number(x, like)
    if not isinstance(y, Tensor):
        y = number(y, like)
    return where(condition, x, y)


def at_least_zero(x: Tensor) -> Tensor:
    """max(x, 0) with derivative 1 at 0, as PyTorch's clamp(min=0)."""
    return select(x < 0, 0.0, x, x)


def take(x: Tensor, axis: int, start: int, stop: int) -> Tensor:
    """The slice start:stop along one axis."""
    return index(
        x, pattern=tuple(("s", start, stop, 1) if d == axis else ("s", 0, n, 1) for d, n in enumerate(x.shape))
    )


def take_rows(x: Tensor, rows: np.ndarray) -> Tensor:
    """x[rows] along the first axis, for rows that the caller has checked."""
    whole = (("s", 0, n, 1) for n in x.shape[1:])
    return index(x, new_tensor(rows, None), pattern=(("a", 0), *whole))


def total(x: Tensor, axis: tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
    """The sum over some axes, all by default."""
    return reduce.sum(x, axis=tuple(range(x.ndim)) if axis is None else axis, keepdims=keepdims)


def mean(x: Tensor, axis: tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
    """The arithmetic mean over some axes, all by default; NaN of nothing."""
    shape = x.shape
    count = x.size if axis is None else 1
    for d in axis or ():
        count *= shape[d]
    return total(x, axis, keepdims) * (1.0 / count if count else float("nan"))


def reduction_of(reduction: str, size_average: bool | None = None, reduce: bool | None = None) -> str:
    """The reduction that PyTorch's older arguments `size_average` and `reduce` mean, if they are given."""
    if size_average is None and reduce is None:
        return reduction
    if reduce is False:
        return "none"
    return "sum" if size_average is False else "mean"


def reduced(loss: Tensor, reduction: str, name: str) -> Tensor:
    """The mean or the sum of a loss, or the loss itself.

    Raises:
        OperationError: `reduction` is none of "none", "mean", "sum".
    """
    if reduction == "mean":
        return mean(loss)
    if reduction == "sum":
        return total(loss)
    if reduction == "none":
        return loss
    raise OperationError(located(f"{name}: reduction is 'none', 'mean' or 'sum', got {reduction!r}"))


def expand(x: Tensor, axis: int) -> Tensor:
    """`x` with a new axis of length 1."""
    shape = x.shape
    return reshape(x, shape=(*shape[:axis], 1, *shape[axis:]))


def concrete(x: Tensor) -> np.ndarray | None:
    """The numbers of `x` for a check of its values; None inside a transformation, which has none."""
    value = x._value
    return None if isinstance(value, Interpreted) else x._array("checking values")


def on_numbers(x: Tensor, y: Tensor) -> bool:
    """Whether both values are arrays, none of them a transformation's."""
    return type(x._value) is type(y._value) is np.ndarray


def beyond(indices: np.ndarray, count: int) -> bool:
    """Whether any integer lies outside 0 … count - 1, in one pass: a negative one is huge without its sign."""
    if not indices.size:
        return False
    if indices.dtype.kind == "i":
        indices = indices.view(f"u{indices.dtype.itemsize}")
    return int(np.maximum.reduce(indices, axis=None)) >= count


def positions(count: int) -> Tensor:
    """0 … count - 1 as int64."""
    return new_tensor(np.arange(count), None)


def same_shape(x: Tensor, y: Tensor, name: str, what: str = "target") -> None:
    """Raise a ShapeError unless the shapes are equal."""
    if x.shape != y.shape:
        raise ShapeError(located(f"{name}: input of shape {x.shape} and {what} of shape {y.shape} must be equal"))
