"""The function transformations against torch.func: names, argument order, structures and numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from chainrule import func

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore:.*torch.jit.script:DeprecationWarning")]

RNG = np.random.default_rng(0)
X = RNG.standard_normal((3, 4))
W = RNG.standard_normal((4, 2))
V = RNG.standard_normal((3, 4))
B = RNG.standard_normal((5, 3, 4))


def model(xp: Any, x: Any, w: Any) -> Any:
    """The same expression in both libraries."""
    return xp.tanh(x @ w) * xp.exp(-(x[:, :2] ** 2))


def loss(xp: Any, x: Any, w: Any) -> Any:
    return (model(xp, x, w) ** 3).sum()


def ours(f: Any, *arrays: np.ndarray) -> Any:
    return f(cr, func, *map(cr.tensor, arrays))


def theirs(f: Any, *arrays: np.ndarray) -> Any:
    return f(torch, torch.func, *map(torch.tensor, arrays))


CASES = {
    "grad": (lambda xp, fn, x, w: fn.grad(lambda a, b: loss(xp, a, b))(x, w), (X, W)),
    "grad by two arguments": (lambda xp, fn, x, w: fn.grad(lambda a, b: loss(xp, a, b), argnums=(1, 0))(x, w), (X, W)),
    "grad of a tuple": (lambda xp, fn, x, w: fn.grad(lambda a, b: loss(xp, a, b), argnums=(1,))(x, w), (X, W)),
    "grad with aux": (
        lambda xp, fn, x, w: fn.grad(lambda a, b: (loss(xp, a, b), model(xp, a, b)), has_aux=True)(x, w), (X, W),
    ),
    "grad_and_value": (
        lambda xp, fn, x, w: fn.value_and_grad(lambda a: loss(xp, a, w))(x)
        if xp is cr else tuple(reversed(fn.grad_and_value(lambda a: loss(xp, a, w))(x))), (X, W),
    ),
    "vjp": (lambda xp, fn, x, w: fn.vjp(lambda a, b: model(xp, a, b), x, w)[1](model(xp, x, w)), (X, W)),
    "vjp of one argument": (
        lambda xp, fn, x, w: fn.vjp(lambda a: model(xp, a, w), x)[1](model(xp, x, w))
        if xp is cr else fn.vjp(lambda a: model(xp, a, w), x)[1](model(xp, x, w))[0], (X, W),
    ),
    "jvp": (lambda xp, fn, x, w, v: fn.jvp(lambda a: model(xp, a, w), (x,), (v,)), (X, W, V)),
    "jacrev": (lambda xp, fn, x, w: fn.jacrev(lambda a, b: model(xp, a, b), argnums=1)(x, w), (X, W)),
    "jacfwd": (lambda xp, fn, x, w: fn.jacfwd(lambda a, b: model(xp, a, b), argnums=(0, 1))(x, w), (X, W)),
    "hessian": (lambda xp, fn, x, w: fn.hessian(lambda a, b: loss(xp, a, b), argnums=1)(x, w), (X, W)),
    "hessian by two arguments": (
        lambda xp, fn, x, w: fn.hessian(lambda a, b: loss(xp, a, b), argnums=(0, 1))(x, w), (X, W),
    ),
    "jacrev of a tuple": (
        lambda xp, fn, x, w: fn.jacrev(lambda a, b: (model(xp, a, b), loss(xp, a, b)), argnums=(0, 1))(x, w), (X, W),
    ),
    "jacfwd of a tuple": (
        lambda xp, fn, x, w: fn.jacfwd(lambda a, b: (model(xp, a, b), loss(xp, a, b)), argnums=(0, 1))(x, w), (X, W),
    ),
    "vmap": (lambda xp, fn, b, w: fn.vmap(lambda a: model(xp, a, w))(b), (B, W)),
    "vmap over another axis": (
        lambda xp, fn, b, w: fn.vmap(lambda a, c: a @ c, in_dims=(1, None), out_dims=2)(b, w), (B, W),
    ),
    "per-sample gradients": (
        lambda xp, fn, b, w: fn.vmap(fn.grad(lambda c, a: loss(xp, a, c)), in_dims=(None, 0))(w, b), (B, W),
    ),
    "jvp of grad": (
        lambda xp, fn, x, w, v: fn.jvp(fn.grad(lambda a: loss(xp, a, w)), (x,), (v,)), (X, W, V),
    ),
    "grad of jvp": (
        lambda xp, fn, x, w, v: fn.grad(lambda a: fn.jvp(lambda c: model(xp, c, w), (a,), (v,))[1].sum())(x),
        (X, W, V),
    ),
    "third derivative": (
        lambda xp, fn, x: fn.vmap(fn.grad(fn.grad(fn.grad(lambda a: xp.sin(a) * a))))(x), (X[0],),
    ),
    "vmap of hessian": (
        lambda xp, fn, b, w: fn.vmap(fn.hessian(lambda a: (xp.tanh(a) ** 2).sum()))(b[:, 0]), (B, W),
    ),
}  # fmt: skip


def compare(a: Any, b: Any) -> None:
    if isinstance(b, tuple | list):
        assert isinstance(a, tuple | list) and len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            compare(x, y)
    else:
        assert a.shape == tuple(b.shape)
        np.testing.assert_allclose(a.numpy(), b.detach().numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", CASES)
def test_results_and_their_structure_are_those_of_torch_func(name: str) -> None:
    f, arrays = CASES[name]
    compare(ours(f, *arrays), theirs(f, *arrays))


def test_hvp_is_torchs() -> None:
    got = func.hvp(lambda a: loss(cr, a, cr.tensor(W)), cr.tensor(X), cr.tensor(V))
    _, wanted = torch.autograd.functional.hvp(
        lambda a: loss(torch, a, torch.tensor(W)), torch.tensor(X), torch.tensor(V)
    )
    compare(got, wanted)


def test_checkpoint_is_torchs() -> None:
    from torch.utils.checkpoint import checkpoint

    results = []
    for xp, part, make in (
        (cr, func.checkpoint, lambda a: cr.tensor(a, requires_grad=True)),
        (torch, lambda f, *a: checkpoint(f, *a, use_reentrant=False), lambda a: torch.tensor(a, requires_grad=True)),
    ):
        x, w = make(X), make(W)
        out = part(lambda a, b, xp=xp: model(xp, a, b), x, w)
        (out**2).sum().backward()
        results.append((out, x.grad, w.grad))
    compare(*results)
