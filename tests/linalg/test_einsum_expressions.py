"""`einsum`: equal to NumPy's for any expression, contracted pairwise, differentiable, and clear about mistakes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import func
from chainrule.core.errors import DTypeError, OperationError, ShapeError

LENGTHS = dict(zip("abcdeXY", (2, 3, 2, 1, 4, 3, 2), strict=True))


@st.composite
def expressions(draw: Any) -> tuple[str, list[tuple[int, ...]]]:
    """An expression of one to four terms with repeated labels, ellipses and lengths of 1 that broadcast."""
    terms, shapes = [], []
    dots = draw(st.lists(st.integers(1, 3), max_size=2))
    for _ in range(draw(st.integers(1, 4))):
        labels = draw(st.lists(st.sampled_from(list(LENGTHS)), max_size=4))
        once = {label for label in labels if labels.count(label) == 1}
        shape = [1 if label in once and draw(st.integers(0, 5)) == 0 else LENGTHS[label] for label in labels]
        if draw(st.booleans()):
            at = draw(st.integers(0, len(labels)))
            own = dots[draw(st.integers(0, len(dots))) :]
            own = [1 if draw(st.integers(0, 3)) == 0 else n for n in own]
            labels.insert(at, "...")
            shape[at:at] = own
        terms.append("".join(labels))
        shapes.append(tuple(shape))
    expression = ",".join(terms)
    if draw(st.booleans()):
        known = sorted(set(expression) - set(",."))
        output = draw(st.permutations(draw(st.lists(st.sampled_from(known), unique=True)) if known else []))
        expression += "->" + "".join(["...", *output] if "..." in expression else output)
    return expression, shapes


@settings(max_examples=200, deadline=None)
@given(expressions())
def test_any_expression_equals_numpy(case: tuple[str, list[tuple[int, ...]]]) -> None:
    expression, shapes = case
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=shape) for shape in shapes]
    expected = np.einsum(expression, *arrays)
    found = cr.einsum(expression, *map(cr.asarray, arrays)).numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float32, np.complex64])
def test_the_type_is_kept(dtype: type) -> None:
    a = cr.asarray(np.arange(6).reshape(2, 3).astype(dtype))
    assert cr.einsum("ij,kj->ik", a, a).dtype == dtype
    assert np.allclose(cr.einsum("ij,kj->ik", a, a).numpy(), np.arange(6).reshape(2, 3) @ np.arange(6).reshape(2, 3).T)


@pytest.mark.parametrize(
    ("expression", "shapes"),
    [
        ("ij,jk->ik", [(2, 3), (3, 2)]),
        ("bij,bjk,bkl->bil", [(2, 2, 2), (2, 2, 3), (2, 3, 2)]),
        ("iij,j->i", [(2, 2, 3), (3,)]),
        ("i,j,k", [(2,), (3,), (2,)]),
        ("...i,...i", [(2, 3), (1, 3)]),
        ("ij,ij->", [(1, 3), (2, 3)]),
    ],
)
def test_derivatives_equal_finite_differences(expression: str, shapes: list[tuple[int, ...]]) -> None:
    rng = np.random.default_rng(1)
    cr.check_grad(lambda *xs: cr.einsum(expression, *xs), *(rng.normal(size=s) for s in shapes), order=2)
    complex_ = [rng.normal(size=s) + 1j * rng.normal(size=s) for s in shapes]
    cr.check_grad(lambda *xs: cr.einsum(expression, *xs), *complex_)


def test_many_operands_are_contracted_in_a_cheap_order() -> None:
    # All at once this would take 60^10 products.
    rng = np.random.default_rng(2)
    chain = [rng.normal(size=(60, 60)) / 8 for _ in range(9)]
    found = cr.einsum("ab,bc,cd,de,ef,fg,gh,hi,ij->aj", *map(cr.asarray, chain))
    np.testing.assert_allclose(found.numpy(), np.linalg.multi_dot(chain), rtol=1e-10, atol=1e-10)
    thin = [rng.normal(size=s) for s in ((2000, 1), (1, 2000), (2000, 1))]
    assert np.allclose(cr.einsum("ij,jk,kl->il", *map(cr.asarray, thin)).numpy(), thin[0] @ (thin[1] @ thin[2]))


def test_more_labels_than_letters_are_contracted_from_left_to_right() -> None:
    x = cr.ones((1,) * 30 + (2,))
    assert cr.einsum("...a,...a,...a->...", x, x, x).shape == (1,) * 30
    many = [cr.ones((1,) * 26), cr.ones((1,) * 26), cr.ones((1,) * 26)]
    letters = "abcdefghijklmnopqrstuvwxyz"
    assert cr.einsum(f"{letters},{letters.upper()}->", *many[:2]).item() == 1


def test_lists_of_integers_are_labels() -> None:
    rng = np.random.default_rng(3)
    a, b = rng.normal(size=(2, 3)), rng.normal(size=(3, 4))
    x, y = cr.asarray(a), cr.asarray(b)
    assert np.allclose(cr.einsum(x, [0, 1], y, [1, 2], [2, 0]).numpy(), (a @ b).T)
    assert np.allclose(cr.einsum(x, [0, 1], y, [1, 2]).numpy(), np.einsum(a, [0, 1], b, [1, 2]))
    assert np.allclose(cr.einsum(x, [..., 1], [1, ...]).numpy(), a.T)
    assert np.allclose(cr.einsum(x, [30, 5]).numpy(), np.einsum(a, [30, 5]))


def test_vmap_and_forward_mode_go_through() -> None:
    rng = np.random.default_rng(4)
    a, b = cr.asarray(rng.normal(size=(5, 2, 3))), cr.asarray(rng.normal(size=(3, 4)))
    mapped = func.vmap(lambda x: cr.einsum("ij,jk->ki", x, b))(a)
    assert np.allclose(mapped.numpy(), np.einsum("bij,jk->bki", a.numpy(), b.numpy()))


@pytest.mark.parametrize(
    ("expression", "error", "message"),
    [
        ("ij,jk", OperationError, "2 terms for 1 operands"),
        ("ij->iij", OperationError, "'i' occurs twice in the output 'iij'"),
        ("ij->k", OperationError, "'k' in the output 'k' is in no operand"),
        ("ijk", ShapeError, "term 0 'ijk' has 3 labels for 2 axes"),
        ("i", ShapeError, "term 0 'i' has 1 labels for 2 axes"),
        ("ii", ShapeError, "label 'i' has length 3"),
        ("i..j", OperationError, "ellipsis of three dots"),
        ("...i...", OperationError, "ellipsis of three dots"),
        ("i1", OperationError, "labels are the letters"),
        ("ij->i->j", OperationError, "at most one '->'"),
        ("ij>i", OperationError, "at most one '->'"),
        ("...j->j", OperationError, "must say where the axes of '...' go"),
    ],
)
def test_a_wrong_expression_says_what_is_wrong(expression: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=f"einsum: .*{message.replace('.', '[.]')}"):
        cr.einsum(expression, cr.ones((2, 3)))


def test_operands_that_do_not_fit_are_named() -> None:
    with pytest.raises(ShapeError, match=r"label 'j' has length 2 in operand 1 \(2, 3\), but 3 before"):
        cr.einsum("ij,jk", cr.ones((2, 3)), cr.ones((2, 3)))
    with pytest.raises(ShapeError, match=r"an axis of '\.\.\.' has length 4"):
        cr.einsum("...i,...i", cr.ones((2, 3)), cr.ones((4, 3)))
    with pytest.raises(DTypeError, match="a string of subscripts and the operands"):
        cr.einsum(cr.ones(2), cr.ones(2))
    with pytest.raises(OperationError, match="integers from 0 to 51"):
        cr.einsum(cr.ones(2), [52])
