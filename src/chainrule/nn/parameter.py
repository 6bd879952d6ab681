"""The state of a module: trainable `Parameter`s and the `Buffer`s beside them."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.dtypes import as_dtype, default_dtype
from ..core.errors import DTypeError, OperationError, located
from ..core.tensor import Tensor, Variable


class Parameter(Variable):
    """A tensor that a module registers when it is set as an attribute, and that an optimiser trains.

    Args:
        data: initial value; a tensor, an array or nested numbers.
        requires_grad: whether `backward` computes its gradient.

    Raises:
        DTypeError: `data` is neither floating nor complex and a gradient is required.
    """

    __slots__ = ()

    def __init__(self, data: Any, requires_grad: bool = True, name: str = "") -> None:
        super().__init__(data, requires_grad, name)

    def __deepcopy__(self, memo: dict[int, Any]) -> Parameter:
        made = type(self)(self.detach(), self.requires_grad, self.name)
        made._grad = self.grad
        memo[id(self)] = made
        return made

    def __reduce__(self) -> Any:
        return type(self), (np.array(self._array("pickling")), self.requires_grad, self.name)

    def __repr__(self) -> str:
        return f"Parameter containing:\n{super().__repr__()}"


class Buffer(Variable):
    """State of a module that no gradient trains (running statistics); saved if `persistent`."""

    __slots__ = ("persistent",)

    def __init__(self, data: Any, persistent: bool = True, name: str = "") -> None:
        super().__init__(data, False, name)
        self.persistent = persistent

    def __deepcopy__(self, memo: dict[int, Any]) -> Buffer:
        made = type(self)(self.detach(), self.persistent, self.name)
        memo[id(self)] = made
        return made

    def __reduce__(self) -> Any:
        return type(self), (np.array(self._array("pickling")), self.persistent, self.name)


def parameter_dtype(device: Any, dtype: Any) -> np.dtype:
    """The data type of a layer's parameters from the arguments `device` and `dtype` of PyTorch's layers.

    Raises:
        OperationError: a device other than the CPU is asked for.
        DTypeError: parameters of this type cannot be trained.
    """
    require_cpu(device)
    if dtype is None:
        return default_dtype()
    wanted = as_dtype(dtype)
    if wanted.kind not in "fc":
        raise DTypeError(located(f"parameters are floating or complex, not {wanted}"))
    return wanted


def require_cpu(device: Any) -> None:
    """Accept None and the CPU as a device; there is no other."""
    if device is not None and str(device) != "cpu":
        raise OperationError(located(f"device {str(device)!r}: chainrule computes on the CPU; leave the device out"))


def empty(shape: tuple[int, ...], dtype: np.dtype) -> Parameter:
    """A parameter still to be initialised."""
    return Parameter(Tensor(np.zeros(shape, dtype)))
