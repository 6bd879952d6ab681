"""Text for language models: found or embedded, as codes of its characters, and cut into windows."""

from __future__ import annotations

import gzip
import os
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..core.errors import DataError
from ..core.tensor import Tensor, new_tensor
from .dataset import Dataset
from .sources import data_folder, find_file

SIZE_LIMIT = 2**27  # bytes, uncompressed
EMBEDDED = Path(__file__).parent / "embedded" / "texts"
KNOWN = {
    "moby-dick": "Herman Melville, Moby-Dick (1851), 1.2 million characters; embedded",
    "shakespeare": "William Shakespeare's works, 5.1 million characters",
}


class Text(NamedTuple):
    """A text and where it came from."""

    content: str
    source: str


def read_text(name: str = "moby-dick", folder: str | os.PathLike[str] | None = None) -> Text:
    """A text by its name, or any text file.

    Args:
        name: "moby-dick", which the package embeds; "shakespeare"; or the path of a UTF-8 file,
            gzip-compressed if it ends with `.gz`.
        folder: where `NAME.txt` or `NAME.txt.gz` lies; otherwise CHAINRULE_DATA or the folder
            `text` in it, and then the package.

    Raises:
        DataError: it is not found, cannot be read, is too large, or not UTF-8.
    """
    if name not in KNOWN:
        path = Path(name).expanduser()
        if not path.is_file():
            raise DataError(f"there is no text {name!r}: give {' or '.join(KNOWN)}, or the path of a text file")
        return Text(_read(path), str(path))
    base = Path(folder).expanduser() if folder is not None else data_folder()
    places = [] if base is None else [base / "text", base]
    if folder is None:
        places.append(EMBEDDED)
    for place in places:
        found = find_file(place, f"{name}.txt.gz")
        if found is not None:
            origin = "inside the package" if place.is_relative_to(EMBEDDED) else str(found)
            return Text(_read(found), f"{name}, {origin}")
    raise DataError(
        f"{name}: there is no {name}.txt or {name}.txt.gz in {', '.join(map(str, places))}. Put one there or in the "
        "folder that CHAINRULE_DATA names, or give the path of any text file instead of the name"
    )


def _read(path: Path) -> str:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
            content = stream.read(SIZE_LIMIT + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: the gzip data is damaged or truncated ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(content) > SIZE_LIMIT:
        raise DataError(f"{path}: more than {SIZE_LIMIT:,} bytes of text")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text in UTF-8 ({error.reason} at byte {error.start})") from None


class Characters:
    """The characters of a text as codes 0 … n - 1, in the order of Unicode.

    Attributes:
        symbols: the characters by code.
    """

    def __init__(self, text: str) -> None:
        self.symbols = "".join(sorted(set(text)))
        self._codes = {symbol: code for code, symbol in enumerate(self.symbols)}

    def __len__(self) -> int:
        return len(self.symbols)

    def encode(self, text: str) -> np.ndarray:
        """The codes of a text, int64.

        Raises:
            DataError: a character is none of the symbols.
        """
        try:
            return np.array([self._codes[symbol] for symbol in text], np.int64)
        except KeyError as error:
            raise DataError(
                f"the character {error.args[0]!r} does not occur in the text that the codes are of"
            ) from None

    def decode(self, codes: np.ndarray) -> str:
        """The text of codes."""
        return "".join(self.symbols[code] for code in codes)


class Windows(Dataset):
    """All windows of a length in a sequence of codes, each with its successor codes as target.

    Sample i is (codes[i s : i s + length], the same one code later), s the step from window to
    window.

    Raises:
        DataError: the codes are too few for one window.
    """

    def __init__(self, codes: np.ndarray, length: int, step: int = 1) -> None:
        if len(codes) <= length:
            raise DataError(f"{len(codes):,} codes are too few for windows of {length}")
        self.codes, self.length, self.step = codes, length, step

    def __len__(self) -> int:
        return (len(self.codes) - self.length - 1) // self.step + 1

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.batch(np.arange(len(self))[index])

    def batch(self, indices: np.ndarray) -> tuple[Tensor, Tensor]:
        at = indices[..., None] * self.step + np.arange(self.length)
        return new_tensor(self.codes[at], None), new_tensor(self.codes[at + 1], None)
