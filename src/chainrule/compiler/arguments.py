"""Arguments and results of a compiled function: containers taken apart, and what a graph was made for.

Tensors and NumPy arrays are inputs of the graph. Everything else in the arguments is part of the key:
with another number, string or object the function is traced again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.errors import TransformError, located
from ..core.tensor import Tensor, Variable

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


class Same:
    """An object of unknown kind as part of a key: equal to itself only, and kept alive with the key."""

    __slots__ = ("held",)

    def __init__(self, held: Any) -> None:
        self.held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.held is other.held

    def __hash__(self) -> int:
        return id(self.held)


def flatten(tree: Any, arrays: list[Any]) -> Any:
    """The hashable structure of a container; its tensors and arrays are appended to `arrays`.

    Tensors and arrays count by shape and data type, tensors also by whether they require a gradient
    and whether they are leaves.
    """
    kind = type(tree)
    if kind is Tensor or (isinstance(tree, Tensor) and not isinstance(tree, Variable)):
        arrays.append(tree)
        return ("tensor", tree.shape, tree.dtype, tree.requires_grad and 2 - tree.is_leaf)
    if isinstance(tree, np.ndarray | np.generic):
        arrays.append(tree)
        return ("array", tree.shape, tree.dtype)
    if isinstance(tree, _PLAIN):
        # 1, 1.0 and True are equal but compute differently; NaN is not equal to itself.
        return (kind, tree if tree == tree else "nan")
    if isinstance(tree, tuple | list):
        return (kind, *(flatten(part, arrays) for part in tree))
    if isinstance(tree, dict):
        return (kind, tuple(tree), *(flatten(part, arrays) for part in tree.values()))
    return Same(tree)


def rebuild(tree: Any, replacements: Any) -> Any:
    """The container of `flatten` with its tensors and arrays replaced one after the other by `next(replacements)`."""
    if (isinstance(tree, Tensor) and not isinstance(tree, Variable)) or isinstance(tree, np.ndarray | np.generic):
        return next(replacements)
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(rebuild(part, replacements) for part in tree))
    if isinstance(tree, tuple | list):
        return type(tree)(rebuild(part, replacements) for part in tree)
    if isinstance(tree, dict):
        return {key: rebuild(part, replacements) for key, part in tree.items()}
    return tree


def results(tree: Any, name: str) -> list[Tensor]:
    """The tensors in what a traced function returned.

    Raises:
        TransformError: there is something else than tensors and None in it.
    """
    found: list[Tensor] = []
    _collect(tree, found, name)
    return found


def _collect(tree: Any, found: list[Tensor], name: str) -> None:
    if isinstance(tree, Tensor):
        found.append(tree)
    elif isinstance(tree, tuple | list):
        for part in tree:
            _collect(part, found, name)
    elif isinstance(tree, dict):
        for part in tree.values():
            _collect(part, found, name)
    elif tree is not None:
        raise TransformError(
            located(
                f"{name} returned a {type(tree).__name__}, {tree!r:.60}. A traced function returns "
                "tensors, None, and tuples, lists and dicts of them: anything else would be the same at every call"
            )
        )


def replaced(tree: Any, tensors: Any) -> Any:
    """The container of `results` with its tensors replaced one after the other by `next(tensors)`."""
    if isinstance(tree, Tensor):
        return next(tensors)
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(replaced(part, tensors) for part in tree))
    if isinstance(tree, tuple | list):
        return type(tree)(replaced(part, tensors) for part in tree)
    if isinstance(tree, dict):
        return {key: replaced(part, tensors) for key, part in tree.items()}
    return tree


def objects(tree: Any) -> list[Any]:
    """What is in a container besides tensors, arrays and plain values."""
    if isinstance(tree, tuple | list):
        return [found for part in tree for found in objects(part)]
    if isinstance(tree, dict):
        return [found for part in tree.values() for found in objects(part)]
    return [] if isinstance(tree, (Tensor, np.ndarray, *_PLAIN)) else [tree]
