"""Linear algebra: values against NumPy, data types, results by name, and what is refused and how."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import linalg
from chainrule.core.errors import DTypeError, GradientError, OperationError, ShapeError

RNG = np.random.default_rng(0)


def square(dtype: Any = np.float32, *batch: int) -> cr.Tensor:
    return cr.asarray((RNG.normal(size=(*batch, 3, 3)) + 3 * np.eye(3)).astype(dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64, np.complex128])
def test_precision_is_kept(dtype: type) -> None:
    x = square(dtype, 2)
    real = np.zeros(0, dtype).real.dtype
    hermitian = x @ cr.conj(linalg.matrix_transpose(x))
    assert linalg.cholesky(hermitian).dtype == linalg.inv(x).dtype == linalg.det(x).dtype == dtype
    assert linalg.pinv(x).dtype == linalg.qr(x).Q.dtype == linalg.qr(x).R.dtype == linalg.solve(x, x).dtype == dtype
    assert linalg.eigh(hermitian).eigenvalues.dtype == linalg.svd(x).S.dtype == real
    assert linalg.svdvals(x).dtype == linalg.eigvalsh(hermitian).dtype == linalg.slogdet(x).logabsdet.dtype == real
    assert linalg.eigh(hermitian).eigenvectors.dtype == linalg.svd(x).U.dtype == linalg.slogdet(x).sign.dtype == dtype
    for ord in (0, 1, 2, 3, np.inf, -np.inf, 0.5, -1):
        assert linalg.vector_norm(x, ord=ord).dtype == real
    for ord in ("fro", "nuc", 1, -1, 2, -2, np.inf, -np.inf):
        assert linalg.matrix_norm(x, ord=ord).dtype == real


def test_gradients_have_the_type_of_the_operand() -> None:
    for dtype in (np.float32, np.complex64):
        x = square(dtype)
        x.requires_grad = True
        for function in (linalg.inv, linalg.det, linalg.svdvals, linalg.pinv, lambda a: linalg.slogdet(a)[1]):
            y = function(x)
            assert cr.grad(y, x, cr.ones_like(y)).dtype == dtype


def test_factorisations_multiply_back() -> None:
    for shape in ((3, 3), (4, 2), (2, 4), (2, 4, 3), (0, 2), (2, 0)):
        x = RNG.normal(size=shape) + 1j * RNG.normal(size=shape)
        t = cr.asarray(x)
        u, s, vh = linalg.svd(t, full_matrices=False)
        assert np.allclose((u * s[..., None, :] @ vh).numpy(), x)
        for mode in ("reduced", "complete"):
            q, r = linalg.qr(t, mode=mode)
            assert np.allclose((q @ r).numpy(), x)
            expected = np.linalg.qr(x, mode)
            assert (q.shape, r.shape) == (expected.Q.shape, expected.R.shape)
        full = linalg.svd(t)
        assert full.U.shape == (*shape[:-1], shape[-2]) and full.Vh.shape == (*shape[:-2], shape[-1], shape[-1])


@pytest.mark.parametrize("n", [-3, -1, 0, 1, 2, 7])
def test_matrix_power_equals_numpy(n: int) -> None:
    x = square(np.float64, 2)
    assert np.allclose(linalg.matrix_power(x, n).numpy(), np.linalg.matrix_power(x.numpy(), n))


@pytest.mark.parametrize("rtol", [None, 1e-3, 0.6])
def test_rank_and_pseudo_inverse_equal_numpy(rtol: float | None) -> None:
    x = np.stack([np.diag([1.0, 0.5, 1e-5]), np.ones((3, 3)), np.zeros((3, 3))])
    rank = linalg.matrix_rank(cr.asarray(x), rtol=rtol)
    assert rank.dtype == np.int64
    assert np.array_equal(rank.numpy(), np.linalg.matrix_rank(x, rtol=rtol))
    expected = np.linalg.pinv(x, rtol=rtol if rtol is not None else 3 * np.finfo(float).eps)
    assert np.allclose(linalg.pinv(cr.asarray(x), rtol=rtol).numpy(), expected)


@pytest.mark.parametrize("offset", [-4, -2, -1, 0, 1, 2, 3, 9])
def test_diagonal_and_trace_equal_numpy(offset: int) -> None:
    x = np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    t = cr.asarray(x)
    assert np.array_equal(linalg.diagonal(t, offset=offset).numpy(), np.linalg.diagonal(x, offset=offset))
    assert np.array_equal(linalg.trace(t, offset=offset).numpy(), np.linalg.trace(x, offset=offset))
    assert linalg.trace(t).dtype == np.int64
    assert linalg.trace(t, dtype=cr.float32).dtype == np.float32


def test_cross_equals_numpy_along_any_axis() -> None:
    a, b = RNG.normal(size=(3, 4, 3)), RNG.normal(size=(4, 3))
    assert np.allclose(linalg.cross(cr.asarray(a), cr.asarray(b)).numpy(), np.cross(a, b))
    c = RNG.normal(size=(3, 4, 3))
    assert np.allclose(linalg.cross(cr.asarray(a), cr.asarray(c), axis=-3).numpy(), np.cross(a, c, axis=0))
    assert np.allclose(linalg.cross(cr.asarray(a), cr.asarray(c), axis=0).numpy(), np.cross(a, c, axis=0))


@pytest.mark.parametrize("ord", [-np.inf, -2, -1, 0, 0.5, 1, 1.5, 2, 3, np.inf])
@pytest.mark.parametrize(
    "x", [np.array([0.0, 1.0, -2.0]), np.zeros(3), np.array([np.inf, 1.0]), np.array([np.nan, 1.0])]
)
def test_vector_norms_equal_numpy_at_special_values(x: np.ndarray, ord: float) -> None:
    with np.errstate(all="ignore"):
        expected = np.linalg.vector_norm(x, ord=ord)
    assert np.allclose(linalg.vector_norm(cr.asarray(x), ord=ord).numpy(), expected, equal_nan=True)


def test_the_norm_keeps_reduced_axes_where_asked() -> None:
    x = cr.ones((2, 3, 4))
    assert linalg.vector_norm(x, axis=(0, 2), keepdims=True).shape == (1, 3, 1)
    assert linalg.matrix_norm(x, ord="nuc", keepdims=True).shape == (2, 1, 1)
    assert linalg.vector_norm(x, keepdims=True).shape == (1, 1, 1)


def test_determinants_of_empty_matrices_are_one() -> None:
    assert linalg.det(cr.zeros((0, 0))).item() == 1
    assert linalg.slogdet(cr.zeros((0, 0))).logabsdet.item() == 0


def test_log_determinants_do_not_overflow() -> None:
    x = cr.asarray(np.eye(400) * 1e-2)
    assert linalg.det(x).item() == 0
    assert np.isclose(linalg.slogdet(x).logabsdet.item(), 400 * np.log(1e-2))


SQUARE_ONLY = ["cholesky", "det", "slogdet", "inv", "eigh", "eigvalsh"]


@pytest.mark.parametrize("name", SQUARE_ONLY)
def test_a_matrix_that_must_be_square_and_is_not_is_named(name: str) -> None:
    with pytest.raises(ShapeError, match=rf"{name}: .*square.*\(2, 3\)"):
        getattr(linalg, name)(cr.ones((2, 3)))
    with pytest.raises(ShapeError, match=rf"{name}: a matrix has at least 2 axes, got shape \(3,\)"):
        getattr(linalg, name)(cr.ones(3))


@pytest.mark.parametrize("function", [linalg.inv, lambda x: linalg.solve(x, x), lambda x: linalg.matrix_power(x, -1)])
def test_a_singular_matrix_is_refused_and_found_in_its_batch(function: Any) -> None:
    x = np.stack([np.eye(2), np.ones((2, 2)), np.eye(2)])
    with pytest.raises(OperationError, match=r"singular.*matrix \[1\] of the batch"):
        function(cr.asarray(x))
    with pytest.raises(OperationError, match="singular"):
        function(cr.ones((2, 2)))


def test_a_matrix_that_is_not_positive_definite_says_by_how_much() -> None:
    with pytest.raises(OperationError, match="smallest eigenvalue is -1; add a positive diagonal"):
        linalg.cholesky(cr.asarray(np.diag([1.0, -1.0])))


@pytest.mark.parametrize("name", ["svd", "svdvals", "pinv"])
def test_nan_without_a_decomposition_is_named(name: str) -> None:
    x = cr.asarray(np.array([[1.0, np.nan], [np.nan, 1.0]]))
    with pytest.raises(OperationError, match="singular values did not converge; it contains NaN"):
        getattr(linalg, name)(x)


def test_shapes_that_do_not_agree_are_refused() -> None:
    with pytest.raises(ShapeError, match="3×3 matrix and 2 rows"):
        linalg.solve(cr.eye(3), cr.ones((2, 4)))
    with pytest.raises(ShapeError, match="right-hand side must have axes"):
        linalg.solve(cr.eye(3), cr.asarray(1.0))
    with pytest.raises(ShapeError, match="length 3"):
        linalg.cross(cr.ones(2), cr.ones(2))
    with pytest.raises(ShapeError, match="operands are 1-d"):
        linalg.outer(cr.ones((2, 2)), cr.ones(2))
    with pytest.raises(ShapeError, match="at least 2 axes"):
        linalg.matrix_norm(cr.ones(3))


def test_options_that_do_not_exist_are_refused() -> None:
    with pytest.raises(OperationError, match="'reduced' or 'complete', got 'raw'"):
        linalg.qr(cr.eye(2), mode="raw")
    with pytest.raises(OperationError, match=r"matrix_norm: ord is .* got 'max'"):
        linalg.matrix_norm(cr.eye(2), ord="max")
    with pytest.raises(OperationError, match="vector_norm: ord is a number"):
        linalg.vector_norm(cr.ones(2), ord="fro")
    with pytest.raises(DTypeError, match="rtol is a real number"):
        linalg.pinv(cr.eye(2), rtol=1j)


def test_derivatives_that_do_not_exist_are_refused() -> None:
    x = cr.asarray(RNG.normal(size=(3, 2)))
    x.requires_grad = True
    q, _ = linalg.qr(x, mode="complete")
    with pytest.raises(GradientError, match=r"mode 'complete' of a 3×2 matrix .* use mode 'reduced'"):
        cr.sum(q).backward()
    z = cr.asarray(RNG.normal(size=(3, 3)) + 1j * RNG.normal(size=(3, 3)))
    z.requires_grad = True
    with pytest.raises(GradientError, match="svd: the loss depends on the phase"):
        cr.real(cr.sum(linalg.svd(z).U)).backward()
    with pytest.raises(GradientError, match="eigh: the loss depends on the phase"):
        cr.imag(cr.sum(linalg.eigh(z).eigenvectors)).backward()


def test_integers_take_the_default_type() -> None:
    x = cr.asarray([[2, 1], [1, 3]])
    assert linalg.inv(x).dtype == np.float32
    assert np.isclose(linalg.det(x).item(), 5.0)
