"""One step of each recurrent cell, forwards and back, in numbers and as it is written."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..layers import Equation
from .call import equation, plain


def _sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


class Cell(NamedTuple):
    """One step forwards, one step back, and how both are written.

    forward(a, u, state): from a = W x + b and u = U h + b', the new state (h, …) and what to keep.
    backward(carry, kept): from the gradients of the new state, those of a, of u, and of the old state.
    """

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    states: int
    equations: Callable[[], list[Equation]]


def _lstm_forward(a: np.ndarray, u: np.ndarray, state: Any) -> Any:
    i, f, g, o = np.split(a + u, 4, axis=-1)
    i, f, g, o = _sigmoid(i), _sigmoid(f), np.tanh(g), _sigmoid(o)
    c = f * state[1] + i * g
    return (o * np.tanh(c), c), (i, f, g, o, state[1], np.tanh(c))


def _lstm_backward(carry: Any, kept: Any) -> Any:
    i, f, g, o, before, squashed = kept
    to_h, to_c = carry
    to_c = to_c + to_h * o * (1 - squashed**2)
    parts = to_c * g * i * (1 - i), to_c * before * f * (1 - f), to_c * i * (1 - g**2), to_h * squashed * o * (1 - o)
    delta = np.concatenate(parts, axis=-1)
    return delta, delta, (0.0, to_c * f)


def _gru_forward(a: np.ndarray, u: np.ndarray, state: Any) -> Any:
    (ar, az, an), (ur, uz, un) = np.split(a, 3, axis=-1), np.split(u, 3, axis=-1)
    r, z = _sigmoid(ar + ur), _sigmoid(az + uz)
    n = np.tanh(an + r * un)
    return ((1 - z) * n + z * state[0],), (r, z, n, un, state[0])


def _gru_backward(carry: Any, kept: Any) -> Any:
    r, z, n, un, before = kept
    (to_h,) = carry
    to_n = to_h * (1 - z) * (1 - n**2)
    to_z = to_h * (before - n) * z * (1 - z)
    to_r = to_n * un * r * (1 - r)
    return np.concatenate([to_r, to_z, to_n], -1), np.concatenate([to_r, to_z, to_n * r], -1), (to_h * z,)


def _tanh_forward(a: np.ndarray, u: np.ndarray, state: Any) -> Any:
    h = np.tanh(a + u)
    return (h,), (1 - h**2,)


def _relu_forward(a: np.ndarray, u: np.ndarray, state: Any) -> Any:
    return (np.maximum(a + u, 0),), ((a + u > 0).astype(float),)


def _plain_backward(carry: Any, kept: Any) -> Any:
    delta = carry[0] * kept[0]
    return delta, delta, (0.0,)


def _lstm_equations() -> list[Equation]:
    return [
        plain("i, f, o = σ(W x[t] + U h[t-1] + b), g = tanh(W x[t] + U h[t-1] + b)",
              r"i, f, o = \sigma(W x_{t} + U h_{t-1} + b), \; g = \tanh(W x_{t} + U h_{t-1} + b)",
              "four gates, each with its rows of W, U and b"),
        plain("c[t] = f · c[t-1] + i · g, h[t] = o · tanh(c[t])",
              r"c_{t} = f \, c_{t-1} + i \, g, \; h_{t} = o \, \tanh c_{t}", "memory and output"),
        equation("c[t]", "∂L/∂h[t] · o · (1 - tanh²(c[t])) + ∂L/∂c[t+1] · f[t+1]",
                 r"\frac{\partial L}{\partial h_{t}} o \, (1 - \tanh^2 c_{t}) "
                 r"+ \frac{\partial L}{\partial c_{t+1}} f_{t+1}",
                 "backwards through time; an open forget gate f passes the gradient on undiminished", "c_{t}"),
        plain("δ[t] = (∂L/∂c · g · i (1 - i), ∂L/∂c · c[t-1] · f (1 - f), "
              "∂L/∂c · i · (1 - g²), ∂L/∂h · tanh(c) · o (1 - o))",
              r"\delta_{t} = \left( \frac{\partial L}{\partial c} g \, i (1 - i), \; "
              r"\frac{\partial L}{\partial c} c_{t-1} \, f (1 - f), \; "
              r"\frac{\partial L}{\partial c} i \, (1 - g^2), \; "
              r"\frac{\partial L}{\partial h} \tanh c \, o (1 - o) \right)",
              "what arrives before the gates"),
    ]  # fmt: skip


def _gru_equations() -> list[Equation]:
    return [
        plain("r, z = σ(W x[t] + U h[t-1] + b), n = tanh(W x[t] + r · (U h[t-1]))",
              r"r, z = \sigma(W x_{t} + U h_{t-1} + b), \; n = \tanh(W x_{t} + r \, (U h_{t-1}))",
              "reset gate, update gate, and the new content"),
        plain("h[t] = (1 - z) · n + z · h[t-1]", r"h_{t} = (1 - z) \, n + z \, h_{t-1}", ""),
        plain("δn = ∂L/∂h[t] · (1 - z) · (1 - n²), δz = ∂L/∂h[t] · (h[t-1] - n) · z (1 - z), "
              "δr = δn · (U h[t-1]) · r (1 - r)",
              r"\delta_{n} = \frac{\partial L}{\partial h_{t}} (1 - z) (1 - n^2), \; \delta_{z} = "
              r"\frac{\partial L}{\partial h_{t}} (h_{t-1} - n) z (1 - z), \; "
              r"\delta_{r} = \delta_{n} (U h_{t-1}) r (1 - r)",
              "what arrives before the gates; z passes ∂L/∂h on to the step before"),
    ]  # fmt: skip


def _plain_equations() -> list[Equation]:
    return [
        plain("h[t] = f(W x[t] + U h[t-1] + b)", r"h_{t} = f(W x_{t} + U h_{t-1} + b)", ""),
        plain("δ[t] = (∂L/∂h[t] + δ[t+1] U) · f′",
              r"\delta_{t} = \left( \frac{\partial L}{\partial h_{t}} + \delta_{t+1} U \right) f'",
              "backwards through time: each step multiplies by U and by f′ once more"),
    ]  # fmt: skip


CELLS = {
    "LSTM": Cell(_lstm_forward, _lstm_backward, 2, _lstm_equations),
    "GRU": Cell(_gru_forward, _gru_backward, 1, _gru_equations),
    "RNN_TANH": Cell(_tanh_forward, _plain_backward, 1, _plain_equations),
    "RNN_RELU": Cell(_relu_forward, _plain_backward, 1, _plain_equations),
}
