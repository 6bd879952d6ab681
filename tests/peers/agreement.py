"""Values, gradients and second derivatives of the same function in chainrule and in PyTorch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

import chainrule as cr

torch.set_num_threads(1)


def noise(shape: tuple[int, ...], dtype: Any, seed: int) -> np.ndarray:
    """Normal numbers of a type, the same for the same arguments."""
    rng = np.random.default_rng([seed, *shape])
    x = rng.normal(size=shape)
    if np.dtype(dtype).kind == "c":
        x = x + 1j * rng.normal(size=shape)
    return np.asarray(x, dtype=dtype)


def _as_list(outputs: Any) -> list[Any]:
    return list(outputs) if isinstance(outputs, tuple | list) else [outputs]


def _close(ours: Any, theirs: Any, rtol: float, what: str) -> None:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape, f"{what}: shape {ours.shape}, PyTorch {theirs.shape}"
    finite = np.abs(theirs[np.isfinite(theirs)])
    size = max(1.0, float(finite.max(initial=0.0)))
    np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=rtol * size, err_msg=what)


def _next(xp: Any, outputs: Sequence[Any], inputs: Sequence[Any], cotangents: Sequence[np.ndarray]) -> list[Any]:
    """The gradients of the outputs, differentiable again; None where an input has no influence."""
    flowing = [(y, c) for y, c in zip(outputs, cotangents, strict=True) if y is not None and y.requires_grad]
    if not flowing:
        return [None] * len(inputs)
    ys = [y for y, _ in flowing]
    if xp is torch:
        seeds = [torch.tensor(c) for _, c in flowing]
        return list(torch.autograd.grad(ys, inputs, seeds, create_graph=True, allow_unused=True))
    return list(cr.grad(ys, tuple(inputs), [cr.tensor(c) for _, c in flowing], allow_unused=True))


def agree(
    ours: Callable[..., Any],
    theirs: Callable[..., Any],
    *arrays: np.ndarray,
    orders: int = 2,
    rtol: float = 1e-10,
) -> None:
    """Assert equal values and equal derivatives up to an order, against random cotangents.

    A derivative that one of the two reports as None counts as zero.
    """
    xs = [cr.tensor(a, requires_grad=True) for a in arrays]
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    mine, peer = _as_list(ours(*xs)), _as_list(theirs(*ts))
    assert len(mine) == len(peer)
    for i, (y, t) in enumerate(zip(mine, peer, strict=True)):
        _close(y.numpy(), t.numpy(force=True), rtol, f"value {i}")
    for order in range(1, orders + 1):
        seeds = [None if t is None else noise(tuple(t.shape), _dtype(t), 10 * order + i) for i, t in enumerate(peer)]
        mine, peer = _next(cr, mine, xs, seeds), _next(torch, peer, ts, seeds)
        for i, (g, t) in enumerate(zip(mine, peer, strict=True)):
            expected = np.zeros(ts[i].shape) if t is None else t.numpy(force=True)
            found = np.zeros(ts[i].shape) if g is None else g.numpy()
            _close(found, expected, rtol, f"derivative {order} by input {i}")
        known = [t is not None and g is not None for g, t in zip(mine, peer, strict=True)]
        mine = [g if k else None for g, k in zip(mine, known, strict=True)]
        peer = [t if k else None for t, k in zip(peer, known, strict=True)]


def _dtype(t: torch.Tensor) -> np.dtype:
    return np.dtype(str(t.dtype).removeprefix("torch."))
