"""Points where derivatives do not exist and where floating point runs out: docs/numerics.md, row by row."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule.nn import functional as F
from tests.edge_cases import Row, rows, same

NAMES: dict[str, Any] = {
    **{name: getattr(cr, name) for name in dir(cr) if not name.startswith("_")},
    **{name: getattr(F, name) for name in ("softmax", "log_softmax", "softplus", "gelu", "leaky_relu")},
}


def evaluate(row: Row, xs: list[cr.Tensor]) -> cr.Tensor:
    return eval(row.expression, dict(NAMES), dict(zip("ab", xs, strict=False)))


def test_the_page_has_rows() -> None:
    assert len(rows()) > 80


@pytest.mark.parametrize("row", rows(), ids=lambda r: r.case)
def test_value_and_gradient_are_those_on_the_page(row: Row) -> None:
    xs = [cr.tensor(point, requires_grad=True) for point in row.points()]
    with warnings.catch_warnings():
        # As the library sets it up: nothing but its own filter keeps NumPy from warning.
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"chainrule\.")
        if row.value == "error":
            with pytest.raises(cr.ChainruleError):
                evaluate(row, xs)
            return
        y = evaluate(row, xs)
        same(row.value, y.numpy())
        for text, g in zip(row.gradient.split("; "), cr.grad(y, xs, cr.ones_like(y)), strict=True):
            same(text, g.numpy())


@pytest.mark.parametrize("row", [r for r in rows() if r.value != "error"], ids=lambda r: r.case)
def test_forward_mode_agrees_at_the_edges(row: Row) -> None:
    """Σ (J·1) over the outputs is Σ (Jᵀ·1) over the inputs, infinities and NaNs included."""
    xs = [cr.tensor(point, dtype="float64") for point in row.points()]
    for position, text in enumerate(row.gradient.split("; ")):

        def along(x: cr.Tensor, position: int = position) -> cr.Tensor:
            return evaluate(row, [*xs[:position], x, *xs[position + 1 :]])

        wanted = np.array([float(t) for t in text.split(", ")] if text != "empty" else [])
        if not wanted.size or np.isnan(wanted).any() or (np.isinf(wanted).any() and wanted.size > 1):
            continue  # one NaN among the inputs is NaN in the sum; the sum says nothing more
        _, tangent = cr.func.jvp(along, (xs[position],), (cr.ones_like(xs[position]),))
        np.testing.assert_allclose(tangent.numpy().sum(), wanted.sum(), rtol=1e-5)


def test_the_norm_has_the_gradient_zero_at_zero() -> None:
    x = cr.zeros(3, dtype="float64").requires_grad_()
    assert cr.grad(cr.linalg.vector_norm(x), x).tolist() == [0.0, 0.0, 0.0]


def test_a_masked_row_does_no_harm_to_the_others() -> None:
    x = cr.tensor([[0.0, 1.0], [2.0, 3.0]], dtype="float64", requires_grad=True)
    mask = cr.tensor([[True, True], [False, False]])
    loss = cr.sum(cr.where(mask[:, 0], cr.logsumexp(cr.where(mask, x, -np.inf), axis=1), 0.0))
    g = cr.grad(loss, x).numpy()
    assert np.isfinite(g).all()
    np.testing.assert_allclose(g[0], np.exp([0, 1]) / np.exp([0, 1]).sum())
    np.testing.assert_array_equal(g[1], [0, 0])


def test_an_infinite_cotangent_stays_out_of_the_dead_half_of_relu() -> None:
    x = cr.tensor([-1.0, 2.0], requires_grad=True)
    assert cr.grad(cr.relu(x), x, cr.tensor([np.inf, np.inf])).tolist() == [0.0, np.inf]
    assert cr.grad(cr.where(x > 0, x, 0.0), x, cr.tensor([np.nan, 1.0])).tolist() == [0.0, 1.0]


def test_three_way_ties_are_exact_in_double_precision() -> None:
    x = cr.ones(3, dtype="float64").requires_grad_()
    np.testing.assert_array_equal(cr.grad(cr.max(x), x).numpy(), np.full(3, 1 / 3))


def test_integer_division_by_zero_and_overflow() -> None:
    assert (cr.tensor([1, -1]) // 0).tolist() == [0, 0]
    assert (cr.tensor([1]) % 0).tolist() == [0]
    assert (cr.tensor([1]) / 0).tolist() == [np.inf]
    assert (cr.tensor([127], dtype="int8") + 1).tolist() == [-128]
    with pytest.raises(cr.ChainruleError, match="negative integer powers"):
        cr.tensor([2]) ** -1


def test_float32_overflows_to_infinity_without_a_word() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"chainrule\.")
        big = cr.tensor([3e38, 3e38])
        assert cr.sum(big).item() == cr.prod(big).item() == np.inf
        assert cr.cumulative_sum(big).tolist()[1] == np.inf
        assert (big * 1e300).tolist() == [np.inf] * 2
        assert cr.mean(big).item() == np.inf
        assert cr.exp(cr.tensor([100.0])).item() == np.inf
        assert cr.matmul(big, big).item() == np.inf


def test_the_last_of_repeated_writes_wins_and_each_gets_the_cotangent() -> None:
    v = cr.tensor([1.0, 2.0], requires_grad=True)
    x = cr.zeros(3)
    x[[0, 0]] = v
    assert x.tolist() == [2.0, 0.0, 0.0]
    assert cr.grad(cr.sum(x), v).tolist() == [1.0, 1.0]


def test_random_numbers_stay_inside_their_range() -> None:
    cr.manual_seed(0)
    for dtype in ("float32", "float64"):
        u = cr.rand(100_000, dtype=dtype).numpy()
        assert u.min() >= 0
        assert u.max() < 1
        assert np.isfinite(cr.randn(100_000, dtype=dtype).numpy()).all()
    assert set(cr.randint(0, 3, (1000,)).tolist()) == {0, 1, 2}
