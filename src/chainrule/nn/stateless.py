"""Calling a module with other parameters than its own, as functions of which transformations differentiate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.errors import DTypeError, ShapeError, located
from ..core.tensor import Tensor, Variable
from .module import Module, StateDictError
from .parameter import Buffer


def functional_call(
    module: Module,
    parameters_and_buffers: Mapping[str, Tensor],
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
) -> Any:
    """`module(*args, **kwargs)` with some parameters and buffers replaced for this call.

    Makes a network a function of its weights: for `func.hessian`, or `func.vmap` over one
    gradient for each sample. A weight that is used in several places is replaced in all.

    Args:
        module: its own state is unchanged afterwards.
        parameters_and_buffers: path to tensor, as in `dict(module.named_parameters())`.
        args: the positional arguments; a single one need not be in a tuple.
        kwargs: the keyword arguments.

    Raises:
        StateDictError: a path names no parameter or buffer.
        ShapeError: a tensor has another shape than what it replaces.
    """
    own: dict[str, Variable] = {}
    for path, owner in module.named_modules(remove_duplicate=False):
        for name, value in vars(owner).items():
            if isinstance(value, Variable):
                own[f"{path}.{name}" if path else name] = value
    unknown = [name for name in parameters_and_buffers if name not in own]
    if unknown:
        raise StateDictError(located(f"functional_call: {type(module).__name__} has no {', '.join(unknown)}"))
    replaced: dict[Variable, Tensor] = {}
    for name, given in parameters_and_buffers.items():
        if not isinstance(given, Tensor):
            raise DTypeError(located(f"functional_call: {name} is a {type(given).__name__}, not a tensor"))
        if given.shape != own[name].shape:
            raise ShapeError(located(f"functional_call: {name} has shape {own[name].shape}, got {given.shape}"))
        replaced[own[name]] = Buffer(given) if isinstance(own[name], Buffer) else given
    places = [
        (vars(owner), name, value)
        for owner in module.modules()
        for name, value in vars(owner).items()
        if isinstance(value, Variable) and value in replaced
    ]
    try:
        for attributes, name, value in places:
            attributes[name] = replaced[value]
        return module(*(args if isinstance(args, tuple) else (args,)), **(kwargs or {}))
    finally:
        for attributes, name, value in places:
            attributes[name] = value
