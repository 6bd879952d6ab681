"""Checkpoints: exact round trips, and no damage, refusal or kill that costs an earlier one."""

import contextlib
import errno
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

import chainrule as cr
from chainrule.data.files import remove_leftovers, write_atomically
from chainrule.train import CheckpointError, OutputError, load_checkpoint, save_checkpoint

STATE = {
    "model": {"fc.weight": cr.Tensor(np.arange(6, dtype=np.float32).reshape(2, 3)), "steps": np.array(3)},
    "optimizer": {"state": {0: {"m": np.ones(3)}}, "param_groups": [{"betas": (0.9, 0.999), "params": [0]}]},
    "epoch": 2,
    "loss": 0.1 + 0.2,
    "none": None,
}


def same(a, b):
    if isinstance(a, cr.Tensor | np.ndarray | np.generic):
        a, b = np.asarray(a), np.asarray(b)
        return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b or (a != a and b != b)


def test_a_state_comes_back_bit_for_bit(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", STATE)
    assert same(load_checkpoint(tmp_path / "a.safetensors"), STATE)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint64", "float32", "float64", "complex64", "complex128"])
def test_every_data_type_and_no_elements_at_all(tmp_path, dtype):
    state = {"a": np.arange(4).astype(dtype), "b": np.zeros((0, 3), dtype), "c": np.array(1, dtype)}
    save_checkpoint(tmp_path / "a", state)
    assert same(load_checkpoint(tmp_path / "a"), state)


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text() | st.integers(), v, max_size=3) | st.tuples(v, v),
    max_leaves=8,
)


@given(plain)
def test_plain_values_come_back_as_they_were(value):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a")
        save_checkpoint(path, value)
        assert same(load_checkpoint(path), value)


def test_other_objects_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="not object"):
        save_checkpoint(tmp_path / "a", {"x": [object()]})
    assert list(tmp_path.iterdir()) == []


def test_any_other_library_can_open_it(tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", STATE)
    arrays = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(arrays["model/fc.weight"], STATE["model"]["fc.weight"].numpy())


@pytest.mark.parametrize("kept", [0, 5, 8, 60, -1, -20])
def test_a_truncated_file_is_named(tmp_path, kept):
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, STATE)
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(CheckpointError, match=r"a\.safetensors: damaged, truncated"):
        load_checkpoint(path)


def test_every_flipped_bit_is_noticed(tmp_path):
    path = tmp_path / "a"
    save_checkpoint(path, STATE)
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with contextlib.suppress(CheckpointError):
            assert same(load_checkpoint(path), STATE), position  # a flip in padding changes nothing


def test_foreign_missing_newer_and_oversized_files_are_named(tmp_path):
    safetensors.numpy.save_file({"a": np.zeros(3)}, tmp_path / "foreign")
    safetensors.numpy.save_file({"a": np.zeros(3)}, tmp_path / "newer", {"chainrule": "{}", "format": "99"})
    (tmp_path / "text").write_text("not a checkpoint at all, but long enough for a header")
    save_checkpoint(tmp_path / "good", STATE)
    for name, message in (
        ("foreign", "not a checkpoint of chainrule"),
        ("newer", "format 99"),
        ("text", "damaged, truncated, or not"),
        ("none", "cannot be read"),
    ):
        with pytest.raises(CheckpointError, match=message) as caught:
            load_checkpoint(tmp_path / name)
        assert str(tmp_path / name) in str(caught.value)
    with pytest.raises(CheckpointError, match="the limit is 10"):
        load_checkpoint(tmp_path / "good", limit=10)


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path, monkeypatch, call):
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, STATE)

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(OutputError, match=r"last\.safetensors: No space left on device; free some space"):
        save_checkpoint(path, {"epoch": 3})
    monkeypatch.undo()
    assert load_checkpoint(path)["epoch"] == 2
    assert [p.name for p in tmp_path.iterdir()] == ["last.safetensors"]


def test_a_real_full_device_is_reported():
    # /dev/full refuses every write as a full disk does.
    from chainrule.data.files import writing

    path = pathlib.Path("/dev/full")
    with pytest.raises(OutputError, match="No space left"), writing(path), open(path, "wb", buffering=0) as full:
        full.write(b"x")


def test_a_place_that_is_no_folder_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        save_checkpoint(tmp_path / "file" / "a", STATE)


def test_an_unwritable_folder_is_named(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr("tempfile.mkstemp", refuse)
    with pytest.raises(OutputError, match="Permission denied; choose a folder that you may write to"):
        save_checkpoint(tmp_path / "a", STATE)


def test_leftovers_of_a_kill_are_removed_and_nothing_else(tmp_path):
    (tmp_path / ".last.safetensors.abc.part").write_bytes(b"half")
    write_atomically(tmp_path / "kept", [b"x"])
    remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["kept"]


WRITER = """
import sys, numpy as np
from chainrule.train import save_checkpoint
n = 0
while True:
    save_checkpoint(sys.argv[1], {"n": n, "a": np.full(200_000, float(n))})
    if n == 0: print("go", flush=True)
    n += 1
"""


def test_kill_9_never_costs_a_checkpoint(tmp_path):
    path = tmp_path / "last.safetensors"
    for delay in (0.0, 0.01, 0.05, 0.1):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        state = load_checkpoint(path)
        assert (state["a"] == state["n"]).all()
