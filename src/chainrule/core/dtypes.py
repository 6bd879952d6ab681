"""Data types: NumPy's dtype objects under the names of the Array API standard.

What lives here besides the names is the default floating type (float32, as in
PyTorch) and how a Python scalar takes the type of the tensor it meets.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .errors import DTypeError, located

DType = np.dtype

bool_ = np.dtype("bool")
int8, int16, int32, int64 = (np.dtype(f"int{n}") for n in (8, 16, 32, 64))
uint8, uint16, uint32, uint64 = (np.dtype(f"uint{n}") for n in (8, 16, 32, 64))
float32, float64 = np.dtype("float32"), np.dtype("float64")
complex64, complex128 = np.dtype("complex64"), np.dtype("complex128")

SUPPORTED = frozenset(
    (bool_, int8, int16, int32, int64, uint8, uint16, uint32, uint64, float32, float64, complex64, complex128)
)

_COMPLEX_OF: dict[np.dtype, np.dtype] = {float32: complex64, float64: complex128}
_REAL_OF: dict[np.dtype, np.dtype] = {complex64: float32, complex128: float64}
_default = float32


def default_dtype() -> np.dtype:
    """The floating type of data given without one (float32 unless changed)."""
    return _default


def default_complex() -> np.dtype:
    """The complex type that goes with the default floating type."""
    return _COMPLEX_OF[_default]


def set_default_dtype(dtype: Any) -> None:
    """Make `dtype` (float32 or float64) the type of floating data given without one."""
    global _default
    wanted = as_dtype(dtype)
    if wanted not in _COMPLEX_OF:
        raise DTypeError(located(f"set_default_dtype: expected float32 or float64, got {wanted}"))
    _default = wanted


_PYTHON_TYPES = {bool: lambda: bool_, int: lambda: int64, float: default_dtype, complex: default_complex}


def as_dtype(dtype: Any) -> np.dtype:
    """A supported dtype from a dtype, a NumPy or Python type, or a name."""
    if dtype in _PYTHON_TYPES:
        return _PYTHON_TYPES[dtype]()
    try:
        found = np.dtype(dtype).newbyteorder("=")
    except TypeError as error:
        raise DTypeError(located(f"not a data type: {dtype!r}")) from error
    if found not in SUPPORTED:
        names = ", ".join(sorted(map(str, SUPPORTED)))
        raise DTypeError(located(f"data type {found} is not supported; supported: {names}"))
    return found


def real_dtype(dtype: np.dtype) -> np.dtype:
    """The type of the real part: float32 for complex64, `dtype` itself if it is real."""
    return _REAL_OF.get(dtype, dtype)


def complex_dtype(dtype: np.dtype) -> np.dtype:
    """The complex type of the same precision: complex64 for float32."""
    return _COMPLEX_OF.get(dtype, dtype)


def is_differentiable(dtype: np.dtype) -> bool:
    """Whether values of this type can carry a gradient (floating or complex)."""
    return dtype.kind in "fc"


def scalar_dtype(scalar: bool | int | float | complex, dtype: np.dtype) -> np.dtype:
    """The type a Python scalar takes beside a tensor of type `dtype`.

    The tensor's own type wherever the scalar's kind fits into it (Array API standard,
    "mixing arrays with Python scalars"); otherwise the default type of the scalar's kind.
    """
    kind = dtype.kind
    if isinstance(scalar, bool):
        return dtype
    if isinstance(scalar, int):
        return int64 if kind == "b" else dtype
    if isinstance(scalar, float):
        return dtype if kind in "fc" else _default
    return complex_dtype(dtype) if kind in "fc" else default_complex()
