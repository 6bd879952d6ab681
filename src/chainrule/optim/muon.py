"""Muon: momentum made orthogonal, for the weight matrices of hidden layers."""

from __future__ import annotations

import math
from typing import Any

from ..core.errors import DTypeError, OperationError, ShapeError
from .optimizer import Optimizer


def newton_schulz(x: Any, coefficients: tuple[float, float, float], steps: int, eps: float) -> Any:
    """A matrix with the singular vectors of x and singular values near 1.

    With x = U S Vᵀ scaled to norm 1, each step applies the odd polynomial a s + b s³ + c s⁵ to
    every singular value s, by matrix products alone. The default coefficients trade exactness
    for speed: the values end between about 0.7 and 1.2.
    """
    xp = x.__array_namespace__()
    a, b, c = coefficients
    tall = x.shape[0] > x.shape[1]
    if tall:
        x = xp.matrix_transpose(x)
    x = x / xp.maximum(xp.sqrt(xp.sum(x * x)), xp.asarray(eps, dtype=x.dtype))
    for _ in range(steps):
        gram = x @ xp.matrix_transpose(x)
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return xp.matrix_transpose(x) if tall else x


def muon(
    p: Any, g: Any, b: Any, *, lr: Any, weight_decay: float, momentum: float, nesterov: bool,
    ns_coefficients: tuple[float, float, float], eps: float, ns_steps: int, adjust_lr_fn: str | None,
) -> tuple[Any, ...]:  # fmt: skip
    """One step of `Muon`."""
    b += (1 - momentum) * (g - b)
    direction = newton_schulz(g + momentum * (b - g) if nesterov else b, ns_coefficients, ns_steps, eps)
    rows, columns = p.shape
    if adjust_lr_fn == "match_rms_adamw":
        ratio = 0.2 * math.sqrt(max(rows, columns))
    else:
        ratio = math.sqrt(max(1.0, rows / columns))
    p *= 1 - lr * weight_decay
    p -= (lr * ratio) * direction
    return p, b


class Muon(Optimizer):
    """Muon: steps whose singular values are all about the same.

        b ← momentum · b + (1 - momentum) g
        O = NewtonSchulz(b)                         (nesterov: of (1 - momentum) g + momentum · b)
        p ← (1 - lr · weight_decay) p - lr · r · O,   r = √max(1, rows / columns)

    Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; the other
    choice of r, 0.2 √max(rows, columns), is that of Liu et al. 2025, "Muon is Scalable for LLM
    Training". For matrices only: train biases, embeddings and the last layer with AdamW.
    PyTorch iterates in bfloat16; here the iteration has the precision of the weights.

    Args:
        params: parameters or parameter groups, each parameter 2-d and real.
        lr: learning rate.
        weight_decay: decay of the weights themselves.
        momentum: decay of the mean gradient, in [0, 1).
        nesterov: look ahead along the momentum.
        ns_coefficients: the polynomial (a, b, c) of the Newton-Schulz iteration.
        eps: least norm that a matrix is divided by.
        ns_steps: iterations, fewer than 100.
        adjust_lr_fn: "original" (also None) or "match_rms_adamw", which makes steps as large as
            AdamW's, so that its lr and weight decay can be taken over.

    Raises:
        ShapeError: a parameter is no matrix.
        OperationError, DTypeError: see `Optimizer`.
    """

    rule = staticmethod(muon)
    elementwise = False

    def __init__(
        self, params: Any, lr: Any = 1e-3, weight_decay: float = 0.1, momentum: float = 0.95, nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315), eps: float = 1e-7, ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:  # fmt: skip
        defaults = {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
            "ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _check(self, group: dict[str, Any]) -> None:
        self._at_least_zero(group, "lr", "weight_decay", "eps")
        self._fraction("momentum", group["momentum"])
        if group["adjust_lr_fn"] not in (None, "original", "match_rms_adamw"):
            raise OperationError(
                self._message(f"adjust_lr_fn is 'original' or 'match_rms_adamw', got {group['adjust_lr_fn']!r}")
            )
        if len(group["ns_coefficients"]) != 3:
            raise OperationError(self._message(f"ns_coefficients are three numbers, got {group['ns_coefficients']!r}"))
        if not isinstance(group["ns_steps"], int) or not 0 <= group["ns_steps"] < 100:
            raise OperationError(self._message(f"ns_steps is an integer in [0, 100), got {group['ns_steps']!r}"))
        for p in group["params"]:
            if p.ndim != 2:
                raise ShapeError(self._message(f"needs matrices, got a parameter of shape {p.shape}"))
            if p.dtype.kind == "c":
                raise DTypeError(self._message(f"needs real parameters, got {p.dtype}"))

    def _names(self, group: dict[str, Any]) -> tuple[str, ...]:
        return ("momentum_buffer",)
