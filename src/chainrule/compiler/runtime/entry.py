"""A built-in function of Python, made at run time from generated code, that checks a call and runs its program.

No C compiler and no extension module is involved: Python's own interface makes a built-in function of an address.
The code reads objects where CPython and NumPy keep them. Whether they keep them there is looked up when the
first entry is made; where it is not so (another implementation of Python), there are no entries and calls
take the way through Python, which does the same.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from ...core.node import Node
from ...core.tensor import Tensor, Variable
from ..code import entry as layout
from ..code.entry import ENTER, IMPORTS, entry_module
from ..code.target import Library, host, load, object_code
from ..disk import digest, kept
from .program import NativeCall

_WORD = 8
_FASTCALL = 0x0080
CONSTANTS = (bool, int, float, complex, str, bytes, type(None))
"""Types of arguments that an entry compares by identity: they cannot change."""

Fact = tuple[int, int]  # the address of a word, and what the program takes it to be


class _MethodDef(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p), ("function", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p),
    )  # fmt: skip


@dataclass(frozen=True)
class Places:
    """Where CPython keeps what an entry looks at: bytes from an object's address.

    Attributes:
        value, node, grad: slots of a Variable; the first two also of a Tensor.
        requires_grad: a slot of a Node.
        counted: what `sys.getrefcount` gives, called by `map` on a list, beyond the count in the object.
    """

    value: int
    node: int
    grad: int
    requires_grad: int
    counted: int

    def holds_value(self, tensor: Tensor, array: Any) -> Fact:
        return id(tensor) + self.value, id(array)

    def holds_node(self, tensor: Tensor, node: Any) -> Fact:
        return id(tensor) + self.node, id(node)

    def holds_grad(self, tensor: Tensor, grad: Any) -> Fact:
        return id(tensor) + self.grad, id(grad)

    def is_counted(self, item: Any, count: int) -> Fact:
        """That so many refer to an object, as `map(sys.getrefcount, …)` counts them."""
        return id(item), count - self.counted


@cache
def places() -> Places | None:
    """Where things are in this process; None where they cannot be found."""
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != _WORD:
        return None
    tensor, variable, node = Tensor(np.zeros(3)), Variable(np.zeros(3)), Node(None, (), {}, None, False)
    tensor._node = node
    variable._node, variable._grad = node, tensor
    value, value_too = _place(tensor, tensor._value), _place(variable, variable._value)
    own, own_too = _place(tensor, node), _place(variable, node)
    grad, requires_grad = _place(variable, tensor), _place(node, False)
    counted = _counted()
    if None in (value, own, grad, requires_grad, counted) or (value, own) != (value_too, own_too):
        return None
    if not _arrays_are_as_expected():
        return None
    return Places(value, own, grad, requires_grad, counted)  # type: ignore[arg-type]


def _word(address: int) -> int:
    return ctypes.c_size_t.from_address(address).value


def _kind_word(dtype: np.dtype) -> int:
    return _word(id(dtype) + layout.KIND_OF_DTYPE)


def _place(holder: Any, content: Any) -> int | None:
    """The one place in an object where there is the address of another."""
    size = type(holder).__basicsize__
    found = [at for at in range(2 * _WORD, size, _WORD) if _word(id(holder) + at) == id(content)]
    return found[0] if len(found) == 1 else None


def _counted() -> int | None:
    """See `Places`; None if the first word of an object does not count those who refer to it."""
    item = np.zeros(1)
    listed = [item]
    (counted,) = map(sys.getrefcount, listed)
    before = _word(id(item))
    more = [item] * 3
    return counted - before if _word(id(item)) == before + len(more) else None


def _arrays_are_as_expected() -> bool:
    swapped = np.zeros(2, np.dtype(np.int32).newbyteorder())
    arrays: list[np.ndarray] = [
        np.zeros((2, 3, 5), np.float32), np.zeros((4, 6), np.int8).T, np.zeros(()), np.zeros(1, np.bool_), swapped,
    ]  # fmt: skip
    return all(
        _word(id(a) + _WORD) == id(np.ndarray)
        and _word(id(a) + layout.DATA) == a.ctypes.data
        and ctypes.c_int32.from_address(id(a) + layout.NDIM).value == a.ndim
        and all(_word(_word(id(a) + layout.DIMENSIONS) + _WORD * i) == n for i, n in enumerate(a.shape))
        and _word(id(a) + layout.DTYPE_OF) == id(a.dtype)
        and _kind_word(a.dtype) & 0xFF == ord(a.dtype.kind)
        and _kind_word(a.dtype) >> 16 & 0xFF == ord(a.dtype.byteorder)
        and _kind_word(a.dtype) >> 32 == a.dtype.num
        and bool(ctypes.c_int32.from_address(id(a) + layout.FLAGS).value & 1) == a.flags.c_contiguous
        for a in arrays
    )


@cache
def _library() -> tuple[Library, _MethodDef]:
    target = host()
    code = kept(digest(target, "entry"), lambda: object_code(entry_module(), target))
    imports = {name: ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value or 0 for name in IMPORTS}
    library = load(code, [ENTER], imports)
    return library, _MethodDef(b"enter", library[ENTER], _FASTCALL, None)


def _builtin(plan: np.ndarray) -> Any:
    make = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p)(
        ("PyCFunction_NewEx", ctypes.pythonapi)
    )
    return make(ctypes.addressof(_library()[1]), plan, None)


class Entry:
    """The way into one program for arguments of one form.

    Attributes:
        enter: `enter(*arguments, *results)` with arrays for the results runs the program and returns 1, or 2
            if an index was out of range; or finds that something has changed, does nothing and returns 0.
    """

    def __init__(
        self, found: Places, arguments: Sequence[tuple[Any, int | None]], results: Sequence[int], native: NativeCall
    ) -> None:
        """
        Args:
            arguments: those of a call that has just been made, each with its slot in the table, None if unused.
            results: the slots of the results.
        """
        self._kept: list[Any] = [native]
        specs = [self._spec(argument, slot) for argument, slot in arguments]
        self._specs = np.array(specs, np.int64).reshape(-1)
        self._results = np.array(results, np.int64)
        self._checks = np.zeros(0, np.int64)
        plan = self._plan = np.zeros(layout.WORDS, np.int64)
        plan[layout.ARGUMENTS], plan[layout.ARGUMENT] = len(specs), self._specs.ctypes.data
        plan[layout.RESULTS], plan[layout.RESULT] = len(results), self._results.ctypes.data
        plan[layout.TABLE], plan[layout.FUNCTION], plan[layout.FLAG] = native.table, native.function, native.flag
        plan[layout.THREADS], plan[layout.RUN], plan[layout.RELEASES] = native.threads, native.run, native.releases
        plan[layout.TENSOR], plan[layout.ARRAY] = id(Tensor), id(np.ndarray)
        plan[layout.NONE], plan[layout.FALSE] = id(None), id(False)
        plan[layout.VALUE], plan[layout.NODE] = found.value, found.node
        plan[layout.REQUIRES_GRAD] = found.requires_grad
        self.enter = _builtin(plan)

    def _spec(self, argument: Any, slot: int | None) -> list[int]:
        if isinstance(argument, CONSTANTS):
            self._kept.append(argument)
            return [layout.IS_OBJECT, id(argument), 0, 0, 0, -1, 0]
        array = argument._value if type(argument) is Tensor else argument
        shape = np.array(array.shape, np.int64)
        self._kept.append(shape)
        kind = layout.IS_TENSOR if type(argument) is Tensor else layout.IS_ARRAY
        return [kind, 0, array.ndim, shape.ctypes.data, _kind_word(array.dtype), -1 if slot is None else slot, 0]

    def know(self, facts: Sequence[Fact]) -> None:
        """What has to hold for a call to be let through. The objects that it is about must be kept alive."""
        self.disarm()
        self._checks = np.array(facts, np.int64).reshape(-1)
        self._plan[layout.CHECKS], self._plan[layout.CHECK] = len(facts), self._checks.ctypes.data

    def arm(self) -> None:
        """Let calls through as long as what is known holds."""
        self._plan[layout.ARMED] = 1

    def disarm(self) -> None:
        """Let no call through."""
        self._plan[layout.ARMED] = 0


def is_simple(argument: Any) -> bool:
    """Whether an entry can take such an argument: a tensor without a gradient, an array, a plain constant."""
    if type(argument) is Tensor:
        return type(argument._value) is np.ndarray and not argument.requires_grad
    return type(argument) is np.ndarray or isinstance(argument, CONSTANTS)
