"""The .ts reader and the Japanese vowels: what is read is what was written, and anything else is refused by line."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chainrule.data import DataError
from chainrule.data.time_series import read_ts
from chainrule.data.vowels import JapaneseVowels
from tests.data.vowels import HEADER, line, write_vowels


@pytest.fixture(autouse=True)
def _no_data_elsewhere(monkeypatch, tmp_path):
    monkeypatch.delenv("CHAINRULE_DATA", raising=False)
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))


def test_sequences_of_any_length_are_read_as_they_were_written(tmp_path):
    rng = np.random.default_rng(0)
    sequences = [rng.normal(size=(steps, 3)) for steps in (1, 5, 2)]
    file = tmp_path / "a.ts"
    cases = [line(s, label) for s, label in zip(sequences, (9, 1, 4), strict=True)]
    file.write_text(HEADER + "\n" + "\n\n".join(cases))
    found = read_ts(file)
    assert found.labels.tolist() == [8, 0, 3] and found.classes == tuple("123456789")
    for got, wanted in zip(found.sequences, sequences, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no line @data"),
        (b"\x1f\x8b\x08\x00", "not a text file"),
        (b"1,2,3\n", "line 1: expected a line that begins with"),
        (b"@data\n1,2:1\n", "@classLabel"),
        (HEADER.encode(), "no case"),
        ((HEADER + "1,2:3,4:10\n").encode(), "line 6: label '10'"),
        ((HEADER + "1,2:3:1\n").encode(), r"line 6: channels of \[1, 2\] steps"),
        ((HEADER + "1,2:3,4:1\n1,2:1\n").encode(), "line 7: 1 channels, the first case has 2"),
        ((HEADER + "1,x:3,4:1\n").encode(), "line 6"),
        ((HEADER + "1,?:3,4:1\n").encode(), "line 6"),
        ((HEADER + "1,nan:3,4:1\n").encode(), "line 6: a value is not finite"),
        ((HEADER + "1,1e99:3,4:1\n").encode(), "line 6: a value is not finite"),
        ((HEADER + "1\n").encode(), "line 6"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_damage_is_named_with_its_line(tmp_path, content, message):
    file = tmp_path / "a.ts"
    file.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_ts(file)


def test_large_and_missing_files_are_refused(tmp_path):
    file = tmp_path / "a.ts"
    file.write_text(HEADER + "1,2:1\n")
    with pytest.raises(DataError, match="the limit is 50"):
        read_ts(file, limit=50)
    with pytest.raises(DataError, match="cannot be read"):
        read_ts(tmp_path / "none.ts")


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from([b"", HEADER.encode()]),
)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_no_content_does_anything_but_read_or_fail_clearly(tmp_path_factory, content, start):
    file = tmp_path_factory.mktemp("fuzz") / "a.ts"
    file.write_bytes(start + content)
    try:
        found = read_ts(file)
    except DataError:
        return
    assert len(found.sequences) == len(found.labels) and all(np.isfinite(s).all() for s in found.sequences)


def test_vowels_are_found_in_order_and_asked_for_where_there_are_none(monkeypatch, tmp_path):
    with pytest.raises(DataError, match=r"aeon==1\.6\.0"):
        JapaneseVowels()
    write_vowels(tmp_path / "cache" / "japanese-vowels", each=1)
    assert len(JapaneseVowels()) == 9
    write_vowels(tmp_path / "data" / "japanese-vowels", each=2)
    monkeypatch.setenv("CHAINRULE_DATA", str(tmp_path / "data"))
    assert len(JapaneseVowels(False)) == 18
    data = JapaneseVowels(folder=write_vowels(tmp_path / "mine", each=3))
    assert len(data) == 27 and data.source == tmp_path / "mine"
    with pytest.raises(DataError, match=r"none.*aeon==1\.6\.0"):
        JapaneseVowels(folder=tmp_path / "none")
    frames, speaker = data[-1]
    assert frames.shape[1] == 12 and frames.dtype == np.float32 and speaker == 8


def test_another_set_of_sequences_is_not_taken_for_the_vowels(tmp_path):
    folder = write_vowels(tmp_path / "a")
    (folder / "JapaneseVowels_TRAIN.ts").write_text(HEADER + "1,2:3,4:1\n")
    with pytest.raises(DataError, match="expected 12 channels and 9 speakers, got 2 and 9"):
        JapaneseVowels(folder=folder)
