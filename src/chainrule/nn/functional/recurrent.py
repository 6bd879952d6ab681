"""Recurrent cells, one step at a time in primitives, and along whole sequences.

`recur` has two ways with equal results. On numbers, a sequence is one node of the graph, computed
by the kernels of `recurrent_kernels`. Inside a transformation (jvp, vmap, a trace), for a second
derivative, and where each step should be seen, it is unrolled: the cell's step, once for each
step of time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ...core.autodiff import enable_grad, pull_back
from ...core.node import Interpreted, Node, ShapeDtype, is_missing, leaf, materialise, mode
from ...core.primitive import Primitive
from ...core.tensor import Tensor, new_tensor
from ...primitives import pointwise as p
from ...primitives.matmul import matmul
from ...primitives.shape import concat, identity, reshape
from . import recurrent_kernels as kernels
from .common import take

Spans = tuple[tuple[int, int], ...]


class Masked(NamedTuple):
    """The steps of padded sequences of which only a call knows where they end.

    Attributes:
        real: in the order of computing, each step's rows and which of them (N, 1) belong to a sequence.
    """

    real: tuple[tuple[int, int, Tensor], ...]


class Cell(NamedTuple):
    """A kind of recurrent cell.

    Attributes:
        name: for messages and graphs.
        gates: the width of a step's input over that of the state.
        states: number of state tensors; the first is the output h.
        step: `step(x, states, hh)` is the new states, where hh = W h (+ b) and x is the input's part of the sums.
        forward, backward: the sweeps over a sequence (`recurrent_kernels`).
        inner_bias: whether a bias b belongs to W h and cannot be added to x.
    """

    name: str
    gates: int
    states: int
    step: Callable[[Tensor, Sequence[Tensor], Tensor], tuple[Tensor, ...]]
    forward: Callable[..., kernels.Swept]
    backward: Callable[..., Any]
    inner_bias: bool = False


def _part(x: Tensor, number: int, count: int) -> Tensor:
    width = x.shape[-1] // count
    return take(x, x.ndim - 1, number * width, (number + 1) * width)


def _tanh_step(x: Tensor, _states: Sequence[Tensor], hh: Tensor) -> tuple[Tensor, ...]:
    return (p.tanh(p.add(x, hh)),)


def _relu_step(x: Tensor, _states: Sequence[Tensor], hh: Tensor) -> tuple[Tensor, ...]:
    return (p.relu(p.add(x, hh)),)


def _lstm_step(x: Tensor, states: Sequence[Tensor], hh: Tensor) -> tuple[Tensor, ...]:
    sums = p.add(x, hh)
    i, f, z, o = (_part(sums, k, 4) for k in range(4))
    c = p.sigmoid(f) * states[1] + p.sigmoid(i) * p.tanh(z)
    return p.sigmoid(o) * p.tanh(c), c


def _gru_step(x: Tensor, states: Sequence[Tensor], hh: Tensor) -> tuple[Tensor, ...]:
    r, z = (p.sigmoid(p.add(_part(x, k, 3), _part(hh, k, 3))) for k in range(2))
    n = p.tanh(_part(x, 2, 3) + r * _part(hh, 2, 3))
    return (n + z * (states[0] - n),)


TANH = Cell(
    "rnn_tanh", 1, 1, _tanh_step, partial(kernels.rnn_forward, rectify=False),
    partial(kernels.rnn_backward, rectify=False),
)  # fmt: skip
RELU = Cell(
    "rnn_relu", 1, 1, _relu_step, partial(kernels.rnn_forward, rectify=True),
    partial(kernels.rnn_backward, rectify=True),
)  # fmt: skip
LSTM = Cell("lstm", 4, 2, _lstm_step, kernels.lstm_forward, kernels.lstm_backward)
GRU = Cell("gru", 3, 1, _gru_step, kernels.gru_forward, kernels.gru_backward, inner_bias=True)


def spans(batch_sizes: Sequence[int], backwards: bool = False) -> Spans:
    """The rows of each step, in the order of computing, of sequences that lie step by step below each other."""
    ends = np.cumsum(batch_sizes).tolist()
    steps = tuple(zip([0, *ends[:-1]], ends, strict=True))
    return steps[::-1] if backwards else steps


def masked(lengths: Tensor, time: int, backwards: bool = False) -> Masked:
    """The steps of N padded sequences with these lengths (N,), that lie step by step below each other."""
    n = lengths.shape[0]
    ends = reshape(lengths, shape=(n, 1))
    steps = tuple((t * n, (t + 1) * n, p.greater(ends, t)) for t in range(time))
    return Masked(steps[::-1] if backwards else steps)


def recur(
    cell: Cell,
    x: Tensor,
    states: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor | None,
    steps: Spans | Masked,
    *,
    projection: Tensor | None = None,
    fused: bool = True,
) -> tuple[Tensor, ...]:
    """Apply a cell along sequences.

    Args:
        cell: its kind.
        x: the inputs' part of the sums, shape (rows, gates · H), step by step below each other.
        states: the first states, each of shape (N, H).
        weight: the recurrent weight W, shape (gates · H, H).
        bias: b in W h + b, shape (gates · H,), for a cell with an inner bias.
        steps: `spans`, or `masked`: then the outputs behind a sequence's end are without meaning.
        projection: P in h' = P h, applied to the output of every step, shape (P, H).
        fused: False makes every step nodes of its own.

    Returns:
        The outputs of all rows, shape (rows, H), and the last states, each (N, H).
    """
    operands = (x, *states, weight) if bias is None else (x, *states, weight, bias)
    if isinstance(steps, Masked):
        return _unrolled_masked(cell, operands, steps, projection)
    if not fused or projection is not None or any(isinstance(t._value, Interpreted) for t in operands):
        return _unrolled(cell, operands, steps, projection)
    if cell.inner_bias and bias is None:
        operands = (*operands, new_tensor(np.zeros(x.shape[-1:], x.dtype), None))
    return _Recurrence(cell, steps)(*operands)


def _unrolled(
    cell: Cell, operands: Sequence[Tensor], steps: Spans, projection: Tensor | None = None
) -> tuple[Tensor, ...]:
    x, first, (weight, *bias) = operands[0], operands[1 : 1 + cell.states], operands[1 + cell.states :]
    rows = steps[0][1] - steps[0][0]
    now = [s if s.shape[0] == rows else take(s, 0, 0, rows) for s in first]
    outputs: list[tuple[int, Tensor]] = []
    ended: list[list[Tensor]] = []
    for start, stop in steps:
        count = stop - start
        if count < rows:
            ended.append([take(s, 0, count, rows) for s in now])
            now = [take(s, 0, 0, count) for s in now]
        elif count > rows:
            now = [concat(s, take(f, 0, rows, count), axis=0) for s, f in zip(now, first, strict=True)]
        rows = count
        now = _step(cell, take(x, 0, start, stop), now, weight, bias, projection)
        outputs.append((start, now[0]))
    last = [
        concat(s, *(piece[k] for piece in reversed(ended)), axis=0) if ended else s for k, s in enumerate(now)
    ]  # fmt: skip
    return _in_rows(outputs), *last


def _unrolled_masked(
    cell: Cell, operands: Sequence[Tensor], steps: Masked, projection: Tensor | None
) -> tuple[Tensor, ...]:
    x, now, (weight, *bias) = operands[0], list(operands[1 : 1 + cell.states]), operands[1 + cell.states :]
    outputs: list[tuple[int, Tensor]] = []
    for start, stop, real in steps.real:
        after = _step(cell, take(x, 0, start, stop), now, weight, bias, projection)
        now = [p.where(real, new, old) for new, old in zip(after, now, strict=True)]
        outputs.append((start, now[0]))
    return _in_rows(outputs), *now


def _step(
    cell: Cell, x: Tensor, states: list[Tensor], weight: Tensor, bias: Sequence[Tensor], projection: Tensor | None
) -> list[Tensor]:
    hh = matmul(states[0], weight, transpose_a=False, transpose_b=True)
    if bias:
        hh = p.add(hh, bias[0])
    after = list(cell.step(x, states, hh))
    if projection is not None:
        after[0] = matmul(after[0], projection, transpose_a=False, transpose_b=True)
    return after


def _in_rows(outputs: list[tuple[int, Tensor]]) -> Tensor:
    return concat(*(y for _, y in sorted(outputs, key=lambda pair: pair[0])), axis=0)


class _Recurrence(Primitive):
    """A cell along sequences as one node, made for one call, which holds what the way back reads."""

    __slots__ = ("cell", "pulled", "saved", "steps")

    def __init__(self, cell: Cell, steps: Spans) -> None:
        super().__init__(
            cell.name, self._sweep, abstract=self._rule, vjps=_reading_weight(cell), outputs=1 + cell.states,
            latex=rf"\mathrm{{{{{cell.name}}}}}({{a:0}}, {{b:0}})", registered=False,
        )  # fmt: skip
        self.cell, self.steps = cell, steps
        self.saved: dict[str, Any] = {}
        self.pulled: tuple[Any, list[Tensor | None]] | None = None

    def again(self) -> _Recurrence:
        """Another node's, which can be evaluated without changing what this one holds for its way back."""
        return _Recurrence(self.cell, self.steps)

    def _sweep(self, x: np.ndarray, *others: np.ndarray) -> tuple[np.ndarray, ...]:
        count = self.cell.states
        out, last, self.saved = self.cell.forward(x, others[:count], *others[count:], self.steps)
        return out, *last

    def _rule(self, x: Any, *others: Any) -> tuple[ShapeDtype, ...]:
        states = others[: self.cell.states]
        return ShapeDtype((x.shape[0], states[0].shape[1]), x.dtype), *states

    def vjp(self, position: int, g: Any, _y: Any, inputs: Any, _params: dict[str, Any]) -> Tensor | None:
        # One sweep back gives the cotangents of all inputs, which are asked for one by one.
        if self.pulled is None or self.pulled[0] is not g:
            numbers = all(c is None or isinstance(c._value, np.ndarray) for c in g)
            self.pulled = g, (self._pull if numbers and not mode.grad else self._pull_unrolled)(g, inputs)
        return self.pulled[1][position]

    def _pull(self, g: Sequence[Tensor | None], inputs: Sequence[Tensor]) -> list[Tensor | None]:
        count = self.cell.states
        weight = inputs[1 + count]._array("the way back")
        last = [
            np.zeros(s.shape, s.dtype) if c is None else np.array(c._value)
            for c, s in zip(g[1:], inputs[1 : 1 + count], strict=True)
        ]
        found = self.cell.backward(self.saved, None if g[0] is None else g[0]._value, last, weight, self.steps)
        return [new_tensor(array, None) for array in found]

    def _pull_unrolled(self, g: Sequence[Tensor | None], inputs: Sequence[Tensor]) -> list[Tensor | None]:
        recording = mode.grad
        with enable_grad():
            fresh = [identity(t) if recording else _cut(t) for t in inputs]
            outputs = _unrolled(self.cell, fresh, self.steps)
        seeds = {y._node: c for y, c in zip(outputs, g, strict=True) if c is not None and y._node is not None}
        nodes: list[Node | None] = [t._node for t in fresh]
        wanted = {n for n in nodes if n is not None}
        found = pull_back(seeds, wanted, create_graph=recording, through=False)
        return [None if n is None else found.get(n) for n in nodes]


def _cut(tensor: Tensor) -> Tensor:
    value = tensor._value
    if is_missing(value) and tensor._node is not None:
        value = materialise(tensor._node)
    return new_tensor(value, leaf(value, True))


def _reading_weight(cell: Cell) -> Any:
    """Stands for the vjps: of the operands, the way back on numbers reads the weight only."""

    def rule(*_: Any, **__: Any) -> None:
        raise NotImplementedError("a recurrence computes the cotangents of all its inputs at once, in vjp")

    rule.reads = (False, (1 + cell.states,))  # type: ignore[attr-defined]
    return rule
