"""Forward and reverse mode nested in any order give the same third derivatives."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import func

FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "pointwise": lambda x: cr.sum(cr.sin(x) * x**3),
    "matrix product": lambda x: cr.sum(cr.exp(0.1 * (x @ x))),
    "several outputs, one without a tangent": lambda x: cr.linalg.slogdet(x)[1],
    "several outputs": lambda x: cr.linalg.svd(x).S[0],
}
X = np.array([[1.0, 2.0], [3.0, 5.0]])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_order_of_modes_gives_the_same_third_derivative(name: str) -> None:
    found = []
    for modes in itertools.product((func.jacrev, func.jacfwd), repeat=3):
        derivative = FUNCTIONS[name]
        for mode in modes:
            derivative = mode(derivative)
        found.append(derivative(cr.tensor(X)).numpy())
    cr.check_grad(func.hessian(FUNCTIONS[name]), X, rtol=1e-3, atol=1e-3)
    for other in found[1:]:
        np.testing.assert_allclose(other, found[0], rtol=1e-9, atol=1e-9)


def test_backward_goes_through_a_hessian_vector_product() -> None:
    x, v = cr.tensor(X, requires_grad=True), cr.tensor(np.ones((2, 2)))
    cr.sum(func.hvp(lambda t: cr.sum(t**3), x, v)).backward()
    np.testing.assert_allclose(x.grad.numpy(), np.full((2, 2), 6.0))
