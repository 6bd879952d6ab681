"""Nested containers of tensors (tuples, lists, dicts) taken apart and put together again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .tensor import Tensor


def leaves(tree: Any) -> list[Tensor]:
    """The tensors in a nested container, in order (dicts by their keys' own order)."""
    found: list[Tensor] = []
    _walk(tree, lambda t: found.append(t))
    return found


def tree_map(function: Callable[[Tensor], Any], tree: Any) -> Any:
    """The same container with every tensor replaced by `function(tensor)`; other leaves stay."""
    return _walk(tree, function)


def _walk(tree: Any, function: Callable[[Tensor], Any]) -> Any:
    if isinstance(tree, Tensor):
        return function(tree)
    if isinstance(tree, tuple):
        items = [_walk(t, function) for t in tree]
        # A named tuple takes its fields one by one.
        return type(tree)(*items) if hasattr(tree, "_fields") else tuple(items)
    if isinstance(tree, list):
        return [_walk(t, function) for t in tree]
    if isinstance(tree, dict):
        return {key: _walk(t, function) for key, t in tree.items()}
    return tree


def rebuild(tree: Any, tensors: list[Any]) -> Any:
    """The container with its tensors replaced one after the other."""
    replacements = iter(tensors)
    return _walk(tree, lambda _: next(replacements))
