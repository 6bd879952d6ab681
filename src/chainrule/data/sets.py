"""The data sets that `chainrule data` knows: where each is, and getting the full one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import fashion_mnist
from .idx import DataError
from .sources import EMBEDDED, cache_folder, download, find_file, verify

DATA_SETS = {
    fashion_mnist.NAME: "60,000 + 10,000 grey images of clothing, 28×28, 10 classes (MIT; 10,000 + 2,000 embedded)",
}


def inspect(name: str) -> dict[str, Any]:
    """Which folder of a data set is used now, and why."""
    source = fashion_mnist.locate()
    return {
        "name": name,
        "description": DATA_SETS[name],
        "folder": str(source.folder),
        "origin": source.origin,
        "embedded": source.folder.is_relative_to(EMBEDDED),
    }


def fetch(name: str, address: str | None, say: Callable[[str], None]) -> dict[str, Any]:
    """Make sure that the full data set is on this machine, downloading what is missing.

    A set that CHAINRULE_DATA or the cache folder already holds is checked against the
    pinned sums. In the cache, a damaged file is fetched again.

    Raises:
        DataError: a download failed, or files under CHAINRULE_DATA are not the expected ones.
    """
    source = fashion_mnist.locate()
    cache = cache_folder() / name
    if source.folder not in (EMBEDDED / name, cache):
        for file in fashion_mnist.FILES:
            path = find_file(source.folder, file.name)
            assert path is not None
            verify(path, file)
        return inspect(name)
    bases = fashion_mnist.ADDRESSES if address is None else (address,)
    for file in fashion_mnist.FILES:
        path = find_file(cache, file.name)
        if path is not None:
            try:
                verify(path, file)
                continue
            except DataError as error:
                say(f"{error}; fetching it again")
                path.unlink(missing_ok=True)
        download(file, bases, cache, say)
    return inspect(name)
