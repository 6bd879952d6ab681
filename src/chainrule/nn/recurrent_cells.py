"""Recurrent cells: one step of time as a layer, for loops of one's own."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..core.errors import OperationError, ShapeError, located
from ..core.tensor import Tensor, new_tensor
from . import functional as F
from . import init
from .functional.recurrent import GRU as GRU_CELL
from .functional.recurrent import LSTM as LSTM_CELL
from .functional.recurrent import RELU, TANH, Cell
from .linear import size_of
from .module import Module, in_module
from .parameter import empty, parameter_dtype


class RNNCellBase(Module):
    """What the cells share: weight_ih (gates · H, I), weight_hh (gates · H, H), and biases; start as `RNNBase`."""

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None
    _cell: Cell

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None, dtype: Any = None
    ) -> None:
        self.input_size, self.hidden_size = size_of("input_size", input_size), size_of("hidden_size", hidden_size)
        self.bias = bias
        kind = parameter_dtype(device, dtype)
        rows = num_chunks * hidden_size
        self.weight_ih, self.weight_hh = empty((rows, input_size), kind), empty((rows, hidden_size), kind)
        self.bias_ih = empty((rows,), kind) if bias else None
        self.bias_hh = empty((rows,), kind) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        bound = 1 / math.sqrt(self.hidden_size) if self.hidden_size else 0
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _step(self, input: Tensor, hx: Any) -> tuple[Tensor, ...]:
        if input.ndim not in (1, 2) or input.shape[-1] != self.input_size:
            error = ShapeError(
                located(f"the input has shape (N, {self.input_size}) or ({self.input_size},), got {input.shape}")
            )
            raise in_module(self, error)
        shape = (*input.shape[:-1], self.hidden_size)
        states = hx if isinstance(hx, tuple | list) else (hx,) * (hx is not None)
        if hx is None:
            states = tuple(new_tensor(np.zeros(shape, input.dtype), None) for _ in range(self._cell.states))
        elif [s.shape for s in states] != [shape] * self._cell.states:
            given = [s.shape for s in states]
            raise in_module(self, ShapeError(located(f"states of shapes {given}, each must be {shape}")))
        x = F.linear(input, self.weight_ih, self.bias_ih)
        return self._cell.step(x, states, F.linear(states[0], self.weight_hh, self.bias_hh))

    def extra_repr(self) -> str:
        return f"{self.input_size}, {self.hidden_size}" + ("" if self.bias else ", bias=False")


class RNNCell(RNNCellBase):
    """One step of `RNN`: h' = act(W x + b + W' h + b')."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh", device: Any = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        self.nonlinearity = nonlinearity_of(nonlinearity, "RNNCell")
        self._cell = RELU if nonlinearity == "relu" else TANH
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The new state, shape (N, H) or (H,), from the input (N, I) or (I,) and the state before, 0 if None."""
        return self._step(input, hx)[0]


class LSTMCell(RNNCellBase):
    """One step of `LSTM`."""

    _cell = LSTM_CELL

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """The new states (h', c') from the input (N, I) or (I,) and the states (h, c) before, 0 if None."""
        h, c = self._step(input, hx)
        return h, c


class GRUCell(RNNCellBase):
    """One step of `GRU`."""

    _cell = GRU_CELL

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        """The new state, shape (N, H) or (H,), from the input (N, I) or (I,) and the state before, 0 if None."""
        return self._step(input, hx)[0]


def nonlinearity_of(name: str, layer: str) -> str:
    """`name` if it is one that recurrent layers have.

    Raises:
        OperationError: it is neither "tanh" nor "relu".
    """
    if name not in ("tanh", "relu"):
        raise OperationError(located(f"{layer}: nonlinearity is 'tanh' or 'relu', got {name!r}"))
    return name
