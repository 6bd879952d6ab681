"""`vmap`: a function of one sample applied to a whole batch at once.

Values carry a hidden leading batch axis; each primitive's `batch` rule moves it through.
A primitive without such a rule is run sample by sample.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.errors import OperationError, ShapeError, TransformError, located
from ..core.node import Interpreted
from ..core.primitive import Primitive
from ..core.tensor import Tensor, new_tensor
from ..core.tree import leaves, rebuild, tree_map
from ..primitives.index import index
from ..primitives.shape import broadcast_to, concat, permute_dims, reshape
from .forward_mode import new_level


class Batched(Interpreted):
    """One sample's view of a batch: `tensor` has the batch as its first axis."""

    __slots__ = ("dtype", "level", "shape", "tensor")

    def __init__(self, tensor: Tensor, level: int) -> None:
        self.tensor = tensor
        self.level = level
        self.shape = tensor.shape[1:]
        self.dtype = tensor.dtype

    def process(self, primitive: Primitive, inputs: tuple[Tensor, ...], params: dict[str, Any]) -> Any:
        """The primitive applied to all samples."""
        batched = [type(t._value) is Batched and t._value.level == self.level for t in inputs]
        whole = tuple(t._value.tensor if b else t for t, b in zip(inputs, batched, strict=True))
        size = self.tensor.shape[0]
        if primitive.batch is not None:
            out = primitive.batch(size, batched, whole, params)
        else:
            out = _sample_by_sample(primitive, size, batched, whole, params)
        if isinstance(out, tuple):
            return tuple(Batched(part, self.level) for part in out)
        return Batched(out, self.level)

    def detached(self) -> Tensor:
        """The same samples, cut from the graph of the batch."""
        return new_tensor(Batched(self.tensor.detach(), self.level), None)

    def concrete(self, wanted: str) -> np.ndarray:
        raise TransformError(
            located(
                f"{wanted} needs one value, but inside vmap this tensor stands for {self.tensor.shape[0]} samples; "
                "use where() instead of Python's if, or move the call out of the function"
            )
        )


def _sample_by_sample(
    primitive: Primitive, size: int, batched: list[bool], inputs: tuple[Tensor, ...], params: dict[str, Any]
) -> Any:
    results = [
        primitive(*(sample(t, i) if b else t for t, b in zip(inputs, batched, strict=True)), **params)
        for i in range(size)
    ]
    if not results:
        raise ShapeError(located(f"vmap: {primitive.name} has no rule for a batch of size 0"))
    if isinstance(results[0], tuple):
        return tuple(_stack(part) for part in zip(*results, strict=True))
    return _stack(results)


def sample(tensor: Tensor, position: int) -> Tensor:
    """tensor[position] along the first axis."""
    return index(tensor, pattern=(("i", position), *(("s", 0, n, 1) for n in tensor.shape[1:])))


def _stack(tensors: Any) -> Tensor:
    return concat(*(reshape(t, shape=(1, *t.shape)) for t in tensors), axis=0)


def _front(tensor: Tensor, axis: int, name: str) -> Tensor:
    if not -tensor.ndim <= axis < tensor.ndim:
        raise ShapeError(located(f"vmap: {name} {axis} is out of range for a tensor of shape {tensor.shape}"))
    axis %= tensor.ndim
    rest = [a for a in range(tensor.ndim) if a != axis]
    return tensor if axis == 0 else permute_dims(tensor, axes=(axis, *rest))


def _back(tensor: Tensor, axis: int, size: int, level: int) -> Tensor:
    value = tensor._value
    if type(value) is Batched and value.level == level:
        tensor = value.tensor
    else:
        tensor = broadcast_to(tensor, shape=(size, *tensor.shape))
    if not -tensor.ndim <= axis < tensor.ndim:
        raise ShapeError(located(f"vmap: out_dims {axis} is out of range for an output of shape {tensor.shape}"))
    axis %= tensor.ndim
    order = list(range(1, tensor.ndim))
    order.insert(axis, 0)
    return tensor if axis == 0 else permute_dims(tensor, axes=tuple(order))


def _axes(spec: Any, tree: Any, name: str) -> list[Any]:
    """One axis (or None) per tensor of `tree`, from a spec that may be given for whole parts."""
    if spec is None or isinstance(spec, int):
        return [spec] * len(leaves(tree))
    if isinstance(spec, tuple | list) and isinstance(tree, tuple | list) and len(spec) == len(tree):
        return [a for s, t in zip(spec, tree, strict=True) for a in _axes(s, t, name)]
    if isinstance(spec, dict) and isinstance(tree, dict) and spec.keys() == tree.keys():
        return [a for key in tree for a in _axes(spec[key], tree[key], name)]
    raise OperationError(located(f"vmap: {name}={spec!r} does not match the structure of the arguments"))


def vmap(function: Callable[..., Any], in_dims: Any = 0, out_dims: Any = 0) -> Callable[..., Any]:
    """`function`, written for one sample, for a batch of them.

    Args:
        function: takes and returns tensors or nested containers of tensors.
        in_dims: batch axis of each argument; None for one that all samples share.
        out_dims: where the batch axis goes in the outputs.

    Returns:
        The function over batches. Random numbers are drawn once and shared by all samples.

    Raises:
        ShapeError: batch sizes differ or an axis is out of range.
        TransformError: the function looks at the value of a tensor.
    """

    @functools.wraps(function)
    def batched(*args: Any, **kwargs: Any) -> Any:
        dims = tuple(in_dims) if isinstance(in_dims, list) else in_dims
        tensors = leaves(args)
        axes = _axes(dims, args, "in_dims")
        sizes = {t.shape[a % t.ndim] for t, a in zip(tensors, axes, strict=True) if a is not None and t.ndim}
        if len(sizes) != 1:
            raise ShapeError(
                located(f"vmap: the batch axes have lengths {sorted(sizes)}; all must be equal")
                if sizes
                else located("vmap: at least one argument needs a batch axis")
            )
        (size,) = sizes
        with new_level() as level:
            inside = [
                t if a is None else new_tensor(Batched(_front(t, a, "in_dims"), level), None)
                for t, a in zip(tensors, axes, strict=True)
            ]
            out = function(*rebuild(args, inside), **kwargs)
            ends = iter(_axes(out_dims, out, "out_dims"))
            return tree_map(lambda t: _back(t, next(ends), size, level), out)

    return batched
