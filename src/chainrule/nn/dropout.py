"""Dropout as layers: active in training, the identity in evaluation."""

from __future__ import annotations

from ..core.errors import OperationError, located
from ..core.tensor import Tensor
from . import functional as F
from .activation import Stateless


class _Dropout(Stateless):
    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        if not 0 <= p <= 1:
            raise OperationError(located(f"{type(self).__name__}: p is a probability in [0, 1], got {p}"))
        self.p = p


class Dropout(_Dropout):
    """Each element 0 with probability p, or else divided by 1 - p."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout(input, self.p, self.training)


class Dropout1d(_Dropout):
    """Dropout of whole channels, input (N, C, L) or (C, L)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout1d(input, self.p, self.training)


class Dropout2d(_Dropout):
    """Dropout of whole channels, input (N, C, H, W) or (C, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout2d(input, self.p, self.training)


class Dropout3d(_Dropout):
    """Dropout of whole channels, input (N, C, D, H, W) or (C, D, H, W)."""

    def forward(self, input: Tensor) -> Tensor:
        return F.dropout3d(input, self.p, self.training)


class AlphaDropout(_Dropout):
    """Dropout that keeps mean and variance of SELU networks."""

    def forward(self, input: Tensor) -> Tensor:
        return F.alpha_dropout(input, self.p, self.training)
