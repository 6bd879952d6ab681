"""Value, gradient and second derivative of every primitive against PyTorch in float64, enumerated from the table.

A primitive that is missing below fails, unless `NO_PEER` says why PyTorch has no counterpart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import chainrule as cr
from chainrule.primitives import table
from tests.peers.agreement import agree
from tests.primitives.samples import (
    FIXED,
    INVARIANT,
    PREPARE,
    Sample,
    case_id,
    differentiable_cases,
    names,
    sample,
)

pytestmark = pytest.mark.peers

Torch = torch.Tensor

NO_PEER = {
    "project": "an output of a tuple, no operation",
    "random_bits": "PyTorch draws from a state of its own; tests/peers has no use for other bits",
    "window_argmax": "tap numbers within the window; PyTorch's max_pool2d gives positions in the image",
    "window_take": "reads by tap number (see window_argmax); covered through window_max",
    "window_put": "writes by tap number (see window_argmax); covered through window_max",
}

NO_COMPLEX = {("round", True): "PyTorch rounds real numbers only"}


def _key(pattern: Any, arrays: tuple[Torch, ...]) -> tuple[Any, ...]:
    kinds = {
        "s": lambda e: slice(e[1], e[2], e[3]), "i": lambda e: e[1], "n": lambda e: None, "a": lambda e: arrays[e[1]],
    }  # fmt: skip
    return tuple(kinds[entry[0]](entry) for entry in pattern)


def _index_set(x: Torch, v: Torch, *arrays: Torch, pattern: Any) -> Torch:
    out = x.clone()
    out[_key(pattern, arrays)] = v
    return out


def _index_add(g: Torch, *arrays: Torch, pattern: Any, shape: Any) -> Torch:
    positions = torch.arange(int(np.prod(shape))).reshape(shape)[_key(pattern, arrays)]
    return torch.zeros(shape, dtype=g.dtype).flatten().index_add(0, positions.flatten(), g.flatten()).reshape(shape)


def _fft(x: Torch, axes: Any, inverse: bool, norm: str) -> Torch:
    return (torch.fft.ifftn if inverse else torch.fft.fftn)(x, dim=axes, norm=norm)


def _matmul(a: Torch, b: Torch, transpose_a: bool, transpose_b: bool) -> Torch:
    return (a.mT if transpose_a else a) @ (b.mT if transpose_b else b)


def _adjugate(x: Torch) -> Torch:
    return torch.linalg.det(x)[..., None, None] * torch.linalg.inv(x)


def _adjugate_slope(x: Torch, direction: Torch) -> Torch:
    inverse = torch.linalg.inv(x)
    moved = inverse @ direction
    trace = moved.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    return torch.linalg.det(x)[..., None, None] * (trace * inverse - moved @ inverse)


def _pad(x: Torch, widths: Any, value: float = 0.0) -> Torch:
    return F.pad(x, [n for pair in reversed(widths) for n in pair], value=value)


def _conv(x: Torch, w: Torch, stride: Any, padding: Any, dilation: Any, groups: int) -> Torch:
    return F.conv2d(_pad(x, padding), w, stride=stride, dilation=dilation, groups=groups)


def _adjoint(f: Callable[[Torch], Torch], shape: Any, g: Torch) -> Torch:
    """The transpose of a linear function, applied to g, differentiable by g and whatever f closes over."""
    x = torch.zeros(shape, dtype=g.dtype, requires_grad=True)
    # A vjp is the conjugate transpose.
    return torch.autograd.grad(f(x), x, g.conj(), create_graph=True)[0].conj()


def _conv_transpose(g: Torch, w: Torch, size: Any, groups: int, **params: Any) -> Torch:
    shape = (g.shape[0], w.shape[1] * groups, *size)
    return _adjoint(lambda x: _conv(x, w, groups=groups, **params), shape, g)


def _conv_weight(x: Torch, g: Torch, kernel: Any, groups: int, **params: Any) -> Torch:
    shape = (g.shape[1], x.shape[1] // groups, *kernel)
    return _adjoint(lambda w: _conv(x, w, groups=groups, **params), shape, g)


def _window_sum(x: Torch, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Torch:
    ones = torch.ones(1, 1, *kernel, dtype=x.dtype)
    return F.conv2d(_pad(x, padding)[:, None], ones, stride=stride, dilation=dilation)[:, 0]


def _centred(x: Torch, axis: tuple[int, ...]) -> Torch:
    return x - x.mean(axis, keepdim=True)


def _variance(x: Torch, axis: tuple[int, ...]) -> Torch:
    return x.var(axis, correction=0, keepdim=True)


def _window_spread(g: Torch, size: Any, **params: Any) -> Torch:
    return _adjoint(lambda x: _window_sum(x, **params), (g.shape[0], *size), g)


def _window_max(x: Torch, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Torch:
    return F.max_pool2d(_pad(x, padding, -torch.inf), kernel, stride=stride, dilation=dilation)


def _softened(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axis: f(x, dim=axis)


def _reduction(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axis, keepdims: f(x, dim=axis, keepdim=keepdims)


def _over_one(f: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, axis, keepdims: f(x, dim=axis[0], keepdim=keepdims)


PEERS: dict[str, Callable[..., Any]] = {
    **{
        name: getattr(torch, name)
        for name in (
            "add", "subtract", "multiply", "divide", "negative", "reciprocal", "square", "sqrt", "exp", "exp2",
            "expm1", "log", "log1p", "log2", "log10", "logaddexp", "sin", "cos", "tan", "asin", "acos", "atan", "atan2",
            "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "hypot", "sigmoid", "erf", "relu", "abs",
            "maximum", "minimum", "copysign", "remainder", "where", "not_equal", "less", "less_equal",
            "greater", "greater_equal", "logical_and", "logical_or", "logical_xor", "logical_not", "bitwise_and",
            "bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift", "isnan", "isinf", "isfinite",
            "signbit", "nextafter", "floor", "ceil", "trunc", "round",
        )
    },
    "equal": torch.eq,
    "floor_divide": lambda a, b: torch.floor(a / b),  # torch.floor_divide has no derivative
    "bitwise_invert": torch.bitwise_not,
    "sign": torch.sgn,
    "power": torch.pow,
    "integer_power": lambda x, n: x**n,
    "select_positive": lambda g, y: torch.where(y > 0, g, 0.0),
    "astype": lambda x, dtype: x.to(getattr(torch, str(dtype))),
    "real": torch.real,
    "imag": lambda x: torch.imag(x) if x.is_complex() else x * 0,
    "conj": torch.conj,
    "make_complex": torch.complex,
    "identity": torch.clone,
    "reshape": lambda x, shape: x.reshape(shape),
    "permute_dims": lambda x, axes: x.permute(axes),
    "broadcast_to": lambda x, shape: x.broadcast_to(shape),
    "flip": lambda x, axis: x.flip(axis),
    "pad": _pad,
    "concat": lambda *parts, axis: torch.cat(parts, dim=axis),
    "matmul": _matmul,
    "affine": torch.nn.functional.linear,
    "solve": torch.linalg.solve,
    "inv": torch.linalg.inv,
    "pinv": lambda x, _tolerance: torch.linalg.pinv(x),
    "adjugate": _adjugate,
    "adjugate_slope": _adjugate_slope,
    "det": torch.linalg.det,
    "slogdet": lambda x: tuple(torch.linalg.slogdet(x)),
    "cholesky": torch.linalg.cholesky,
    "qr": lambda x, complete: tuple(torch.linalg.qr(x, mode="complete" if complete else "reduced")),
    "eigh": lambda x: tuple(torch.linalg.eigh(x)),
    "eigvalsh": torch.linalg.eigvalsh,
    "svd": lambda x, full_matrices: tuple(torch.linalg.svd(x, full_matrices=full_matrices)),
    "svdvals": torch.linalg.svdvals,
    "fft": _fft,
    "rfft": lambda x, axis, norm: torch.fft.rfft(x, dim=axis, norm=norm),
    "irfft": lambda x, axis, n, norm: torch.fft.irfft(x, n=n, dim=axis, norm=norm),
    "index": lambda x, *arrays, pattern: x[_key(pattern, arrays)],
    "index_add": _index_add,
    "index_set": _index_set,
    "sum": _reduction(torch.sum),
    "mean": _reduction(torch.mean),
    "max": _reduction(torch.amax),
    "min": _reduction(torch.amin),
    "argmax": _reduction(torch.argmax),
    "argmin": _reduction(torch.argmin),
    "all": _reduction(torch.all),
    "any": _reduction(torch.any),
    "logsumexp": _reduction(torch.logsumexp),
    "prod": _over_one(torch.prod),
    "cumulative_sum": _softened(torch.cumsum),
    "cumulative_prod": _softened(torch.cumprod),
    "softmax": _softened(torch.softmax),
    "log_softmax": _softened(torch.log_softmax),
    "cross_entropy": F.cross_entropy,
    "excess": lambda x, classes: torch.softmax(x, 1) - F.one_hot(classes, x.shape[1]),
    "standardise": lambda x, axis, eps: _centred(x, axis) / torch.sqrt(_variance(x, axis) + eps),
    "inverse_deviation": lambda x, axis, eps: 1 / torch.sqrt(_variance(x, axis) + eps),
    "standardised_product": lambda g, y, r, axis: (_centred(g, axis) - y * (g * y).mean(axis, keepdim=True)) * r,
    "softplus": F.softplus,
    "argsort": lambda x, axis, descending, stable: torch.argsort(x, dim=axis, descending=descending, stable=stable),
    "searchsorted": lambda a, v, side: torch.searchsorted(a, v, side=side),
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "conv_weight": _conv_weight,
    "window_max": _window_max,
    "window_sum": _window_sum,
    "window_spread": _window_spread,
}  # fmt: skip


def _hermitian(x: Torch) -> Torch:
    return x + x.mH


def _shifted(x: Torch) -> Torch:
    return x + torch.tensor(np.eye(x.shape[-2], x.shape[-1]) * (2.0 + np.arange(x.shape[-1])) * 2.0)


PREPARED = {
    **dict.fromkeys(PREPARE, _shifted),
    "cholesky": lambda x: _hermitian(x) + torch.eye(x.shape[-1], dtype=torch.float64) * 4.0 * x.shape[-1],
    "eigh": lambda x: _shifted(_hermitian(x)),
    "eigvalsh": lambda x: _shifted(_hermitian(x)),
}
"""The maps of `samples.PREPARE`, in PyTorch."""


def _without_phase(part: Torch) -> Torch:
    return (part * part.conj()).real


INVARIANTS = {
    "eigh": lambda w, v: (w, _without_phase(v)),
    "svd": lambda u, s, vh: (s, _without_phase(u), _without_phase(vh)),
}
"""Those of `samples.INVARIANT`, in PyTorch."""


def theirs(s: Sample) -> Callable[..., tuple[Torch, ...]]:
    """The sample's call in PyTorch, of the operands that a gradient flows to."""

    def call(*floating: Torch) -> tuple[Torch, ...]:
        given = iter(floating)
        operands = [next(given) if i in s.flowing else torch.tensor(a) for i, a in enumerate(s.arrays)]
        if s.name in PREPARED:
            operands[0] = PREPARED[s.name](operands[0])
        y = PEERS[s.name](*operands, **s.params)
        if isinstance(y, tuple):
            y = INVARIANTS[s.name](*y) if s.name in INVARIANTS else y
            return tuple(part for part in y if part.is_floating_point() or part.is_complex())
        return (y,)

    return call


def test_every_primitive_has_a_counterpart_or_a_reason() -> None:
    missing = set(table) - set(PEERS) - set(NO_PEER)
    assert not missing, f"state PyTorch's counterpart of {sorted(missing)} in PEERS, or in NO_PEER why it has none"
    assert not set(PEERS) & set(NO_PEER)
    assert set(INVARIANTS) == set(INVARIANT)
    assert set(PREPARED) == set(PREPARE)


@pytest.mark.parametrize(
    "case", [c for c in differentiable_cases() if c[0] in PEERS and c not in NO_COMPLEX], ids=case_id
)
def test_value_gradient_and_second_derivative_are_pytorchs(case: tuple[str, bool]) -> None:
    s = sample(case[0], complex_=case[1])
    agree(s.call, theirs(s), *s.points, orders=2, rtol=1e-10)


@pytest.mark.parametrize("name", [n for n in names(differentiable=False) if n in PEERS])
def test_value_is_pytorchs(name: str) -> None:
    s = sample(name)
    assert name not in FIXED
    got = s.primitive(*map(cr.tensor, s.arrays), **s.params)
    wanted = PEERS[name](*map(torch.tensor, s.arrays), **s.params)
    np.testing.assert_array_equal(got.numpy(), wanted.numpy())
    assert str(got.dtype) == str(wanted.dtype).removeprefix("torch.")
