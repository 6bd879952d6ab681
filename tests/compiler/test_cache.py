"""The disk cache: what hits, what misses, damaged entries, limits, several processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from chainrule.compiler import disk
from chainrule.compiler.graph import Graph
from chainrule.compiler.runtime import build

from .programs import Builder


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHAINRULE_CACHE", str(tmp_path))
    return tmp_path / "compiled"


def example(factor: float = 2.0, n: int = 9) -> Graph:
    b = Builder()
    x = b.input(n, n)
    turned = b.add(b.exp(x), b.constant(np.arange(n)))
    return b.graph(b.argsort(b.multiply(turned, b.constant(factor)), axis=1, descending=False, stable=True))


def result(graph: Graph) -> tuple[np.ndarray, bool]:
    program = build(graph)
    x = np.random.default_rng(0).standard_normal(graph.inputs[0].shape).astype(np.float32)
    out = np.empty(graph.outputs[0].shape, graph.outputs[0].dtype)
    program.bind([x], [out])()
    return out, program.cached


def test_the_same_graph_built_again_comes_from_the_cache() -> None:
    first, cached = result(example())
    assert not cached
    second, cached = result(example())
    assert cached
    np.testing.assert_array_equal(first, second)


def test_another_number_shape_or_thread_count_is_another_entry(place: Path) -> None:
    build(example())
    assert not build(example(3.0)).cached
    assert not build(example(n=8)).cached
    assert not build(example(), threads=3).cached
    assert len(list(place.iterdir())) == 4


@pytest.mark.parametrize(
    "damage", [lambda c: c[:-1], lambda c: b"", lambda c: c[:80] + b"x" + c[81:], lambda c: b"MZ" + c]
)
def test_a_damaged_entry_is_made_again(place: Path, damage: object) -> None:
    expected, _ = result(example())
    (entry,) = place.iterdir()
    entry.write_bytes(damage(entry.read_bytes()))  # type: ignore[operator]
    got, cached = result(example())
    assert not cached
    np.testing.assert_array_equal(got, expected)
    assert result(example())[1]


def test_a_folder_that_others_can_write_is_not_trusted(place: Path) -> None:
    result(example())
    place.chmod(0o777)
    assert not result(example())[1]


def test_a_folder_that_cannot_be_written_is_no_error(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place.parent.joinpath("file").write_text("")
    monkeypatch.setenv("CHAINRULE_CACHE", str(place.parent / "file"))
    assert not result(example())[1]


def test_the_entries_that_were_not_used_for_longest_go(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(example(1.0))
    size = sum(p.stat().st_size for p in place.iterdir())
    monkeypatch.setattr(disk, "LIMIT", int(2.5 * size))
    build(example(2.0))
    for age, path in enumerate(sorted(place.iterdir(), key=lambda p: p.stat().st_mtime)):
        os.utime(path, (age, age))
    assert build(example(1.0)).cached  # used again: younger than the other now
    build(example(3.0))
    assert build(example(1.0)).cached
    assert not build(example(2.0)).cached


def test_processes_do_not_disturb_each_other(place: Path) -> None:
    script = """
        from tests.compiler.test_cache import example, result
        import numpy as np
        print(int(sum(result(example(float(f)))[0].sum() for f in range(1, 6))))
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ) for _ in range(3)]
    outputs = [p.communicate(timeout=120)[0] for p in running]
    assert all(p.returncode == 0 for p in running)
    assert len(set(outputs)) == 1
    assert len(list(place.iterdir())) == 5
