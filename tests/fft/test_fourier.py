"""Fourier transforms: values against NumPy, derivatives, inverses, data types, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import fft, func
from chainrule.core.errors import DTypeError, OperationError, ShapeError

NORMS = ["backward", "ortho", "forward"]
ONE_AXIS = ["fft", "ifft", "rfft", "irfft", "hfft", "ihfft"]
SEVERAL = ["fftn", "ifftn", "rfftn", "irfftn"]
REAL_INPUT = {"rfft", "ihfft", "rfftn"}


def signal(name: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    return x if name in REAL_INPUT else x + 1j * rng.normal(size=shape)


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from(ONE_AXIS), n=st.none() | st.integers(1, 9), axis=st.integers(-2, 1),
    norm=st.sampled_from(NORMS), shape=st.tuples(st.integers(2, 6), st.integers(2, 6)),
)  # fmt: skip
def test_transforms_along_one_axis_equal_numpy(
    name: str, n: int | None, axis: int, norm: Any, shape: tuple[int, int]
) -> None:
    x = signal(name, shape)
    found = getattr(fft, name)(cr.asarray(x), n=n, axis=axis, norm=norm).numpy()
    np.testing.assert_allclose(found, getattr(np.fft, name)(x, n=n, axis=axis, norm=norm), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("axes", [(0,), (1, 2), (2, 0), (0, 1, 2)])
@pytest.mark.parametrize("name", SEVERAL)
def test_transforms_along_several_axes_equal_numpy(name: str, axes: tuple[int, ...], norm: Any) -> None:
    x = signal(name, (3, 4, 5))
    for s in (None, tuple(range(3, 3 + len(axes)))):
        found = getattr(fft, name)(cr.asarray(x), s=s, axes=axes, norm=norm).numpy()
        np.testing.assert_allclose(found, getattr(np.fft, name)(x, s=s, axes=axes, norm=norm), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n", [None, 3, 4, 6])
@pytest.mark.parametrize("name", ONE_AXIS)
def test_derivatives_equal_finite_differences(name: str, n: int | None, norm: Any) -> None:
    cr.check_grad(lambda x: getattr(fft, name)(x, n=n, norm=norm), signal(name, (2, 4)))


@pytest.mark.parametrize("name", SEVERAL)
def test_derivatives_of_several_axes_equal_finite_differences(name: str) -> None:
    cr.check_grad(lambda x: getattr(fft, name)(x, axes=(2, 0)), signal(name, (2, 2, 3)))


def test_second_derivatives_go_through_a_spectrum() -> None:
    cr.check_grad(lambda x: fft.irfft(fft.rfft(x) ** 2, n=5) * x, signal("rfft", (5,)), order=2)


@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("n", [4, 5])
def test_the_vjp_is_the_conjugate_transpose(n: int, norm: Any, inverse: bool) -> None:
    for name in ("irfft", "ifft") if inverse else ("rfft", "fft"):
        x = cr.asarray(signal(name, (n,)))
        length = {"n": n} if name != "irfft" else {"n": 2 * n - 1}
        y, pull = func.vjp(lambda t, f=name, k=length: getattr(fft, f)(t, norm=norm, **k), x)
        c = cr.asarray(signal("rfft" if y.dtype.kind == "f" else "fft", y.shape, 1))
        forward = np.vdot(c.numpy(), y.numpy()).real
        assert np.isclose(forward, np.vdot(pull(c).numpy(), x.numpy()).real)


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_inverses_undo_their_transforms(n: int) -> None:
    for norm in NORMS:
        z, x = cr.asarray(signal("fft", (3, n))), cr.asarray(signal("rfft", (3, n)))
        assert np.allclose(fft.ifft(fft.fft(z, norm=norm), norm=norm).numpy(), z.numpy())
        assert np.allclose(fft.ifftn(fft.fftn(z, norm=norm), norm=norm).numpy(), z.numpy())
        assert np.allclose(fft.irfft(fft.rfft(x, norm=norm), n=n, norm=norm).numpy(), x.numpy())
        assert np.allclose(fft.irfftn(fft.rfftn(x, norm=norm), s=(3, n), norm=norm).numpy(), x.numpy())
        assert np.allclose(fft.hfft(fft.ihfft(x, norm=norm), n=n, norm=norm).numpy(), x.numpy())


def test_precision_is_kept() -> None:
    for real, complex_ in ((np.float32, np.complex64), (np.float64, np.complex128)):
        x, z = cr.asarray(np.ones(4, real)), cr.asarray(np.ones(4, complex_))
        assert fft.fft(x).dtype == fft.fft(z).dtype == fft.rfft(x).dtype == fft.ihfft(x).dtype == complex_
        assert fft.irfft(z).dtype == fft.hfft(z).dtype == real
        x.requires_grad = True
        y = fft.rfft(x)
        assert cr.grad(y, x, cr.ones_like(y)).dtype == real


def test_vmap_transforms_each_sample() -> None:
    x = cr.asarray(signal("fft", (3, 4, 5)))
    for name in ("fft", "ifft", "irfft", "hfft"):
        for axis in (-1, 0):
            mapped = func.vmap(lambda t, f=name, a=axis: getattr(fft, f)(t, axis=a))(x)
            whole = getattr(fft, name)(x, axis=axis if axis < 0 else axis + 1)
            assert np.allclose(mapped.numpy(), whole.numpy())
    mapped = func.vmap(fft.rfft)(cr.real(x))
    assert np.allclose(mapped.numpy(), fft.rfft(cr.real(x)).numpy())


@pytest.mark.parametrize("n", [1, 2, 3, 8, 9])
def test_frequencies_and_shifts_equal_numpy(n: int) -> None:
    np.testing.assert_allclose(fft.fftfreq(n, d=0.5).numpy(), np.fft.fftfreq(n, 0.5), rtol=1e-6)
    np.testing.assert_allclose(fft.rfftfreq(n, d=0.5).numpy(), np.fft.rfftfreq(n, 0.5), rtol=1e-6)
    assert fft.fftfreq(n).dtype == np.float32
    assert fft.rfftfreq(n, dtype=cr.float64).dtype == np.float64
    x = np.arange(3 * n).reshape(3, n)
    for axes in (None, 0, (0, 1), -1):
        shifted = fft.fftshift(cr.asarray(x), axes=axes)
        assert np.array_equal(shifted.numpy(), np.fft.fftshift(x, axes))
        assert np.array_equal(fft.ifftshift(shifted, axes=axes).numpy(), x)


def test_what_a_transform_does_not_take_is_refused() -> None:
    with pytest.raises(OperationError, match="fft: norm is 'backward', 'ortho' or 'forward', got 'unitary'"):
        fft.fft(cr.ones(3), norm="unitary")
    with pytest.raises(DTypeError, match="rfft: not defined for complex"):
        fft.rfft(cr.asarray([1j]))
    with pytest.raises(ShapeError, match="at least 1 point"):
        fft.fft(cr.ones(3), n=0)
    with pytest.raises(ShapeError, match="at least 1 point"):
        fft.fft(cr.ones(0))
    with pytest.raises(ShapeError, match="at least 1 point"):
        fft.irfft(cr.asarray([1 + 0j]))
    with pytest.raises(ShapeError, match="axis 2 is out of range"):
        fft.fft(cr.ones(3), axis=2)
    with pytest.raises(ShapeError, match="an axis occurs twice"):
        fft.fftn(cr.ones((3, 3)), axes=(0, 0))
    with pytest.raises(ShapeError, match="2 lengths for 1 axes"):
        fft.fftn(cr.ones((3, 3)), s=(2, 2), axes=(0,))
    with pytest.raises(ShapeError, match="0-d"):
        fft.fft(cr.asarray(1.0))
    with pytest.raises(DTypeError, match="real floating numbers, got dtype int64"):
        fft.fftfreq(3, dtype=cr.int64)
