"""Pascal VOC annotations: an XML file that lists the boxes of a picture."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from ..core.errors import DataError

SIZE_LIMIT = 2**24  # bytes


class Annotation(NamedTuple):
    """The boxes of a picture: float64 (n, 4), corners x₁ y₁ x₂ y₂ in pixels, and the n names of what they hold."""

    corners: np.ndarray
    names: tuple[str, ...]


def read_voc(path: str | os.PathLike[str], *, limit: int = SIZE_LIMIT) -> Annotation:
    """Read the objects of a VOC annotation.

    Raises:
        DataError: the file is missing, larger than `limit` bytes, no XML, declares a document
            type (which could make entities of any size), or an object has no proper box.
    """
    file = Path(path)
    try:
        if file.stat().st_size > limit:
            raise DataError(f"{file}: {file.stat().st_size:,} bytes, the limit is {limit:,}")
        content = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error})") from error
    if b"<!" in content.replace(b"<!--", b""):
        raise DataError(f"{file}: declares a document type, which a VOC annotation does not")
    try:
        root = ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError(f"{file}: not XML, or damaged ({error})") from error
    objects = list(root.iter("object"))
    boxes = [_box(entry, file, number) for number, entry in enumerate(objects, 1)]
    names = tuple((entry.findtext("name") or "").strip() for entry in objects)
    return Annotation(np.array(boxes, np.float64).reshape(-1, 4), names)


def _box(entry: ElementTree.Element, file: Path, number: int) -> list[float]:
    texts = [entry.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
    try:
        box = [float(text) for text in texts if text is not None]
    except ValueError:
        box = []
    if len(box) < 4 or not all(map(math.isfinite, box)) or box[0] >= box[2] or box[1] >= box[3]:
        raise DataError(f"{file}: object {number} has no proper box, but {', '.join(map(str, texts))}")
    return box
