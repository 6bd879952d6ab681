"""Average precision on cases worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule.train.average_precision import Boxes, average_precision, overlaps

A, B, FAR = [0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60]


def boxes(*entries):
    """Boxes from (corners, label, score)."""
    corners, labels, scores = zip(*entries, strict=True) if entries else ((), (), ())
    return Boxes(np.array(corners, float).reshape(-1, 4), np.array(labels, int), np.array(scores, float))


def test_overlaps_by_hand():
    a = np.array([[0, 0, 10, 10], [0, 0, 0, 0]], float)
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [10, 0, 20, 10], [2, 2, 4, 4], [5, 5, 5, 9]], float)
    np.testing.assert_allclose(overlaps(a, b), [[1, 1 / 3, 0, 0.04, 0], [0, 0, 0, 0, 0]])


def test_everything_found_is_1_and_nothing_found_is_0():
    true = [boxes((A, 0, 1), (B, 0, 1))]
    assert average_precision(true, true, 1) == [1.0]
    assert average_precision([boxes()], true, 1) == [0.0]


def test_a_wrong_box_below_all_right_ones_costs_nothing_and_above_it_costs():
    true = [boxes((A, 0, 1), (B, 0, 1))]
    below = [boxes((A, 0, 0.9), (B, 0, 0.8), (FAR, 0, 0.7))]
    above = [boxes((FAR, 0, 0.95), (A, 0, 0.9), (B, 0, 0.8))]
    between = [boxes((A, 0, 0.9), (FAR, 0, 0.85), (B, 0, 0.8))]
    assert average_precision(below, true, 1) == [1.0]
    # Precisions at the hits: 1/2 and 2/3; the envelope makes the first 2/3 as well.
    np.testing.assert_allclose(average_precision(above, true, 1), [2 / 3])
    np.testing.assert_allclose(average_precision(between, true, 1), [(1 + 2 / 3) / 2])


def test_a_second_box_on_the_same_object_is_wrong():
    true = [boxes((A, 0, 1), (B, 0, 1))]
    twice = [boxes((A, 0, 0.9), ([1, 0, 10, 10], 0, 0.85), (B, 0, 0.8))]
    np.testing.assert_allclose(average_precision(twice, true, 1), [(1 + 2 / 3) / 2])


def test_the_threshold_is_reached_not_passed():
    true, half = [boxes((A, 0, 1))], [boxes(([0, 0, 10, 5], 0, 0.9))]
    assert average_precision(half, true, 1, 0.5) == [1.0]
    assert average_precision(half, true, 1, 0.51) == [0.0]


def test_classes_and_images_do_not_mix_and_an_absent_class_has_no_value():
    true = [boxes((A, 0, 1)), boxes((B, 1, 1))]
    swapped_images = [boxes((B, 1, 0.9)), boxes((A, 0, 0.9))]
    swapped_classes = [boxes((A, 1, 0.9)), boxes((B, 0, 0.9))]
    for wrong in (swapped_images, swapped_classes):
        np.testing.assert_array_equal(average_precision(wrong, true, 3), [0, 0, np.nan])


def test_scores_rank_over_all_images():
    true = [boxes((A, 0, 1)), boxes((A, 0, 1))]
    found = [boxes((A, 0, 0.6)), boxes((FAR, 0, 0.8), (A, 0, 0.7))]
    np.testing.assert_allclose(average_precision(found, true, 1), [2 / 3])


def test_different_numbers_of_images_are_refused():
    with pytest.raises(cr.ShapeError, match="2 images with found boxes, 1"):
        average_precision([boxes(), boxes()], [boxes()], 1)


@given(st.lists(st.booleans(), max_size=12), st.integers(0, 5))
def test_the_area_is_the_mean_over_objects_of_the_best_precision_from_there_on(hits, missed):
    """Against the definition: for each recall level the largest precision at that recall or beyond."""
    entries, true, x = [], [], 0
    for rank, hit in enumerate(hits):
        box = [x, 0, x + 5, 5]
        entries.append((box, 0, 1 - rank / 100))
        true += [(box, 0, 1)] if hit else []
        x += 10
    true += [([1000 + 10 * i, 0, 1005 + 10 * i, 5], 0, 1) for i in range(missed)]
    if not true:
        return
    precision = [sum(hits[: k + 1]) / (k + 1) for k in range(len(hits))]
    recall = [sum(hits[: k + 1]) / len(true) for k in range(len(hits))]
    levels = [(i + 1) / len(true) for i in range(len(true))]
    best = [max((p for p, r in zip(precision, recall, strict=True) if r >= at - 1e-12), default=0) for at in levels]
    np.testing.assert_allclose(average_precision([boxes(*entries)], [boxes(*true)], 1), [np.mean(best)])
