"""safetensors both ways: exact round trips, sharded models, and errors that name the file."""

import json
import struct

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import chainrule as cr
from chainrule import nn
from chainrule.data import DataError
from chainrule.interop import SafetensorsFile, open_safetensors, save_safetensors

STATE = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array(7), "none": np.zeros((0, 2))}


def raw_file(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def test_a_module_comes_back_and_others_can_read_it(tmp_path):
    path = tmp_path / "model.safetensors"
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    save_safetensors(path, model.state_dict(), {"from": "chainrule"})
    other = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    other.load_state_dict(open_safetensors(path))
    for name, array in safetensors.numpy.load_file(path).items():
        np.testing.assert_array_equal(array, model.state_dict()[name].numpy())
        np.testing.assert_array_equal(array, other.state_dict()[name].numpy())
    assert SafetensorsFile(path).metadata == {"from": "chainrule"}


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "int64", "float32", "float64", "complex64"])
def test_every_type_comes_back(tmp_path, dtype):
    values = np.arange(4).astype(dtype)
    save_safetensors(tmp_path / "a", {"x": values, "column": np.asfortranarray(values.reshape(2, 2))})
    file = SafetensorsFile(tmp_path / "a")
    np.testing.assert_array_equal(file["x"], values)
    np.testing.assert_array_equal(file["column"], values.reshape(2, 2))
    assert file["x"].dtype == dtype


def test_half_precision_comes_as_float32(tmp_path):
    bits = np.array([0x3F80, 0xC000, 0x7F80, 0x8000], "<u2")
    header = {
        "b": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]},
        "h": {"dtype": "F16", "shape": [1], "data_offsets": [8, 10]},
    }
    (tmp_path / "a").write_bytes(raw_file(header, bits.tobytes() + np.array([0.5], "<f2").tobytes()))
    file = SafetensorsFile(tmp_path / "a")
    np.testing.assert_array_equal(file["b"], np.array([[1, -2], [np.inf, -0.0]], np.float32))
    assert file["b"].dtype == file["h"].dtype == "float32" and file["h"] == 0.5
    assert np.signbit(file["b"][1, 1])


def test_types_that_numpy_lacks_and_that_the_format_lacks_are_named(tmp_path):
    (tmp_path / "a").write_bytes(raw_file({"f": {"dtype": "F8_E4M3", "shape": [1], "data_offsets": [0, 1]}}, b"\0"))
    with pytest.raises(DataError, match="f is of type F8_E4M3, which is not supported"):
        SafetensorsFile(tmp_path / "a")["f"]
    with pytest.raises(DataError, match="z: a safetensors file cannot hold complex128"):
        save_safetensors(tmp_path / "b", {"z": np.zeros(2, complex)})
    with pytest.raises(DataError, match="o: a safetensors file cannot hold"):
        save_safetensors(tmp_path / "b", {"o": object()})
    assert not (tmp_path / "b").exists()


def shards(folder):
    save_safetensors(folder / "model-1.safetensors", {"a": np.ones(2, np.float32)})
    save_safetensors(folder / "model-2.safetensors", {"b": np.zeros(3, np.float32)})
    return {"a": "model-1.safetensors", "b": "model-2.safetensors"}


def test_a_model_in_several_files_is_one_state(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards(tmp_path)}))
    for path in (tmp_path, tmp_path / "model.safetensors.index.json"):
        state = open_safetensors(path)
        assert sorted(state) == ["a", "b"] and len(state) == 2
        np.testing.assert_array_equal(state["a"], [1, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": "../model-1.safetensors"}, "not a file beside it"),
        ({"a": "/etc/passwd"}, "not a file beside it"),
        ({"c": "model-1.safetensors"}, "says that c is in model-1.safetensors, which does not hold it"),
        ({"c": "model-3.safetensors"}, "cannot be read"),
        ({"c": 3}, "not an index"),
    ],
)
def test_an_index_that_lies_is_named(tmp_path, change, message):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards(tmp_path) | change}))
    with pytest.raises(DataError, match=message):
        open_safetensors(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"[" * 100_000, b"\xff\xfe", b'{"weight_map": []}'])
def test_an_index_that_is_none_is_named(tmp_path, content):
    (tmp_path / "model.safetensors.index.json").write_bytes(content)
    with pytest.raises(DataError, match=r"index\.json"):
        open_safetensors(tmp_path)


def test_a_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(DataError, match=r"holds neither model\.safetensors"):
        open_safetensors(tmp_path)
    save_safetensors(tmp_path / "other.safetensors", STATE)
    assert set(open_safetensors(tmp_path)) == set(STATE)


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
DAMAGED = {
    "empty": b"",
    "pickle": b"\x80\x04\x95" + b"\0" * 40,
    "header beyond the file": raw_file({}, length=2**20),
    "gigantic header": raw_file({}, length=2**62),
    "no JSON": raw_file(b"{" * 50),
    "wrong size": raw_file({"a": ENTRY | {"shape": [3]}}, b"\0" * 8),
    "huge shape": raw_file({"a": ENTRY | {"shape": [2**62, 8]}}, b"\0" * 8),
    "offsets beyond the end": raw_file({"a": ENTRY}, b"\0" * 4),
    "overlap": raw_file({"a": ENTRY, "b": ENTRY}, b"\0" * 8),
    "hole": raw_file({"a": ENTRY | {"data_offsets": [8, 16]}}, b"\0" * 16),
    "unknown type": raw_file({"a": ENTRY | {"dtype": "F31"}}, b"\0" * 8),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_named(tmp_path, case):
    (tmp_path / "model.safetensors").write_bytes(DAMAGED[case])
    with pytest.raises(DataError, match=r"model\.safetensors: damaged, truncated, or not a safetensors file"):
        open_safetensors(tmp_path)


def test_missing_and_oversized_files_are_named(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        SafetensorsFile(tmp_path / "none")
    save_safetensors(tmp_path / "a", STATE)
    with pytest.raises(DataError, match="the limit is 10"):
        SafetensorsFile(tmp_path / "a", limit=10)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 199), st.binary(max_size=8)), min_size=1, max_size=4))
def test_any_change_of_a_file_gives_tensors_or_an_error(tmp_path, changes):
    path = tmp_path / "a"
    save_safetensors(path, STATE)
    data = bytearray(path.read_bytes())
    for place, piece in changes:
        data[place : place + len(piece)] = piece
    path.write_bytes(data)
    try:
        file = SafetensorsFile(path)
        arrays = [file[name] for name in file]
    except DataError:
        return
    assert sum(array.nbytes for array in arrays) <= 2 * len(data)


def test_a_tensor_of_chainrule_is_an_array_to_others():
    x = cr.tensor([[1.0, 2.0]])
    np.testing.assert_array_equal(np.from_dlpack(x), [[1, 2]])
    np.testing.assert_array_equal(np.asarray(x), [[1, 2]])
    np.testing.assert_array_equal(cr.from_dlpack(np.ones(2)).numpy(), [1, 1])
