"""Boxes, their overlaps and losses, non-maximum suppression and focal loss, against definitions and counting."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule.core.errors import DTypeError, OperationError, ShapeError
from chainrule.nn.functional import binary_cross_entropy_with_logits
from chainrule.nn.functional import detection as ops

side = st.integers(0, 9)
box = st.tuples(side, side, st.integers(1, 6), st.integers(1, 6)).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3]))


def tensor(boxes: Any) -> Any:
    return cr.tensor(np.array(boxes, np.float64).reshape(-1, 4))


def apart(count: int, seed: int = 0) -> Any:
    """Boxes without ties, where everything is differentiable."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 1, (count, 2))
    return cr.tensor(np.concatenate([corner, corner + rng.uniform(0.1, 0.8, (count, 2))], axis=1))


def pixels(b: tuple[int, ...]) -> set[tuple[int, int]]:
    return {(x, y) for x in range(b[0], b[2]) for y in range(b[1], b[3])}


@settings(max_examples=60, deadline=None)
@given(a=box, b=box)
def test_overlap_is_what_counting_pixels_gives(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    inside, union = len(pixels(a) & pixels(b)), len(pixels(a) | pixels(b))
    around = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    x, y = tensor(a), tensor(b)
    assert ops.box_area(x).item() == len(pixels(a))
    assert ops.box_iou(x, y).item() == pytest.approx(inside / union, abs=1e-12)
    generalised = inside / union - (around - union) / around
    assert ops.generalized_box_iou(x, y).item() == pytest.approx(generalised, abs=1e-12)
    assert ops.generalized_box_iou_loss(x, y).item() == pytest.approx(1 - generalised, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(a=box, b=box)
def test_the_losses_are_one_minus_their_overlaps_and_order_as_published(a: Any, b: Any) -> None:
    x, y = tensor(a), tensor(b)
    iou, distance, complete = ops.box_iou(x, y), ops.distance_box_iou(x, y), ops.complete_box_iou(x, y)
    assert complete.item() <= distance.item() <= iou.item() <= 1
    assert ops.distance_box_iou_loss(x, y).item() == pytest.approx(1 - distance.item(), abs=1e-5)
    assert ops.complete_box_iou_loss(x, y).item() == pytest.approx(1 - complete.item(), abs=1e-5)
    for loss in (ops.generalized_box_iou_loss, ops.distance_box_iou_loss, ops.complete_box_iou_loss):
        assert loss(x, x).item() == pytest.approx(0, abs=1e-6)


LOSSES = [ops.generalized_box_iou_loss, ops.distance_box_iou_loss, ops.complete_box_iou_loss]


@pytest.mark.parametrize("loss", LOSSES[:2])
def test_gradients_of_the_losses_are_those_of_finite_differences(loss: Any) -> None:
    cr.check_grad(lambda a, b: loss(a, b, "sum"), apart(5), apart(5, seed=1), order=2)


@pytest.mark.parametrize("loss", LOSSES)
def test_boxes_apart_are_drawn_together(loss: Any) -> None:
    """Where IoU itself has no gradient: a step against the gradient brings the boxes closer."""
    a, b = tensor([0, 0, 1, 1]).requires_grad_(), tensor([3, 4, 4, 6])
    assert not cr.grad(ops.box_iou(a, b).sum(), a).numpy().any()
    g = cr.grad(loss(a, b, "sum"), a)
    assert loss(a.detach() - g * 0.05, b, "sum").item() < loss(a, b, "sum").item()
    assert (g.numpy()[0, 2:] < 0).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_no_boxes_have_loss_zero(loss: Any) -> None:
    none = tensor([]).requires_grad_()
    assert loss(none, none, "mean").item() == 0 and loss(none, none).shape == (0,)
    assert cr.grad(loss(none, none, "mean"), none).shape == (0, 4)
    assert ops.box_iou(none, tensor([[0, 0, 1, 1]])).shape == (0, 1)
    assert ops.nms(none.detach(), cr.zeros(0, dtype=np.float64), 0.5).shape == (0,)


@pytest.mark.parametrize("middle", ["xyxy", "xywh", "cxcywh"])
@pytest.mark.parametrize("fmt", ["xyxy", "xywh", "cxcywh"])
def test_formats_convert_back_and_forth(fmt: str, middle: str) -> None:
    boxes = apart(6)
    there = ops.box_convert(ops.box_convert(boxes, "xyxy", fmt), fmt, middle)
    np.testing.assert_allclose(ops.box_convert(there, middle, "xyxy").numpy(), boxes.numpy(), rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(ops.box_area(there, middle).numpy(), ops.box_area(boxes).numpy(), rtol=1e-12)
    np.testing.assert_allclose(
        ops.box_iou(there, there, middle).numpy(), ops.box_iou(boxes, boxes).numpy(), rtol=1e-9, atol=1e-12
    )
    assert ops.box_convert(tensor([1, 2, 4, 8]), "xyxy", "cxcywh").tolist() == [[2.5, 5, 3, 6]]


def by_definition(boxes: np.ndarray, scores: np.ndarray, kinds: np.ndarray, threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(scores)), key=lambda i: -scores[i]):
        overlaps = [ops.box_iou(tensor(boxes[i]), tensor(boxes[j])).item() for j in kept if kinds[i] == kinds[j]]
        if not any(overlap > threshold for overlap in overlaps):
            kept.append(i)
    return kept


@settings(max_examples=40, deadline=None)
@given(
    boxes=st.lists(box, max_size=8), threshold=st.sampled_from([0.0, 0.2, 1 / 3, 0.5, 1.0]), seed=st.integers(0, 99)
)  # fmt: skip
def test_suppression_is_its_definition_with_ties_in_score_and_overlap(boxes: Any, threshold: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores, kinds = rng.integers(0, 4, len(boxes)) / 4, rng.integers(0, 2, len(boxes))
    b, s = tensor(boxes), cr.tensor(scores)
    alike = np.zeros(len(boxes), int)
    assert ops.nms(b, s, threshold).tolist() == by_definition(b.numpy(), scores, alike, threshold)
    got = ops.batched_nms(b, s, cr.tensor(kinds), threshold)
    assert got.tolist() == by_definition(b.numpy(), scores, kinds, threshold) and got.dtype == np.int64


def test_thousands_of_boxes_are_quick_enough_to_test() -> None:
    boxes = apart(5000)
    kept = ops.nms(boxes, cr.tensor(np.random.default_rng(0).uniform(size=5000)), 0.5)
    overlaps = ops.box_iou(boxes[kept], boxes[kept]).numpy() - np.eye(kept.size)
    assert overlaps.max() <= 0.5 and 0 < kept.size < 5000


def test_boxes_are_clipped_and_small_ones_found() -> None:
    boxes = tensor([[-1, -2, 3, 4], [2, 2, 9, 9], [4, 1, 4.5, 3]])
    assert ops.clip_boxes_to_image(boxes, (5, 6)).tolist() == [[0, 0, 3, 4], [2, 2, 6, 5], [4, 1, 4.5, 3]]
    assert ops.remove_small_boxes(boxes, 1).tolist() == [0, 1]


def test_focal_loss_without_focus_is_cross_entropy_and_easy_examples_count_less() -> None:
    x, t = cr.tensor([-3.0, 0.5, 40.0, -40.0]), cr.tensor([0.0, 1.0, 1.0, 0.0])
    plain = binary_cross_entropy_with_logits(x, t, reduction="none").numpy()
    np.testing.assert_allclose(ops.sigmoid_focal_loss(x, t, -1, 0).numpy(), plain, rtol=1e-6)
    focal = ops.sigmoid_focal_loss(x, t, -1).numpy()
    assert focal[0] / plain[0] < 0.01 < focal[1] / plain[1] < 1 and np.isfinite(focal).all()
    for gamma in (2, 1.5):
        cr.check_grad(
            lambda x, g=gamma: ops.sigmoid_focal_loss(x, t.astype("float64"), gamma=g).sum(), x.astype("float64")
        )


def test_mistakes_are_named() -> None:
    a = apart(3)
    with pytest.raises(ShapeError, match=r"\(…, 4\)"):
        ops.box_iou(a[:, :3], a)
    with pytest.raises(ShapeError, match="one by one"):
        ops.generalized_box_iou_loss(a, a[:2])
    with pytest.raises(OperationError, match="'xyrb'"):
        ops.box_convert(a, "xyrb", "xyxy")
    with pytest.raises(ShapeError, match="scores"):
        ops.nms(a, cr.ones(2), 0.5)
    with pytest.raises(DTypeError, match="int64"):
        ops.nms(a.astype(np.int64), cr.ones(3), 0.5)
    with pytest.raises(OperationError, match="alpha"):
        ops.sigmoid_focal_loss(cr.ones(3), cr.ones(3), alpha=1.5)
