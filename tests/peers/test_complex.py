"""Complex gradients follow PyTorch's convention (the conjugate Wirtinger derivative), to the second order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from tests.peers.agreement import agree, noise

pytestmark = pytest.mark.peers

UNARY: dict[str, tuple[Any, Any]] = {
    **{
        name: (getattr(cr, name), getattr(torch, name))
        for name in (
            "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "conj", "cos", "cosh", "exp", "expm1",
            "log", "log10", "log2", "negative", "real", "reciprocal", "sin", "sinh", "sqrt", "square", "tan",
            "tanh",
        )
    },
    "imag": (cr.imag, torch.imag),
    "log1p": (cr.log1p, torch.log1p),
    "sign": (cr.sign, torch.sgn),
    "angle": (lambda z: cr.atan2(cr.imag(z), cr.real(z)), torch.angle),
    "exp2": (lambda z: cr.primitives.table["exp2"](z), torch.exp2),
    "z ** 2": (lambda z: z**2, lambda z: z**2),
    "z ** 3": (lambda z: z**3, lambda z: z**3),
    "z ** -1": (lambda z: z**-1, lambda z: z**-1),
    "z ** 0.5": (lambda z: z**0.5, lambda z: z**0.5),
    "z ** 1.5": (lambda z: z**1.5, lambda z: z**1.5),
    "z ** (1+2j)": (lambda z: z ** (1 + 2j), lambda z: z ** (1 + 2j)),
    "2 ** z": (lambda z: 2.0**z, lambda z: 2.0**z),
    "z * conj(z)": (lambda z: z * cr.conj(z), lambda z: z * z.conj()),
    "1 / z": (lambda z: 1 / z, lambda z: 1 / z),
    "sum": (cr.sum, torch.sum),
    "mean": (cr.mean, torch.mean),
    "prod": (cr.prod, torch.prod),
    "cumulative_sum": (lambda z: cr.cumulative_sum(z, axis=0), lambda z: torch.cumsum(z, 0)),
    "var": (lambda z: cr.sum(cr.abs(z - cr.mean(z)) ** 2), lambda z: ((z - z.mean()).abs() ** 2).sum()),
    "to real and back": (
        lambda z: cr.abs(z) * (1 + 2j) + cr.real(z) * cr.imag(z) * z,
        lambda z: z.abs() * (1 + 2j) + z.real * z.imag * z,
    ),
    "where": (
        lambda z: cr.where(cr.real(z) > 0, z * z, cr.conj(z)), lambda z: torch.where(z.real > 0, z * z, z.conj()),
    ),
}  # fmt: skip

BINARY: dict[str, tuple[Any, Any]] = {
    "add": (cr.add, torch.add),
    "subtract": (cr.subtract, torch.subtract),
    "multiply": (cr.multiply, torch.multiply),
    "divide": (cr.divide, torch.divide),
    "pow": (cr.pow, torch.pow),
    "matmul": (lambda a, b: a @ cr.matrix_transpose(b), lambda a, b: a @ b.mT),
    "where": (
        lambda a, b: cr.where(cr.real(a) > 0, a * b, cr.conj(b)),
        lambda a, b: torch.where(a.real > 0, a * b, b.to(torch.complex128).conj()),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", UNARY)
def test_functions_of_one_complex_number_equal_pytorch(name: str) -> None:
    agree(*UNARY[name], noise((6,), np.complex128, 1), rtol=1e-9)


@pytest.mark.parametrize("name", BINARY)
@pytest.mark.parametrize(
    "types", [(np.complex128, np.complex128), (np.float64, np.complex128), (np.complex128, np.float64)],
    ids=["complex complex", "real complex", "complex real"],
)  # fmt: skip
def test_functions_of_two_numbers_equal_pytorch(name: str, types: tuple[type, type]) -> None:
    x, y = noise((3, 3), types[0], 2), noise((3, 3), types[1], 3)
    if name == "pow" and types[0] is np.float64:
        x = np.abs(x)
    ours, theirs = BINARY[name]
    if name == "matmul" and types[0] is not types[1]:
        # PyTorch's matmul takes equal types only.
        def theirs(a: Any, b: Any) -> Any:
            return a.to(torch.complex128) @ b.to(torch.complex128).mT

    agree(ours, theirs, x, y, rtol=1e-9)


@pytest.mark.parametrize("types", [(np.complex128, np.float64), (np.float64, np.complex128)])
def test_a_broadcast_real_operand_gets_a_real_gradient(types: tuple[type, type]) -> None:
    agree(cr.multiply, torch.multiply, noise((2, 3), types[0], 4), noise((3,), types[1], 5))
    agree(cr.divide, torch.divide, noise((2, 3), types[0], 4), noise((3,), types[1], 5))


def test_complex_from_two_reals_equals_pytorch() -> None:
    make = cr.primitives.table["make_complex"]
    agree(
        lambda a, b: cr.exp(make(a, b)), lambda a, b: torch.exp(torch.complex(a, b)),
        noise((4,), np.float64, 6), noise((4,), np.float64, 7),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["abs", "sign", "square", "exp", "sinh"])
def test_gradients_at_complex_zero_equal_pytorch(name: str) -> None:
    agree(*UNARY[name], np.zeros(2, np.complex128), orders=1)


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_a_gradient_step_on_a_complex_loss_goes_downhill_as_in_pytorch(dtype: type) -> None:
    target = noise((4,), dtype, 8)
    agree(
        lambda z: cr.sum(cr.abs(cr.exp(z) - cr.tensor(target)) ** 2),
        lambda z: ((torch.exp(z) - torch.tensor(target)).abs() ** 2).sum(),
        noise((4,), dtype, 9), rtol=1e-4 if dtype is np.complex64 else 1e-10,
    )  # fmt: skip
