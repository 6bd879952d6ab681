"""The `fft` extension of the Array API standard 2024.12: discrete Fourier transforms.

Every transform is linear, so its gradient is the transform the other way. Precision is
kept: float32 gives complex64. Arguments that all transforms share:

    n, s: number of points along the axis, or one number per axis: the input is cut, or
        padded with zeros, to that length (-1 in `s` leaves it). For the inverse of a real
        transform, the length of the output.
    axis, axes: the axes to transform, the last or all of them if left out; where only `s`
        is given, the last len(s).
    norm: "backward" scales the inverse by 1/n, "forward" the forward transform, "ortho" both
        by 1/√n, which makes them unitary.

They raise ShapeError for an axis that does not exist or a length below 1, DTypeError for a
type that a transform does not take, and OperationError for another `norm`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.dtypes import complex_dtype, default_dtype
from ..core.errors import DTypeError, OperationError, ShapeError, located
from ..core.tensor import Tensor, new_tensor
from ..primitives import fft as p
from ..primitives import shape
from ..primitives.pointwise import astype, conj
from .arguments import check_device, dtype_of, floating, floating_real, integer, public, several_axes, tensor_of
from .manipulation import part, roll

__all__ = [
    "fft", "fftfreq", "fftn", "fftshift", "hfft", "ifft", "ifftn", "ifftshift", "ihfft", "irfft", "irfftn", "rfft",
    "rfftfreq", "rfftn",
]  # fmt: skip


@public
def fft(x: Tensor, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """y[k] = Σ_j x[j] exp(-2πi jk/n) along one axis; complex. Real input is converted."""
    return _complex_transform("fft", x, None if n is None else (n,), (axis,), norm, inverse=False)


@public
def ifft(x: Tensor, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The inverse of `fft`: y[j] = 1/n Σ_k x[k] exp(2πi jk/n); complex."""
    return _complex_transform("ifft", x, None if n is None else (n,), (axis,), norm, inverse=True)


@public
def fftn(
    x: Tensor, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str = "backward"
) -> Tensor:
    """`fft` along several axes."""
    return _complex_transform("fftn", x, s, axes, norm, inverse=False)


@public
def ifftn(
    x: Tensor, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str = "backward"
) -> Tensor:
    """The inverse of `fftn`."""
    return _complex_transform("ifftn", x, s, axes, norm, inverse=True)


@public
def rfft(x: Tensor, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The first n // 2 + 1 points of the `fft` of a real signal; the others are their conjugates."""
    return _real_transform("rfft", x, None if n is None else (n,), (axis,), norm)


@public
def irfft(x: Tensor, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The inverse of `rfft`: n real points, 2 (m - 1) for m coefficients if n is left out."""
    return _inverse_real_transform("irfft", x, None if n is None else (n,), (axis,), norm)


@public
def rfftn(
    x: Tensor, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str = "backward"
) -> Tensor:
    """`rfft` along the last of the axes, then `fft` along the others."""
    return _real_transform("rfftn", x, s, axes, norm)


@public
def irfftn(
    x: Tensor, /, *, s: Sequence[int] | None = None, axes: Sequence[int] | None = None, norm: str = "backward"
) -> Tensor:
    """The inverse of `rfftn`: real."""
    return _inverse_real_transform("irfftn", x, s, axes, norm)


@public
def hfft(x: Tensor, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The `fft`, which is real, of a signal with x[-j] = conj(x[j]), given by its first n // 2 + 1 points."""
    _check_norm("hfft", norm)
    x = conj(_as_complex(x, "hfft"))
    return _inverse_real_transform("hfft", x, None if n is None else (n,), (axis,), p.OPPOSITE[norm])


@public
def ihfft(x: Tensor, /, *, n: int | None = None, axis: int = -1, norm: str = "backward") -> Tensor:
    """The inverse of `hfft`: the first n // 2 + 1 points of the `ifft` of a real signal."""
    _check_norm("ihfft", norm)
    return conj(_real_transform("ihfft", x, None if n is None else (n,), (axis,), p.OPPOSITE[norm]))


@public
def fftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Tensor:
    """The frequency of every point of `fft`: [0, 1, …, (n-1)//2, -(n//2), …, -1] / (n d).

    Args:
        n: number of points.
        d: distance of the samples.
        dtype: real floating type, the default type if left out.
        device: None or "cpu".
    """
    n, kind = _frequency_arguments("fftfreq", n, dtype, device)
    counts = (np.arange(n) + n // 2) % n - n // 2
    return new_tensor((counts / (n * d)).astype(kind), None)


@public
def rfftfreq(n: int, /, *, d: float = 1.0, dtype: Any = None, device: Any = None) -> Tensor:
    """The frequency of every point of `rfft`: [0, 1, …, n//2] / (n d). Arguments as in `fftfreq`."""
    n, kind = _frequency_arguments("rfftfreq", n, dtype, device)
    return new_tensor((np.arange(n // 2 + 1) / (n * d)).astype(kind), None)


def _frequency_arguments(name: str, n: Any, dtype: Any, device: Any) -> tuple[int, np.dtype]:
    check_device(device, name)
    n = integer(n, name, "the number of points")
    if n < 1:
        raise ShapeError(located(f"{name}: needs at least 1 point, got {n}"))
    kind = default_dtype() if dtype is None else dtype_of(dtype, name)
    if kind.kind != "f":
        raise DTypeError(located(f"{name}: frequencies are real floating numbers, got dtype {kind}"))
    return n, kind


@public
def fftshift(x: Tensor, /, *, axes: int | Sequence[int] | None = None) -> Tensor:
    """Move frequency 0 from the front to the middle of each of the axes (all if None)."""
    return _shifted("fftshift", x, axes, 1)


@public
def ifftshift(x: Tensor, /, *, axes: int | Sequence[int] | None = None) -> Tensor:
    """The inverse of `fftshift`; they differ for odd lengths."""
    return _shifted("ifftshift", x, axes, -1)


def _shifted(name: str, x: Any, axes: Any, direction: int) -> Tensor:
    x = tensor_of(x, name)
    chosen = tuple(range(x.ndim)) if axes is None else several_axes(axes, x.ndim, name)
    return roll(x, tuple(direction * (x.shape[a] // 2) for a in chosen), axis=chosen) if chosen else x


def _check_norm(name: str, norm: Any) -> None:
    if not isinstance(norm, str) or norm not in p.OPPOSITE:
        raise OperationError(located(f"{name}: norm is 'backward', 'ortho' or 'forward', got {norm!r}"))


def _as_complex(x: Any, name: str) -> Tensor:
    x = floating(x, name)
    return x if x.dtype.kind == "c" else astype(x, dtype=complex_dtype(x.dtype))


def _lengths_and_axes(name: str, x: Tensor, s: Any, axes: Any) -> tuple[list[int | None], tuple[int, ...]]:
    """The wanted length (None: as it is) of every axis to transform, and these axes."""
    if s is not None and not isinstance(s, tuple | list):
        raise OperationError(located(f"{name}: s is a sequence of lengths, one per axis, got {s!r}"))
    if axes is not None:
        chosen = several_axes(axes, x.ndim, name)
    else:
        count = x.ndim if s is None else len(s)
        if count > x.ndim:
            raise ShapeError(located(f"{name}: {count} lengths for a tensor of shape {x.shape}"))
        chosen = tuple(range(x.ndim - count, x.ndim))
    if s is None:
        return [None] * len(chosen), chosen
    if len(s) != len(chosen):
        raise ShapeError(located(f"{name}: {len(s)} lengths for {len(chosen)} axes"))
    lengths = [integer(n, name, "a length") for n in s]
    if any(n < 1 and n != -1 for n in lengths):
        raise ShapeError(located(f"{name}: a transform needs at least 1 point, got {s}"))
    return [None if n == -1 else n for n in lengths], chosen


def _resized(x: Tensor, axis: int, n: int | None) -> Tensor:
    """x cut, or padded with zeros, to n points along an axis."""
    length = x.shape[axis]
    if n is None or n == length:
        return x
    if n < length:
        return part(x, axis, 0, n)
    return shape.pad(x, widths=tuple((0, n - length if d == axis else 0) for d in range(x.ndim)))


def _complex_transform(name: str, x: Any, s: Any, axes: Any, norm: str, *, inverse: bool) -> Tensor:
    _check_norm(name, norm)
    x = _as_complex(x, name)
    lengths, chosen = _lengths_and_axes(name, x, s, axes)
    for axis, n in zip(chosen, lengths, strict=True):
        x = _resized(x, axis, n)
    return p.fft(x, axes=chosen, inverse=inverse, norm=norm) if chosen else x


def _real_transform(name: str, x: Any, s: Any, axes: Any, norm: str) -> Tensor:
    _check_norm(name, norm)
    x = floating_real(x, name)
    lengths, chosen = _lengths_and_axes(name, x, s, axes)
    _require_axes(name, chosen)
    for axis, n in zip(chosen, lengths, strict=True):
        x = _resized(x, axis, n)
    y = p.rfft(x, axis=chosen[-1], norm=norm)
    return p.fft(y, axes=chosen[:-1], inverse=False, norm=norm) if chosen[1:] else y


def _inverse_real_transform(name: str, x: Any, s: Any, axes: Any, norm: str) -> Tensor:
    _check_norm(name, norm)
    x = _as_complex(x, name)
    lengths, chosen = _lengths_and_axes(name, x, s, axes)
    _require_axes(name, chosen)
    last = chosen[-1]
    n = lengths[-1] if lengths[-1] is not None else 2 * (x.shape[last] - 1)
    for axis, length in zip(chosen[:-1], lengths[:-1], strict=True):
        x = _resized(x, axis, length)
    x = _resized(x, last, n // 2 + 1)
    if chosen[1:]:
        x = p.fft(x, axes=chosen[:-1], inverse=True, norm=norm)
    return p.irfft(x, axis=last, n=n, norm=norm)


def _require_axes(name: str, axes: tuple[int, ...]) -> None:
    if not axes:
        raise ShapeError(located(f"{name}: a transform of a real signal needs at least one axis"))
