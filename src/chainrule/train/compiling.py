"""What an argument `compile=` means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

Compiler: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]
"""A function from a function to one that does the same, faster."""
F = TypeVar("F", bound=Callable[..., Any])


def compiler_of(compile: bool | Compiler) -> Compiler | None:
    """What makes compiled functions of functions, as `compile=` states it; None for nothing."""
    if callable(compile):
        return compile
    if not compile:
        return None
    from ..compiler import compile as compiled  # it costs time to import

    return compiled


def compiled_if(compile: bool | Compiler, function: F) -> F:
    """The function or model, compiled or as it is: a compiled model has the attributes of the model."""
    compiler = compiler_of(compile)
    return function if compiler is None else cast(F, compiler(function))
