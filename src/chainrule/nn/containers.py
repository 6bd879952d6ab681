"""Modules that hold modules or parameters: Sequential, ModuleList, ModuleDict, ParameterList."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..core.errors import DTypeError, IndexingError, located
from .module import Module
from .parameter import Parameter


class _Numbered(Module):
    """Entries under the attribute names "0", "1", …: PyTorch's state-dict keys."""

    _kind: type = Module

    def _items(self) -> list[Any]:
        kind = self._kind
        return [v for v in self.__dict__.values() if isinstance(v, kind)]

    def _refill(self, entries: Iterable[Any]) -> None:
        entries = [self._checked(e) for e in entries]
        for name in [n for n, v in self.__dict__.items() if isinstance(v, self._kind)]:
            del self.__dict__[name]
        self.__dict__.update((str(i), e) for i, e in enumerate(entries))

    def _checked(self, entry: Any) -> Any:
        if not isinstance(entry, self._kind):
            raise DTypeError(
                located(f"{type(self).__name__} holds {self._kind.__name__}s, got {type(entry).__name__}: {entry!r}")
            )
        return entry

    def _position(self, index: Any, size: int) -> int:
        try:
            position = operator.index(index)
        except TypeError:
            raise IndexingError(located(f"an index is an integer or a slice, not {index!r}")) from None
        if not -size <= position < size:
            raise IndexingError(located(f"index {position} is out of range for {size} entries"))
        return position % size

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items())

    def __contains__(self, entry: object) -> bool:
        return any(e is entry for e in self._items())

    def __getitem__(self, index: Any) -> Any:
        items = self._items()
        if isinstance(index, slice):
            made = type(self).__new__(type(self))
            made._refill(items[index])
            return made
        return items[self._position(index, len(items))]

    def __setitem__(self, index: int, entry: Any) -> None:
        names = [n for n, v in self.__dict__.items() if isinstance(v, self._kind)]
        self.__dict__[names[self._position(index, len(names))]] = self._checked(entry)

    def __delitem__(self, index: Any) -> None:
        items = self._items()
        if not isinstance(index, slice):
            index = self._position(index, len(items))
        del items[index]
        self._refill(items)

    def append(self, entry: Any) -> Any:
        """Add an entry at the end; returns the container."""
        self._refill([*self._items(), entry])
        return self

    def extend(self, entries: Iterable[Any]) -> Any:
        """Add entries at the end; returns the container."""
        self._refill([*self._items(), *entries])
        return self

    def insert(self, index: int, entry: Any) -> None:
        """Put an entry before position `index`."""
        items = self._items()
        items.insert(index, entry)
        self._refill(items)

    def pop(self, index: int = -1) -> Any:
        """Take an entry out and return it."""
        entry = self[index]
        del self[index]
        return entry


class Sequential(_Numbered):
    """Modules applied one after the other: `Sequential(f, g)(x) = g(f(x))`.

    Args:
        *args: modules, or one dictionary of names and modules.
    """

    def __init__(self, *args: Module | Mapping[str, Module]) -> None:
        if len(args) == 1 and isinstance(args[0], Mapping):
            for name, module in args[0].items():
                self.add_module(name, self._checked(module))
        else:
            self._refill(args)

    def forward(self, input: Any) -> Any:
        """The output of the last module; the input itself if there is none."""
        for module in self._items():
            input = module(input)
        return input

    def append(self, entry: Any) -> Any:
        """Add a module at the end; returns the container."""
        size = len(self)
        self.add_module(str(size), self._checked(entry))
        return self


class ModuleList(_Numbered):
    """A list of modules whose parameters count as the list's own."""

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        self._refill(modules or ())

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self._items(), *other])


class ParameterList(_Numbered):
    """A list of parameters; tensors given to it become parameters."""

    _kind = Parameter

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        self._refill(values or ())

    def _checked(self, entry: Any) -> Any:
        return entry if isinstance(entry, Parameter) else Parameter(entry)

    def extra_repr(self) -> str:
        return "\n".join(f"({i}): Parameter of {p.dtype}{list(p.shape)}" for i, p in enumerate(self._items()))


class ModuleDict(Module):
    """A dictionary of modules whose parameters count as the dictionary's own."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        self.update(modules or {})

    def __getitem__(self, key: str) -> Module:
        found = self.__dict__.get(key)
        if not isinstance(found, Module):
            raise KeyError(key)
        return found

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        self.pop(key)

    def __len__(self) -> int:
        return len(self.keys())

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __contains__(self, key: object) -> bool:
        return isinstance(self.__dict__.get(key), Module)  # type: ignore[call-overload]

    def keys(self) -> list[str]:
        """The names."""
        return [n for n, v in self.__dict__.items() if isinstance(v, Module)]

    def values(self) -> list[Module]:
        """The modules."""
        return [v for v in self.__dict__.values() if isinstance(v, Module)]

    def items(self) -> list[tuple[str, Module]]:
        """Names and modules."""
        return [(n, v) for n, v in self.__dict__.items() if isinstance(v, Module)]

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Add or replace modules."""
        for name, module in modules.items() if isinstance(modules, Mapping) else modules:
            self[name] = module

    def pop(self, key: str) -> Module:
        """Take a module out and return it."""
        module = self[key]
        del self.__dict__[key]
        return module

    def clear(self) -> None:
        """Take all modules out."""
        for name in self.keys():
            del self.__dict__[name]
