"""Fourier transforms: values and gradients equal PyTorch's, for every norm, length and axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from tests.peers.agreement import agree, noise

pytestmark = pytest.mark.peers
NORMS = ["backward", "ortho", "forward"]
TO_COMPLEX = ["fft", "ifft"]
FROM_REAL = ["rfft", "ihfft"]
TO_REAL = ["irfft", "hfft"]


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n", [None, 3, 4, 7, 8])
@pytest.mark.parametrize("name", TO_COMPLEX + FROM_REAL + TO_REAL)
def test_transforms_along_one_axis_equal_pytorch(name: str, n: int | None, norm: str) -> None:
    for dtype in [np.float64] if name in FROM_REAL else [np.float64, np.complex128]:
        for axis in (-1, 0):
            agree(
                lambda x, a=axis: getattr(cr.fft, name)(x, n=n, axis=a, norm=norm),
                lambda t, a=axis: getattr(torch.fft, name)(t, n=n, dim=a, norm=norm),
                noise((5, 6), dtype, 1),
            )


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("s", "axes"), [(None, None), (None, (0,)), (None, (2, 0)), ((4, 5), (0, 2)), ((3, 7, 2), (0, 1, 2)), ((6,), None)]
)
@pytest.mark.parametrize("name", ["fftn", "ifftn", "rfftn", "irfftn"])
def test_transforms_along_several_axes_equal_pytorch(name: str, s: Any, axes: Any, norm: str) -> None:
    agree(
        lambda x: getattr(cr.fft, name)(x, s=s, axes=axes, norm=norm),
        lambda t: getattr(torch.fft, name)(t, s=s, dim=axes, norm=norm),
        noise((3, 4, 5), np.float64 if name == "rfftn" else np.complex128, 2),
    )


def test_a_nonlinear_function_of_a_spectrum_has_pytorch_second_derivatives() -> None:
    agree(
        lambda x: cr.abs(cr.fft.rfft(x)) ** 2 * cr.fft.irfft(cr.exp(cr.fft.rfft(x)), n=7)[:4],
        lambda t: torch.fft.rfft(t).abs() ** 2 * torch.fft.irfft(torch.exp(torch.fft.rfft(t)), n=7)[:4],
        noise((7,), np.float64, 3),
        rtol=1e-9,
    )
