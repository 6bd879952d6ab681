"""A program taken apart for the report: every kernel timed by itself, the generated code as text."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence

import numpy as np

from ..code.pool import pool, thread_count
from ..code.target import host, load, object_code
from ..graph import Graph
from ..schedule.build import schedule
from .build import code_of
from .image import image
from .layout import Layout, layout
from .program import Program
from .work import is_worth_threads

_RUNS = 15


def timed(graph: Graph, inputs: Sequence[np.ndarray]) -> list[float]:
    """For each kernel the median time of a run by itself, with the threads of the whole.

    The inputs are left as they are: the outputs go elsewhere.
    """
    planned, threads = _planned(graph)
    module, steps, names = code_of(planned, host(), threads, apart=True)
    made = image(graph, planned, steps, names, threads)
    library = load(object_code(module, host()), made.segments, pool().imports if threads > 1 else None)
    outputs = [np.empty(v.shape, v.dtype) for v in graph.outputs]
    bound = Program(graph, made, library, 0, cached=False).bind(inputs, outputs)
    bound()
    runs: list[list[float]] = [[] for _ in bound.parts]
    for _ in range(_RUNS):
        for part, times in zip(bound.parts, runs, strict=True):
            started = time.perf_counter()
            part()
            times.append(time.perf_counter() - started)
    return [statistics.median(times) for times in runs]


def generated(graph: Graph) -> str:
    """The code of a program as LLVM reads it."""
    planned, threads = _planned(graph)
    return str(code_of(planned, host(), threads)[0])


def _planned(graph: Graph) -> tuple[Layout, int]:
    threads = thread_count()
    planned = layout(schedule(graph), host(), threads)
    return planned, threads if is_worth_threads(planned.kernels) else 1
