"""Linear algebra against finite differences, in both modes and to the second order, real and complex."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import func, linalg

DTYPES = [np.float64, np.complex128]


def numbers(shape: tuple[int, ...], dtype: Any = np.float64, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    return (x + 1j * rng.normal(size=shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def adjoint(x: cr.Tensor) -> cr.Tensor:
    return cr.conj(linalg.matrix_transpose(x))


def hermitian(x: cr.Tensor) -> cr.Tensor:
    return x + adjoint(x)


def positive(x: cr.Tensor) -> cr.Tensor:
    return x @ adjoint(x) + cr.eye(x.shape[-1], dtype=cr.float64)


def projector(basis: cr.Tensor) -> cr.Tensor:
    """A function of the span of the columns alone."""
    return basis @ adjoint(basis)


SQUARE: dict[str, Callable[..., Any]] = {
    "cholesky": lambda x: linalg.cholesky(positive(x)),
    "cholesky upper": lambda x: linalg.cholesky(positive(x), upper=True),
    "det": linalg.det,
    "slogdet": linalg.slogdet,
    "inv": linalg.inv,
    "solve": lambda x: linalg.solve(x, x * x),
    "matrix_power": lambda x: linalg.matrix_power(x, 3),
    "inverse power": lambda x: linalg.matrix_power(x, -2),
    "eigenvalues": lambda x: linalg.eigvalsh(hermitian(x)),
    "eigh": lambda x: (linalg.eigh(hermitian(x))[0], cr.abs(linalg.eigh(hermitian(x))[1])),
}

ANY: dict[str, Callable[..., Any]] = {
    "qr": linalg.qr,
    "svdvals": linalg.svdvals,
    "svd": lambda x: _without_phase(linalg.svd(x, full_matrices=False)),
    "complement of the left vectors": lambda x: projector(linalg.svd(x).U[..., min(x.shape[-2:]) :]),
    "complement of the right vectors": lambda x: projector(adjoint(linalg.svd(x).Vh)[..., min(x.shape[-2:]) :]),
    "pinv": linalg.pinv,
    "trace": lambda x: linalg.trace(x, offset=1) * linalg.trace(x, offset=-1),
    "diagonal": lambda x: linalg.diagonal(x, offset=-1) ** 2,
    **{f"norm {o}": (lambda x, o=o: linalg.matrix_norm(x, ord=o)) for o in ("fro", "nuc", 1, -1, 2, -2, np.inf)},
    **{f"norm of rows {o}": (lambda x, o=o: linalg.vector_norm(x, ord=o, axis=-1)) for o in (0.5, 1, 2, 3, -1, np.inf)},
}


def _without_phase(parts: tuple[cr.Tensor, ...]) -> tuple[cr.Tensor, ...]:
    u, s, vh = parts
    return cr.abs(u), s, u @ vh


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SQUARE)
def test_derivatives_of_functions_of_square_matrices(name: str, dtype: type) -> None:
    cr.check_grad(SQUARE[name], numbers((3, 3), dtype), order=2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(2, 2), (3, 2), (2, 3)])
@pytest.mark.parametrize("name", ANY)
def test_derivatives_of_functions_of_any_matrices(name: str, shape: tuple[int, ...], dtype: type) -> None:
    cr.check_grad(ANY[name], numbers(shape, dtype, 3), order=2, rtol=1e-4, atol=1e-4)


def test_third_derivatives_are_derivatives_of_the_second() -> None:
    for function in (linalg.det, lambda x: linalg.inv(x)[0, 0], lambda x: linalg.svdvals(x)[0]):
        hessian = func.hessian(function)
        cr.check_grad(lambda x, h=hessian: h(x), numbers((2, 2), seed=5), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "x",
    [[[1.0, 2.0], [2.0, 4.0]], [[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [0.0, 1.0, 1.0]], np.ones((3, 3)), np.zeros((2, 2))],
)
def test_the_determinant_of_a_singular_matrix_has_two_derivatives(x: Any) -> None:
    cr.check_grad(linalg.det, np.asarray(x), order=2)


def test_the_determinant_of_a_matrix_with_nan_has_a_nan_gradient_and_leaves_the_others_alone() -> None:
    x = cr.tensor(np.stack([np.eye(2), np.full((2, 2), np.nan)]), requires_grad=True)
    g = cr.grad(cr.sum(linalg.det(x)), x).numpy()
    assert np.array_equal(g[0], np.eye(2)) and np.isnan(g[1]).all()


def test_pinv_is_differentiable_at_equal_singular_values_and_along_a_constant_rank() -> None:
    cr.check_grad(linalg.pinv, np.eye(3)[:, :2], order=2)
    cr.check_grad(lambda a, b: linalg.pinv(a @ b, rtol=1e-9), numbers((3, 1)), numbers((1, 2)), order=2, rtol=1e-4)


def test_equal_singular_values_do_not_disturb_functions_of_the_values_alone() -> None:
    x = cr.tensor(np.eye(3), requires_grad=True)
    assert np.allclose(cr.grad(cr.sum(linalg.svdvals(x)), x).numpy(), np.eye(3))
    assert np.allclose(cr.grad(cr.sum(linalg.svd(x).S), x).numpy(), np.eye(3))
    assert np.allclose(cr.grad(cr.sum(linalg.eigh(x).eigenvalues), x).numpy(), np.eye(3))


@pytest.mark.parametrize("ord", [0.5, 1, 1.5, 2, 3, np.inf])
def test_every_derivative_of_a_norm_at_zero_is_zero(ord: float) -> None:
    x = cr.tensor(np.zeros(3), requires_grad=True)
    y = linalg.vector_norm(x, ord=ord)
    for _ in range(3):
        (g,) = cr.grad(y, (x,), allow_unused=True)
        if g is None:
            break
        assert np.array_equal(g.numpy(), np.zeros(3))
        if not g.requires_grad:
            break
        y = cr.sum(g)


@pytest.mark.parametrize(
    "function",
    [
        linalg.det, linalg.inv, linalg.slogdet, linalg.eigvalsh, linalg.svdvals, linalg.qr, linalg.pinv,
        lambda x: linalg.cholesky(positive(x)), lambda x: linalg.solve(x, x), lambda x: linalg.svd(x),
        linalg.eigh, lambda x: linalg.matrix_norm(x, ord="nuc"), linalg.matrix_rank, linalg.trace,
    ],
)  # fmt: skip
def test_vmap_equals_the_function_of_the_batch(function: Callable[..., Any]) -> None:
    x = cr.tensor(numbers((4, 3, 3)))
    mapped, batched = func.vmap(function)(x), function(x)
    for a, b in zip(_parts(mapped), _parts(batched), strict=True):
        assert np.allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-12)


def _parts(result: Any) -> list[cr.Tensor]:
    return list(result) if isinstance(result, tuple) else [result]


def test_vmap_batches_one_operand_of_solve_and_the_tolerance_of_pinv() -> None:
    a, b = cr.tensor(numbers((3, 3))), cr.tensor(numbers((4, 3, 2)))
    expected = linalg.solve(a, b).numpy()
    assert np.allclose(func.vmap(linalg.solve, in_dims=(None, 0))(a, b).numpy(), expected)
    cutoffs = cr.tensor(np.array([1e-9, 0.9]))
    x = cr.tensor(np.diag([2.0, 1.0]))
    found = func.vmap(lambda t: linalg.pinv(x, rtol=t))(cutoffs).numpy()
    assert np.allclose(found, [np.diag([0.5, 1.0]), np.diag([0.5, 0.0])])


def test_per_sample_gradients_go_through_factorisations() -> None:
    x = cr.tensor(numbers((4, 3, 3)))
    mapped = func.vmap(func.grad(lambda a: cr.sum(linalg.cholesky(positive(a)))))(x).numpy()
    for i in range(4):
        assert np.allclose(mapped[i], func.grad(lambda a: cr.sum(linalg.cholesky(positive(a))))(x[i]).numpy())
