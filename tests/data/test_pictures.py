"""Pictures: bytes come back, bad files are named, and nothing gigantic is decoded."""

import io
import zlib

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from chainrule.data import DataError
from chainrule.data.files import OutputError
from chainrule.data.pictures import astronaut, read_picture, save_boxed

PICTURE = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def png(array=PICTURE, **options):
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG", **options)
    return out.getvalue()


def test_colour_grey_and_transparent_pictures_come_as_colours(tmp_path):
    for array in (PICTURE, PICTURE[..., 0], np.dstack([PICTURE, PICTURE[..., :1]])):
        (tmp_path / "a.png").write_bytes(png(array))
        found = read_picture(tmp_path / "a.png")
        np.testing.assert_array_equal(found, array[..., :3] if array.ndim == 3 else np.dstack([array] * 3))


def test_a_picture_that_lies_on_its_side_is_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn it a quarter clockwise
    Image.fromarray(PICTURE).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_picture(tmp_path / "a.png"), np.rot90(PICTURE, -1))


def test_boxes_are_drawn_where_they_are(tmp_path):
    save_boxed(tmp_path / "a.png", np.zeros((40, 60, 3), np.uint8), np.array([[10.0, 5, 50, 30]]))
    red = read_picture(tmp_path / "a.png")[..., 0] > 0
    rows, columns = np.nonzero(red)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (5, 30, 10, 50)
    assert not red[10:25, 15:45].any()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a picture"),
        (b"no picture at all", "not a picture"),
        (png()[:-40], "damaged"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_picture_is_named(tmp_path, content, message):
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.png.*{message}"):
        read_picture(tmp_path / "a.png")


def test_a_picture_with_too_many_pixels_is_not_decoded(tmp_path):
    data = bytearray(png())
    data[16:24] = (2**16).to_bytes(4, "big") * 2  # the header's width and height
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(DataError, match=r"a\.png.*(too many|exceeds limit)"):
        read_picture(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(png())
    with pytest.raises(DataError, match="30×20 pixels are too many"):
        read_picture(tmp_path / "b.png", limit=500)


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        save_boxed(tmp_path / "none" / "a.png", PICTURE, np.zeros((0, 4)))
    with pytest.raises(DataError, match=r"written as \.png"):
        save_boxed(tmp_path / "a.unheard", PICTURE, np.zeros((0, 4)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, len(png()) - 1), st.integers(0, 255)), min_size=1, max_size=5))
def test_any_change_of_a_picture_gives_a_picture_or_an_error(tmp_path, changes):
    data = bytearray(png())
    for place, value in changes:
        data[place] = value
    (tmp_path / "a.png").write_bytes(data)
    try:
        assert read_picture(tmp_path / "a.png").dtype == np.uint8
    except DataError:
        return


def test_the_astronaut_is_there():
    assert read_picture(astronaut()).shape == (512, 512, 3)
