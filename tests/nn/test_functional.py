"""nn.functional: derivatives against finite differences, extreme values, and bad input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import chainrule as cr
import chainrule.nn.functional as F
from chainrule.core.errors import ChainruleError, DTypeError, IndexingError, OperationError, ShapeError
from tests.nn import image_samples
from tests.nn.samples import CASES, RANDOM, Case, call, label

# One sample of each function and kind of arguments: reductions other than the mean add no derivative of their own.
DERIVED = [c for c in CASES if c.inputs and c.inputs[0].size and c.options.get("reduction", "mean") != "sum"]
# Tested in test_images.py.
IMAGES = {case[0] for case in image_samples.functions()}
# Their derivatives are those of another function than the value's, on purpose.
SURROGATE = {"gaussian_nll_loss", "embedding"}


def test_every_function_has_a_sample() -> None:
    missing = set(F.__all__) - {case.name for case in CASES} - RANDOM - IMAGES
    assert not missing, f"no sample of {sorted(missing)} in tests/nn/samples.py"


@pytest.mark.parametrize("case", [c for c in DERIVED if c.name not in SURROGATE], ids=label)
def test_derivatives_agree_with_finite_differences(case: Case) -> None:
    cr.check_grad(lambda *tensors: call(case, tensors), *case.inputs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_does_not_overflow(name: str, dtype: Any) -> None:
    x = cr.tensor(np.array([[1e30, 0.0, -1e30], [-1e30, -1e30, -1e30], [700, 710, 720]], dtype), requires_grad=True)
    y = getattr(F, name)(x, dim=1)
    values = y.numpy() if name == "softmax" else np.exp(y.numpy())
    np.testing.assert_allclose(values.sum(axis=1), 1, rtol=1e-5)
    (y * cr.ones_like(y)).sum().backward()
    assert np.isfinite(x.grad.numpy()).all()


def test_softmax_of_masked_entries_is_zero_and_so_is_their_gradient() -> None:
    x = cr.tensor([[1.0, -math.inf, 2.0]], requires_grad=True)
    y = F.softmax(x, dim=-1)
    (y * cr.tensor([[1.0, 5.0, 3.0]])).sum().backward()
    assert y.numpy()[0, 1] == 0 and x.grad.numpy()[0, 1] == 0 and np.isfinite(x.grad.numpy()).all()


def test_softmax_of_a_row_that_is_masked_whole_is_nan() -> None:
    assert np.isnan(F.softmax(cr.tensor([-math.inf, -math.inf]), dim=0).numpy()).all()


@pytest.mark.parametrize("target", [0, 1])
def test_cross_entropy_of_infinite_logits(target: int) -> None:
    x = cr.tensor([[0.0, -math.inf]], requires_grad=True)
    loss = F.cross_entropy(x, cr.tensor([target]))
    loss.backward()
    assert loss.item() == (0.0 if target == 0 else math.inf)
    np.testing.assert_allclose(x.grad.numpy(), [[0, 0]] if target == 0 else [[1, -1]])


def test_cross_entropy_of_large_logits_is_exact() -> None:
    x = cr.tensor([[1e4, 0.0]], requires_grad=True)
    loss = F.cross_entropy(x, cr.tensor([1]))
    loss.backward()
    assert loss.item() == 1e4 and x.grad.numpy().tolist() == [[1, -1]]


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_a_batch_without_counted_samples_has_mean_nan_and_sum_zero(name: str) -> None:
    x, function = cr.randn(2, 3, requires_grad=True), getattr(F, name)
    ignored = cr.tensor([-100, -100])
    assert math.isnan(function(x, ignored).item()) and function(x, ignored, reduction="sum").item() == 0
    assert function(x, ignored, reduction="none").tolist() == [0, 0]
    empty = function(cr.zeros((0, 3)), cr.zeros(0, dtype=np.int64))
    assert math.isnan(empty.item())


def test_ignored_samples_get_no_gradient() -> None:
    x = cr.randn(3, 4, requires_grad=True)
    F.cross_entropy(x, cr.tensor([1, -100, 2]), label_smoothing=0.1).backward()
    assert not x.grad.numpy()[1].any() and x.grad.numpy()[0].any()


def test_binary_cross_entropy_with_logits_does_not_overflow() -> None:
    x = cr.tensor([1e4, -1e4, 1e4, -1e4], requires_grad=True)
    loss = F.binary_cross_entropy_with_logits(x, cr.tensor([1.0, 0.0, 0.0, 1.0]), reduction="none")
    assert loss.tolist() == [0, 0, 1e4, 1e4]
    loss.sum().backward()
    assert x.grad.tolist() == [0, 0, 1, -1]


def test_binary_cross_entropy_at_0_and_1_is_bounded() -> None:
    x = cr.tensor([0.0, 1.0, 0.0, 1.0], requires_grad=True)
    loss = F.binary_cross_entropy(x, cr.tensor([1.0, 0.0, 0.0, 1.0]), reduction="none")
    assert loss.tolist() == [100, 100, 0, 0]
    loss.sum().backward()
    assert np.isfinite(x.grad.numpy()).all()


@pytest.mark.parametrize("name", ["elu", "selu", "celu", "softplus", "logsigmoid", "mish", "silu", "gelu", "softsign"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_are_finite_where_an_unselected_branch_overflows(name: str, dtype: Any) -> None:
    x = cr.tensor(np.array([-1e3, -50.0, 0.0, 50.0, 1e3], dtype), requires_grad=True)
    y = getattr(F, name)(x)
    y.sum().backward()
    assert np.isfinite(y.numpy()).all() and np.isfinite(x.grad.numpy()).all() and y.dtype == dtype


@pytest.mark.parametrize("name", ["relu", "hardtanh", "relu6", "gelu", "elu", "softplus", "hardswish", "softmax"])
def test_nan_goes_through(name: str) -> None:
    x = cr.tensor([math.nan, 1.0])
    y = getattr(F, name)(x, **({"dim": 0} if name == "softmax" else {}))
    assert math.isnan(y.numpy()[0])


def test_similarities_of_zero_vectors_have_gradients() -> None:
    x = cr.zeros((2, 3), requires_grad=True)
    for y in (F.normalize(x), F.cosine_similarity(x, cr.ones((2, 3))), F.normalize(x, p=3.0)):
        x.grad = None
        y.sum().backward()
        assert np.isfinite(x.grad.numpy()).all()


def test_dtypes_are_kept() -> None:
    for dtype in (np.float32, np.float64):
        x = cr.tensor(np.ones((3, 4), dtype))
        for y in (
            F.gelu(x),
            F.leaky_relu(x),
            F.layer_norm(x, (4,)),
            F.softplus(x),
            F.cross_entropy(x, cr.zeros(3, dtype=int)),
            F.dropout(x, 0.3),
            F.normalize(x),
            F.hardswish(x),
            F.batch_norm(x, None, None, training=True),
        ):
            assert y.dtype == dtype
    assert F.softmax(cr.tensor([1, 2]), dim=0, dtype=np.float64).dtype == np.float64


X = cr.ones((4, 3))
I = cr.zeros(4, dtype=np.int64)  # noqa: E741
BAD = {
    "linear: inner lengths": (lambda: F.linear(X, cr.ones((2, 5))), ShapeError, r"length 3 .*\(4, 3\).* takes 5"),
    "linear: integers": (lambda: F.linear(cr.ones((4, 3), dtype=int), cr.ones((2, 3))), DTypeError, "int64.*float32"),
    "linear: float64 input": (
        lambda: F.linear(cr.ones((4, 3), dtype=np.float64), cr.ones((2, 3))),
        DTypeError,
        "float64.*float32",
    ),
    "linear: no tensor": (lambda: F.linear([[1.0]], cr.ones((2, 1))), DTypeError, "list"),
    "linear: 0-d": (lambda: F.linear(cr.tensor(1.0), cr.ones((2, 1))), ShapeError, r"\(\)"),
    "bilinear": (lambda: F.bilinear(X, X, cr.ones((2, 3, 4))), ShapeError, r"\(2, 3, 4\)"),
    "class too large": (
        lambda: F.cross_entropy(X, cr.tensor([0, 1, 3, 2])),
        IndexingError,
        "3 at position 2 .* 3 classes",
    ),
    "class negative": (lambda: F.nll_loss(X, cr.tensor([0, -1, 1, 2])), IndexingError, "-1 at position 1"),
    "floating classes": (
        lambda: F.cross_entropy(X, cr.ones(4)),
        DTypeError,
        r"integers of shape \(4,\), got float32\[4\]",
    ),
    "classes of another batch": (lambda: F.cross_entropy(X, cr.zeros(5, dtype=int)), ShapeError, r"\(5,\).*\(4, 3\)"),
    "one-hot integers": (lambda: F.cross_entropy(X, cr.zeros((4, 3), dtype=int)), ShapeError, r"\(4, 3\)"),
    "integer logits": (lambda: F.cross_entropy(cr.ones((4, 3), dtype=int), I), DTypeError, "floating"),
    "0-d logits": (lambda: F.cross_entropy(cr.tensor(1.0), I), ShapeError, "axis of classes"),
    "weight of classes": (lambda: F.cross_entropy(X, I, weight=cr.ones(4)), ShapeError, r"\(4,\) for 3 classes"),
    "label smoothing": (lambda: F.cross_entropy(X, I, label_smoothing=1.5), OperationError, "1.5"),
    "reduction": (lambda: F.mse_loss(X, X, reduction="average"), OperationError, "'average'"),
    "target list": (lambda: F.cross_entropy(X, [0, 1, 2, 0]), DTypeError, "list"),
    "bce shapes": (lambda: F.binary_cross_entropy(X, cr.ones(4)), ShapeError, r"\(4, 3\).*\(4,\)"),
    "bce logits": (lambda: F.binary_cross_entropy(X * 2.0, X), OperationError, "with_logits"),
    "bce integers": (lambda: F.binary_cross_entropy_with_logits(X, cr.ones((4, 3), dtype=int)), DTypeError, "target"),
    "softmax dim": (lambda: F.softmax(X, dim=2), IndexingError, "dim 2"),
    "softmax integers": (lambda: F.softmax(cr.ones(3, dtype=int), dim=0), DTypeError, "int64"),
    "glu odd": (lambda: F.glu(X), ShapeError, "odd"),
    "gelu": (lambda: F.gelu(X, approximate="fast"), OperationError, "fast"),
    "prelu": (lambda: F.prelu(X, cr.ones(4)), ShapeError, r"\(4,\) for 3 channels"),
    "dropout p": (lambda: F.dropout(X, 1.5), OperationError, "1.5"),
    "layer_norm": (lambda: F.layer_norm(X, (4,)), ShapeError, r"\(4,\).*\(4, 3\)"),
    "group_norm": (lambda: F.group_norm(X, 2), ShapeError, "2 groups"),
    "batch_norm: one value": (
        lambda: F.batch_norm(cr.ones((1, 3)), None, None, training=True),
        ShapeError,
        "more than one",
    ),
    "batch_norm: weight": (
        lambda: F.batch_norm(X, None, None, cr.ones(4), training=True),
        ShapeError,
        r"weight of shape \(4,\)",
    ),
    "batch_norm: no statistics": (lambda: F.batch_norm(X, None, None), ShapeError, "running_mean"),
    "embedding range": (lambda: F.embedding(cr.tensor([0, 7]), X), IndexingError, "index 7 .* 4 rows"),
    "embedding negative": (lambda: F.embedding(cr.tensor([0, -1]), X), IndexingError, "index -1"),
    "embedding floats": (lambda: F.embedding(X, X), DTypeError, "float32"),
    "one_hot": (lambda: F.one_hot(cr.tensor([0, 5]), 3), IndexingError, "3 classes"),
    "smooth_l1": (lambda: F.smooth_l1_loss(X, X, beta=-1.0), OperationError, "-1"),
    "huber": (lambda: F.huber_loss(X, X, delta=0.0), OperationError, "delta"),
    "gaussian variance": (lambda: F.gaussian_nll_loss(X, X, -X), OperationError, "negative"),
    "gaussian shape": (lambda: F.gaussian_nll_loss(X, X, cr.ones((2, 3))), ShapeError, r"\(2, 3\)"),
    "triplet": (lambda: F.triplet_margin_loss(X, X, X, margin=-1.0), OperationError, "margin"),
    "cosine embedding": (lambda: F.cosine_embedding_loss(X, X, cr.ones(3)), ShapeError, r"\(3,\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gives_one_clear_message_with_the_users_line(name: str) -> None:
    attempt, kind, pattern = BAD[name]
    with pytest.raises(kind, match=pattern) as caught:
        attempt()
    assert isinstance(caught.value, ChainruleError) and "test_functional.py" in str(caught.value)


def test_shapes_that_broadcast_give_a_warning_that_names_both() -> None:
    with pytest.warns(UserWarning, match=r"\(4, 1\).*\(4,\)"):
        F.mse_loss(cr.ones((4, 1)), cr.ones(4))


def test_softmax_without_dim_warns() -> None:
    with pytest.warns(UserWarning, match="dim"):
        assert F.softmax(X).numpy().sum() == pytest.approx(4)


def test_arrays_are_taken_for_targets() -> None:
    assert F.cross_entropy(X, np.zeros(4, np.int64)).item() == pytest.approx(math.log(3))


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int16, np.int32, np.uint64])
def test_class_indices_may_have_any_integer_type(kind: Any) -> None:
    target = cr.tensor(np.array([0, 1, 2, 1], kind))
    assert F.cross_entropy(X, target).item() == pytest.approx(math.log(3))
    with pytest.raises(IndexingError):
        F.cross_entropy(X, cr.tensor(np.array([0, 1, 3, 1], kind)))
