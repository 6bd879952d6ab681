"""GGUF: what was written is read, and no damage gives more than an error that says what is wrong."""

import contextlib
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chainrule.data import DataError
from chainrule.interop import GGUFFile
from chainrule.interop.blocks import FORMATS
from tests.interop.gguf_files import ARRAY, STRING, UINT64, float32, gguf_bytes, text

METADATA = {
    "general.architecture": "llama",
    "general.alignment": 32,
    "llama.block_count": 2,
    "llama.rope.freq_base": 10000.0,
    "tokenizer.ggml.add_bos_token": False,
    "tokenizer.ggml.tokens": ["<s>", "a", "Ġthe", "é", ""],
    "tokenizer.ggml.token_type": [3, 1, 1, 1, 1],
    "tokenizer.chat_template": "{% for message in messages %}{{ message.content }}{% endfor %}",
    "nested": [["a", "b"], ["c"]],
}
WEIGHT = np.arange(64, dtype=np.float32).reshape(2, 32)
Q8 = struct.pack("<e32b", 0.5, *range(-16, 16))
TENSORS = [float32("token_embd.weight", WEIGHT), ("blk.0.attn_q.weight", [32, 1], 8, Q8)]
FILE = gguf_bytes(METADATA, TENSORS)
PADDING = -len(Q8) % 32


def opened(tmp_path, data):
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    return GGUFFile(path)


def test_keys_and_tensors_come_back(tmp_path):
    file = opened(tmp_path, FILE)
    assert (file.version, len(file), list(file)) == (3, 2, ["token_embd.weight", "blk.0.attn_q.weight"])
    for key, value in METADATA.items():
        found = file.metadata[key]
        assert (found.tolist() if isinstance(found, np.ndarray) else found) == value
    np.testing.assert_array_equal(file["token_embd.weight"], WEIGHT)
    np.testing.assert_array_equal(file["blk.0.attn_q.weight"], [[0.5 * n for n in range(-16, 16)]])
    assert file.tensors["blk.0.attn_q.weight"].format.name == "Q8_0"


def test_version_2_is_read_and_other_versions_are_named(tmp_path):
    assert len(opened(tmp_path, gguf_bytes({}, TENSORS, version=2))) == 2
    for version in (0, 1, 4):
        with pytest.raises(DataError, match=f"version {version} is not supported"):
            opened(tmp_path, gguf_bytes({}, [], version=version))
    with pytest.raises(DataError, match="big-endian"):
        opened(tmp_path, gguf_bytes({}, [], version=3 << 24))


def scalar_block(name, blocks, weights):
    """Weights of the four older formats, one by one, from ggml's definitions."""
    out = []
    for raw in blocks:
        raw = bytes(raw)
        d = np.float32(np.frombuffer(raw[:2], "<f2")[0])
        m = np.float32(np.frombuffer(raw[2:4], "<f2")[0]) if name.endswith("_1") else None
        rest = raw[4 if name.endswith("_1") else 2 :]
        fifth, packed = (int.from_bytes(rest[:4], "little"), rest[4:]) if name.startswith("Q5") else (0, rest)
        for j in range(weights):
            q = (packed[j] & 15) if j < 16 else packed[j - 16] >> 4
            q |= (fifth >> j & 1) << 4
            out.append(d * np.float32(q) + m if m is not None else d * np.float32(q - (16 if "5" in name else 8)))
    return np.array(out, np.float32)


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_blocks_decode_as_their_definition_says(name):
    form = next(f for f in FORMATS.values() if f.name == name)
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (5, form.size), dtype=np.uint8)
    blocks[:, [1, 3]] &= 0x3F  # scales that are finite
    np.testing.assert_array_equal(form.decode(blocks).reshape(-1), scalar_block(name, blocks, 32))


@pytest.mark.parametrize(("kind", "dtype"), [(0, "<f4"), (1, "<f2"), (24, "i1"), (26, "<i4"), (28, "<f8")])
def test_plain_numbers_come_back(tmp_path, kind, dtype):
    values = np.array([[1, -2, 3]], dtype)
    found = opened(tmp_path, gguf_bytes({}, [("a", [3, 1], kind, values.tobytes())]))["a"]
    np.testing.assert_array_equal(found, values)
    assert found.dtype == ("float32" if dtype == "<f2" else np.dtype(dtype))


def test_bfloat16_is_the_upper_half_of_float32(tmp_path):
    bits = np.array([0x3F80, 0xC000, 0x7F80, 0x0001], "<u2")
    found = opened(tmp_path, gguf_bytes({}, [("a", [4], 30, bits.tobytes())]))["a"]
    np.testing.assert_array_equal(found, np.array([1, -2, np.inf, 2.0**-133], np.float32))


def test_no_elements_and_no_axes_are_tensors_too(tmp_path):
    file = opened(tmp_path, gguf_bytes({}, [("none", [0, 3], 0, b""), ("one", [], 0, struct.pack("<f", 7))]))
    assert file["none"].shape == (3, 0)
    assert file["one"].shape == () and file["one"] == 7


def header(pairs=b"", tensors=b"", counts=(0, 0)):
    return b"GGUF" + struct.pack("<IQQ", 3, *counts) + pairs + tensors


def tensor(name="a", lengths=(32,), kind=0, offset=0, axes=None):
    axes = len(lengths) if axes is None else axes
    return text(name) + struct.pack(f"<I{len(lengths)}QIQ", axes, *lengths, kind, offset)


DEEP = struct.pack("<I", ARRAY) + struct.pack("<IQ", ARRAY, 1) * 10 + struct.pack("<IQ", 4, 0)
HUGE = 2**64 - 1
DAMAGED = {
    "empty": (b"", "not a GGUF file"),
    "text": (b"this is a text file, and not short", "not a GGUF file"),
    "pickle": (b"\x80\x04\x95" + b"\0" * 40, "not a GGUF file"),
    "only the magic": (b"GGUF", "not a GGUF file"),
    "truncated counts": (b"GGUF" + struct.pack("<IQ", 3, 1), "more than fit"),
    "huge tensor count": (header(counts=(HUGE, 0)), "states 18,446,744,073,709,551,615 tensors"),
    "huge key count": (header(counts=(0, HUGE)), "key-value pairs, more than fit"),
    "huge key": (header(struct.pack("<Q", HUGE), counts=(0, 1)) + b"\0" * 99, "length of 18,446,744,073,709,551,615"),
    "huge string": (
        header(text("k") + struct.pack("<IQ", STRING, 2**26), counts=(0, 1)) + b"\0" * 99,
        "would need 67,108,864 bytes",
    ),
    "huge array": (
        header(text("k") + struct.pack("<IIQ", ARRAY, UINT64, 2**61), counts=(0, 1)) + b"\0" * 99,
        "beyond its end",
    ),
    "huge array of strings": (
        header(text("k") + struct.pack("<IIQ", ARRAY, STRING, 2**40), counts=(0, 1)) + b"\0" * 99,
        "1,099,511,627,776 elements, more than are there",
    ),
    "nested without end": (header(text("k") + DEEP, counts=(0, 1)), "nests arrays more than 4 deep"),
    "unknown value type": (header(text("k") + struct.pack("<IQ", 13, 0), counts=(0, 1)), "unknown type 13"),
    "bad truth value": (header(text("k") + struct.pack("<IB", 7, 2), counts=(0, 1)), "neither 0 nor 1"),
    "no UTF-8": (header(text(b"\xff\xfe") + struct.pack("<II", 4, 1), counts=(0, 1)), "not UTF-8"),
    "key twice": (header((text("k") + struct.pack("<II", 4, 1)) * 2, counts=(0, 2)), "'k' comes twice"),
    "tensor twice": (gguf_bytes({}, [TENSORS[0], TENSORS[0]]), "comes twice"),
    "five axes": (header(tensors=tensor(lengths=(1,) * 5), counts=(1, 0)), "has 5 axes"),
    "overflowing lengths": (header(tensors=tensor(lengths=(2**32,) * 3), counts=(1, 0)), "too many numbers"),
    "product that wraps to zero": (header(tensors=tensor(lengths=(2**63, 2)), counts=(1, 0)), "too many numbers"),
    "zero beside a huge length": (header(tensors=tensor(lengths=(0, HUGE)), counts=(1, 0)), "too many numbers"),
    "unknown tensor type": (header(tensors=tensor(kind=4), counts=(1, 0)), "stored in type 4"),
    "row of half a block": (header(tensors=tensor(lengths=(48, 2), kind=8), counts=(1, 0)), "rows of 48"),
    "beyond the end": (gguf_bytes({}, [("a", [2**30], 0, b"")]), "would end at byte"),
    "offset beyond the end": (gguf_bytes({}, [TENSORS[0]], offsets=[2**60]), "would end at byte"),
    "offset not aligned": (gguf_bytes({}, [TENSORS[0]], offsets=[4]), "not aligned to 32"),
    "overlap": (gguf_bytes({}, TENSORS, offsets=[0, 0]), "overlaps"),
    "alignment 0": (gguf_bytes({"general.alignment": 0}, []), "alignment is 0"),
    "alignment 24": (gguf_bytes({"general.alignment": 24}, []), "alignment is 24"),
    "alignment of text": (gguf_bytes({"general.alignment": "32"}, []), "alignment is '32'"),
    "too many keys": (header(counts=(0, 2**17)) + b"\0" * 2**21, "the limit is 65,536"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_named_and_costs_no_memory(tmp_path, case):
    data, message = DAMAGED[case]
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match=message) as caught:
            opened(tmp_path, data)
        assert tracemalloc.get_traced_memory()[1] < 2**20 + 4 * len(data)
    finally:
        tracemalloc.stop()
    assert "model.gguf" in str(caught.value)


@pytest.mark.parametrize("kept", range(0, len(FILE) - PADDING, 23))
def test_every_truncation_is_noticed(tmp_path, kept):
    with pytest.raises(DataError, match=r"truncated|not a GGUF|more than"):
        opened(tmp_path, FILE[:kept])


def test_a_file_that_shrinks_after_it_was_opened_is_noticed(tmp_path):
    file = opened(tmp_path, FILE)
    file.path.write_bytes(FILE[:-40])
    with pytest.raises(DataError, match="truncated after it was opened"):
        file["blk.0.attn_q.weight"]
    file.path.unlink()
    with pytest.raises(DataError, match="cannot be read"):
        file["token_embd.weight"]


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            GGUFFile(path)


edits = st.lists(
    st.tuples(
        st.integers(0, len(FILE) - 1),
        st.one_of(
            st.binary(min_size=1, max_size=4),
            st.sampled_from([0, 1, 8, 9, 2**31, 2**32 - 1, 2**40, 2**63, HUGE]).map(lambda n: struct.pack("<Q", n)),
        ),
        st.booleans(),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits, st.integers(0, len(FILE)))
def test_any_change_of_a_file_gives_tensors_or_an_error(tmp_path, changes, cut):
    data = bytearray(FILE)
    for place, piece, replaces in changes:
        data[place : place + len(piece) * replaces] = piece
    tracemalloc.start()
    try:
        with contextlib.suppress(DataError):
            file = opened(tmp_path, bytes(data[: max(cut, len(FILE) // 2)]))
            assert all(array.size <= len(data) for array in file.values())
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()
