"""Fashion-MNIST: the embedded subset, the order of sources, and a download that trusts nothing."""

import gzip
import hashlib
import http.server
import threading

import numpy as np
import pytest

from chainrule.data import DataError, FashionMNIST
from chainrule.data import fashion_mnist as module
from chainrule.data.sources import EMBEDDED, RemoteFile, download
from tests.data.test_idx import encode


@pytest.fixture(autouse=True)
def _no_data_elsewhere(monkeypatch, tmp_path):
    monkeypatch.delenv("CHAINRULE_DATA", raising=False)
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))


def write_set(folder, train=4, test=2, images=None, labels=None):
    folder.mkdir(parents=True, exist_ok=True)
    for part, count in (("train", train), ("t10k", test)):
        pixels = np.full((count, 28, 28), count) if images is None else images
        marks = np.arange(count) % 10 if labels is None else labels
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(encode(pixels)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(encode(marks))
    return folder


@pytest.mark.parametrize(("train", "count"), [(True, 1000), (False, 200)])
def test_the_embedded_subset_is_balanced(train, count):
    data = FashionMNIST(train=train)
    assert data.source.folder == EMBEDDED / "fashion-mnist"
    assert np.bincount(data.labels.numpy()).tolist() == [count] * 10
    image, label = data[0]
    assert image.shape == (1, 28, 28) and image.dtype == "float32" and label.dtype == "int64"
    assert image.numpy().min() >= 0.0 and image.numpy().max() <= 1.0
    # The mean and deviation of the full set, known from the literature, are 0.2860 and 0.3530.
    assert abs(data.images.numpy().mean() / 255 - 0.286) < 0.01


def test_sources_are_tried_in_order(monkeypatch, tmp_path):
    write_set(tmp_path / "cache" / "fashion-mnist", train=5)
    assert len(FashionMNIST()) == 5
    write_set(tmp_path / "data" / "fashion-mnist", train=6)
    monkeypatch.setenv("CHAINRULE_DATA", str(tmp_path / "data"))
    assert len(FashionMNIST()) == 6
    assert len(FashionMNIST(folder=write_set(tmp_path / "named", train=7))) == 7


def test_other_data_under_chainrule_data_is_passed_over_but_a_wrong_folder_is_not(monkeypatch, tmp_path):
    (tmp_path / "text").mkdir()
    monkeypatch.setenv("CHAINRULE_DATA", str(tmp_path))
    assert FashionMNIST(train=False).source.folder == EMBEDDED / "fashion-mnist"
    monkeypatch.setenv("CHAINRULE_DATA", str(tmp_path / "none"))
    with pytest.raises(DataError, match="CHAINRULE_DATA"):
        FashionMNIST()


def test_an_incomplete_folder_names_what_is_missing(tmp_path):
    folder = write_set(tmp_path / "a")
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte.gz missing"):
        FashionMNIST(folder=folder)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((3, 27, 28)), np.zeros(3), "expected bytes of shape"),
        (np.zeros((3, 28, 28)), np.zeros(4), "labels for 3 images"),
        (np.zeros((3, 28, 28)), np.array([0, 1, 10]), "label 10 is beyond"),
        (np.zeros((0, 28, 28)), np.zeros(0), "no images"),
    ],
)
def test_files_that_do_not_belong_together_are_refused(tmp_path, images, labels, message):
    with pytest.raises(DataError, match=message):
        FashionMNIST(folder=write_set(tmp_path / "a", images=images, labels=labels))


@pytest.fixture
def server(tmp_path):
    root = tmp_path / "served"
    root.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(root))

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield root, f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_a_download_is_checked_and_appears_whole_or_not_at_all(server, tmp_path):
    root, address = server
    content = b"content " * 1000
    file = RemoteFile("a.gz", len(content), hashlib.sha256(content).hexdigest())
    target = tmp_path / "cache"
    for wrong in (gzip.compress(content[:-1] + b"!"), gzip.compress(content)[:-9], b"<html>", bytes(9000)):
        (root / "a.gz").write_bytes(wrong)
        with pytest.raises(DataError, match=r"a\.gz could not be downloaded"):
            download(file, (address,), target)
        assert list(target.iterdir()) == []
    (root / "a.gz").write_bytes(gzip.compress(content))
    assert download(file, (address + "/nowhere", address), target) == target / "a.gz"
    assert [p.name for p in target.iterdir()] == ["a.gz"]


def test_pinned_sizes_fit_the_format():
    for file in module.FILES:
        count = 60_000 if file.name.startswith("train") else 10_000
        assert file.size == (16 + count * 784 if "images" in file.name else 8 + count)
