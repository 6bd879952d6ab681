"""Tensors from Python data, from other libraries, and from a shape."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np

from ..core.dtypes import default_complex, default_dtype, int64
from ..core.errors import ArgumentError, DTypeError, OperationError, ShapeError, located
from ..core.tensor import Tensor, new_tensor, to_array
from ..primitives import shape as p
from ..primitives.pointwise import astype, where
from .arguments import check_device, dtype_of, integer, public, shape_of, tensor_of

__all__ = [
    "arange", "asarray", "empty", "empty_like", "eye", "from_dlpack", "full", "full_like", "linspace", "meshgrid",
    "ones", "ones_like", "tensor", "tril", "triu", "zeros", "zeros_like",
]  # fmt: skip


@public
def tensor(data: Any, dtype: Any = None, requires_grad: bool = False) -> Tensor:
    """A new tensor with a copy of `data`.

    Args:
        data: a number, nested lists or tuples of numbers, an array or a tensor.
        dtype: element type; otherwise that of the data, float32 for Python floats (see
            `set_default_dtype`) and int64 for Python integers.
        requires_grad: compute gradients with respect to it.

    Raises:
        ShapeError: nested lists are ragged.
        DTypeError: the data are no numbers or do not fit `dtype`.
    """
    return Tensor(data, None if dtype is None else dtype_of(dtype, "tensor"), requires_grad)


@public
def asarray(obj: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Tensor:
    """`obj` as a tensor: itself if it is one already, otherwise as in `tensor`.

    Args:
        obj: a tensor, array, buffer, number or nested sequence of numbers.
        dtype: element type.
        device: None or "cpu".
        copy: True for a new tensor in any case; False to share memory or raise. Memory that
            is shared with a NumPy array must not be written to while the tensor is in use.

    Raises:
        OperationError: copy=False, but a copy is needed.
        ShapeError, DTypeError: as in `tensor`.
    """
    check_device(device, "asarray")
    wanted = None if dtype is None else dtype_of(dtype, "asarray")
    if isinstance(obj, Tensor):
        if wanted is None or wanted == obj.dtype:
            return astype(obj, dtype=obj.dtype) if copy else obj
        if copy is False:
            raise OperationError(located(f"asarray: a copy is needed to convert {obj.dtype} to {wanted}"))
        return astype(obj, dtype=wanted)
    if copy is False:
        return new_tensor(_shared(obj, wanted), None)
    return Tensor(obj, wanted)


def _shared(obj: Any, dtype: np.dtype | None) -> np.ndarray:
    if not isinstance(obj, np.ndarray | memoryview | bytearray | bytes) and not hasattr(obj, "__array_interface__"):
        raise OperationError(located(f"asarray: {type(obj).__name__} has no memory to share; leave out copy=False"))
    array = np.asarray(obj)
    if dtype_of(array.dtype, "asarray") != (dtype or array.dtype) or not array.dtype.isnative:
        raise OperationError(located(f"asarray: a copy is needed to convert {array.dtype} to {dtype}"))
    return array


@public
def from_dlpack(x: Any, /, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor from another library's array, through the DLPack protocol, without a copy where possible.

    Args:
        x: an object with `__dlpack__` and `__dlpack_device__`, on the CPU.
        device: None or "cpu".
        copy: True to copy, False to share memory or raise BufferError.

    Raises:
        ArgumentError: x does not speak the protocol.
        BufferError: its memory cannot be shared.
    """
    check_device(device, "from_dlpack")
    if not hasattr(x, "__dlpack__"):
        raise ArgumentError(located(f"from_dlpack: {type(x).__name__} has no __dlpack__"))
    array = np.from_dlpack(x, copy=copy)
    dtype_of(array.dtype, "from_dlpack")
    return new_tensor(array, None)


def _filled(
    shape: Any, value: Any, dtype: Any, device: Any, requires_grad: bool, name: str, default: np.dtype
) -> Tensor:
    check_device(device, name)
    wanted = default if dtype is None else dtype_of(dtype, name)
    lengths = shape_of(shape, name)
    try:
        array = np.zeros(lengths, wanted) if value == 0 and not isinstance(value, Tensor) else None
        if array is None or (isinstance(value, float) and math.copysign(1, value) < 0):
            array = np.full(lengths, value, wanted)
    except OverflowError:
        raise DTypeError(located(f"{name}: {value!r} does not fit into {wanted}")) from None
    except ValueError as error:
        raise ShapeError(located(f"{name}: {error} (shape {lengths})")) from None
    made = new_tensor(array, None)
    return made.requires_grad_() if requires_grad else made


@public
def zeros(
    shape: int | tuple[int, ...], *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor of zeros, of the default floating type unless `dtype` says otherwise.

    Raises:
        ShapeError: a length is negative.
    """
    return _filled(shape, 0, dtype, device, requires_grad, "zeros", default_dtype())


@public
def ones(shape: int | tuple[int, ...], *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of ones, of the default floating type unless `dtype` says otherwise.

    Raises:
        ShapeError: a length is negative.
    """
    return _filled(shape, 1, dtype, device, requires_grad, "ones", default_dtype())


@public
def empty(
    shape: int | tuple[int, ...], *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """A tensor whose values do not matter; here zeros, so that every run is the same."""
    return _filled(shape, 0, dtype, device, requires_grad, "empty", default_dtype())


@public
def full(
    shape: int | tuple[int, ...],
    fill_value: bool | int | float | complex | Tensor,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """A tensor that holds one number everywhere, of the number's (default) type unless `dtype` is given.

    Raises:
        ShapeError: a length is negative.
        DTypeError: the number does not fit `dtype`.
    """
    if isinstance(fill_value, Tensor) and fill_value.ndim == 0:
        value = fill_value if dtype is None else astype(fill_value, dtype=dtype_of(dtype, "full"))
        check_device(device, "full")
        return p.broadcast_to(value, shape=shape_of(shape, "full"))
    if not isinstance(fill_value, bool | int | float | complex | np.generic):
        raise DTypeError(located(f"full: the value is a number, got {type(fill_value).__name__}"))
    return _filled(shape, fill_value, dtype, device, requires_grad, "full", to_array(fill_value).dtype)


@public
def zeros_like(x: Tensor, /, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Zeros of x's shape, and of its type unless `dtype` is given."""
    x = tensor_of(x, "zeros_like")
    return _filled(x.shape, 0, dtype, device, requires_grad, "zeros_like", x.dtype)


@public
def ones_like(x: Tensor, /, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """Ones of x's shape, and of its type unless `dtype` is given."""
    x = tensor_of(x, "ones_like")
    return _filled(x.shape, 1, dtype, device, requires_grad, "ones_like", x.dtype)


@public
def empty_like(x: Tensor, /, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A tensor of x's shape (and type) whose values do not matter; here zeros."""
    x = tensor_of(x, "empty_like")
    return _filled(x.shape, 0, dtype, device, requires_grad, "empty_like", x.dtype)


@public
def full_like(
    x: Tensor, /, fill_value: bool | int | float | complex, *, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """One number everywhere, in x's shape, and of its type unless `dtype` is given."""
    x = tensor_of(x, "full_like")
    return _filled(x.shape, fill_value, dtype, device, requires_grad, "full_like", x.dtype)


@public
def arange(
    start: int | float, /, stop: int | float | None = None, step: int | float = 1, *, dtype: Any = None,
    device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """The numbers start, start + step, … below `stop`; from 0 for one argument.

    Args:
        start, stop, step: bounds and distance; the type is int64 if all are integers and
            the default floating type otherwise.
        dtype: element type.

    Returns:
        A 1-d tensor of ⌈(stop - start) / step⌉ elements, none if that is negative.

    Raises:
        OperationError: the step is 0, or a bound is infinite or NaN.
    """
    check_device(device, "arange")
    if stop is None:
        start, stop = 0, start
    bounds = [n.item() if isinstance(n, Tensor | np.generic) else n for n in (start, stop, step)]
    if not all(isinstance(n, int | float) for n in bounds):
        raise ArgumentError(located(f"arange: start, stop and step are real numbers, got {bounds}"))
    if bounds[2] == 0 or not all(math.isfinite(n) for n in bounds):
        raise OperationError(located(f"arange: no such range: start {bounds[0]}, stop {bounds[1]}, step {bounds[2]}"))
    whole = all(isinstance(n, int) for n in bounds)
    wanted = (int64 if whole else default_dtype()) if dtype is None else dtype_of(dtype, "arange")
    array = np.arange(*bounds, dtype=None if wanted.kind in "fc" else wanted).astype(wanted, copy=False)
    made = new_tensor(array, None)
    return made.requires_grad_() if requires_grad else made


@public
def linspace(
    start: int | float | complex, stop: int | float | complex, /, num: int, *, dtype: Any = None,
    device: Any = None, endpoint: bool = True, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """`num` numbers at equal distances from `start` to `stop`.

    Args:
        start, stop: the bounds.
        num: how many numbers.
        dtype: element type; the default floating (complex) type if left out.
        endpoint: whether `stop` is the last number; it is left out otherwise.

    Raises:
        OperationError: `num` is negative.
    """
    check_device(device, "linspace")
    count = integer(num, "linspace", "num")
    if count < 0:
        raise OperationError(located(f"linspace: num is negative: {count}"))
    first, last = (n.item() if isinstance(n, Tensor | np.generic) else n for n in (start, stop))
    is_complex = isinstance(first, complex) or isinstance(last, complex)
    default = default_complex() if is_complex else default_dtype()
    wanted = default if dtype is None else dtype_of(dtype, "linspace")
    made = new_tensor(np.linspace(first, last, count, endpoint=endpoint).astype(wanted), None)
    return made.requires_grad_() if requires_grad else made


@public
def eye(
    n_rows: int, n_cols: int | None = None, /, *, k: int = 0, dtype: Any = None, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """A matrix with ones on the k-th diagonal (above the main one for k > 0) and zeros elsewhere.

    Raises:
        ShapeError: a number of rows or columns is negative.
    """
    check_device(device, "eye")
    rows, columns = shape_of((n_rows, n_rows if n_cols is None else n_cols), "eye")
    wanted = default_dtype() if dtype is None else dtype_of(dtype, "eye")
    diagonal = np.clip(integer(k, "eye", "k"), -rows, columns)
    made = new_tensor(np.eye(rows, columns, k=int(diagonal), dtype=wanted), None)
    return made.requires_grad_() if requires_grad else made


def _triangle(x: Any, k: int, lower: bool, name: str) -> Tensor:
    x = tensor_of(x, name)
    if x.ndim < 2:
        raise ShapeError(located(f"{name}: needs at least 2 axes, got shape {x.shape}"))
    rows, columns = x.shape[-2:]
    diagonal = int(np.clip(integer(k, name, "k"), -rows - 1, columns + 1))
    keeps = np.tri(rows, columns, diagonal if lower else diagonal - 1, dtype=bool)
    zero = new_tensor(np.zeros((), x.dtype), None)
    return where(new_tensor(keeps if lower else ~keeps, None), x, zero)


@public
def tril(x: Tensor, /, *, k: int = 0) -> Tensor:
    """The lower triangle of each matrix, up to and with the k-th diagonal; zeros elsewhere.

    Raises:
        ShapeError: x has fewer than 2 axes.
    """
    return _triangle(x, k, True, "tril")


@public
def triu(x: Tensor, /, *, k: int = 0) -> Tensor:
    """The upper triangle of each matrix, from the k-th diagonal on; zeros elsewhere.

    Raises:
        ShapeError: x has fewer than 2 axes.
    """
    return _triangle(x, k, False, "triu")


@public
def meshgrid(*arrays: Tensor, indexing: Literal["xy", "ij"] = "xy") -> list[Tensor]:
    """Coordinate grids of n 1-d tensors: each one spread over the n-dimensional grid.

    Args:
        arrays: 1-d tensors of the coordinates along each axis.
        indexing: "ij" puts the i-th tensor along axis i; "xy" exchanges the first two axes.

    Raises:
        ShapeError: a tensor is not 1-d.
        ArgumentError: `indexing` is neither "xy" nor "ij".
    """
    if indexing not in ("xy", "ij"):
        raise ArgumentError(located(f'meshgrid: indexing is "xy" or "ij", got {indexing!r}'))
    xs = [tensor_of(x, "meshgrid") for x in arrays]
    for x in xs:
        if x.ndim > 1:
            raise ShapeError(located(f"meshgrid: coordinates are 1-d, got shape {x.shape}"))
    places = list(range(len(xs)))
    if indexing == "xy" and len(xs) > 1:
        places[:2] = [1, 0]
    shape = [0] * len(xs)
    for x, place in zip(xs, places, strict=True):
        shape[place] = x.size
    return [
        p.broadcast_to(
            p.reshape(x, shape=tuple(x.size if d == place else 1 for d in range(len(xs)))), shape=tuple(shape)
        )
        for x, place in zip(xs, places, strict=True)
    ]
