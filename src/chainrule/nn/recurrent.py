"""Recurrent networks: layers over whole sequences. Cells for one step at a time are in `recurrent_cells`."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np

from ..core.errors import DTypeError, OperationError, ShapeError, located
from ..core.tensor import Tensor, new_tensor
from ..primitives.shape import concat, permute_dims, reshape
from . import functional as F
from . import init
from .functional.common import take, take_rows
from .functional.recurrent import GRU as GRU_CELL
from .functional.recurrent import LSTM as LSTM_CELL
from .functional.recurrent import RELU, TANH, Cell, Masked, Spans, masked, recur, spans
from .linear import size_of
from .module import Module, in_module
from .parameter import empty, parameter_dtype
from .recurrent_cells import nonlinearity_of
from .utils.rnn import PackedSequence, PaddedSequence

_CELLS = {"RNN_TANH": TANH, "RNN_RELU": RELU, "LSTM": LSTM_CELL, "GRU": GRU_CELL}


class RNNBase(Module):
    """What the recurrent layers share.

    Args:
        mode: "RNN_TANH", "RNN_RELU", "LSTM" or "GRU".
        input_size: width I of the inputs.
        hidden_size: width H of the state.
        num_layers: layers on top of each other; each reads the outputs of the one below.
        bias: whether there are biases.
        batch_first: sequences are (N, T, I) instead of (T, N, I).
        dropout: probability, for the outputs of each layer but the last.
        bidirectional: a second set of weights reads the sequence from its end; outputs stand side by side.
        proj_size: project the LSTM's output to this width P (Sak et al. 2014); 0 for none.

    Attributes:
        fused: whether a sequence is one node of the graph; False makes each step nodes of its
            own, slower, so that what happens between the steps can be seen.

    Parameters of layer k, all uniform on (-1/√H, 1/√H) at first: weight_ih_l[k] (gates · H, I),
    weight_hh_l[k] (gates · H, H), bias_ih_l[k] and bias_hh_l[k] (gates · H,), with proj_size
    weight_hr_l[k] (P, H), and the same with the suffix _reverse.
    """

    fused = True

    def __init__(
        self, mode: str, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        name = type(self).__name__
        if mode not in _CELLS:
            raise OperationError(located(f"{name}: mode is one of {', '.join(_CELLS)}, got {mode!r}"))
        self.mode, self.bias, self.batch_first, self.bidirectional = mode, bias, batch_first, bidirectional
        self.input_size = size_of("input_size", input_size)
        self.hidden_size, self.num_layers = size_of("hidden_size", hidden_size), size_of("num_layers", num_layers)
        if not 0 <= dropout <= 1:
            raise OperationError(located(f"{name}: dropout is a probability in [0, 1], got {dropout}"))
        if not hidden_size or not num_layers:
            raise ShapeError(located(f"{name}: hidden_size and num_layers must be positive"))
        if not 0 <= proj_size < hidden_size or (proj_size and mode != "LSTM"):
            raise ShapeError(
                located(f"{name}: proj_size {proj_size} must be less than hidden_size, and is for the LSTM only")
            )
        if dropout and num_layers == 1:
            warnings.warn(
                located(f"{name}: dropout={dropout} acts between layers, and there is one layer only"), stacklevel=3
            )
        self.dropout, self.proj_size = float(dropout), proj_size
        kind = parameter_dtype(device, dtype)
        rows = _CELLS[mode].gates * hidden_size
        output = proj_size or hidden_size
        for layer in range(num_layers):
            width = input_size if layer == 0 else output * self._directions
            for suffix in self._suffixes(layer):
                shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, width), "weight_hh": (rows, output)}
                if bias:
                    shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
                if proj_size:
                    shapes["weight_hr"] = (proj_size, hidden_size)
                for part, shape in shapes.items():
                    setattr(self, part + suffix, empty(shape, kind))
        self.reset_parameters()

    @property
    def _directions(self) -> int:
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self._directions]

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters of each layer and direction."""
        named = dict(self.named_parameters(recurse=False))
        parts = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
        suffixes = [s for layer in range(self.num_layers) for s in self._suffixes(layer)]
        return [[named[part + s] for part in parts if part + s in named] for s in suffixes]

    def flatten_parameters(self) -> None:
        """Does nothing: PyTorch's call for a layout that only its GPU kernels need."""

    def reset_parameters(self) -> None:
        """Draw new initial values."""
        bound = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            init.uniform_(parameter, -bound, bound)

    def _run(self, input: Any, hx: Any) -> tuple[Any, tuple[Tensor, ...]]:
        """The outputs, as the input was given, and the last states, each of shape (layers · directions, N, width)."""
        try:
            if isinstance(input, PackedSequence):
                return self._packed(input, hx)
            return self._masked(input, hx) if isinstance(input, PaddedSequence) else self._padded(input, hx)
        except (ShapeError, DTypeError) as error:
            raise error if hasattr(error, "module_path") else in_module(self, error) from None

    def _packed(self, input: PackedSequence, hx: Any) -> tuple[PackedSequence, tuple[Tensor, ...]]:
        data, sizes, order, back = input
        batch_sizes = sizes._array("a recurrent layer").tolist()
        states = self._first_states(hx, batch_sizes[0], data)
        if order is not None:
            states = tuple(_sequences(s, order) for s in states)
        out, last = self._layers(data, states, self._ways(spans, batch_sizes))
        if back is not None:
            last = tuple(_sequences(s, back) for s in last)
        return PackedSequence(out, sizes, order, back), last

    def _masked(self, input: PaddedSequence, hx: Any) -> tuple[PaddedSequence, tuple[Tensor, ...]]:
        data, lengths = input
        time, batch, width = data.shape
        states = self._first_states(hx, batch, data)
        rows = reshape(data, shape=(time * batch, width))
        out, last = self._layers(rows, states, self._ways(masked, lengths, time))
        return PaddedSequence(reshape(out, shape=(time, batch, out.shape[1])), lengths), last

    def _padded(self, input: Tensor, hx: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        if not isinstance(input, Tensor) or input.ndim not in (2, 3):
            raise ShapeError(
                located(
                    "the input is a PackedSequence or has 3 axes, or 2 without a batch, got "
                    f"{getattr(input, 'shape', type(input).__name__)}"
                )
            )
        batched = input.ndim == 3
        x = input if batched else reshape(input, shape=(input.shape[0], 1, input.shape[1]))
        turned = self.batch_first and batched
        if turned:
            x = permute_dims(x, axes=(1, 0, 2))
        time, batch, width = x.shape
        if not time:
            raise ShapeError(located(f"the input of shape {input.shape} has no steps"))
        if not batched and hx is not None:
            given = hx if isinstance(hx, tuple) else (hx,)
            hx = tuple(reshape(s, shape=(s.shape[0], 1, *s.shape[1:])) if s.ndim == 2 else s for s in given)
        states = self._first_states(hx, batch, x)
        rows = reshape(x, shape=(time * batch, width))
        out, last = self._layers(rows, states, self._ways(spans, [batch] * time))
        if not batched:
            return out, tuple(reshape(s, shape=(s.shape[0], s.shape[2])) for s in last)
        out = reshape(out, shape=(time, batch, out.shape[1]))
        return permute_dims(out, axes=(1, 0, 2)) if turned else out, last

    def _first_states(self, hx: Any, batch: int, x: Tensor) -> tuple[Tensor, ...]:
        count = self.num_layers * self._directions
        shapes = [(count, batch, self.proj_size or self.hidden_size), (count, batch, self.hidden_size)]
        shapes = shapes[: _CELLS[self.mode].states]
        weight: Tensor = vars(self)["weight_ih_l0"]
        if x.shape[-1] != self.input_size:
            raise ShapeError(located(f"the input has width {x.shape[-1]}, expected {self.input_size}"))
        if x.dtype != weight.dtype:
            raise DTypeError(located(f"the input is {x.dtype} and the weights {weight.dtype}; convert one with astype"))
        if hx is None:
            return tuple(new_tensor(np.zeros(shape, x.dtype), None) for shape in shapes)
        states = hx if isinstance(hx, tuple | list) else (hx,)
        given = [getattr(s, "shape", None) for s in states]
        if given != shapes:
            raise ShapeError(located(f"first states of shapes {given}, expected {shapes}"))
        for state in states:
            if state.dtype != x.dtype:
                raise DTypeError(located(f"the first states are {state.dtype} and the input {x.dtype}"))
        return tuple(states)

    def _ways(self, steps: Any, *described: Any) -> list[Spans | Masked]:
        """The steps of each direction."""
        return [steps(*described, backwards) for backwards in (False, True)[: self._directions]]

    def _layers(
        self, x: Tensor, states: tuple[Tensor, ...], ways: list[Spans | Masked]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """All layers on rows that lie step by step below each other."""
        cell = _CELLS[self.mode]
        named = {name: value for name, value in vars(self).items() if isinstance(value, Tensor)}
        last: list[tuple[Tensor, ...]] = []
        for layer in range(self.num_layers):
            if layer and self.dropout and self.training:
                x = F.dropout(x, self.dropout)
            outputs = []
            for direction, suffix in enumerate(self._suffixes(layer)):
                first = [_slice(s, layer * self._directions + direction) for s in states]
                out, *ends = self._direction(cell, x, first, ways[direction], named, suffix)
                outputs.append(out)
                last.append(tuple(ends))
            x = outputs[0] if len(outputs) == 1 else concat(*outputs, axis=1)
        return x, tuple(_stack(ends) for ends in zip(*last, strict=True))

    def _direction(
        self, cell: Cell, x: Tensor, first: list[Tensor], steps: Spans | Masked, named: dict[str, Any], suffix: str
    ) -> tuple[Tensor, ...]:
        bias, inner = named.get("bias_ih" + suffix), named.get("bias_hh" + suffix)
        if bias is not None and not cell.inner_bias:
            bias, inner = bias + inner, None
        # The inputs' part of every step in one matrix product.
        sums = F.linear(x, named["weight_ih" + suffix], bias)
        return recur(
            cell, sums, first, named["weight_hh" + suffix], inner, steps,
            projection=named.get("weight_hr" + suffix), fused=self.fused,
        )  # fmt: skip

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        defaults = {
            "proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0, "bidirectional": False,
        }  # fmt: skip
        return text + "".join(f", {k}={getattr(self, k)}" for k, d in defaults.items() if getattr(self, k) != d)


def _slice(states: Tensor, position: int) -> Tensor:
    shape = states.shape[1:]
    return reshape(take(states, 0, position, position + 1), shape=shape)


def _stack(tensors: Any) -> Tensor:
    return concat(*(reshape(t, shape=(1, *t.shape)) for t in tensors), axis=0)


def _sequences(states: Tensor, order: Tensor) -> Tensor:
    """States (layers, N, width) with the sequences in another order."""
    turned = permute_dims(states, axes=(1, 0, 2))
    return permute_dims(take_rows(turned, order._array("a recurrent layer")), axes=(1, 0, 2))


class RNN(RNNBase):
    """h_t = act(W x_t + b + W' h_{t-1} + b') (Elman 1990), act = tanh or relu.

    Args:
        nonlinearity: "tanh" or "relu".

    The other arguments, and the parameters, are those of `RNNBase`.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, device: Any = None,
        dtype: Any = None,
    ) -> None:  # fmt: skip
        self.nonlinearity = nonlinearity_of(nonlinearity, "RNN")
        mode = f"RNN_{nonlinearity.upper()}"
        super().__init__(
            mode, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype
        )

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        """Run over the sequences.

        Args:
            input: shape (T, N, I), (N, T, I) if batch_first, (T, I) without a batch, or a PackedSequence.
            hx: first states, shape (layers · directions, N, H), or without N; 0 if None.

        Returns:
            The outputs of the last layer at every step, laid out like the input with width
            directions · H, and the last state of every layer and direction, shaped like hx.
        """
        out, (h,) = self._run(input, hx)
        return out, h


class GRU(RNNBase):
    """r, z = σ(W x_t + b + W' h_{t-1} + b'), n = tanh(W x_t + b + r (W' h_{t-1} + b')), h_t = (1 - z) n + z h_{t-1}.

    Cho et al. 2014, with the reset gate r behind the matrix product. The rows of the weights hold
    r, z and n in this order. Arguments and parameters are those of `RNNBase`.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(
            "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype
        )

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        """Run over the sequences; arguments and result are those of `RNN`."""
        out, (h,) = self._run(input, hx)
        return out, h


class LSTM(RNNBase):
    """i, f, o = σ(W x_t + b + W' h_{t-1} + b'), g = tanh(…), c_t = f c_{t-1} + i g, h_t = o tanh(c_t).

    Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000. The rows of the
    weights hold i, f, g and o in this order. Arguments and parameters are those of `RNNBase`.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0, device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        super().__init__(
            "LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size,
            device, dtype,
        )  # fmt: skip

    def forward(self, input: Any, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Any, tuple[Tensor, Tensor]]:
        """Run over the sequences; as `RNN`, with a pair of states (h, c)."""
        out, (h, c) = self._run(input, hx)
        return out, (h, c)
