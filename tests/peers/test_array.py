"""Array functions: values, gradients and second derivatives equal PyTorch's in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from tests.peers.agreement import agree, noise

pytestmark = pytest.mark.peers
F64, C128 = np.float64, np.complex128

REDUCTIONS: dict[str, tuple[Any, Any]] = {
    "sum": (lambda x: cr.sum(x, axis=(0, 2)), lambda x: x.sum((0, 2))),
    "mean": (lambda x: cr.mean(x, axis=1, keepdims=True), lambda x: x.mean(1, keepdim=True)),
    "var": (lambda x: cr.var(x, axis=1, correction=1), lambda x: x.var(1)),
    "std": (lambda x: cr.std(x, axis=(0, 1)), lambda x: x.std((0, 1), correction=0)),
    "max": (lambda x: cr.max(x, axis=(1, 2)), lambda x: x.amax((1, 2))),
    "min": (cr.min, lambda x: x.min()),
    "prod": (lambda x: cr.prod(x, axis=1), lambda x: x.prod(1)),
    "prod of all": (cr.prod, lambda x: x.prod()),
    "logsumexp": (lambda x: cr.logsumexp(x, axis=(0, 2)), lambda x: x.logsumexp((0, 2))),
    "cumulative_sum": (lambda x: cr.cumulative_sum(x, axis=1), lambda x: x.cumsum(1)),
    "cumulative_prod": (lambda x: cr.cumulative_prod(x, axis=2), lambda x: x.cumprod(2)),
}


@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_are_pytorchs(name: str) -> None:
    agree(*REDUCTIONS[name], noise((2, 3, 4), F64, 1))


@pytest.mark.parametrize("name", ["prod", "prod of all", "cumulative_prod"])
def test_products_with_zeros_are_pytorchs(name: str) -> None:
    x = noise((2, 3, 4), F64, 2)
    x[0, 1, 2] = x[1, 0, 3] = x[1, 2, 3] = 0
    agree(*REDUCTIONS[name], x)


@pytest.mark.parametrize("name", ["sum", "mean", "prod", "cumulative_sum", "cumulative_prod"])
def test_complex_reductions_are_pytorchs(name: str) -> None:
    agree(*REDUCTIONS[name], noise((2, 3, 4), C128, 3))


MOVES: dict[str, tuple[Any, Any]] = {
    "reshape": (lambda x: cr.reshape(x, (6, -1)), lambda x: x.reshape(6, -1)),
    "permute_dims": (lambda x: cr.permute_dims(x, (2, 0, 1)), lambda x: x.permute(2, 0, 1)),
    "flip": (lambda x: cr.flip(x, axis=(0, 2)), lambda x: x.flip((0, 2))),
    "roll": (lambda x: cr.roll(x, (1, -2), axis=(0, 2)), lambda x: x.roll((1, -2), (0, 2))),
    "tile": (lambda x: cr.tile(x, (2, 1, 3)), lambda x: x.tile(2, 1, 3)),
    "repeat": (lambda x: cr.repeat(x, cr.tensor([0, 2, 1]), axis=1),
               lambda x: x.repeat_interleave(torch.tensor([0, 2, 1]), 1)),
    "stack": (lambda x: cr.stack([x, x * x], axis=1), lambda x: torch.stack([x, x * x], 1)),
    "sort": (lambda x: cr.sort(x, axis=1, descending=True), lambda x: x.sort(1, descending=True).values),
    "take_along_axis": (lambda x: cr.take_along_axis(x, cr.argsort(x, axis=2), axis=2),
                        lambda x: x.gather(2, x.argsort(2))),
    "tril": (lambda x: cr.tril(x, k=-1), lambda x: x.tril(-1)),
    "diff": (lambda x: cr.diff(x, n=2), lambda x: x.diff(2)),
    "index": (lambda x: x[[1, 0, 1], :, 2], lambda x: x[[1, 0, 1], :, 2]),
    "mask": (lambda x: x[x > 0], lambda x: x[x > 0]),
}  # fmt: skip


@pytest.mark.parametrize("name", MOVES)
def test_moved_elements_are_pytorchs(name: str) -> None:
    ours, theirs = MOVES[name]
    agree(lambda x: ours(x) ** 3, lambda x: theirs(x) ** 3, noise((2, 3, 4), F64, 4))


PAIRS: dict[str, tuple[Any, Any]] = {
    "matmul": (cr.matmul, torch.matmul),
    "tensordot": (lambda a, b: cr.tensordot(a, b, axes=((2, 0), (1, 0))),
                  lambda a, b: torch.tensordot(a, b, dims=([2, 0], [1, 0]))),
    "vecdot": (lambda a, b: cr.vecdot(a, cr.matrix_transpose(b)), lambda a, b: torch.linalg.vecdot(a, b.mT)),
}  # fmt: skip


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", [F64, C128])
def test_products_over_axes_are_pytorchs(name: str, dtype: Any) -> None:
    agree(*PAIRS[name], noise((2, 3, 4), dtype, 5), noise((2, 4, 3), dtype, 6))


def test_clip_is_pytorchs_with_tensors_as_bounds() -> None:
    x = np.array([-2.0, -1.0, 0.5, 1.0, 3.0])
    low, high = np.array([-1.0, -1.0, -1.0, 0.0, 2.0]), np.array([1.0, 1.0, 1.0, 1.0, 2.5])
    agree(cr.clip, torch.clip, x, low, high, orders=1)


def _gradient(xp: Any, function: Any, values: Any) -> np.ndarray:
    x = xp.tensor(values, requires_grad=True)
    y = function(x)
    if xp is torch:
        return torch.autograd.grad(y.sum(), x)[0].numpy()
    return cr.grad(cr.sum(y), x).numpy()


NAN, INF = float("nan"), float("inf")
EDGES: dict[str, tuple[Any, Any, Any]] = {
    "ties of the maximum": (lambda x: x.max(axis=0), lambda x: x.amax(0), [2.0, 2.0, 1.0]),
    "maximum of NaN": (lambda x: x.max(), lambda x: x.max(), [1.0, NAN, 3.0]),
    "deviation of equals": (lambda x: x.std(), lambda x: x.std(correction=0), [3.0, 3.0, 3.0]),
    "root at 0": (cr.sqrt, torch.sqrt, [0.0, 4.0]),
    "where with NaN": (lambda x: cr.where(x > 0, x.log(), 0.0),
                       lambda x: torch.where(x > 0, x.log(), 0.0), [-1.0, 2.0]),
    "logsumexp with one infinity": (cr.logsumexp, lambda x: x.logsumexp(0), [-INF, 0.0, 1.0]),
    "logaddexp": (lambda x: cr.logaddexp(x, x * 0), lambda x: torch.logaddexp(x, x * 0), [1000.0, -1000.0]),
    "product of nothing but zeros": (cr.prod, torch.prod, [0.0, 0.0]),
    "clip on its ends": (lambda x: x.clip(0.0, 1.0), lambda x: x.clip(0.0, 1.0), [0.0, 1.0, -1.0]),
    "absolute value at 0": (cr.abs, torch.abs, [0.0, -2.0]),
    "cube at 0": (lambda x: x**3, lambda x: x**3, [0.0, 1.0]),
    "first power at 0": (lambda x: x**1.0, lambda x: x**1.0, [0.0]),
}  # fmt: skip


@pytest.mark.parametrize("name", EDGES)
def test_gradients_at_the_edges_are_pytorchs(name: str) -> None:
    ours, theirs, values = EDGES[name]
    np.testing.assert_array_equal(_gradient(cr, ours, values), _gradient(torch, theirs, values))


def test_logsumexp_of_nothing_but_infinities_has_gradient_zero_where_pytorch_gives_nan() -> None:
    values = [-INF, -INF]
    assert _gradient(cr, cr.logsumexp, values).tolist() == [0, 0]
    assert np.isnan(_gradient(torch, lambda x: x.logsumexp(0), values)).all()


def test_float32_results_stay_close_to_pytorchs() -> None:
    x = noise((100, 1000), np.float32, 7)
    t = torch.tensor(x)
    for ours, theirs in (
        (cr.sum(cr.tensor(x)), t.sum()),
        (cr.mean(cr.tensor(x), axis=1), t.mean(1)),
        (cr.var(cr.tensor(x), axis=0), t.var(0, correction=0)),
        (cr.logsumexp(cr.tensor(x), axis=1), t.logsumexp(1)),
    ):
        np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-5, atol=1e-3)
