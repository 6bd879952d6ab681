"""`compile`: a function whose calls run as one program.

A `Compiled` keeps an executable for each form of arguments it was called with: structure, shapes, data
types and plain values. Everything slow happens at the first call of a form.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import threading
from collections.abc import Callable
from typing import Any, overload

import numpy as np

from ..core import source
from ..core.dtypes import default_dtype
from ..core.errors import DTypeError, describe, located
from ..core.node import Interpreted, Node, mode
from ..core.tensor import Tensor, new_tensor
from . import arguments
from .capture import capture
from .executable import Executable, Stale
from .graph import Graph
from .program import Evaluation, Program

log = logging.getLogger("chainrule.compiler")

_MOST = 64
"""Executables that one function keeps; the oldest goes first."""


def build(graph: Graph) -> Program:
    """The program for a graph."""
    return Evaluation(graph)


class Compiled:
    """What `compile` returns: call it as the function itself.

    Attributes:
        function: the function as it was written.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self._name = getattr(function, "__qualname__", type(function).__name__)
        self._executables: dict[Any, list[Executable]] = {}
        self._last: Executable | None = None
        self._lock = threading.RLock()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
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

    @property
    def graph(self) -> Graph:
        """The graph of the last call, after the passes; `print` shows it."""
        return self._latest().captured.graph

    def _latest(self) -> Executable:
        if self._last is None:
            raise RuntimeError(f"{self._name} has not been called yet: the first call compiles it")
        return self._last

    def _find(self, key: Any) -> Executable | None:
        for executable in self._executables.get(key, ()):
            if executable.fits():
                self._last = executable
                return executable
        return None

    def _trace(self, key: Any, args: Any, kwargs: dict[str, Any], given: list[Any]) -> Executable:
        with self._lock:
            if self._executables:
                log.debug("%s is compiled again for %s", self._name, ", ".join(map(describe, given)) or "new guards")
            captured = capture(self.function, args, kwargs, self._name)
            executable = Executable(captured, build(captured.graph))
            if not executable.fits():
                raise AssertionError("a graph does not fit what it was just made from")
            self._executables.setdefault(key, []).insert(0, executable)
            self._forget()
            self._last = executable
        return executable

    def _forget(self) -> None:
        while sum(map(len, self._executables.values())) > _MOST:
            oldest = next(iter(self._executables))
            self._executables[oldest].pop()
            if not self._executables[oldest]:
                del self._executables[oldest]

    def __repr__(self) -> str:
        return f"<compiled {self._name}>"


def _array(given: Any) -> Any:
    if isinstance(given, Tensor):
        value = given._value
        return value if isinstance(value, np.ndarray | Interpreted) else given._array("cr.compile")
    return np.asarray(given)


def _returned(executable: Executable, given: list[Any], outputs: list[np.ndarray]) -> Any:
    captured = executable.captured
    results = []
    for array, result in zip(outputs, captured.results, strict=False):
        node = (
            Node(None, (), {"cut": "cr.compile()"}, array, False, source.capture(2)) if result.requires_grad else None
        )
        results.append(new_tensor(array, node))
    for gradient, array in zip(captured.argument_gradients, outputs[len(results) :], strict=True):
        holder = given[gradient.argument]
        made = new_tensor(array, None)
        holder.grad = made if holder.grad is None else holder.grad + made
    return arguments.replaced(captured.tree, iter(results))


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
