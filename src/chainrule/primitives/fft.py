"""Discrete Fourier transforms: three linear maps, each the transpose of another.

`norm` says which direction is scaled by 1/n, as in NumPy: "backward" the inverse, "forward"
the forward transform, "ortho" both by 1/√n. The conjugate transpose of a transform is the
other direction with the scale moved, so nothing here needs a factor of its own.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from ..core.dtypes import complex_dtype, real_dtype
from ..core.errors import DTypeError, ShapeError
from ..core.node import ShapeDtype
from ..core.tensor import Tensor, new_tensor
from .families import linear

_F = np.dtype("float32")
_C = np.dtype("complex64")

Norm = Literal["backward", "ortho", "forward"]

OPPOSITE: dict[str, Norm] = {"backward": "forward", "forward": "backward", "ortho": "ortho"}
"""The norm of the transposed map."""


# NumPy warns in its own name about infinity and NaN in the input; here these are values.
_quiet = np.errstate(all="ignore")


@_quiet
def _fft_value(x: np.ndarray, axes: tuple[int, ...], inverse: bool, norm: Norm) -> np.ndarray:
    transform = np.fft.ifftn if inverse else np.fft.fftn
    return transform(x, axes=axes, norm=norm)


def _fft_rule(x: Any, axes: tuple[int, ...], inverse: bool, norm: str) -> ShapeDtype:
    _require(x, "c")
    _require_length(*(x.shape[a] for a in axes))
    return ShapeDtype(tuple(x.shape), x.dtype)


def _require(x: Any, kind: str) -> None:
    if x.dtype.kind != kind:
        raise DTypeError(f"needs a {'complex' if kind == 'c' else 'real floating'} tensor, got {x.dtype}")


def _require_length(*lengths: int) -> None:
    if any(n < 1 for n in lengths):
        raise ShapeError(f"a transform needs at least 1 point, got {min(lengths)}")


def _next_axes(params: dict[str, Any]) -> dict[str, Any]:
    # Under vmap a batch axis comes first.
    if "axes" in params:
        return {**params, "axes": tuple(a + 1 for a in params["axes"])}
    return {**params, "axis": params["axis"] + 1}


fft = linear(
    "fft", _fft_value, abstract=_fft_rule,
    transpose=lambda g, _x, axes, inverse, norm: fft(g, axes=axes, inverse=not inverse, norm=OPPOSITE[norm]),
    batch=lambda _size, _batched, inputs, params: fft(inputs[0], **_next_axes(params)),
    latex=r"\mathcal{{F}} {x}", text="fft({x:0})",
    example=([((2, 3), _C)], {"axes": (1,), "inverse": False, "norm": "backward"}),
    doc="y_k = Σ_j x_j exp(∓2πi jk/n) along each of the axes (- forward, + inverse), scaled by `norm`.",
)  # fmt: skip


@_quiet
def _rfft_value(x: np.ndarray, axis: int, norm: Norm) -> np.ndarray:
    return np.fft.rfft(x, axis=axis, norm=norm)


def _rfft_rule(x: Any, axis: int, norm: str) -> ShapeDtype:
    _require(x, "f")
    _require_length(x.shape[axis])
    shape = (*x.shape[:axis], x.shape[axis] // 2 + 1, *x.shape[axis + 1 :])
    return ShapeDtype(shape, complex_dtype(x.dtype))


def _rfft_transpose(g: Tensor, _x: Any, axis: int, norm: str) -> Tensor:
    n = _x.shape[axis]
    return irfft(g * _multiplicity(g, axis, n, inverse=True), axis=axis, n=n, norm=OPPOSITE[norm])


rfft = linear(
    "rfft", _rfft_value, abstract=_rfft_rule, transpose=_rfft_transpose,
    batch=lambda _size, _batched, inputs, params: rfft(inputs[0], **_next_axes(params)),
    latex=r"\mathcal{{F}}_{{\mathbb{{R}}}} {x}", text="rfft({x:0})",
    example=([((2, 4), _F)], {"axis": 1, "norm": "backward"}),
    doc="The first n // 2 + 1 coefficients of the transform of a real signal; the others are their conjugates.",
)  # fmt: skip


@_quiet
def _irfft_value(x: np.ndarray, axis: int, n: int, norm: Norm) -> np.ndarray:
    return np.fft.irfft(x, n, axis=axis, norm=norm)


def _irfft_rule(x: Any, axis: int, n: int, norm: str) -> ShapeDtype:
    _require(x, "c")
    _require_length(n)
    if x.shape[axis] != n // 2 + 1:
        raise ShapeError(f"{n} real points need {n // 2 + 1} coefficients along axis {axis}, got {x.shape[axis]}")
    return ShapeDtype((*x.shape[:axis], n, *x.shape[axis + 1 :]), real_dtype(x.dtype))


def _irfft_transpose(g: Tensor, _x: Any, axis: int, n: int, norm: str) -> Tensor:
    y = rfft(g, axis=axis, norm=OPPOSITE[norm])
    return y * _multiplicity(y, axis, n, inverse=False)


def _multiplicity(y: Any, axis: int, n: int, *, inverse: bool) -> Tensor:
    """How often each coefficient counts in the full transform: twice, save for 0 and n/2."""
    counts = np.full(n // 2 + 1, 2.0, real_dtype(y.dtype))
    counts[0] = 1
    if n % 2 == 0:
        counts[-1] = 1
    if inverse:
        counts = 1 / counts
    return new_tensor(counts.reshape((-1, *(1,) * (y.ndim - axis - 1))), None)


irfft = linear(
    "irfft", _irfft_value, abstract=_irfft_rule, transpose=_irfft_transpose,
    batch=lambda _size, _batched, inputs, params: irfft(inputs[0], **_next_axes(params)),
    latex=r"\mathcal{{F}}_{{\mathbb{{R}}}}^{{-1}} {x}", text="irfft({x:0})",
    example=([((2, 3), _C)], {"axis": 1, "n": 4, "norm": "backward"}),
    doc=(
        "The n real points of a transform given by its first n // 2 + 1 coefficients. "
        "The imaginary parts of coefficients 0 and n/2 do not count."
    ),
)  # fmt: skip
