"""VOC annotations: boxes and names, and a clear error for everything else."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chainrule.data import DataError
from chainrule.data.voc import read_voc

BOX = "<bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax>30</xmax><ymax>40</ymax></bndbox>"
GOOD = f"<annotation><object><name>Tree</name>{BOX}</object><object>{BOX}</object></annotation>"


def write(tmp_path, content):
    path = tmp_path / "a.xml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_boxes_and_names_are_read(tmp_path):
    found = read_voc(write(tmp_path, GOOD))
    assert found.corners.tolist() == [[1, 2.5, 30, 40]] * 2 and found.names == ("Tree", "")
    assert read_voc(write(tmp_path, "<annotation/>")).corners.shape == (0, 4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD[:-20], "not XML, or damaged"),
        ("", "not XML"),
        (GOOD.replace("<xmin>1<", "<xmin>31<"), "object 1 has no proper box"),
        (GOOD.replace("<xmin>1<", "<xmin>nan<"), "no proper box"),
        (GOOD.replace("<xmin>1</xmin>", ""), "no proper box, but None"),
        (GOOD.replace("2.5", "two"), "no proper box"),
        ('<!DOCTYPE a [<!ENTITY b "bbbb">]>' + GOOD, "declares a document type"),
        (b"\xff\xfe\x00\x01" + GOOD.encode(), "not XML"),
    ],
)
def test_bad_files_are_named(tmp_path, content, message):
    with pytest.raises(DataError, match=message) as caught:
        read_voc(write(tmp_path, content))
    assert "a.xml" in str(caught.value)


def test_missing_and_huge_files_are_refused(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_voc(tmp_path / "none.xml")
    with pytest.raises(DataError, match="the limit is 10"):
        read_voc(write(tmp_path, GOOD), limit=10)


@given(st.integers(0, len(GOOD)), st.binary(max_size=8))
def test_damage_anywhere_gives_boxes_or_a_data_error(tmp_path_factory, at, junk):
    content = GOOD.encode()
    path = write(tmp_path_factory.mktemp("voc"), content[:at] + junk + content[at + len(junk) :])
    with contextlib.suppress(DataError):
        assert read_voc(path).corners.shape[1] == 4
