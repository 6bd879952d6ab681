"""How Winograd's convolution is cut up, and where it pays."""

from __future__ import annotations

from .conv import Convolution
from .conv_plans import SPLIT_FLOPS, is_flat, lines_of
from .conv_weights import WeightGradient
from .image import Pair
from .ir import F32, Type, type_of
from .target import Target
from .tile import Shape, choose
from .winograd_tiles import Tiles, columns, pitch_of, rows_at_once
from .winograd_transforms import OUT, POINTS

_TRANSFORMS = 50  # cycles for a channel of a vector's tiles
_WEIGHT = 12  # cycles for the weights of a channel and an output channel
_ENOUGH = 128  # tiles
_WEIGHTS = 20  # vectors of tiles that are twenty times the work of transforming the weights


def _held(channels: int, type: Type, target: Target) -> int:
    """Transformed tiles of so many channels that half of the second-level cache holds."""
    return max(target.l2 // 2 // (POINTS * channels * type.nbytes), 1)


def grid(conv: Convolution) -> list[int] | None:
    """The weights' distances of a 3×3 kernel that moves pixel by pixel, row by row; None for any other."""
    if len(conv.parts) != 1 or conv.step != (1, 1) or conv.parts[0].apart != (1, 1):
        return None
    low = corner(conv)
    found = {(t.position[0] - low[0], t.position[1] - low[1]): t.weight for t in conv.parts[0].taps}
    places = [(i, j) for i in range(3) for j in range(3)]
    return [found[p] for p in places] if sorted(found) == places else None


def corner(conv: Convolution) -> tuple[int, int]:
    """Where the first output's first tap is in the source."""
    positions = [t.position for t in conv.parts[0].taps]
    return min(y for y, _ in positions), min(x for _, x in positions)


class WinogradPlan:
    """How Winograd's form of a convolution is cut up: what `emit_winograd` writes out.

    Attributes:
        shape: of a tile of the products: output channels by tiles of the image.
        tiles: of the images. height: rows of tiles of an image.
        together: images of a unit. bands: into which an image's rows of tiles are cut, of `band_rows` each.
        blocks, last_rows: tiles of the output channels, and the channels of the last.
        widths: how many vectors a panel of tiles may have.
        pitch: from row to row of an output channel's pixels. is_flat: whether all of them are one row to the stores.
        at_once: blocks whose products are computed before they are transformed.
        parts: into how many the work may be cut.
        scratch, single, units: as in `ConvolutionPlan`.
    """

    def __init__(self, conv: Convolution, target: Target, threads: int) -> None:
        self.conv, self.target = conv, target
        self.type: Type = type_of(conv.product.dtype)
        self.single = conv.flops < SPLIT_FLOPS
        size, lanes = self.type.nbytes, target.lanes(self.type)
        self.out = conv.parts[0].size
        self.height, self.across = -(-self.out[0] // OUT), -(-self.out[1] // OUT)
        self.together, self.band_rows = self._cut(1 if self.single else threads)
        self.bands = -(-self.height // self.band_rows)
        self.image_blocks = conv.images // self.together
        self.units = self.image_blocks * self.bands
        self.columns = self.together * self.band_rows * self.across
        last = self.together * (self.height - (self.bands - 1) * self.band_rows) * self.across
        self.shape: Shape = choose([conv.outputs], self.columns, self.type, target)
        self.blocks = -(-conv.outputs // self.shape.rows)
        self.last_rows = conv.outputs - (self.blocks - 1) * self.shape.rows
        pitch = pitch_of(self.columns, lanes)
        self.widths = self._widths(-(-self.columns // lanes)) | self._widths(-(-last // lanes))
        image, _, channel, row, _ = conv.source.strides
        self.tiles = Tiles(
            self.type, lanes, conv.size, (image, channel, row), self.together, corner(conv),
            self.across, pitch, conv.channels * pitch + lanes,
        )  # fmt: skip
        block = POINTS * self.shape.rows * pitch * size
        self.at_once = max(1, min(self.blocks, target.l2 // 4 // block))
        self.product_point = self.at_once * self.shape.rows * pitch + lanes
        self.weight_point = self.blocks * conv.channels * self.shape.rows + 3 * lanes
        self.pitch = self.out[1] if self.across <= lanes or self.out[1] % OUT == 0 else OUT * self.across
        self.is_flat = self.pitch == self.out[1] and is_flat(conv)
        self.packed_bytes = lines_of((conv.channels * 9 * self.shape.rows + 3 * lanes) * size)
        # Every part of the work transforms the weights, which should not take more than a twentieth of it.
        tiles = conv.images * self.height * self.across
        most = min(self.units, 4 * threads, tiles // (_WEIGHTS * lanes))
        self.parts = max(most - most % threads, threads)  # as many for each thread
        self.weight_bytes = lines_of(POINTS * self.weight_point * size)
        self.tile_bytes = lines_of(self.tiles.nbytes)
        self.product_bytes = lines_of(POINTS * self.product_point * size)
        self.zero_bytes = lines_of((conv.size[1] + lanes) * size)
        # Last rows that do not exist, and what is beyond the last column, may be written, too.
        at_once = rows_at_once(self.across, lanes)
        rows = OUT * at_once * -(-self.band_rows // at_once)
        self.pixel_bytes = lines_of((rows * self.pitch + OUT * lanes) * size)
        images = self.tile_bytes + self.product_bytes + self.pixel_bytes
        self.scratch = self.weight_bytes + self.packed_bytes + self.zero_bytes + images

    def _widths(self, vectors: int) -> set[int]:
        """How many vectors of so many a panel may have."""
        full, rest = divmod(vectors, self.shape.vectors)
        return {width for width, times in ((self.shape.vectors, full), (rest, rest)) if times}

    def _cut(self, threads: int) -> tuple[int, int]:
        """Images of a unit and rows of tiles of a band: what fits into half of the second-level cache, fills whole
        vectors and leaves enough for the threads."""
        conv, lanes = self.conv, self.target.lanes(self.type)
        most = max(_held(conv.channels, self.type, self.target), lanes)
        options = [(1, rows) for rows in range(1, self.height)]
        options += [(n, self.height) for n in range(1, conv.images + 1) if conv.images % n == 0]
        best: tuple[float, tuple[int, int]] | None = None
        for together, rows in options:
            tiles = together * rows * self.across
            units = conv.images // together * -(-self.height // rows)
            if best is not None and (tiles > min(most, 256) or units < 4 * threads):
                continue
            bands = -(-self.height // rows)
            full = bands - 1
            last = self.height - full * rows
            vectors = full * -(-tiles // lanes) + -(-together * last * self.across // lanes)
            waste = vectors * lanes / (together * self.height * self.across)
            # Weights are read once for each unit, from beyond the first-level cache.
            key = waste * (1 + lanes / tiles / 2)
            if best is None or key < best[0]:
                best = key, (together, rows)
        assert best is not None
        return best[1]


def suits_winograd(conv: Convolution, target: Target, threads: int) -> bool:
    """Whether Winograd's form of a convolution is possible and takes less time."""
    if type_of(conv.product.dtype) is not F32 or conv.groups != 1 or conv.source.strides[4] != 1 or not conv.images:
        return False
    if grid(conv) is None:
        return False
    # Every thread transforms the weights.
    threads = 1 if conv.flops < SPLIT_FLOPS else threads
    size = conv.parts[0].size
    tiles = conv.images * -(-size[0] // OUT) * -(-size[1] // OUT)
    weights = _WEIGHT * threads * target.lanes(F32) / tiles
    return _gain(conv.channels, conv.outputs, size, target, weights) > 1


def suits_winograd_weights(conv: WeightGradient, target: Target) -> bool:
    """Whether Winograd's form of the gradient of the weights is possible and takes less time."""
    if type_of(conv.product.dtype) is not F32 or conv.groups != 1 or conv.step != (1, 1):
        return False
    y, x = conv.taps[0]
    if conv.taps != tuple((y + i, x + j) for i in range(3) for j in range(3)):
        return False
    if conv.x.strides[4] != 1 or conv.g.strides[4] != 1:
        return False
    return _gain(conv.channels, conv.outputs, conv.out, target) > 1


def _gain(channels: int, outputs: int, size: Pair, target: Target, weights: float = 0.0) -> float:
    """How many times faster than tap by tap.

    For as many tiles of the images as a vector has lanes, at two operations a cycle: the products, no more than
    `_TRANSFORMS` cycles for each channel, and `weights` for each pair of channels.
    """
    lanes = target.lanes(F32)
    across = -(-size[1] // OUT)
    filled = across * rows_at_once(across, lanes) / (len(columns(across, lanes)) * lanes)
    used = size[0] * size[1] / (OUT * OUT * -(-size[0] // OUT) * across)
    cycles = (POINTS / 2 + weights) * channels * outputs + _TRANSFORMS * (channels + outputs) / filled
    return OUT * OUT * 9 * channels * outputs / 2 * used / cycles


class WinogradWeightsPlan:
    """How Winograd's form of the gradient of the weights is cut up: what `emit_winograd_weights` writes out.

    Attributes:
        shape: of a tile of the products: channels by output channels.
        blocks, last_rows: tiles of the channels, and the channels of the last.
        panels, last_vectors: tiles of the output channels, and the vectors of the last. wide: lanes of all of them.
        tiles, height, across, together, bands, band_rows, units: as in a `WinogradPlan`.
        count: tiles of the images in a unit.
        turned: numbers in a unit's turned cotangents of one image.
        scratch, single: as in `ConvolutionPlan`.
    """

    def __init__(self, conv: WeightGradient, target: Target, threads: int) -> None:
        self.conv, self.target = conv, target
        self.type: Type = type_of(conv.product.dtype)
        self.single = conv.flops < SPLIT_FLOPS
        size, lanes = self.type.nbytes, target.lanes(self.type)
        self.height, self.across = -(-conv.out[0] // OUT), -(-conv.out[1] // OUT)
        self.shape = choose([conv.channels], conv.outputs, self.type, target)
        self.blocks = -(-conv.channels // self.shape.rows)
        self.last_rows = conv.channels - (self.blocks - 1) * self.shape.rows
        self.panels = -(-conv.outputs // self.shape.columns)
        self.wide = self.panels * self.shape.columns
        self.last_vectors = -(-(conv.outputs - (self.panels - 1) * self.shape.columns) // lanes)
        self.together, self.band_rows = self._cut()
        self.bands = -(-self.height // self.band_rows)
        self.units = conv.images // self.together * self.bands
        self.count = self.together * self.band_rows * self.across
        pitch = pitch_of(self.count, lanes)
        image, _, channel, row, _ = conv.x.strides
        self.tiles = Tiles(
            self.type, lanes, conv.size, (image, channel, row), self.together, min(conv.taps), self.across, pitch,
            conv.channels * pitch + lanes,
        )  # fmt: skip
        self.turned = OUT * OUT * self.band_rows * self.across * self.wide
        self.cotangent_point = self.count * self.wide + lanes
        self.sum_point = self.blocks * self.panels * self.shape.rows * self.shape.columns + lanes
        self.tile_bytes = lines_of(self.tiles.nbytes)
        self.cotangent_bytes = lines_of(POINTS * self.cotangent_point * size)
        self.sum_bytes = lines_of(POINTS * self.sum_point * size)
        self.turned_bytes = lines_of((self.turned + lanes) * size)
        self.zero_bytes = lines_of((conv.size[1] + lanes) * size)
        self.scratch = self.tile_bytes + self.cotangent_bytes + self.sum_bytes + self.turned_bytes + self.zero_bytes

    def _cut(self) -> tuple[int, int]:
        """Images of a unit and rows of tiles of a band: as many as half of the second-level cache holds, but so many
        that adding to the sums takes little beside the products."""
        conv = self.conv
        most = max(_held(conv.channels + self.wide, self.type, self.target), _ENOUGH)
        image = self.height * self.across
        if image > most:
            bands = -(-self.height // max(most // self.across, 1))
            return 1, -(-self.height // bands)
        return max(n for n in range(1, conv.images + 1) if conv.images % n == 0 and n * image <= most), self.height
