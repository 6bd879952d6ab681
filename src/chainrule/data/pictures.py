"""Pictures as arrays, read and written by Pillow (extra `photos`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError
from .files import writing

PIXELS_LIMIT = 2**27


def read_picture(path: Path, limit: int = PIXELS_LIMIT) -> np.ndarray:
    """A picture of any common format as bytes (H, W, 3): red, green, blue, upright.

    Raises:
        DataError: Pillow is missing, or the file cannot be read, is damaged, no picture, or
            has more than `limit` pixels; those are never decoded.
    """
    image, _ = _pillow()
    from PIL import ImageOps, UnidentifiedImageError

    try:
        with path.open("rb") as file, _opened(image, file) as opened:
            if opened.width * opened.height > limit:
                raise DataError(f"{path}: {opened.width}×{opened.height} pixels are too many")
            return np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: damaged, or not a picture") from error
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, OSError) and error.strerror:
            raise DataError(f"{path}: cannot be read ({error.strerror})") from error
        raise DataError(f"{path}: damaged, or not a picture ({error})") from error


def save_boxed(path: Path, picture: np.ndarray, corners: np.ndarray) -> None:
    """Write a picture (H, W, 3) of bytes with boxes (n, 4), corners x₁ y₁ x₂ y₂, drawn on it.

    Raises:
        DataError: Pillow is missing, or the name has no ending of a format that it writes.
        OutputError: the file cannot be written.
    """
    image, drawing = _pillow()
    drawn = image.fromarray(picture)
    pen = drawing.Draw(drawn)
    for box in np.asarray(corners, float):
        pen.rectangle([float(n) for n in box], outline=(255, 60, 60), width=max(2, max(picture.shape) // 256))
    with writing(path):
        try:
            drawn.save(path)
        except ValueError as error:
            raise DataError(f"{path}: pictures are written as .png or .jpg ({error})") from error


def astronaut() -> Path:
    """scikit-image's photograph of Eileen Collins (NASA, public domain), 512×512.

    Raises:
        DataError: scikit-image is missing.
    """
    from importlib.util import find_spec

    found = find_spec("skimage")
    if found is None or not found.submodule_search_locations:
        raise DataError("name a picture, or install scikit-image for one: pip install 'chainrule[photos]'")
    return Path(found.submodule_search_locations[0]) / "data" / "astronaut.png"


def _opened(image: Any, file: Any) -> Any:
    # Pillow warns of pictures with very many pixels; here they are refused by their number.
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", image.DecompressionBombWarning)
        try:
            return image.open(file)
        except image.DecompressionBombError as error:
            raise DataError(f"{file.name}: {error}") from error


def _pillow() -> tuple[Any, Any]:
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise DataError("photographs are decoded by Pillow: pip install 'chainrule[photos]'") from error
    return Image, ImageDraw
