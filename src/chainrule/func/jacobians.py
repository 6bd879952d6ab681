"""Jacobians and Hessians, by batches of vjps or jvps, and Hessian-vector products."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.errors import DTypeError, located
from ..core.tensor import Tensor, new_tensor
from ..core.tree import leaves, rebuild, tree_map
from ..primitives.shape import permute_dims, reshape
from .batching import vmap
from .forward_mode import jvp
from .reverse import Argnums, grad, vjp


def _basis(x: Tensor) -> Tensor:
    eye = np.eye(x.size, dtype=x.dtype)
    return new_tensor(eye.reshape(x.size, *x.shape), None)


def _single(tree: Any, name: str) -> Tensor:
    if not isinstance(tree, Tensor):
        raise DTypeError(located(f"{name}: expected one tensor, got {type(tree).__name__}"))
    return tree


def _by_argument(
    function: Callable[..., Any], argnums: Argnums, one: Callable[[Callable[..., Any], Tensor], Any]
) -> Any:
    """Apply `one(f of that argument alone, argument)` for each argument in `argnums`.

    The result has the structure of the function's output; for a tuple of arguments each
    tensor in it is replaced by the tuple of its Jacobians.
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        def jacobian(position: int) -> Any:
            def partial(value: Tensor) -> Any:
                full = list(args)
                full[position] = value
                return function(*full, **kwargs)

            return one(partial, _single(args[position], "jacobian"))

        if isinstance(argnums, int):
            return jacobian(argnums)
        each = [jacobian(position) for position in argnums]
        return rebuild(each[0], list(zip(*map(leaves, each), strict=True)))

    return wrapped


def jacrev(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """The Jacobian by reverse mode, of shape (*output shape, *input shape): one vjp per output element.

    For a function that returns a container, a container of Jacobians; for a tuple of
    `argnums`, a tuple in place of each.
    """

    def one(f: Callable[..., Any], x: Tensor) -> Any:
        out, pull = vjp(f, x)
        outputs = leaves(out)

        def rows(chosen: int) -> Tensor:
            def row(direction: Tensor) -> Tensor:
                zeros = [new_tensor(np.zeros(y.shape, y.dtype), None) for y in outputs]
                return pull(rebuild(out, [*zeros[:chosen], direction, *zeros[chosen + 1 :]]))

            y = outputs[chosen]
            return reshape(vmap(row)(_basis(y)), shape=(*y.shape, *x.shape))

        return rebuild(out, [rows(chosen) for chosen in range(len(outputs))])

    return _by_argument(function, argnums, one)


def jacfwd(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """The Jacobian by forward mode, of shape (*output shape, *input shape): one jvp per input element.

    Containers and tuples of `argnums` as for `jacrev`.
    """

    def one(f: Callable[..., Any], x: Tensor) -> Any:
        def last(columns: Tensor) -> Tensor:
            moved = permute_dims(columns, axes=(*range(1, columns.ndim), 0))
            return reshape(moved, shape=(*moved.shape[:-1], *x.shape))

        return tree_map(last, vmap(lambda direction: jvp(f, (x,), (direction,))[1])(_basis(x)))

    return _by_argument(function, argnums, one)


def hessian(function: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """Second derivatives of a scalar function, of shape (*input shape, *input shape): forward over reverse."""
    return jacfwd(jacrev(function, argnums), argnums)


def hvp(function: Callable[..., Any], primals: Any, tangents: Any) -> Any:
    """The Hessian of a scalar function times a vector, without forming the Hessian.

    Forward mode over reverse mode (Pearlmutter 1994): the cost is a small constant times
    that of the function.

    Args:
        function: scalar function of the primals.
        primals, tangents: a tensor each, or tuples with one entry per argument.

    Returns:
        The product, shaped like the primals.
    """
    if isinstance(primals, Tensor):
        return jvp(grad(function), (primals,), (tangents,))[1]
    gradient = grad(function, argnums=tuple(range(len(primals))))
    return jvp(gradient, tuple(primals), tuple(tangents))[1]
