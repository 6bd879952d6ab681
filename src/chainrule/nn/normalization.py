"""Normalisation as layers. Formulas and sources stand at the functions in `nn.functional`."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..core.errors import ShapeError, located
from ..core.tensor import Tensor
from ..primitives.pointwise import astype
from . import functional as F
from . import init
from .module import Module, in_module
from .parameter import Buffer, Parameter, empty, parameter_dtype


def _set_affine(module: Any, shape: tuple[int, ...], kind: np.dtype, weight: bool, bias: bool) -> None:
    module.weight = empty(shape, kind) if weight else None
    module.bias = empty(shape, kind) if bias else None


def _reset_affine(module: Any) -> None:
    if module.weight is not None:
        init.ones_(module.weight)
    if getattr(module, "bias", None) is not None:
        init.zeros_(module.bias)


class LayerNorm(Module):
    """Standardise over the last axes of each sample, then scale and shift.

    Args:
        normalized_shape: the lengths of those axes, or one length.
        eps: added to the variance.
        elementwise_affine: whether there is a weight (ones) and, if `bias`, a bias (zeros).
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self, normalized_shape: Any, eps: float = 1e-5, elementwise_affine: bool = True, bias: bool = True,
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        self.normalized_shape = _shape(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        kind = parameter_dtype(device, dtype)
        _set_affine(self, self.normalized_shape, kind, elementwise_affine, elementwise_affine and bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        _reset_affine(self)

    def forward(self, input: Tensor) -> Tensor:
        try:
            return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)
        except ShapeError as error:
            raise in_module(self, error) from None

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class RMSNorm(Module):
    """Divide by the root mean square over the last axes of each sample, then scale.

    Args:
        normalized_shape: the lengths of those axes, or one length.
        eps: added to the mean square; the machine epsilon if None.
        elementwise_affine: whether there is a weight (ones).
    """

    weight: Parameter | None

    def __init__(
        self, normalized_shape: Any, eps: float | None = None, elementwise_affine: bool = True,
        device: Any = None, dtype: Any = None,
    ) -> None:  # fmt: skip
        self.normalized_shape = _shape(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self.weight = empty(self.normalized_shape, parameter_dtype(device, dtype)) if elementwise_affine else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1."""
        _reset_affine(self)

    def forward(self, input: Tensor) -> Tensor:
        try:
            return F.rms_norm(input, self.normalized_shape, self.weight, self.eps)
        except ShapeError as error:
            raise in_module(self, error) from None

    def extra_repr(self) -> str:
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


def _shape(normalized_shape: Any) -> tuple[int, ...]:
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)


class GroupNorm(Module):
    """Standardise each group of channels of each sample, then scale and shift each channel.

    Args:
        num_groups: number of groups, a divisor of num_channels.
        num_channels: length of axis 1.
        eps: added to the variance.
        affine: whether there is a weight (ones) and, if `bias`, a bias (zeros).
    """

    weight: Parameter | None
    bias: Parameter | None

    def __init__(
        self, num_groups: int, num_channels: int, eps: float = 1e-5, affine: bool = True,
        device: Any = None, dtype: Any = None, *, bias: bool = True,
    ) -> None:  # fmt: skip
        if num_groups < 1 or num_channels % num_groups:
            raise ShapeError(located(f"GroupNorm: {num_channels} channels do not divide into {num_groups} groups"))
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        _set_affine(self, (num_channels,), parameter_dtype(device, dtype), affine, affine and bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weight 1, bias 0."""
        _reset_affine(self)

    def forward(self, input: Tensor) -> Tensor:
        try:
            return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)
        except ShapeError as error:
            raise in_module(self, error) from None

    def extra_repr(self) -> str:
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}"


class _RunningNorm(Module):
    """What batch and instance norm share: channel-wise parameters and running statistics."""

    _ndims: tuple[int, ...] = ()
    weight: Parameter | None
    bias: Parameter | None
    running_mean: Buffer | None
    running_var: Buffer | None
    num_batches_tracked: Buffer | None

    def __init__(
        self, num_features: int, eps: float, momentum: float | None, affine: bool, track_running_stats: bool,
        device: Any, dtype: Any, bias: bool,
    ) -> None:  # fmt: skip
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        kind = parameter_dtype(device, dtype)
        _set_affine(self, (num_features,), kind, affine, affine and bias)
        tracks = track_running_stats
        self.register_buffer("running_mean", np.zeros(num_features, kind) if tracks else None)
        self.register_buffer("running_var", np.ones(num_features, kind) if tracks else None)
        self.register_buffer("num_batches_tracked", np.zeros((), np.int64) if tracks else None)
        self.reset_parameters()

    def reset_running_stats(self) -> None:
        """Running mean 0, variance 1, no batches seen."""
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            init.zeros_(self.running_mean)
            init.ones_(self.running_var)
            init.zeros_(self.num_batches_tracked)

    def reset_parameters(self) -> None:
        """Weight 1, bias 0, running statistics forgotten."""
        self.reset_running_stats()
        _reset_affine(self)

    def _check(self, input: Tensor) -> None:
        if input.ndim not in self._ndims:
            axes = " or ".join(map(str, self._ndims))
            raise in_module(self, ShapeError(located(f"expected an input with {axes} axes, got shape {input.shape}")))

    def extra_repr(self) -> str:
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"track_running_stats={self.track_running_stats}"
        )


class _BatchNorm(_RunningNorm):
    """Standardise each channel over the batch while training, by running statistics in evaluation.

    Args:
        num_features: number of channels (axis 1).
        eps: added to the variance.
        momentum: weight of a batch in the running statistics; None for their plain average.
        affine: whether there is a weight (ones) and, if `bias`, a bias (zeros).
        track_running_stats: keep running statistics; otherwise every batch uses its own.
    """

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float | None = 0.1, affine: bool = True,
        track_running_stats: bool = True, device: Any = None, dtype: Any = None, *, bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Tensor) -> Tensor:
        self._check(input)
        momentum: Any = 0.0 if self.momentum is None else self.momentum
        batches = self.num_batches_tracked
        if self.training and batches is not None:
            batches.assign(batches + 1)
            if self.momentum is None and self.running_mean is not None:
                momentum = 1.0 / astype(batches, dtype=self.running_mean.dtype)
        from_batch = self.training or self.running_mean is None
        # Where the batch counts in evaluation, there are no running statistics to move.
        try:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, from_batch, momentum, self.eps
            )
        except ShapeError as error:
            raise in_module(self, error) from None


class BatchNorm1d(_BatchNorm):
    __doc__ = f"{_BatchNorm.__doc__}\n    Input (N, C) or (N, C, L)."
    _ndims = (2, 3)


class BatchNorm2d(_BatchNorm):
    __doc__ = f"{_BatchNorm.__doc__}\n    Input (N, C, H, W)."
    _ndims = (4,)


class BatchNorm3d(_BatchNorm):
    __doc__ = f"{_BatchNorm.__doc__}\n    Input (N, C, D, H, W)."
    _ndims = (5,)


class _InstanceNorm(_RunningNorm):
    """Standardise each channel of each sample over its positions.

    Args:
        num_features: number of channels.
        eps: added to the variance.
        momentum: weight of a batch in the running statistics.
        affine: whether there is a weight (ones) and, if `bias`, a bias (zeros).
        track_running_stats: keep running statistics and use them in evaluation.
    """

    def __init__(
        self, num_features: int, eps: float = 1e-5, momentum: float = 0.1, affine: bool = False,
        track_running_stats: bool = False, device: Any = None, dtype: Any = None, *, bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device, dtype, bias)

    def forward(self, input: Tensor) -> Tensor:
        self._check(input)
        unbatched = input.ndim == min(self._ndims)
        x = input[None] if unbatched else input
        from_input = self.training or self.running_mean is None
        try:
            y = F.instance_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, from_input, self.momentum or 0.0,
                self.eps,
            )  # fmt: skip
        except ShapeError as error:
            raise in_module(self, error) from None
        return y[0] if unbatched else y


class InstanceNorm1d(_InstanceNorm):
    __doc__ = f"{_InstanceNorm.__doc__}\n    Input (N, C, L) or (C, L)."
    _ndims = (2, 3)


class InstanceNorm2d(_InstanceNorm):
    __doc__ = f"{_InstanceNorm.__doc__}\n    Input (N, C, H, W) or (C, H, W)."
    _ndims = (3, 4)


class InstanceNorm3d(_InstanceNorm):
    __doc__ = f"{_InstanceNorm.__doc__}\n    Input (N, C, D, H, W) or (C, D, H, W)."
    _ndims = (4, 5)
