"""Reverse-mode transformations of functions: grad, value_and_grad, vjp."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.autodiff import cotangent_like, enable_grad, pull_back
from ..core.dtypes import is_differentiable
from ..core.errors import DTypeError, GradientError, OperationError, ShapeError, located
from ..core.node import Node, collect, leaf, mode
from ..core.tensor import Tensor, new_tensor
from ..core.tree import leaves, rebuild, tree_map
from ..primitives.shape import identity
from .batching import Batched
from .forward_mode import Dual

Argnums = int | tuple[int, ...]


def independent(x: Tensor) -> Tensor:
    """A tensor with the value of x to differentiate by, still connected to x where x requires a gradient."""
    if not is_differentiable(x.dtype):
        raise DTypeError(located(f"only floating and complex tensors have gradients, this is {x.dtype}"))
    if x.requires_grad:
        return identity(x)
    return new_tensor(x._value, leaf(x._value, True))


def depends_on_more(outputs: list[Tensor], own: set[Node]) -> bool:
    """Whether a gradient flows on to something besides the fresh leaves in `own`."""
    roots = [t._node for t in outputs if t._node is not None]
    return any(n.primitive is None and n not in own for n in collect(roots))


def flows_below(outputs: list[Tensor]) -> bool:
    """Whether some value that the outputs were computed from stands for one with a graph of its own."""
    roots = [t._node for t in outputs if t._node is not None]
    return any(carries_graph(parent) for n in collect(roots) for parent in (n, *n.inputs))


def carries_graph(node: Any) -> bool:
    """Whether a gradient flows on below this value: through the numbers that a transformation wrapped."""
    pending = list(node.value) if isinstance(node.value, tuple) else [node.value]
    while pending:
        value = pending.pop()
        inner: tuple[Tensor, ...] = ()
        if isinstance(value, Dual):
            inner = (value.primal, value.tangent)
        elif isinstance(value, Batched):
            inner = (value.tensor,)
        if any(t.requires_grad for t in inner):
            return True
        pending.extend(t._value for t in inner)
    return False


def released(tree: Any) -> Any:
    """The same tensors without the graph that led to them."""
    return tree_map(lambda t: new_tensor(t._value, None), tree)


def vjp(function: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """The value of `function` and the map from cotangents of it to cotangents of the primals.

    Returns:
        (output, pull_back) or (output, pull_back, aux). `pull_back(cotangent)` takes a
        tensor (or container) shaped like the output and returns a tuple with one entry per
        primal (a single entry if there is one primal); it may be called many times.
    """
    recording = mode.grad
    with enable_grad():
        inputs = [independent(t) for t in leaves(primals)]
        result = function(*rebuild(primals, list(inputs)))
    output, aux = result if has_aux else (result, None)
    nodes = [t._node for t in inputs]
    results = leaves(output)
    shared = recording and depends_on_more(results, {n for n in nodes if n is not None})
    recorded = shared or (recording and flows_below(results))

    def pull(cotangent: Any) -> Any:
        given = leaves(cotangent)
        if len(given) != len(results):
            raise ShapeError(located(f"vjp: {len(given)} cotangents for {len(results)} outputs"))
        seeds: dict[Node, Any] = {}
        for y, g in zip(results, given, strict=True):
            g = cotangent_like(y, g, "vjp")
            if y._node is not None:
                seeds[y._node] = seeds[y._node] + g if y._node in seeds else g
        again = recorded or (mode.grad and any(g.requires_grad for g in given))
        found = pull_back(seeds, {n for n in nodes if n is not None}, create_graph=again)
        cotangents = [found.get(n) for n in nodes]  # type: ignore[arg-type]
        filled = [
            new_tensor(np.zeros(x.shape, x.dtype), None) if g is None else g
            for g, x in zip(cotangents, inputs, strict=True)
        ]
        structured = rebuild(primals, filled)
        return structured[0] if len(primals) == 1 else structured

    visible = output if shared else released(output)
    return (visible, pull, aux if shared else released(aux)) if has_aux else (visible, pull)


def value_and_grad(function: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns (value, gradient) of the scalar function `function`.

    Args:
        function: returns a scalar tensor, or (scalar, aux) with `has_aux`.
        argnums: which argument to differentiate by; a tuple gives a tuple of gradients.
            An argument may be a nested container of tensors; so is its gradient then.

    Raises:
        GradientError: the value is no scalar.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        for position in positions:
            if not -len(args) <= position < len(args):
                raise OperationError(located(f"argnums={argnums} for a call with {len(args)} arguments"))
        chosen = tuple(args[p] for p in positions)

        def partial(*values: Any) -> Any:
            full = list(args)
            for position, value in zip(positions, values, strict=True):
                full[position] = value
            return function(*full, **kwargs)

        out = vjp(partial, *chosen, has_aux=has_aux)
        value, pull = out[0], out[1]
        if not isinstance(value, Tensor) or value.size != 1:
            shape = value.shape if isinstance(value, Tensor) else type(value).__name__
            raise GradientError(located(f"grad: the function must return a scalar, it returned {shape}"))
        gradients = pull(cotangent_like(value, None, "grad"))
        if not isinstance(argnums, int) and len(positions) == 1:
            gradients = (gradients,)
        return ((value, out[2]), gradients) if has_aux else (value, gradients)

    return wrapped


def grad(function: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the gradient of the scalar function `function`; see `value_and_grad`.

    With `has_aux` it returns (gradient, aux).
    """
    both = value_and_grad(function, argnums, has_aux)

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value, gradients = both(*args, **kwargs)
        return (gradients, value[1]) if has_aux else gradients

    return wrapped
