"""Checking and normalising the arguments of the array functions: tensors, axes, shapes, devices.

Every message names the function, the shapes, and the standard's way where a habit from
PyTorch or NumPy was recognised.
"""

from __future__ import annotations

import functools
import operator
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np

from ..core.dtypes import as_dtype, default_dtype
from ..core.errors import ArgumentError, AxisError, DTypeError, OperationError, ShapeError, located
from ..core.tensor import Tensor, operand
from ..primitives.pointwise import astype

F = TypeVar("F", bound=Callable[..., Any])

_RENAMED = {
    "dim": "axis",
    "dims": "axis (axes for permute_dims, repetitions for tile)",
    "keepdim": "keepdims",
    "input": "the first argument, which has no name",
    "other": "the second argument, which has no name",
    "unbiased": "correction (0 or 1)",
    "ddof": "correction",
    "start_dim": "start_axis",
    "end_dim": "end_axis",
    "out": "no argument: tensors are values, use the result",
    "size": "shape",
}


def public(function: F) -> F:
    """Give a public function messages that recognise PyTorch's and NumPy's argument names."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TypeError as error:
            if type(error) is not TypeError:
                raise
            raise explained(error, function.__name__, kwargs) from None

    return call  # type: ignore[return-value]


def explained(error: TypeError, name: str, kwargs: Iterable[str]) -> TypeError:
    """The error for a call whose arguments do not fit the signature of `name`."""
    message = str(error)
    unexpected = re.search(r"unexpected keyword argument '(\w+)'", message)
    if unexpected:
        given = unexpected.group(1)
        hint = _RENAMED.get(given)
        advice = f"; the standard's name is {hint}" if hint else ""
        return ArgumentError(located(f"{name}: there is no argument {given!r}{advice}"))
    if re.search(r"takes .* positional arguments? but", message):
        advice = "a shape is one tuple, and options such as axis= are given by name"
        return ArgumentError(located(f"{name}: too many positional arguments; {advice}"))
    if "positional-only arguments passed as keyword" in message or "missing" in message:
        return ArgumentError(located(message.replace("()", "", 1)))
    return error


def tensor_of(x: Any, name: str) -> Tensor:
    """`x` itself if it is a tensor; NumPy arrays and numbers become one.

    Raises:
        DTypeError: `x` is anything else.
    """
    if isinstance(x, Tensor):
        return x
    found = operand(x, None)
    if found is NotImplemented:
        raise DTypeError(
            located(f"{name}: expected a tensor, got {type(x).__name__}; chainrule.asarray() makes one of it")
        )
    return found


def tensors_of(xs: Any, name: str) -> list[Tensor]:
    """The tensors in a tuple or list that is not empty."""
    if isinstance(xs, Tensor) or not isinstance(xs, tuple | list):
        raise DTypeError(located(f"{name}: expected a tuple or list of tensors, got {type(xs).__name__}"))
    if not xs:
        raise OperationError(located(f"{name}: there are no tensors to join"))
    return [tensor_of(x, name) for x in xs]


def floating(x: Any, name: str) -> Tensor:
    """`x` as a tensor that holds floating or complex numbers; others take the default type."""
    x = tensor_of(x, name)
    return x if x.dtype.kind in "fc" else astype(x, dtype=default_dtype())


def floating_real(x: Any, name: str) -> Tensor:
    """`x` as a tensor of real floating numbers."""
    x = floating(x, name)
    if x.dtype.kind == "c":
        raise DTypeError(located(f"{name}: not defined for complex numbers, got {x.dtype}"))
    return x


def integer(value: Any, name: str, what: str) -> int:
    """`value` as a Python integer; `what` says what it is for."""
    try:
        return operator.index(value)
    except TypeError:
        raise ArgumentError(located(f"{name}: {what} is an integer, got {value!r}")) from None


def one_axis(axis: Any, ndim: int, name: str) -> int:
    """One axis counted from the front.

    Raises:
        AxisError: there is no such axis.
        ArgumentError: `axis` is no integer.
    """
    position = integer(axis, name, "an axis")
    if not -ndim <= position < ndim:
        raise AxisError(located(f"{name}: axis {position} is out of range for {_axes(ndim)}"))
    return position + ndim if position < 0 else position


def _axes(ndim: int) -> str:
    if ndim == 0:
        return "a tensor without axes (0-d)"
    return f"a tensor with {ndim} {'axis' if ndim == 1 else 'axes'} ({-ndim} to {ndim - 1})"


def several_axes(axis: Any, ndim: int, name: str) -> tuple[int, ...]:
    """One axis or a tuple of them, counted from the front, in the order given; no axis twice."""
    if type(axis) is int and -ndim <= axis < ndim:
        return (axis + ndim if axis < 0 else axis,)
    given = axis if isinstance(axis, tuple | list) else (axis,)
    found = tuple(one_axis(a, ndim, name) for a in given)
    if len(set(found)) != len(found):
        raise AxisError(located(f"{name}: an axis occurs twice in {axis}"))
    return found


def reduced_axes(axis: Any, ndim: int, name: str) -> tuple[int, ...]:
    """The axes that a reduction runs over, sorted; all of them for None."""
    if axis is None:
        return tuple(range(ndim))
    axes = several_axes(axis, ndim, name)
    return axes if len(axes) < 2 else tuple(sorted(axes))


def shape_of(shape: Any, name: str) -> tuple[int, ...]:
    """A shape from one integer or a sequence of them, none negative."""
    lengths = shape if isinstance(shape, tuple | list) else (shape,)
    found = tuple(integer(n, name, "a length") for n in lengths)
    if any(n < 0 for n in found):
        raise ShapeError(located(f"{name}: a length cannot be negative, got shape {found}"))
    return found


def dtype_of(dtype: Any, name: str) -> np.dtype:
    """A supported data type."""
    try:
        return as_dtype(dtype)
    except DTypeError as error:
        raise DTypeError(located(f"{name}: {error}")) from None


def check_device(device: Any, name: str) -> None:
    """Accept the one device there is."""
    if device is not None and str(device) != "cpu":
        raise OperationError(located(f'{name}: the only device is "cpu", got {device!r}'))
