"""Questions about data types, and conversion between them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ..core import dtypes
from ..core.errors import ArgumentError, DTypeError, located
from ..core.tensor import Tensor
from ..primitives import pointwise as p
from .arguments import check_device, dtype_of, public, tensor_of

__all__ = ["astype", "can_cast", "finfo", "iinfo", "isdtype", "result_type"]


@public
def astype(x: Tensor, dtype: Any, /, *, copy: bool = True, device: Any = None) -> Tensor:
    """x converted to another data type.

    Args:
        x: any shape.
        dtype: the wanted type. Floats lose their fraction where it is an integer type.
        copy: False gives x itself back if it has that type already.
        device: None or "cpu".

    Raises:
        DTypeError: x is complex and `dtype` is not; take `real(x)` or `imag(x)` first.
    """
    x = tensor_of(x, "astype")
    check_device(device, "astype")
    wanted = dtype_of(dtype, "astype")
    if x.dtype.kind == "c" and wanted.kind not in "cb":
        raise DTypeError(located(f"astype: {x.dtype} has no {wanted} value; take real(x), imag(x) or abs(x) first"))
    if not copy and wanted == x.dtype:
        return x
    if x.dtype.kind == "c" and wanted.kind == "b":
        return p.not_equal(x, 0)
    return p.astype(x, dtype=wanted)


def _kind_of(x: Any, name: str) -> np.dtype:
    return x.dtype if isinstance(x, Tensor) else dtype_of(x, name)


@public
def can_cast(from_: Any, to: Any, /) -> bool:
    """Whether every value of one type (or of a tensor's type) fits another, by the promotion rules."""
    return bool(np.can_cast(_kind_of(from_, "can_cast"), dtype_of(to, "can_cast")))


class FloatInfo(NamedTuple):
    """What `finfo` tells of a floating type (of the real part of a complex one).

    Attributes:
        bits: size in bits.
        eps: distance from 1 to the next larger number.
        max: largest finite number.
        min: smallest (most negative) finite number.
        smallest_normal: smallest positive number of full precision.
        dtype: the type described.
    """

    bits: int
    eps: float
    max: float
    min: float
    smallest_normal: float
    dtype: np.dtype


class IntegerInfo(NamedTuple):
    """What `iinfo` tells of an integer type: size in bits, largest and smallest number, the type."""

    bits: int
    max: int
    min: int
    dtype: np.dtype


@public
def finfo(type: Any, /) -> FloatInfo:
    """Limits of a floating or complex type, or of a tensor's. Raises DTypeError for other types."""
    dtype = dtypes.real_dtype(_kind_of(type, "finfo"))
    if dtype.kind != "f":
        raise DTypeError(located(f"finfo: {dtype} is no floating type; see iinfo"))
    info = np.finfo(dtype)
    return FloatInfo(
        int(info.bits), float(info.eps), float(info.max), float(info.min), float(info.smallest_normal), dtype
    )


@public
def iinfo(type: Any, /) -> IntegerInfo:
    """Limits of an integer type, or of a tensor's. Raises DTypeError for other types."""
    dtype = _kind_of(type, "iinfo")
    if dtype.kind not in "iu":
        raise DTypeError(located(f"iinfo: {dtype} is no integer type; see finfo"))
    info = np.iinfo(dtype)
    return IntegerInfo(int(info.bits), int(info.max), int(info.min), dtype)


_KINDS = {
    "bool": "b", "signed integer": "i", "unsigned integer": "u", "integral": "iu", "real floating": "f",
    "complex floating": "c", "numeric": "iufc",
}  # fmt: skip


@public
def isdtype(dtype: Any, kind: Any) -> bool:
    """Whether a data type is of a kind.

    Args:
        dtype: the type asked about.
        kind: a type; a name ("bool", "signed integer", "unsigned integer", "integral",
            "real floating", "complex floating", "numeric"); or a tuple of these, any of which
            may hold.

    Raises:
        ArgumentError: there is no kind of that name.
    """
    if isinstance(kind, tuple):
        return any(isdtype(dtype, k) for k in kind)
    wanted = dtype_of(dtype, "isdtype")
    if isinstance(kind, str):
        if kind not in _KINDS:
            raise ArgumentError(located(f"isdtype: no kind {kind!r}; there are " + ", ".join(_KINDS)))
        return wanted.kind in _KINDS[kind]
    return wanted == dtype_of(kind, "isdtype")


@public
def result_type(*arrays_and_dtypes: Any) -> np.dtype:
    """The type of a computation with these operands, by NumPy's promotion of types.

    Python numbers take the type of the tensors beside them if their kind fits into it.

    Raises:
        ArgumentError: there is neither a tensor nor a data type among the operands.
    """
    numbers = [a for a in arrays_and_dtypes if type(a) in (bool, int, float, complex)]
    kinds = [
        a.dtype if isinstance(a, Tensor | np.ndarray | np.generic) else dtype_of(a, "result_type")
        for a in arrays_and_dtypes
        if type(a) not in (bool, int, float, complex)
    ]
    if not kinds:
        raise ArgumentError(located("result_type: give at least one tensor or data type"))
    dtype = np.result_type(*kinds)
    for number in numbers:
        dtype = dtypes.scalar_dtype(number, dtype)
    return dtype
