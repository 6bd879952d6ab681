"""Machine code on disk: compiled once for a graph, a machine and a version of this library.

An entry is one file (`compiler/disk.py`), named by a digest of everything that determines its content: the
program's plan and its machine code.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np

from ...core.primitive import table
from .. import disk
from ..attention import OWN
from ..code.target import Target
from ..graph import Graph, Value
from ..nested import Nested
from .image import Image


def key(graph: Graph, target: Target, threads: int) -> str | None:
    """A digest of what a program depends on; None for a graph that this process alone understands."""
    lines = _described(graph)
    return None if lines is None else disk.digest(target, np.__version__, str(threads), *lines)


def _described(graph: Graph) -> list[str] | None:
    """A graph as text, which determines what it computes."""
    numbers: dict[Value, int] = {}
    lines = []
    for value in graph.inputs:
        lines.append(f"{value.shape} {value.dtype.str}")
        numbers[value] = len(numbers)
    for value, array in graph.constants.items():
        content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
        lines.append(f"{value.shape} {value.dtype.str} {content}")
        numbers[value] = len(numbers)
    for op in graph.ops:
        primitive = op.primitive
        if isinstance(primitive, Nested):
            inside = [_described(part) for part in primitive.graphs]
            if None in inside:
                return None
            lines.append(f"{primitive.key} {[numbers[v] for v in op.inputs]} {inside}")
        elif (table.get(primitive.name) or OWN.get(primitive.name)) is primitive:
            params = sorted((name, repr(value)) for name, value in op.params.items())
            lines.append(f"{primitive.name} {[numbers[v] for v in op.inputs]} {params} {op.postponed}")
        else:
            return None
        for value in op.outputs:
            numbers[value] = len(numbers)
    lines.append(f"{[numbers[v] for v in graph.outputs]} {sorted(graph.updates.items())}")
    return lines


def read(name: str) -> tuple[Image, bytes] | None:
    """The entry of a key, or None."""
    body = disk.read(name)
    if body is None:
        return None
    length = int.from_bytes(body[:8], "little")
    try:
        return Image.of(json.loads(body[8 : 8 + length])), body[8 + length :]
    except (ValueError, KeyError, TypeError):
        return None


def write(name: str, image: Image, code: bytes) -> None:
    """Keep an entry, if another process could run it."""
    document = image.document()
    if document is not None:
        plan = json.dumps(document, separators=(",", ":")).encode()
        disk.write(name, len(plan).to_bytes(8, "little") + plan + code)
