"""IDX files: what is read is what was written, and every kind of damage is named."""

import gzip
import struct

import numpy as np
import pytest

from chainrule.data import DataError, read_idx
from chainrule.data.idx import DTYPES


def encode(array, code=0x08):
    return struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape) + array.astype(DTYPES[code]).tobytes()


@pytest.mark.parametrize("code", DTYPES)
@pytest.mark.parametrize("compressed", [False, True])
def test_reads_back_every_data_type_in_native_byte_order(tmp_path, code, compressed):
    array = np.arange(24).reshape(2, 3, 4)
    content = encode(array, code)
    (tmp_path / "a").write_bytes(gzip.compress(content) if compressed else content)
    read = read_idx(tmp_path / "a")
    assert read.dtype == np.dtype(DTYPES[code]).newbyteorder("=") and read.dtype.isnative
    np.testing.assert_array_equal(read, array)


def test_empty_axis_is_allowed(tmp_path):
    (tmp_path / "a").write_bytes(encode(np.zeros((0, 28, 28))))
    assert read_idx(tmp_path / "a").shape == (0, 28, 28)


GOOD = encode(np.arange(60).reshape(3, 4, 5))
BAD = {
    "empty": (b"", "too few"),
    "header cut": (GOOD[:10], "truncated inside the header"),
    "magic": (b"\x01\x00" + GOOD[2:], "not an IDX file"),
    "data type": (GOOD[:2] + b"\x07" + GOOD[3:], "not an IDX file"),
    "no axes": (GOOD[:3] + b"\x00" + GOOD[4:], "0 axes"),
    "axes": (GOOD[:3] + b"\xff" + GOOD[4:], "255 axes"),
    "truncated": (GOOD[:-1], "truncated: 59 of the 60 bytes"),
    "trailing": (GOOD + b"\0", "more data"),
    "text": (b"<!DOCTYPE html>", "not an IDX file"),
    "huge": (struct.pack(">HBB3I", 0, 8, 3, 2**32 - 1, 2**32 - 1, 2**32 - 1), "the limit is"),
    "gzip cut": (gzip.compress(GOOD)[:-9], "damaged or truncated"),
    "gzip header only": (b"\x1f\x8b", "damaged or truncated"),
    "gzip checksum": (gzip.compress(GOOD)[:-8] + b"\0" * 8, "damaged or truncated"),
}


@pytest.mark.parametrize("case", BAD)
def test_damage_is_named_with_the_file(tmp_path, case):
    content, message = BAD[case]
    file = tmp_path / "images.idx"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(file)
    assert str(file) in str(caught.value)


def test_a_decompression_bomb_stops_where_the_header_says(tmp_path):
    (tmp_path / "bomb").write_bytes(gzip.compress(encode(np.zeros(10)) + bytes(50_000_000)))
    with pytest.raises(DataError, match="more data"):
        read_idx(tmp_path / "bomb")


def test_the_limit_holds_before_memory_is_taken(tmp_path):
    (tmp_path / "a").write_bytes(GOOD)
    assert read_idx(tmp_path / "a", limit=60).size == 60
    with pytest.raises(DataError, match="the limit is 59"):
        read_idx(tmp_path / "a", limit=59)


def test_missing_file_and_folder_are_named(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        read_idx(tmp_path / "none")
    with pytest.raises(DataError, match="directory"):
        read_idx(tmp_path)
