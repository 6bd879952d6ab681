"""The face detector: pictures are prepared and boxes read as the formulas say; bad input is named."""

import json

import numpy as np
import pytest

from chainrule.core.errors import OperationError, ShapeError
from chainrule.data import DataError
from chainrule.data.packages import PACKAGES
from chainrule.pretrained import detect_faces, load_tiny_face
from chainrule.pretrained.tiny_face import MEAN, SHAPES, prepare
from tests.pretrained.small_face import write_small_face


@pytest.fixture(scope="module", params=["eager", "compiled"])
def detector(tmp_path_factory, request):
    folder = write_small_face(tmp_path_factory.mktemp("face"))
    return load_tiny_face(folder, compile=request.param == "compiled")


def test_a_bright_square_is_found_in_its_cell_with_the_shape_of_the_box(detector):
    picture = np.zeros((320, 640, 3), np.uint8)
    picture[105:125, 460:480] = 255  # in row 2 and column 9 of 13 × 13 cells
    found = detect_faces(detector, picture)
    cell = 640 / 13
    # The last pooling shows a cell's brightness to its neighbours above and to the left, too.
    centres = (found.corners[:, :2] + found.corners[:, 2:]) / 2 / cell - 0.5
    np.testing.assert_allclose(sorted(map(tuple, centres)), [(8, 1), (8, 2), (9, 1), (9, 2)], atol=1e-9)
    np.testing.assert_allclose((found.corners[:, 2:] - found.corners[:, :2]) / cell, [SHAPES[0]] * 4, rtol=1e-6)
    assert (found.scores > 0.99).all()


def test_a_dark_picture_has_no_face(detector):
    found = detect_faces(detector, np.zeros((50, 60, 3), np.uint8))
    assert found.corners.shape == (0, 4) and found.scores.shape == (0,)


def test_pictures_are_filled_up_resized_and_centred():
    picture = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    square = np.zeros((4, 4, 3))
    square[:2] = picture
    np.testing.assert_allclose(prepare(picture, 4)[0].transpose(1, 2, 0) * 255 + MEAN, square, atol=1e-4)
    twice = prepare(picture, 8)[0].transpose(1, 2, 0) * 255 + MEAN
    np.testing.assert_allclose(twice[::2, ::2], square, atol=1e-4)
    np.testing.assert_allclose(twice[::2, 1:-1:2], (square[:, 1:] + square[:, :-1]) / 2, atol=1e-4)
    np.testing.assert_allclose(twice[::2, -1], square[:, -1], atol=1e-4)
    assert prepare(np.ones((1, 1, 3)), 32).shape == (1, 3, 32, 32)


@pytest.mark.parametrize("size", [0, 31, 400, -32])
def test_a_size_that_is_no_multiple_of_a_cell_is_refused(detector, size):
    with pytest.raises(OperationError, match="multiple of 32"):
        detect_faces(detector, np.zeros((8, 8, 3)), size)


@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 4), (0, 8, 3), (1, 3, 8, 8)])
def test_what_is_no_colour_picture_is_refused(detector, shape):
    with pytest.raises(ShapeError, match=r"\(height, width, 3\)"):
        detect_faces(detector, np.zeros(shape))


def test_weights_of_another_network_are_named(tmp_path, monkeypatch):
    folder = write_small_face(tmp_path / "a")
    manifest = folder / PACKAGES["tiny-face"].files[0].name
    groups = json.loads(manifest.read_text())
    groups[0]["weights"][0]["name"] = "other"
    manifest.write_text(json.dumps(groups))
    with pytest.raises(DataError, match="it lacks conv0/filters"):
        load_tiny_face(folder)
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CHAINRULE_DATA", raising=False)
    with pytest.raises(DataError, match="`chainrule data tiny-face` gets it"):
        load_tiny_face()
