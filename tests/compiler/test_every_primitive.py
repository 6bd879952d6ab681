"""Every primitive of the table, compiled: values, gradients and second derivatives as in eager mode."""

from __future__ import annotations

import numpy as np
import pytest

import chainrule as cr
from tests.primitives.samples import PREPARE, SINGLE, case_id, differentiable_cases, names, sample

# Some units in the last place, for the length of the sums; what NumPy computes in eager mode it computes here.
ROUNDING = {np.dtype("float32"): 2e-5, np.dtype("float64"): 1e-12}


def close(actual: cr.Tensor, wanted: cr.Tensor, name: str) -> None:
    assert actual.dtype == wanted.dtype and actual.shape == wanted.shape
    if wanted.dtype.kind not in "fc":
        np.testing.assert_array_equal(actual.numpy(), wanted.numpy(), err_msg=name)
        return
    precision = np.finfo(wanted.dtype).dtype
    bound = ROUNDING.get(precision, 1e-12)
    np.testing.assert_allclose(actual.numpy(), wanted.numpy(), rtol=bound, atol=bound, err_msg=name)


@pytest.mark.parametrize("name", list(names()))
@pytest.mark.parametrize("precision", ["single", "double"])
def test_value(name, precision):
    s = sample(name)
    arrays = [cr.Tensor(a.astype(SINGLE.get(a.dtype, a.dtype)) if precision == "single" else a) for a in s.arrays]
    if name == "astype":
        s.params["dtype"] = np.dtype("float64" if precision == "single" else "float32")
    if name in PREPARE:
        arrays[0] = PREPARE[name](arrays[0])
        arrays[0] = cr.Tensor(arrays[0].numpy())

    def function(*arrays):
        y = s.primitive(*arrays, **s.params)
        return y if isinstance(y, tuple) else (y,)

    for actual, wanted in zip(cr.compile(function)(*arrays), function(*arrays), strict=True):
        close(actual, wanted, name)


@pytest.mark.parametrize("case", differentiable_cases(), ids=case_id)
def test_gradients_and_second_derivatives(case):
    name, complex_ = case
    s = sample(name, complex_=complex_)

    def function(*points):
        points = [p.detach().requires_grad_() for p in points]
        outputs = s.call(*points)
        loss = sum((cr.real(y * cr.conj(y)) if y.dtype.kind == "c" else y * y).sum() for y in outputs)
        first = cr.grad(loss, points, allow_unused=True)
        used = [g for g in first if g is not None and g.requires_grad]
        if not used:
            return tuple(g for g in first if g is not None)
        again = sum((cr.real(g * cr.conj(g)) if g.dtype.kind == "c" else g * g).sum() for g in used)
        second = cr.grad(again, points, allow_unused=True)
        return (*(g for g in first if g is not None), *(g for g in second if g is not None))

    points = [cr.Tensor(a) for a in s.points]
    eager = function(*points)
    assert eager
    for actual, wanted in zip(cr.compile(function)(*points), eager, strict=True):
        scale = max(1.0, float(np.abs(wanted.numpy()).max(initial=0.0)))
        np.testing.assert_allclose(actual.numpy() / scale, wanted.numpy() / scale, rtol=1e-9, atol=1e-10)
