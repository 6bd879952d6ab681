"""The detector's parts: targets, loss, boxes found, and the scenes it is trained on."""

import builtins

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn
from chainrule.data import DataError, FashionMNIST
from chainrule.recipes.detector import STRIDE, detect, detection_loss, targets
from chainrule.recipes.scenes import MOST, Scenes, extent, resize_to, true_boxes
from chainrule.recipes.tree_crowns import LARGE, OTHERS, Crops, TreeCrowns, cut
from chainrule.train.average_precision import Boxes, average_precision, overlaps


def boxes(corners, labels):
    return Boxes(np.array(corners, float).reshape(-1, 4), np.array(labels), np.ones(len(labels)))


def test_cells_near_a_centre_belong_to_the_smallest_box_there():
    large, small = [0, 0, 64, 64], [24, 24, 44, 44]
    one_of, sides, near = targets(boxes([large, small], [0, 1]), (64, 64), 2)
    # The cell with centre (28, 28) is near both centres, (32, 32) and (34, 34).
    assert one_of[:, 3, 3].tolist() == [0, 1] and near[0, 3, 3] == 1
    assert sides[:, 3, 3].tolist() == [4, 4, 16, 16]
    assert near[0, 0, 0] == 0 and one_of[:, 0, 0].tolist() == [0, 0]


def test_targets_turned_into_predictions_are_found_again():
    garments = FashionMNIST(False, FashionMNIST(False).source.folder)
    scenes = Scenes(garments, False, 8, seed=5)

    class Perfect(nn.Module):
        def forward(self, pictures):
            return cr.Tensor(self.scores), cr.Tensor(self.sides)

    found, true = [], []
    for i in range(8):
        picture, corners, labels = scenes[i]
        real = true_boxes(corners.numpy(), labels.numpy())
        model = Perfect()
        one_of, sides, _ = targets(real, picture.shape[1:], 10)
        model.scores, model.sides = (20 * one_of - 10)[None].astype(np.float32), sides[None]
        found += detect(model, picture[None])
        true.append(real)
    result = average_precision(found, true, 10)
    assert np.nanmin(result) == 1.0
    assert [len(f.labels) for f in found] == [len(t.labels) for t in true]


def test_the_loss_is_small_where_the_prediction_is_right_and_its_gradients_are_right():
    one_of, sides, near = (t[None].astype(np.float64) for t in targets(boxes([[4, 4, 44, 36]], [1]), (48, 48), 3))
    right = detection_loss(cr.tensor(20 * one_of - 10), cr.tensor(sides + 1e-3), *map(cr.tensor, (one_of, sides, near)))
    assert 0 <= right.item() < 1e-3
    rng = np.random.default_rng(0)
    scores, wide = cr.tensor(rng.normal(size=one_of.shape)), cr.tensor(sides + rng.uniform(1, 9, sides.shape))
    fixed = [cr.tensor(t) for t in (one_of, sides, near)]
    cr.check_grad(lambda s, d: detection_loss(s, d, *fixed), scores, wide)


@pytest.fixture(scope="module")
def garments():
    return FashionMNIST(True, FashionMNIST(True).source.folder)


def test_scenes_are_new_each_time_or_fixed_by_a_seed(garments):
    fixed, free = Scenes(garments, True, 4, seed=3), Scenes(garments, True, 4)
    assert np.array_equal(fixed[2][0].numpy(), fixed[2][0].numpy())
    assert not np.array_equal(fixed[2][0].numpy(), fixed[3][0].numpy())
    cr.manual_seed(1)
    first, second = free[0][0].numpy(), free[0][0].numpy()
    cr.manual_seed(1)
    assert not np.array_equal(first, second) and np.array_equal(free[0][0].numpy(), first)


def test_garments_lie_inside_the_scene_and_hardly_overlap(garments):
    scenes = Scenes(garments, True, 30, seed=8)
    counts = []
    for i in range(30):
        picture, corners, labels = scenes[i]
        assert picture.shape == (3, 128, 128) and picture.dtype == cr.float32
        assert picture.numpy().min() >= 0 and picture.numpy().max() <= 1
        found = true_boxes(corners.numpy(), labels.numpy())
        counts.append(len(found.labels))
        assert (found.corners >= 0).all() and (found.corners <= 128).all()
        assert (found.corners[:, 2:] - found.corners[:, :2] >= 3).all()
        assert np.triu(overlaps(found.corners, found.corners), 1).max(initial=0) <= 0.05
    assert min(counts) >= 1 and 4 <= max(counts) <= MOST


def test_the_extent_of_a_garment_is_its_bright_pixels():
    image = np.zeros((28, 28), np.float32)
    image[5:9, 10:20] = 1
    assert extent(image).tolist() == [10, 5, 20, 9]
    assert extent(np.zeros((4, 4))).tolist() == [0, 0, 0, 0]
    assert resize_to(image, 28).tolist() == image.tolist()
    assert extent(resize_to(image, 56), 0.5).tolist() == [20, 10, 40, 18]


def test_without_scikit_image_textures_are_made_and_named(garments, monkeypatch):
    real = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("skimage"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    scenes = Scenes(garments, True, 1, seed=0)
    assert "made textures" in scenes.source and "chainrule[photos]" in scenes.source
    assert scenes.backgrounds[0].std() > 20 and scenes[0][0].shape == (3, 128, 128)


def write_crowns(folder):
    from PIL import Image

    rng = np.random.default_rng(0)
    for name, (w, h) in {LARGE: (1249, 200), **dict.fromkeys(OTHERS, (130, 137))}.items():
        pixels = np.zeros((h, w, 3), np.uint8)
        objects = ""
        for x in range(10, w - 40, 60):
            y, side = int(rng.integers(0, h - 40)), int(rng.integers(20, 35))
            pixels[y : y + side, x : x + side] = 255
            objects += f"<object><name>Tree</name><bndbox><xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + side}</xmax>"
            objects += f"<ymax>{y + side}</ymax></bndbox></object>"
        Image.fromarray(pixels).save(folder / f"{name}.png")
        (folder / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")


def test_crops_of_an_aerial_photograph_keep_boxes_on_their_trees(tmp_path):
    write_crowns(tmp_path)
    crowns = TreeCrowns(tmp_path)
    assert list(crowns.held_out) == ["Yellowstone held-out third", "site OSBS", "site SOAP"]
    cr.manual_seed(0)
    checked = 0
    for picture, corners, labels in Crops(crowns.train, 40):
        bright = picture.numpy()[0] > 0.3
        for x1, y1, x2, y2 in true_boxes(corners.numpy(), labels.numpy()).corners:
            inner = bright[int(y1) + 3 : int(y2) - 2, int(x1) + 3 : int(x2) - 2]
            assert inner.all()
            checked += 1
        assert picture.shape == (3, 128, 128)
    assert checked > 40


def test_held_out_trees_are_none_that_were_trained_on(tmp_path):
    write_crowns(tmp_path)
    crowns = TreeCrowns(tmp_path)
    ((picture, corners, labels),) = crowns.held_out["Yellowstone held-out third"]
    assert picture.shape[2] % STRIDE == 0 and len(corners) == len(labels) > 3
    assert crowns.train[0].shape[2] + picture.shape[2] <= 1249
    assert len(crowns.train[2]) + len(labels) <= 20


def test_boxes_are_cut_at_the_window_and_dropped_when_little_is_left():
    corners = np.array([[-5, 0, 15, 10], [-16, 0, 4, 10], [40, 40, 50, 50]], float)
    assert cut(corners, 20, 20).tolist() == [[0, 0, 15, 10]]


def test_damaged_crowns_are_named(tmp_path):
    write_crowns(tmp_path)
    (tmp_path / "SOAP_061.png").write_bytes((tmp_path / "SOAP_061.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"SOAP_061\.png: damaged"):
        TreeCrowns(tmp_path)
    with pytest.raises(DataError, match="are not in"):
        TreeCrowns(tmp_path / "nowhere")
