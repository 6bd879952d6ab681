"""`check_grad`: the gradients of a function against finite differences, entry by entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..core.dtypes import complex_dtype, float64, is_differentiable
from ..core.errors import DTypeError, GradientError, located
from ..core.tensor import Tensor, new_tensor
from ..core.tree import leaves
from .forward_mode import jvp
from .reverse import vjp


def check_grad(
    function: Callable[..., Any],
    *inputs: Any,
    eps: float = 1e-6,
    rtol: float = 1e-5,
    atol: float = 1e-6,
    forward: bool = True,
    order: int = 1,
) -> None:
    """Compare the derivatives of `function` at `inputs` with central differences.

    (f(x + εe) - f(x - εe)) / 2ε is computed in float64 for every entry e of every floating
    input and compared with reverse mode and forward mode. For complex inputs the real and
    the imaginary direction are checked.

    Args:
        function: returns a tensor or a nested container of tensors.
        inputs: tensors, arrays or numbers; floating ones are taken as float64.
        eps: step ε; rtol, atol: |a - b| <= atol + rtol |b| must hold.
        forward: check forward mode, too.
        order: 2 also checks the gradient of the gradient, along a fixed direction.

    Raises:
        GradientError: names the first wrong entry and both numbers.
        DTypeError: no input can be differentiated by.
    """
    points = [_as_double(x) for x in inputs]
    chosen = [i for i, x in enumerate(points) if is_differentiable(x.dtype)]
    if not chosen:
        raise DTypeError(located("check_grad: no floating input to differentiate by"))

    def partial(*values: Tensor) -> list[Tensor]:
        full = list(points)
        for position, value in zip(chosen, values, strict=True):
            full[position] = value
        return [y for y in leaves(function(*full)) if is_differentiable(y.dtype)]

    at = [points[i] for i in chosen]
    _compare_first(partial, at, chosen, eps, rtol, atol, forward, "derivative")
    if order > 1:
        cotangents = [_direction(y, seed) for seed, y in enumerate(partial(*at))]

        def gradient(*values: Tensor) -> list[Tensor]:
            outputs, pull = vjp(lambda *v: partial(*v), *values)
            del outputs
            pulled = pull(cotangents)
            return list(pulled) if len(values) > 1 else [pulled]

        _compare_first(gradient, at, chosen, eps, rtol, atol, forward, "second derivative")


def _as_double(x: Any) -> Tensor:
    array = np.array(x.numpy() if isinstance(x, Tensor) else x)
    if array.dtype.kind in "fc":
        array = array.astype(complex_dtype(float64) if array.dtype.kind == "c" else float64)
    return new_tensor(array, None)


def _direction(y: Tensor, seed: int) -> Tensor:
    # A fixed direction with no symmetry, so that errors do not cancel.
    numbers = np.cos(1.0 + seed + 0.7 * np.arange(y.size)).reshape(y.shape)
    return new_tensor(numbers.astype(y.dtype), None)


def _units(x: Tensor) -> list[complex]:
    return [1.0, 1j] if x.dtype.kind == "c" else [1.0]


def _compare_first(
    function: Callable[..., list[Tensor]],
    at: list[Tensor],
    names: list[int],
    eps: float,
    rtol: float,
    atol: float,
    forward: bool,
    what: str,
) -> None:
    outputs, pull = vjp(function, *at)
    for which, x in enumerate(at):
        for entry in np.ndindex(x.shape):
            for unit in _units(x):
                step = np.zeros(x.shape, x.dtype)
                step[entry] = unit
                plus, minus = (
                    function(*at[:which], new_tensor(x.numpy() + s * eps * step, None), *at[which + 1 :])
                    for s in (1, -1)
                )
                slopes = [(p.numpy() - m.numpy()) / (2 * eps) for p, m in zip(plus, minus, strict=True)]
                if forward:
                    tangents = [new_tensor(np.zeros(t.shape, t.dtype), None) for t in at]
                    tangents[which] = new_tensor(step, None)
                    _, pushed = jvp(function, tuple(at), tuple(tangents))
                    for k, (slope, dy) in enumerate(zip(slopes, pushed, strict=True)):
                        _check(slope, dy.numpy(), rtol, atol, f"{what} by forward mode", k, names[which], entry)
                for k, slope in enumerate(slopes):
                    rows = _rows(pull, outputs, k, at, which, entry, unit)
                    for direction, row in rows:
                        wanted = np.real(np.conj(direction) * slope) if np.iscomplexobj(slope) else slope
                        _check(wanted, row, rtol, atol, f"{what} by reverse mode", k, names[which], entry)


def _rows(
    pull: Callable[..., Any], outputs: list[Tensor], k: int, at: list[Tensor], which: int, entry: Any, unit: complex
) -> list[tuple[complex, np.ndarray]]:
    """Reverse mode's derivative of every entry of output k by one entry of one input."""
    cache = pull.__dict__.setdefault("rows", {})
    found = []
    for direction in _units(outputs[k]):
        key = (k, direction)
        if key not in cache:
            cache[key] = [
                _pulled(pull, outputs, k, position, direction, len(at)) for position in np.ndindex(outputs[k].shape)
            ]
        row = np.array([np.real(np.conj(g[which][entry]) * unit) for g in cache[key]])
        found.append((direction, row.reshape(outputs[k].shape)))
    return found


def _pulled(
    pull: Callable[..., Any], outputs: list[Tensor], k: int, position: Any, direction: complex, count: int
) -> list[np.ndarray]:
    cotangents = [np.zeros(y.shape, y.dtype) for y in outputs]
    cotangents[k][position] = direction
    pulled = pull([new_tensor(g, None) for g in cotangents])
    return [g.numpy() for g in (pulled if count > 1 else [pulled])]


def _check(
    wanted: np.ndarray, got: np.ndarray, rtol: float, atol: float, what: str, output: int, which: int, entry: Any
) -> None:
    wrong = ~np.isclose(got, wanted, rtol=rtol, atol=atol, equal_nan=True)
    if not wrong.any():
        return
    place = tuple(int(i) for i in np.argwhere(wrong)[0])
    raise GradientError(
        located(
            f"check_grad: {what} of output {output}[{_index(place)}] by input {which}[{_index(entry)}] is "
            f"{got[place]:.8g}, finite differences give {wanted[place]:.8g} "
            f"({int(wrong.sum())} of {wrong.size} entries differ)"
        )
    )


def _index(place: Any) -> str:
    return ", ".join(map(str, place))
