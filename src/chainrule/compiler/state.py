"""State as a trace sees it: reads and writes of Variables, intercepted while a function is traced.

All state of the library is in Variables, in four slots: value, node, gradient and the graph that the
gradient came from. While a trace is under way in a thread, these slots are its own there: what the
function writes stays in the trace, and what the Variables really hold is neither changed nor visible
to other threads. A trace that fails therefore has nothing to undo.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ..core.node import leaf, mode
from ..core.tensor import Tensor, Variable

if TYPE_CHECKING:
    from .trace import Trace

_SLOTS = {name: vars(Tensor).get(name) or vars(Variable)[name] for name in ("_value", "_node", "_grad", "_graph")}
value_slot, node_slot, grad_slot = _SLOTS["_value"], _SLOTS["_node"], _SLOTS["_grad"]


class Cell:
    """One Variable in a trace.

    Attributes:
        variable: whose state it is.
        before: the value at the start, a tensor that stands for an input of the graph; None where the
            trace made the Variable from a value of its own.
        grad_before: the gradient at the start, if the function reads it before it writes it.
        slots: what the function has written so far.
        is_new: whether the function made the Variable.
    """

    __slots__ = ("before", "grad_before", "is_new", "reads_grad", "slots", "variable")

    def __init__(self, variable: Variable, before: Tensor | None, is_new: bool) -> None:
        self.variable = variable
        self.before = before
        self.grad_before: Tensor | None = None
        self.reads_grad = False
        self.slots: dict[str, Any] = {}
        self.is_new = is_new


class Cells:
    """The Variables that a function under trace has touched, in order of first use."""

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._cells: dict[Variable, Cell] = {}
        self._made: set[Variable] = set()

    def __iter__(self) -> Iterator[Cell]:
        return iter(list(self._cells.values()))

    def read(self, variable: Variable, name: str) -> Any:
        cell = self._open(variable)
        if name in cell.slots:
            return cell.slots[name]
        if name == "_grad":
            return self._gradient_before(cell)
        return _SLOTS[name].__get__(variable)  # only _graph is left; AttributeError where there is none

    def write(self, variable: Variable, name: str, content: Any) -> None:
        if variable not in self._cells and not _is_set(variable, value_slot):
            # Under construction: the first value of a new Variable is real, unless it is traced.
            self._made.add(variable)
            if name != "_value" or not self._trace.owns(content):
                _SLOTS[name].__set__(variable, content)
                return
            self._cells[variable] = Cell(variable, None, True)
            self._cells[variable].slots.update(_node=None, _grad=None)
        cell = self._open(variable)
        cell.slots[name] = content

    def _open(self, variable: Variable) -> Cell:
        cell = self._cells.get(variable)
        if cell is None:
            array = value_slot.__get__(variable)
            node = node_slot.__get__(variable) if _is_set(variable, node_slot) else None
            requires_grad = node is not None and node.requires_grad
            before = self._trace.state(array, variable.name or "state", is_shared=not requires_grad)
            cell = self._cells[variable] = Cell(variable, before, variable in self._made)
            cell.slots["_value"] = before._value
            cell.slots["_node"] = leaf(before._value, True, owner=variable) if requires_grad else before._node
        return cell

    def _gradient_before(self, cell: Cell) -> Tensor | None:
        cell.reads_grad = True
        grad = grad_slot.__get__(cell.variable) if _is_set(cell.variable, grad_slot) else None
        if grad is not None:
            grad = cell.grad_before = self._trace.state(grad._array("a gradient"), f"{cell.variable.name}.grad")
        cell.slots["_grad"] = grad
        return grad


def _is_set(variable: Variable, slot: Any) -> bool:
    try:
        slot.__get__(variable)
    except AttributeError:
        return False
    return True


class _Intercepted:
    """Stands in for a slot of `Variable` while some thread traces; other threads get what is there."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._slot = _SLOTS[name]

    def __get__(self, variable: Any, owner: Any = None) -> Any:
        if variable is None:
            return self
        trace = mode.trace
        return self._slot.__get__(variable) if trace is None else trace.cells.read(variable, self._name)

    def __set__(self, variable: Any, content: Any) -> None:
        trace = mode.trace
        if trace is None:
            self._slot.__set__(variable, content)
        else:
            trace.cells.write(variable, self._name, content)


_lock = threading.Lock()
_tracing = 0


@contextmanager
def intercepted(trace: Trace) -> Iterator[None]:
    """While the block runs, this thread reads and writes Variables in `trace`."""
    global _tracing
    with _lock:
        _tracing += 1
        if _tracing == 1:
            for name in _SLOTS:
                setattr(Variable, name, _Intercepted(name))
    outer, mode.trace = mode.trace, trace
    try:
        yield
    finally:
        mode.trace = outer
        with _lock:
            _tracing -= 1
            if _tracing == 0:
                for name in _SLOTS:
                    delattr(Variable, name)
                Variable._graph = _SLOTS["_graph"]
