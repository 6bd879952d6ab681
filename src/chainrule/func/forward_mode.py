"""Forward mode: values that carry their tangent along, and `jvp`.

Every operation on a dual number computes the value and, by the primitive's jvp, the
tangent, in one sweep with the program and without recording a graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..core.dtypes import is_differentiable
from ..core.errors import DTypeError, ShapeError, located
from ..core.node import Interpreted, mode
from ..core.primitive import Primitive
from ..core.tensor import Tensor, new_tensor
from ..core.tree import leaves, rebuild, tree_map


class Dual(Interpreted):
    """A value and its tangent: the derivative along the direction that `jvp` was given."""

    __slots__ = ("dtype", "level", "primal", "shape", "tangent")

    def __init__(self, primal: Tensor, tangent: Tensor, level: int) -> None:
        self.primal = primal
        self.tangent = tangent
        self.level = level
        self.shape = primal.shape
        self.dtype = primal.dtype

    def process(self, primitive: Primitive, inputs: tuple[Tensor, ...], params: dict[str, Any]) -> Any:
        """The result and, by the primitive's jvp, its tangent."""
        primals, tangents = [], []
        for tensor in inputs:
            value = tensor._value
            mine = type(value) is Dual and value.level == self.level
            primals.append(value.primal if mine else tensor)
            tangents.append(value.tangent if mine else None)
        y = primitive(*primals, **params)
        if primitive.jvp is None:
            return y
        dy = primitive.jvp(tangents, y, *primals, **params)
        if isinstance(y, tuple):
            if dy is None:
                return y
            # One node holds all outputs, so all that can have a tangent get one.
            return tuple(self._pair(part, _zeros(part) if t is None else t) for part, t in zip(y, dy, strict=True))
        return self._pair(y, dy)

    def _pair(self, y: Tensor, dy: Tensor | None) -> Any:
        if dy is None or not is_differentiable(y.dtype):
            return y
        return Dual(y, dy, self.level)

    def detached(self) -> Tensor:
        """The primal: a constant has no tangent."""
        return self.primal.detach()

    def concrete(self, wanted: str) -> np.ndarray:
        return self.primal._array(wanted)


@contextmanager
def new_level() -> Iterator[int]:
    """A level for one transformation: values of inner transformations are handled first."""
    mode.level += 1
    try:
        yield mode.level
    finally:
        mode.level -= 1


def jvp(function: Callable[..., Any], primals: Any, tangents: Any, *, has_aux: bool = False) -> Any:
    """The value of `function` and its derivative along a direction, by forward mode.

    Args:
        function: maps the primals to a tensor or a nested container of tensors.
        primals: tuple of arguments (tensors or nested containers of them).
        tangents: the direction, of the same structure, shapes and data types.
        has_aux: the function returns (output, aux); aux is passed on.

    Returns:
        (output, tangent of the output), and aux if asked for. The cost is a small constant
        times the function's own, whatever the number of inputs.

    Raises:
        ShapeError, DTypeError: a tangent does not fit its primal.
    """
    if not isinstance(primals, tuple | list) or not isinstance(tangents, tuple | list):
        raise DTypeError(located("jvp: primals and tangents are tuples, one entry per argument"))
    points, directions = leaves(tuple(primals)), leaves(tuple(tangents))
    if len(points) != len(directions):
        raise ShapeError(located(f"jvp: {len(directions)} tangents for {len(points)} primals"))
    for x, dx in zip(points, directions, strict=True):
        if x.shape != dx.shape:
            raise ShapeError(located(f"jvp: tangent of shape {dx.shape} for a primal of shape {x.shape}"))
        if x.dtype != dx.dtype:
            raise DTypeError(located(f"jvp: tangent of type {dx.dtype} for a primal of type {x.dtype}"))
    with new_level() as level:
        duals = [
            new_tensor(Dual(x, dx, level), None) if is_differentiable(x.dtype) else x
            for x, dx in zip(points, directions, strict=True)
        ]
        result = function(*rebuild(tuple(primals), duals))
        output, aux = result if has_aux else (result, None)
        value = tree_map(lambda t: _primal(t, level), output)
        tangent = tree_map(lambda t: _tangent(t, level), output)
        aux = tree_map(lambda t: _primal(t, level), aux)
    return (value, tangent, aux) if has_aux else (value, tangent)


def _primal(tensor: Tensor, level: int) -> Tensor:
    value = tensor._value
    return value.primal if type(value) is Dual and value.level == level else tensor


def _tangent(tensor: Tensor, level: int) -> Tensor:
    value = tensor._value
    if type(value) is Dual and value.level == level:
        return value.tangent
    return _zeros(tensor)


def _zeros(like: Tensor) -> Tensor:
    return new_tensor(np.zeros(like.shape, like.dtype), None)
