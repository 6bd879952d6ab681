"""`compile`: a function whose calls run as one program.

A `Compiled` keeps an executable for each form of arguments it was called with: structure, shapes, data
types and plain values. Everything slow happens at the first call of a form.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, overload

import numpy as np

from ..core.dtypes import default_dtype
from ..core.errors import DTypeError, OperationError, describe, located
from ..core.memory import return_freed_memory
from ..core.node import Interpreted, Node, mode
from ..core.tensor import Tensor, new_tensor
from . import arguments
from .capture import capture
from .executable import Executable
from .graph import Graph
from .places import Stale
from .report import Report, report
from .runtime import build

log = logging.getLogger("chainrule.compiler")

_MOST = 64
"""Executables that one function keeps; the oldest goes first."""


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """No search for reference cycles: a trace makes many objects that live, and a search would go through all of them.

    Searches are a fifth of the time of a first call whose code is in the disk cache.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


class Compiled:
    """What `compile` returns: call it as the function itself.

    Attributes:
        function: the function as it was written.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function, updated=())
        self.function = function
        self._name = getattr(function, "__qualname__", type(function).__name__)
        self._executables: dict[Any, list[Executable]] = {}
        self._last: Executable | None = None
        self._ready: tuple[Executable, bool, np.dtype] | None = None  # the last call's, and under what it holds
        self._lock = threading.RLock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        ready = self._ready
        if ready is not None and not kwargs:
            executable, grad, dtype = ready
            if (
                mode.grad is grad
                and mode.trace is None
                and not mode.level
                and default_dtype() is dtype
                and executable.fits()
            ):
                outputs = executable.enter(args)
                if outputs is not None:
                    return _returned(executable, args, outputs)
        return self._call(args, kwargs)

    def _call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A call of another form than the last one's, or of changed state."""
        if mode.trace is not None or mode.level:
            return self.function(*args, **kwargs)  # part of a larger computation
        given: list[Any] = []
        key = (arguments.flatten((args, kwargs), given), mode.grad, default_dtype())
        arrays = [_array(g) for g in given]
        if any(isinstance(a, Interpreted) for a in arrays):
            return self.function(*args, **kwargs)
        executable = self._find(key)
        if executable is None:
            executable = self._trace(key, args, kwargs, given)
        try:
            outputs = executable(arrays)
        except Stale:
            self._executables[key].remove(executable)
            executable = self._trace(key, args, kwargs, given)
            outputs = executable(arrays)
        self._last = executable
        opened = not kwargs and executable.open(args)
        self._ready = (executable, mode.grad, default_dtype()) if opened else None
        return _returned(executable, given, outputs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        # A decorated method is compiled for each object on its own.
        if instance is None:
            return self
        bound = Compiled(functools.partial(self.function, instance))
        functools.update_wrapper(bound, self.function)
        with contextlib.suppress(AttributeError):  # an object with slots compiles anew for each access
            setattr(instance, self.function.__name__, bound)
        return bound

    def report(self, *, time: bool = True, code: bool = False) -> Report:
        """What the program of the last call is made of; `print` shows it as a table.

        Args:
            time: run every kernel by itself, on copies of the state, to measure it.
            code: add the generated code (LLVM IR).

        Returns:
            A `Report`: kernels with the operations fused in them, the lines they come from, their FLOPs, bytes
            and times; what is handed to NumPy; memory; how long compilation took.

        Raises:
            OperationError: the function has not been called yet.
        """
        return report(self._latest(), self._name, time, code)

    @property
    def graph(self) -> Graph:
        """The graph of the last call, after the passes; `print` shows it."""
        return self._latest().captured.graph

    def _latest(self) -> Executable:
        if self._last is None:
            raise OperationError(located(f"{self._name} has not been called yet: the first call compiles it"))
        return self._last

    def _find(self, key: Any) -> Executable | None:
        for executable in self._executables.get(key, ()):
            if executable.fits():
                return executable
        return None

    def _trace(self, key: Any, args: Any, kwargs: dict[str, Any], given: list[Any]) -> Executable:
        with self._lock, _uncollected():
            if self._executables:
                log.debug("%s is compiled again for %s", self._name, ", ".join(map(describe, given)) or "new guards")
            captured = capture(self.function, args, kwargs, self._name)
            started = time.perf_counter()
            program = build(captured.graph)
            return_freed_memory()  # LLVM's
            seconds = captured.seconds | {"code": time.perf_counter() - started}
            executable = Executable(captured, program, seconds)
            if not executable.fits():
                raise AssertionError("a graph does not fit what it was just made from")
            self._executables.setdefault(key, []).insert(0, executable)
            self._forget()
        if os.environ.get("CHAINRULE_DEBUG", "0") not in ("", "0"):
            print(report(executable, self._name), file=sys.stderr)
        return executable

    def _forget(self) -> None:
        while sum(map(len, self._executables.values())) > _MOST:
            oldest = next(iter(self._executables))
            self._executables[oldest].pop()
            if not self._executables[oldest]:
                del self._executables[oldest]

    def __getattr__(self, name: str) -> Any:
        # A compiled module has its parameters(), train() and so on.
        if name == "function":
            raise AttributeError(name)
        return getattr(self.function, name)

    def __repr__(self) -> str:
        return f"<compiled {self._name}>"


def _array(given: Any) -> Any:
    if isinstance(given, Tensor):
        value = given._value
        return value if isinstance(value, np.ndarray | Interpreted) else given._array("cr.compile")
    array = np.asarray(given)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


_CUT = {"cut": "cr.compile()"}


def _returned(executable: Executable, given: Sequence[Any], outputs: list[np.ndarray]) -> Any:
    captured = executable.captured
    results = []
    for array, result in zip(outputs, captured.results, strict=False):
        node = Node(None, (), _CUT, array, False, executable.place) if result.requires_grad else None
        results.append(new_tensor(array, node))
    if captured.argument_gradients:
        _add_gradients(executable, given, outputs[len(results) :])
    if type(captured.tree) is Tensor:
        return results[0]
    return arguments.replaced(captured.tree, iter(results))


def _add_gradients(executable: Executable, given: Sequence[Any], arrays: list[np.ndarray]) -> None:
    for gradient, array in zip(executable.captured.argument_gradients, arrays, strict=True):
        holder = given[gradient.argument]
        made = new_tensor(array, None)
        holder.grad = made if holder.grad is None else holder.grad + made


@overload
def compile(function: Callable[..., Any], /) -> Compiled: ...
@overload
def compile(function: None = None, /) -> Callable[[Callable[..., Any]], Compiled]: ...
def compile(function: Any = None, /) -> Any:
    """A function that runs as one compiled program: forward pass, gradients and optimiser step together.

    Its first call runs the function once on tensors that are known by shape and data type only, and
    compiles what it did; calls of the same form run the program. What changes from call to call is
    found by itself: arguments, parameters, buffers, optimiser state, random numbers, learning rates.

        @cr.compile
        def step(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
            return loss

    Args:
        function: takes tensors, NumPy arrays, plain values and nested containers of them; returns tensors, None
            and containers of them. With another shape, data type or plain value it is compiled again.

    Returns:
        A `Compiled`. Its results carry no graph: call `backward` and `cr.grad` inside the function.

    Raises:
        TransformError: at the first call, if the function decides by values of tensors, keeps one in a place
            that outlives the call, or returns something else than tensors.
    """
    if function is None:
        return compile
    if not callable(function):
        raise DTypeError(located(f"compile: expected a function, got {type(function).__name__}"))
    return function if isinstance(function, Compiled) else Compiled(function)
