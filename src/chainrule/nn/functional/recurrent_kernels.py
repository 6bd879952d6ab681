"""Recurrent cells applied to whole sequences, in NumPy: the forward sweep over time and the one back.

Rows of a sequence batch lie step by step below each other. A sweep is a list of row ranges, one
for each step in the order of computing; a range shorter than the batch holds the first sequences
only, the others have ended or not yet begun. What does not depend on the step before is computed
for all steps at once: a step back is a product with the recurrent weight and a few products of
numbers, and the weight's gradient is one matrix product over all steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray
Spans = Sequence[tuple[int, int]]


class Swept(NamedTuple):
    """What a forward sweep leaves: the outputs of all rows, the last states, and what the way back reads."""

    out: Array
    last: tuple[Array, ...]
    saved: dict[str, Any]


class States:
    """A state of every sequence, followed through a sweep without copies where all sequences take part."""

    def __init__(self, first: Array) -> None:
        self.first = first
        self.last = np.array(first)
        self.now: Array | None = None
        self.before: list[Array] = []

    def enter(self, rows: int) -> Array:
        """The state before a step of the first `rows` sequences."""
        now = self.now
        if now is None:
            state = self.first[:rows]
        elif rows <= len(now):
            self.last[rows : len(now)] = now[rows:]
            state = now[:rows]
        else:
            state = np.concatenate((now, self.first[len(now) : rows]))
        self.before.append(state)
        return state

    def leave(self, state: Array) -> None:
        """Set the state after the step."""
        self.now = state

    def finish(self) -> Array:
        """The last state of every sequence."""
        if self.now is not None:
            self.last[: len(self.now)] = self.now
        return self.last


def _in_order(before: list[Array], spans: Spans) -> Array:
    """The states before each step, one row for each row of the sequences."""
    backwards = len(spans) > 1 and spans[0][0] > spans[1][0]
    return np.concatenate(before[::-1] if backwards else before)


def _sigmoid(x: Array) -> None:
    np.negative(x, out=x)
    np.exp(x, out=x)
    x += 1
    np.reciprocal(x, out=x)


def rnn_forward(x: Array, states: Sequence[Array], w: Array, spans: Spans, *, rectify: bool) -> Swept:
    """h' = act(x + W h), act = tanh, or max(0, ·) if `rectify`."""
    out = np.empty(x.shape, x.dtype)
    h, wt = States(states[0]), w.T
    for start, stop in spans:
        y = out[start:stop]
        np.matmul(h.enter(stop - start), wt, out=y)
        y += x[start:stop]
        if rectify:
            np.maximum(y, 0, out=y)
        else:
            np.tanh(y, out=y)
        h.leave(y)
    return Swept(out, (h.finish(),), {"out": out, "before": h.before})


def rnn_backward(saved: Any, g: Array | None, last: list[Array], w: Array, spans: Spans, *, rectify: bool) -> Any:
    """Cotangents of x, h and W from those of the outputs and the last state."""
    out, (dh,) = saved["out"], last
    d = (out > 0).astype(out.dtype) if rectify else 1 - np.square(out)
    for start, stop in reversed(spans):
        n, at = stop - start, d[start:stop]
        carried = dh[:n]
        if g is not None:
            carried += g[start:stop]
        at *= carried
        np.matmul(at, w, out=carried)
    return d, dh, d.T @ _in_order(saved["before"], spans)


def lstm_forward(x: Array, states: Sequence[Array], w: Array, spans: Spans) -> Swept:
    """i, f, o = σ(x + W h), z = tanh(x + W h); c' = f c + i z, h' = o tanh(c'); gates in the order i, f, z, o."""
    width = w.shape[1]
    gates, out = np.empty(x.shape, x.dtype), np.empty((len(x), width), x.dtype)
    cells, squashed = np.empty_like(out), np.empty_like(out)
    room = np.empty((len(states[0]), width), x.dtype)
    h, c, wt = States(states[0]), States(states[1]), w.T
    with np.errstate(over="ignore"):
        for start, stop in spans:
            n, a, y = stop - start, gates[start:stop], out[start:stop]
            scratch, z = room[:n], a[:, 2 * width : 3 * width]
            np.matmul(h.enter(n), wt, out=a)
            a += x[start:stop]
            np.tanh(z, out=scratch)
            _sigmoid(a)
            z[...] = scratch
            cell, t = cells[start:stop], squashed[start:stop]
            np.multiply(a[:, width : 2 * width], c.enter(n), out=cell)
            np.multiply(a[:, :width], z, out=scratch)
            cell += scratch
            np.tanh(cell, out=t)
            np.multiply(a[:, 3 * width :], t, out=y)
            h.leave(y)
            c.leave(cell)
    saved = {"gates": gates, "squashed": squashed, "before": h.before, "cells before": c.before}
    return Swept(out, (h.finish(), c.finish()), saved)


def lstm_backward(saved: Any, g: Array | None, last: list[Array], w: Array, spans: Spans) -> Any:
    """Cotangents of x, h, c and W from those of the outputs and the last states."""
    width = w.shape[1]
    gates, t = saved["gates"].reshape(-1, 4, width), saved["squashed"]
    dh, dc = last
    i, f, z, o = (gates[:, k] for k in range(4))
    # The partial derivatives of c' by the sums in i, f and z, and of h' by the sum in o; then times the cotangents.
    d = gates - np.square(gates)  # σ' = σ (1 - σ)
    d[:, 0] *= z
    d[:, 1] *= _in_order(saved["cells before"], spans)
    np.multiply(i, 1 - np.square(z), out=d[:, 2])
    d[:, 3] *= t
    through = o * (1 - np.square(t))
    flat = d.reshape(-1, 4 * width)
    room = np.empty_like(dh)
    for start, stop in reversed(spans):
        n, at = stop - start, d[start:stop]
        carried, cell, scratch = dh[:n], dc[:n], room[:n]
        if g is not None:
            carried += g[start:stop]
        np.multiply(carried, through[start:stop], out=scratch)
        cell += scratch
        at[:, :3] *= cell[:, None]
        at[:, 3] *= carried
        cell *= f[start:stop]
        np.matmul(flat[start:stop], w, out=carried)
    return flat, dh, dc, flat.T @ _in_order(saved["before"], spans)


def gru_forward(x: Array, states: Sequence[Array], w: Array, b: Array, spans: Spans) -> Swept:
    """r, z = σ(x + W h + b), n = tanh(x + r (W h + b)), h' = (1 - z) n + z h; gates in the order r, z, n."""
    width = w.shape[1]
    gates, out = np.empty(x.shape, x.dtype), np.empty((len(x), width), x.dtype)
    inner = np.empty_like(out)
    room = np.empty((len(states[0]), 3 * width), x.dtype)
    h, wt = States(states[0]), w.T
    with np.errstate(over="ignore"):
        for start, stop in spans:
            n, a, y = stop - start, gates[start:stop], out[start:stop]
            before, scratch, own = h.enter(n), room[:n], inner[start:stop]
            np.matmul(before, wt, out=scratch)
            scratch += b
            both, candidate = a[:, : 2 * width], a[:, 2 * width :]
            np.add(x[start:stop, : 2 * width], scratch[:, : 2 * width], out=both)
            _sigmoid(both)
            own[...] = scratch[:, 2 * width :]
            np.multiply(a[:, :width], own, out=candidate)
            candidate += x[start:stop, 2 * width :]
            np.tanh(candidate, out=candidate)
            np.subtract(before, candidate, out=y)
            y *= a[:, width : 2 * width]
            y += candidate
            h.leave(y)
    return Swept(out, (h.finish(),), {"gates": gates, "inner": inner, "before": h.before})


def gru_backward(saved: Any, g: Array | None, last: list[Array], w: Array, spans: Spans) -> Any:
    """Cotangents of x, h, W and b from those of the outputs and the last state."""
    width = w.shape[1]
    gates, (dh,) = saved["gates"].reshape(-1, 3, width), last
    r, z, n = (gates[:, k] for k in range(3))
    before = _in_order(saved["before"], spans)
    # The partial derivatives of h' by the three sums W h + b; then times the cotangent of h'.
    d = np.empty_like(gates)
    candidate = (1 - z) * (1 - np.square(n))
    np.multiply(candidate, r, out=d[:, 2])
    np.multiply(d[:, 2], (1 - r) * saved["inner"], out=d[:, 0])
    np.multiply(before - n, z - np.square(z), out=d[:, 1])
    flat = d.reshape(-1, 3 * width)
    room = np.empty_like(dh)
    for start, stop in reversed(spans):
        rows = stop - start
        carried, scratch = dh[:rows], room[:rows]
        if g is not None:
            carried += g[start:stop]
        d[start:stop] *= carried[:, None]
        candidate[start:stop] *= carried
        np.multiply(carried, z[start:stop], out=scratch)
        np.matmul(flat[start:stop], w, out=carried)
        carried += scratch
    dx = flat.copy()
    dx[:, 2 * width :] = candidate
    return dx, dh, flat.T @ before, flat.sum(axis=0)
