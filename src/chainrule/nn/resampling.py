"""Layers that change the size of an image: interpolation, pixel shuffle, borders."""

from __future__ import annotations

from typing import Any, ClassVar

from ..core.tensor import Tensor
from . import functional as F
from .functional.spatial import sizes
from .module import Module


class Upsample(Module):
    """The image at another size; arguments as in `functional.interpolate`."""

    def __init__(
        self, size: Any = None, scale_factor: Any = None, mode: str = "nearest", align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:  # fmt: skip
        self.size, self.mode, self.align_corners = size, mode, align_corners
        if isinstance(scale_factor, tuple | list):
            self.scale_factor: Any = tuple(float(f) for f in scale_factor)
        else:
            self.scale_factor = float(scale_factor) if scale_factor else None
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.interpolate(
            input, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        )

    def extra_repr(self) -> str:
        size = f"size={self.size}" if self.scale_factor is None else f"scale_factor={self.scale_factor}"
        return f"{size}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """`Upsample` by the nearest pixel."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, mode="nearest")


class UpsamplingBilinear2d(Upsample):
    """Bilinear `Upsample` with aligned corners."""

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, mode="bilinear", align_corners=True)


class PixelShuffle(Module):
    """Channels become pixels: (…, C r², H, W) to (…, C, H r, W r)."""

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = upscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """Pixels become channels: (…, C, H r, W r) to (…, C r², H, W)."""

    def __init__(self, downscale_factor: int) -> None:
        self.downscale_factor = downscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class _Pad(Module):
    rank: ClassVar[int]
    mode: ClassVar[str]
    value: float | None = None

    def __init__(self, padding: Any) -> None:
        self.padding = sizes(padding, 2 * self.rank, type(self).__name__, "padding", least=-(2**31))

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return str(self.padding)


class _ConstantPad(_Pad):
    mode = "constant"

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPad):
    """A border of one value around the last axis; padding (before, after) or one number for both."""

    rank = 1


class ConstantPad2d(_ConstantPad):
    """A border of one value around the last two axes; padding (left, right, top, bottom) or one number."""

    rank = 2


class ConstantPad3d(_ConstantPad):
    """A border of one value around the last three axes; six widths, the last axis first, or one number."""

    rank = 3


class ZeroPad1d(_Pad):
    """Zeros around the last axis."""

    rank, mode = 1, "constant"


class ZeroPad2d(_Pad):
    """Zeros around the last two axes; padding (left, right, top, bottom) or one number."""

    rank, mode = 2, "constant"


class ZeroPad3d(_Pad):
    """Zeros around the last three axes."""

    rank, mode = 3, "constant"


class ReflectionPad1d(_Pad):
    """The image mirrored at its ends, without repeating the edge."""

    rank, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """The image mirrored at its edges, without repeating them; padding (left, right, top, bottom) or one number."""

    rank, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """The volume mirrored at its faces, without repeating them."""

    rank, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """The ends repeated."""

    rank, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """The edges repeated; padding (left, right, top, bottom) or one number."""

    rank, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """The faces repeated."""

    rank, mode = 3, "replicate"


class CircularPad1d(_Pad):
    """Each end continued from the other."""

    rank, mode = 1, "circular"


class CircularPad2d(_Pad):
    """Each edge continued from the opposite one; padding (left, right, top, bottom) or one number."""

    rank, mode = 2, "circular"


class CircularPad3d(_Pad):
    """Each face continued from the opposite one."""

    rank, mode = 3, "circular"
