"""Linear algebra: values, gradients and second derivatives equal PyTorch's, real and complex."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from tests.peers.agreement import agree, noise

pytestmark = pytest.mark.peers
TYPES = [np.float64, np.complex128]
L, T = cr.linalg, torch.linalg


def _mh(x: Any) -> Any:
    return cr.conj(cr.matrix_transpose(x)) if isinstance(x, cr.Tensor) else x.mH


def _hermitian(x: Any) -> Any:
    return x + _mh(x)


def _positive(x: Any) -> Any:
    return x @ _mh(x)


def _sizes(x: Any) -> Any:
    return (cr.abs(x) ** 2) if isinstance(x, cr.Tensor) else x.abs() ** 2


SQUARE = {
    "det": (L.det, T.det),
    "inv": (L.inv, T.inv),
    "slogdet": (lambda x: tuple(L.slogdet(x)), lambda x: tuple(T.slogdet(x))),
    "cholesky": (lambda x: L.cholesky(_positive(x)), lambda x: T.cholesky(_positive(x))),
    "cholesky upper": (
        lambda x: L.cholesky(_positive(x), upper=True), lambda x: T.cholesky(_positive(x), upper=True),
    ),
    "eigvalsh": (lambda x: L.eigvalsh(_hermitian(x)), lambda x: T.eigvalsh(_hermitian(x))),
    "eigh": (
        lambda x: (L.eigh(_hermitian(x)).eigenvalues, _sizes(L.eigh(_hermitian(x)).eigenvectors)),
        lambda x: (T.eigh(_hermitian(x)).eigenvalues, _sizes(T.eigh(_hermitian(x)).eigenvectors)),
    ),
    "matrix_power 3": (lambda x: L.matrix_power(x, 3), lambda x: T.matrix_power(x, 3)),
    "matrix_power -2": (lambda x: L.matrix_power(x, -2), lambda x: T.matrix_power(x, -2)),
    "trace": (L.trace, lambda x: x.diagonal(dim1=-2, dim2=-1).sum(-1)),
}  # fmt: skip

ANY = {
    "pinv": (L.pinv, T.pinv),
    "svdvals": (L.svdvals, T.svdvals),
    "svd": (
        lambda x: _svd_parts(L.svd(x, full_matrices=False)), lambda x: _svd_parts(T.svd(x, full_matrices=False)),
    ),
    "matrix_norm fro": (L.matrix_norm, T.matrix_norm),
    "vector_norm of all": (L.vector_norm, T.vector_norm),
    "diagonal": (lambda x: L.diagonal(x, offset=1), lambda x: T.diagonal(x, offset=1)),
    "diagonal below": (lambda x: L.diagonal(x, offset=-1), lambda x: T.diagonal(x, offset=-1)),
    **{
        f"matrix_norm {ord}": (lambda x, o=ord: L.matrix_norm(x, ord=o), lambda x, o=ord: T.matrix_norm(x, ord=o))
        for ord in ("nuc", 1, -1, 2, -2, np.inf, -np.inf)
    },
    **{
        f"vector_norm {ord}": (
            lambda x, o=ord: L.vector_norm(x, ord=o, axis=-1), lambda x, o=ord: T.vector_norm(x, ord=o, dim=-1),
        )
        for ord in (0, 0.5, 1, 1.5, 2, 3, 4, -1, -2, np.inf, -np.inf)
    },
}  # fmt: skip


def _svd_parts(result: Any) -> tuple[Any, ...]:
    """Functions of U, S and Vh that do not depend on the phases of the vectors."""
    u, s, vh = result
    return s, _sizes(u), _sizes(vh), u @ vh


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 4)])
@pytest.mark.parametrize("name", SQUARE)
def test_functions_of_square_matrices_equal_pytorch(name: str, shape: tuple[int, ...], dtype: type) -> None:
    agree(*SQUARE[name], noise(shape, dtype, 1), rtol=1e-9)


@pytest.mark.parametrize("dtype", TYPES)
def test_gradients_by_a_hermitian_matrix_are_hermitian_as_in_pytorch(dtype: type) -> None:
    x = noise((3, 3), dtype, 11)
    positive = x @ x.conj().T + np.eye(3)
    if dtype is np.float64:
        # PyTorch's complex gradient of cholesky has a skew-Hermitian part, which no Hermitian argument feels.
        agree(L.cholesky, T.cholesky, positive)
    agree(L.eigvalsh, T.eigvalsh, positive, orders=1)
    agree(lambda a: _sizes(L.eigh(a).eigenvectors), lambda a: _sizes(T.eigh(a).eigenvectors), positive, orders=1)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 2, 4)])
@pytest.mark.parametrize("name", ANY)
def test_functions_of_any_matrices_equal_pytorch(name: str, shape: tuple[int, ...], dtype: type) -> None:
    agree(*ANY[name], noise(shape, dtype, 2), rtol=1e-9)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 2, 4)])
@pytest.mark.parametrize("mode", ["reduced", "complete"])
def test_qr_equals_pytorch(mode: str, shape: tuple[int, ...], dtype: type) -> None:
    orders = 0 if mode == "complete" and shape[-2] > shape[-1] else 2
    agree(
        lambda x: tuple(L.qr(x, mode=mode)), lambda x: tuple(T.qr(x, mode=mode)),
        noise(shape, dtype, 3), orders=orders, rtol=1e-9,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("a", "b"), [((3, 3), (3,)), ((3, 3), (3, 2)), ((2, 3, 3), (3, 2)), ((3, 3), (2, 3, 2)), ((2, 1, 3, 3), (5, 3, 1))]
)
def test_solve_equals_pytorch(a: tuple[int, ...], b: tuple[int, ...], dtype: type) -> None:
    agree(L.solve, T.solve, noise(a, dtype, 4), noise(b, dtype, 5), rtol=1e-9)


@pytest.mark.parametrize("dtype", TYPES)
def test_products_equal_pytorch(dtype: type) -> None:
    x, y = noise((4, 3), dtype, 6), noise((4, 3), dtype, 7)
    agree(L.cross, lambda a, b: T.cross(a, b), x, y)
    agree(L.vecdot, T.vecdot, x, y)
    agree(lambda a, b: L.tensordot(a, b, axes=2), lambda a, b: torch.tensordot(a, b, dims=2), x, y)
    agree(lambda a, b: L.outer(a[0], b[1]), lambda a, b: torch.outer(a[0], b[1]), x, y)
    agree(lambda a, b: L.matmul(a, L.matrix_transpose(b)), lambda a, b: a @ b.mT, x, y)
    agree(lambda a, b: a[0] @ L.matrix_transpose(b), lambda a, b: a[0] @ b.mT, x, y)


@pytest.mark.parametrize("rank", [1, 2])
def test_pinv_of_a_rank_deficient_matrix_equals_pytorch(rank: int) -> None:
    left, right = noise((4, rank), np.float64, 8), noise((rank, 3), np.float64, 9)
    agree(lambda a, b: L.pinv(a @ b, rtol=1e-10), lambda a, b: T.pinv(a @ b, rtol=1e-10), left, right, rtol=1e-8)


def test_det_of_a_singular_matrix_has_pytorch_gradient() -> None:
    x = noise((3, 3), np.float64, 10)
    x[2] = x[0] - 2 * x[1]
    agree(L.det, T.det, x, orders=1, rtol=1e-8)


@pytest.mark.parametrize("ord", [1, 3, 4, np.inf])
def test_second_derivatives_of_vector_norms_at_zero_are_zero_as_in_pytorch(ord: float) -> None:
    agree(lambda x: L.vector_norm(x, ord=ord), lambda x: T.vector_norm(x, ord), np.zeros(3))


@pytest.mark.parametrize("ord", [0.5, 1, 1.5, 2, 3, 4, np.inf])
@pytest.mark.parametrize("x", [np.zeros(3), np.array([0.0, 1.0, -2.0])], ids=["all zero", "one zero"])
def test_subgradients_of_vector_norms_at_zero_equal_pytorch(ord: float, x: np.ndarray) -> None:
    agree(lambda x: L.vector_norm(x, ord=ord), lambda x: T.vector_norm(x, ord), x, orders=1)


@pytest.mark.parametrize("ord", ["fro", "nuc", 1, 2, np.inf])
def test_subgradients_of_matrix_norms_at_zero_equal_pytorch(ord: Any) -> None:
    agree(lambda x: L.matrix_norm(x, ord=ord), lambda x: T.matrix_norm(x, ord), np.zeros((2, 2)), orders=1)
