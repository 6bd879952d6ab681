"""Texts: the embedded one, other files, codes of characters, and windows."""

import gzip

import numpy as np
import pytest

from chainrule.data import DataError, DataLoader
from chainrule.data.text import Characters, Windows, read_text


@pytest.fixture(autouse=True)
def _no_data_elsewhere(monkeypatch):
    monkeypatch.delenv("CHAINRULE_DATA", raising=False)


def test_the_embedded_text_is_moby_dick():
    text, source = read_text()
    assert "Call me Ishmael." in text and len(text) == 1_190_317 and source == "moby-dick, inside the package"


def test_texts_are_found_by_name_and_by_path(monkeypatch, tmp_path):
    with pytest.raises(DataError, match=r"shakespeare\.txt"):
        read_text("shakespeare")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "shakespeare.txt.gz").write_bytes(gzip.compress("To be, or nöt".encode()))
    monkeypatch.setenv("CHAINRULE_DATA", str(tmp_path))
    assert read_text("shakespeare").content == "To be, or nöt"
    assert read_text("moby-dick").source.endswith("inside the package")
    (tmp_path / "moby-dick.txt").write_text("mine")
    assert read_text("moby-dick", tmp_path).content == "mine"
    assert read_text(str(tmp_path / "moby-dick.txt")).content == "mine"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"\xff\xfe", "not a text in UTF-8"),
        ("a.txt.gz", b"\x1f\x8b\x08", "damaged"),
        ("a.txt.gz", b"text", "damaged"),
    ],
)
def test_damaged_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_text(str(tmp_path / name))


def test_no_text_is_larger_than_the_limit_however_small_its_file(monkeypatch, tmp_path):
    monkeypatch.setattr("chainrule.data.text.SIZE_LIMIT", 1000)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b" " * 1001))
    with pytest.raises(DataError, match="more than 1,000 bytes"):
        read_text(str(tmp_path / "bomb.gz"))
    with pytest.raises(DataError, match="there is no text 'nothing'"):
        read_text("nothing")


def test_codes_are_undone_by_decoding():
    text = "whale — “Ahab”\n"
    characters = Characters(text)
    codes = characters.encode(text)
    assert characters.decode(codes) == text and codes.max() == len(characters) - 1 and codes.dtype == np.int64
    with pytest.raises(DataError, match="'z'"):
        characters.encode("z")


@pytest.mark.parametrize("step", [1, 3])
def test_windows_are_all_there_with_their_successors(step):
    codes = np.arange(20)
    windows = Windows(codes, 6, step)
    assert len(windows) == (14 if step == 1 else 5)
    for i in range(len(windows)):
        x, y = windows[i]
        np.testing.assert_array_equal(x.numpy(), codes[i * step : i * step + 6])
        np.testing.assert_array_equal(y.numpy(), x.numpy() + 1)
    assert windows[-1][1].numpy()[-1] <= 19
    batches = list(DataLoader(windows, 4))
    np.testing.assert_array_equal(np.concatenate([x.numpy() for x, _ in batches])[:, 0], np.arange(len(windows)) * step)
    with pytest.raises(DataError, match="too few"):
        Windows(codes, 20)
    assert len(Windows(codes, 19)) == 1
