"""Weights of TensorFlow.js: quantised numbers come back, and a manifest that lies is named."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainrule.data import DataError
from chainrule.interop import read_tfjs

ENTRIES = [
    {"name": "a", "shape": [2, 2], "dtype": "float32"},
    {"name": "b", "shape": [3], "dtype": "float32", "quantization": {"dtype": "uint8", "scale": 0.5, "min": -1.0}},
    {"name": "c", "shape": [1], "dtype": "float32", "quantization": {"dtype": "uint16", "scale": 2.0, "min": 0}},
    {"name": "d", "shape": [2], "dtype": "float32", "quantization": {"dtype": "float16"}},
    {"name": "e", "shape": [], "dtype": "int32"},
]
DATA = (
    np.arange(4, dtype="<f4").tobytes()
    + bytes([0, 2, 255])
    + np.array([300], "<u2").tobytes()
    + np.array([0.5, -2], "<f2").tobytes()
    + np.array(7, "<i4").tobytes()
)


def write(folder, groups, data=DATA):
    (folder / "m.json").write_text(json.dumps(groups))
    (folder / "one.bin").write_bytes(data[:5])
    (folder / "two.bin").write_bytes(data[5:])
    return folder / "m.json"


def test_plain_and_quantised_weights_come_back_from_several_files(tmp_path):
    found = read_tfjs(write(tmp_path, [{"paths": ["one.bin", "two.bin"], "weights": ENTRIES}]))
    expected = {"a": [[0, 1], [2, 3]], "b": [-1, 0, 126.5], "c": [600], "d": [0.5, -2], "e": 7}
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == ("int32" if name == "e" else "float32")


def entry(**changes):
    return [{"paths": ["one.bin", "two.bin"], "weights": [ENTRIES[0] | changes, *ENTRIES[1:]]}]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({}, "expected an array, found dict"),
        ([3], "a group of weights is int"),
        ([{}], "no list 'weights'"),
        ([{"weights": []}], "no list 'paths'"),
        (entry(shape=[2, 3]), "have 37 bytes, there are only 29"),
        (entry(shape=[1]), "have 17 bytes, there are more"),
        (entry(shape=[2**40, 2**40]), "the limit is"),
        (entry(shape=[-1]), r"shape \(-1,\)"),
        (entry(shape=[1.5]), r"shape \(1\.5,\)"),
        (entry(shape=7), "described as"),
        (entry(dtype="float128"), "KeyError"),
        (entry(quantization={"dtype": "int4"}), "KeyError"),
        (entry(quantization={"dtype": "uint8"}), "KeyError"),
        (entry(quantization=[]), "described as"),
        (entry(name="b"), "names 'b' twice"),
        ([{"paths": ["../one.bin"], "weights": ENTRIES}], "not a file beside it"),
        ([{"paths": ["three.bin"], "weights": ENTRIES}], r"three\.bin: cannot be read"),
    ],
)
def test_a_manifest_that_lies_is_named(tmp_path, groups, message):
    with pytest.raises(DataError, match=message):
        read_tfjs(write(tmp_path, groups))


def test_a_manifest_that_is_none_is_named(tmp_path):
    (tmp_path / "m.json").write_bytes(b"{")
    with pytest.raises(DataError, match="not a JSON file"):
        read_tfjs(tmp_path / "m.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_tfjs(tmp_path / "none.json")


TEXT = json.dumps([{"paths": ["one.bin", "two.bin"], "weights": ENTRIES}]).encode()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(TEXT) - 1), st.binary(min_size=1, max_size=3)), min_size=1, max_size=4))
def test_any_change_of_a_manifest_gives_weights_or_an_error(tmp_path, changes):
    text = bytearray(TEXT)
    for place, piece in changes:
        text[place : place + len(piece)] = piece
    write(tmp_path, [])
    (tmp_path / "m.json").write_bytes(text)
    try:
        found = read_tfjs(tmp_path / "m.json")
    except DataError:
        return
    assert sum(array.size for array in found.values()) <= len(DATA)
