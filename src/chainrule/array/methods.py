"""The methods and attributes of `Tensor` that compute: NumPy's, the standard's, and PyTorch's habits.

A habit of PyTorch exists as a method where it cannot be mistaken (`view`, `unsqueeze`,
`float()`); otherwise asking for it raises an error that names the way here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..core.dtypes import as_dtype
from ..core.errors import OperationError, ShapeError, located
from ..core.tensor import Tensor
from ..primitives.pointwise import astype as astype_primitive
from . import (
    creation,
    datatypes,
    elementwise,
    elsewhere,
    linear,
    manipulation,
    searching,
    sorting,
    statistical,
    utility,
)
from .arguments import check_device

_VERSIONS = ("2021.12", "2022.12", "2023.12", "2024.12")


def _transposed(x: Tensor) -> Tensor:
    """The matrix with rows and columns exchanged. Raises ShapeError unless there are 2 axes."""
    if x.ndim != 2:
        raise ShapeError(located(f"T: needs 2 axes, got shape {x.shape}; mT exchanges the last two, permute_dims any"))
    return manipulation.permute_dims(x, (1, 0))


def _matrices_transposed(x: Tensor) -> Tensor:
    """Every matrix with rows and columns exchanged. Raises ShapeError for fewer than 2 axes."""
    return linear.matrix_transpose(x)


def _device(_x: Tensor) -> str:
    """Where the elements are: "cpu"."""
    return "cpu"


def _to_device(x: Tensor, device: Any, /, *, stream: Any = None) -> Tensor:
    """The tensor itself for "cpu". Raises OperationError for any other device or a stream."""
    check_device(device, "to_device")
    if stream is not None:
        raise OperationError(located("to_device: the CPU has no streams"))
    return x


def _array_namespace(_x: Tensor, /, *, api_version: str | None = None) -> Any:
    """The module with the standard's functions."""
    if api_version is not None and api_version not in _VERSIONS:
        raise OperationError(located(f"array API version {api_version!r} is not supported; there are {_VERSIONS}"))
    import chainrule

    return chainrule


def _dlpack(
    x: Tensor, /, *, stream: Any = None, max_version: tuple[int, int] | None = None,
    dl_device: Any = None, copy: bool | None = None,
) -> Any:  # fmt: skip
    """A DLPack capsule of the elements, for other libraries; they must not write to it without copy=True."""
    array = x._array("__dlpack__")
    if not array.flags.writeable and (max_version is None or max_version < (1, 0)):
        # Capsules before version 1 cannot say that the memory is read-only.
        if copy is False:
            raise BufferError("read-only memory cannot be exported without a copy before DLPack 1.0")
        array = array.copy()
    return array.__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device, copy=copy)


def _dlpack_device(x: Tensor, /) -> tuple[int, int]:
    """DLPack's number for the CPU."""
    return (1, 0)


def _lengths(shape: tuple[Any, ...]) -> Any:
    """Lengths (or axes) given one by one or as one tuple."""
    return shape[0] if len(shape) == 1 else shape


def _reshape(x: Tensor, *shape: Any, copy: bool | None = None) -> Tensor:
    """As `chainrule.reshape`; the lengths may be given one by one."""
    return manipulation.reshape(x, _lengths(shape), copy=copy)


def _view(x: Tensor, *shape: Any) -> Tensor:
    """PyTorch's name for `reshape`."""
    return manipulation.reshape(x, _lengths(shape))


def _permute(x: Tensor, *axes: Any) -> Tensor:
    """PyTorch's name for `permute_dims`; the axes may be given one by one."""
    return manipulation.permute_dims(x, _lengths(axes))


def _transpose(x: Tensor, *axes: Any) -> Tensor:
    """Two axes exchanged (PyTorch), all axes permuted as given, or reversed for none (NumPy)."""
    if len(axes) == 2:
        return manipulation.swapaxes(x, *axes)
    return manipulation.permute_dims(x, _lengths(axes) if axes else tuple(range(x.ndim))[::-1])


def _expand(x: Tensor, *shape: Any) -> Tensor:
    """PyTorch's name for `broadcast_to`; -1 keeps a length."""
    wanted = tuple(_lengths(shape)) if isinstance(_lengths(shape), tuple | list) else (_lengths(shape),)
    own = (1,) * (len(wanted) - x.ndim) + x.shape
    return manipulation.broadcast_to(x, tuple(o if w == -1 else w for w, o in zip(wanted, own, strict=False)))


def _to(x: Tensor, target: Any = None, *, dtype: Any = None, device: Any = None) -> Tensor:
    """The tensor in another data type; a device must be "cpu"."""
    check_device(device, "to")
    if dtype is None and target is not None:
        if isinstance(target, Tensor):
            dtype = target.dtype
        elif isinstance(target, str) and not target.startswith(("bool", "int", "uint", "float", "complex")):
            check_device(target, "to")
        else:
            dtype = target
    return x if dtype is None else datatypes.astype(x, dtype, copy=False)


def _ravel(x: Tensor) -> Tensor:
    """All elements along one axis."""
    return manipulation.flatten(x)


def _unsqueeze(x: Tensor, axis: int) -> Tensor:
    """A new axis of length 1 at position `axis`; the standard's name is `expand_dims`."""
    return manipulation.expand_dims(x, axis)


def _clone(x: Tensor) -> Tensor:
    """A new tensor with the same value, through which gradients flow; to assign into, for instance."""
    return astype_primitive(x, dtype=x.dtype)


def _masked_fill(x: Tensor, mask: Tensor, value: Any) -> Tensor:
    """`value` where the mask holds, x elsewhere."""
    return searching.where(mask, value, x)


def _numel(x: Tensor) -> int:
    """Number of elements (PyTorch's name for `size`)."""
    return x.size


def _dim(x: Tensor) -> int:
    """Number of axes (PyTorch's name for `ndim`)."""
    return x.ndim


def _itself(x: Tensor) -> Tensor:
    """The tensor itself: its elements are on the CPU, and their layout in memory is no concern of yours."""
    return x


def _cast(name: str) -> Callable[[Tensor], Tensor]:
    def cast(x: Tensor) -> Tensor:
        return datatypes.astype(x, as_dtype(name), copy=False)

    cast.__doc__ = f"The tensor in {name}."
    return cast


def _of_axis(function: Any) -> Any:
    """A method whose first argument, `axis`, may be given by place, as in NumPy and PyTorch."""

    def method(x: Tensor, axis: Any = None, **kwargs: Any) -> Any:
        return function(x, axis=axis, **kwargs)

    method.__doc__, method.__name__ = function.__doc__, function.__name__
    return method


_FUNCTIONS: tuple[Any, ...] = (
    elementwise.abs, elementwise.acos, elementwise.asin, elementwise.atan, elementwise.ceil, elementwise.clip,
    elementwise.conj, elementwise.cos, elementwise.cosh, elementwise.erf, elementwise.exp, elementwise.expm1,
    elementwise.floor, elementwise.isfinite, elementwise.isinf, elementwise.isnan, elementwise.log,
    elementwise.log10, elementwise.log1p, elementwise.log2, elementwise.reciprocal, elementwise.relu,
    elementwise.round, elementwise.sigmoid, elementwise.sign, elementwise.sin, elementwise.sinh, elementwise.sqrt,
    elementwise.square, elementwise.tan, elementwise.tanh, elementwise.trunc, elementwise.maximum,
    elementwise.minimum, elementwise.pow, elementwise.remainder,
    manipulation.broadcast_to, manipulation.expand_dims, manipulation.flatten, manipulation.flip,
    manipulation.moveaxis, manipulation.permute_dims, manipulation.repeat, manipulation.roll, manipulation.split,
    manipulation.squeeze, manipulation.swapaxes, manipulation.tile,
    searching.count_nonzero, searching.nonzero, sorting.sort, sorting.argsort,
    creation.tril, creation.triu, linear.matmul, linear.outer, datatypes.astype, utility.isclose, utility.allclose,
)  # fmt: skip
_REDUCTIONS: tuple[Any, ...] = (
    statistical.sum, statistical.prod, statistical.mean, statistical.var, statistical.std, statistical.max,
    statistical.min, statistical.logsumexp, statistical.cumulative_sum, statistical.cumulative_prod,
    searching.argmax, searching.argmin, utility.all, utility.any,
)  # fmt: skip
_METHODS: dict[str, Any] = {
    "__array_namespace__": _array_namespace, "__dlpack__": _dlpack, "__dlpack_device__": _dlpack_device,
    "to_device": _to_device, "reshape": _reshape, "clone": _clone, "view": _view, "permute": _permute,
    "transpose": _transpose, "expand": _expand, "to": _to, "masked_fill": _masked_fill, "numel": _numel,
    "dim": _dim, "cpu": _itself, "contiguous": _itself, "t": _transposed,
    "ravel": _ravel, "unsqueeze": _unsqueeze,
    "float": _cast("float32"), "double": _cast("float64"), "int": _cast("int32"), "long": _cast("int64"),
    "bool": _cast("bool"), "copy": _clone,
}  # fmt: skip


def install() -> None:
    """Give `Tensor` its methods."""
    for function in _FUNCTIONS:
        # x.exp() is exp(x): the tensor is the function's first argument.
        setattr(Tensor, function.__name__, function)
    for function in _REDUCTIONS:
        setattr(Tensor, function.__name__, _of_axis(function))
    for name, method in _METHODS.items():
        setattr(Tensor, name, method)
    for name, getter in (("T", _transposed), ("mT", _matrices_transposed), ("device", _device)):
        setattr(Tensor, name, property(getter))
    elsewhere.install()
