"""The face detector agrees with face-api.js itself, run by Node, and with a forward pass written in PyTorch."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from chainrule import Tensor
from chainrule.data.packages import PACKAGES, Package
from chainrule.data.pictures import astronaut, read_picture
from chainrule.data.sources import RemoteFile
from chainrule.interop import read_tfjs
from chainrule.pretrained import TinyFaceDetector, detect_faces, load_tiny_face
from chainrule.pretrained.tiny_face import prepare
from tests.peers.packages import package

pytestmark = pytest.mark.peers
LIBRARY = Package(
    "face-api.js with TensorFlow.js in it",
    "npm",
    PACKAGES["tiny-face"].requirement,
    "package/dist",
    (RemoteFile("face-api.esm.js", 1_333_462, "14f0e9813f6d9f14a9cdafb6543a74835ebb13085090e2942310a7a737f55d9a"),),
)


@pytest.fixture(scope="module")
def detector() -> TinyFaceDetector:
    return load_tiny_face(package("tiny-face"))


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PACKAGES, "face-api", LIBRARY)
        source = package("face-api") / LIBRARY.files[0].name
    module = tmp_path_factory.mktemp("face-api") / "face-api.mjs"
    shutil.copy(source, module)
    return module


def pictures() -> dict[str, np.ndarray]:
    photograph = read_picture(astronaut())
    return {
        "whole": photograph,
        "wide": photograph[20:300, 5:],
        "tall": photograph[:, 100:301],
        "small": photograph[40:200, 130:310],
        "two": np.concatenate([photograph[:256, 100:356], photograph[:256, 356:99:-1]], axis=1),
        "none": photograph[300:, 300:],
    }


@pytest.mark.parametrize(("name", "size"), [*((name, 416) for name in pictures()), ("whole", 224), ("two", 608)])
def test_scores_and_faces_are_those_of_face_api(
    detector: TinyFaceDetector, library: Path, tmp_path: Path, name: str, size: int
) -> None:
    picture = pictures()[name]
    picture.astype("<f4").tofile(tmp_path / "pixels")
    node = shutil.which("node")
    assert node is not None, "npm is there, and Node is not"
    height, width, _ = picture.shape
    script = Path(__file__).with_name("face_api.mjs")
    command = [node, script, library, package("tiny-face"), tmp_path / "pixels", height, width, size]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-500:]
    expected: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])

    output = detector(Tensor(prepare(picture, size))).numpy()
    theirs = np.array(expected["output"], np.float32).reshape(output.shape)
    np.testing.assert_allclose(output, theirs, rtol=1e-4, atol=2e-5 * np.abs(theirs).max())
    found = detect_faces(detector, picture, size)
    boxes = np.array(expected["faces"]).reshape(-1, 5)
    # face-api.js takes the short side of the resized picture as rounded to pixels, which shifts its boxes a little.
    sides = np.array([width, height]) * size / max(width, height)
    boxes[:, :4] *= np.tile(np.floor(sides + 0.5) / sides, 2)
    np.testing.assert_allclose(found.corners, boxes[:, :4], atol=0.01)
    np.testing.assert_allclose(found.scores, boxes[:, 4], rtol=1e-4)
    if size == 416:
        assert len(boxes) == {"two": 2, "none": 0}.get(name, 1)


def test_the_output_is_that_of_the_same_network_in_pytorch(detector: TinyFaceDetector) -> None:
    stored = read_tfjs(package("tiny-face") / PACKAGES["tiny-face"].files[0].name)
    weights = {name: torch.tensor(array) for name, array in stored.items()}
    x = prepare(pictures()["whole"], 416)
    y = F.conv2d(torch.tensor(x), weights["conv0/filters"].permute(3, 2, 0, 1), weights["conv0/bias"])
    y = F.leaky_relu(y, 0.1)
    for i in range(1, 6):
        y = F.max_pool2d(y, 2, ceil_mode=True)
        y = F.conv2d(y, weights[f"conv{i}/depthwise_filter"].permute(2, 3, 0, 1), padding=1, groups=y.shape[1])
        y = F.conv2d(y, weights[f"conv{i}/pointwise_filter"].permute(3, 2, 0, 1), weights[f"conv{i}/bias"])
        y = F.leaky_relu(y, 0.1)
    y = F.max_pool2d(F.pad(y, (0, 1, 0, 1), value=float("-inf")), 2, 1)
    y = F.conv2d(y, weights["conv8/filters"].permute(3, 2, 0, 1), weights["conv8/bias"]).permute(0, 2, 3, 1)
    found = detector(Tensor(x)).numpy()
    expected = y.reshape(found.shape).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=2e-5 * np.abs(expected).max())
