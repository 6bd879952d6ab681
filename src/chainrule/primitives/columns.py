"""How the three convolutions are computed in NumPy: a matrix of shifted images and one product per block.

Row (c, k) of the matrix of columns holds the image channel c shifted by tap k. Then conv is
w · columns, conv_weight is g · columnsᵀ, and conv_transpose adds the rows of wᵀ · g back into the
image, each at its shift. Samples are taken a block at a time, so that the matrix stays in the
cache instead of being k times as large as the whole batch.

With unit strides a row is kept as wide as the padded image: shifting is then an offset in memory
and copying a row one long run. The few columns that wrap around a line belong to no position; they
are cut off from results and are zero in cotangents.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import as_strided

Sizes = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]

BLOCK_BYTES = 1 << 21
"""Size aimed at for a block of columns. Measured flat between 1 and 4 MB and slower beyond on one core; of these
the larger has fewer products, at each of which BLAS waits for its threads."""


class Block(NamedTuple):
    """Some samples, and some of the positions along the first spatial axis."""

    samples: slice
    rows: slice
    columns: np.ndarray  # (C, kernel…, samples, grid…): to read or to fill


class Columns:
    """The geometry of the columns of an image batch, and their memory, shared by all blocks."""

    def __init__(
        self,
        shape: Sizes,
        dtype: np.dtype,
        kernel: Sizes,
        out: Sizes,
        stride: Sizes,
        padding: Pairs,
        dilation: Sizes,
    ) -> None:
        self.count, self.channels, *size = shape
        self.kernel, self.out, self.stride = kernel, out, stride
        flat = all(s == 1 for s in stride)
        self.padded = tuple(n + before + after for n, (before, after) in zip(size, padding, strict=True))
        if flat:
            # The zeros before a line also serve as the zeros after the line before it.
            shared = (n + max(pair) for n, pair in zip(size[1:], padding[1:], strict=True))
            self.padded = (self.padded[0], *map(max, shared, out[1:]))
        self.inner = tuple(slice(max(b, 0), n + b + min(a, 0)) for n, (b, a) in zip(size, padding, strict=True))
        self.kept = tuple(slice(max(-b, 0), n + min(a, 0)) for n, (b, a) in zip(size, padding, strict=True))
        self.grid = (out[0], *self.padded[1:]) if flat else out
        self.valid: tuple[Any, ...] = (..., *(slice(0, n) for n in out[1:]))
        # Steps in memory between lines, within one channel of one padded sample.
        steps = [math.prod(self.padded[axis + 1 :]) for axis in range(len(size))]
        self.tap_steps = [step * d for step, d in zip(steps, dilation, strict=True)]
        self.grid_steps = [step * s for step, s in zip(steps, stride, strict=True)]
        # Wide rows run over the end of their channel: the place of the last position at the last tap.
        last = sum(t * (k - 1) for t, k in zip(self.tap_steps, kernel, strict=True))
        last += sum(t * (n - 1) for t, n in zip(self.grid_steps, self.grid, strict=True))
        self.length = max(math.prod(self.padded), last + 1)
        per_row = max(1, self.channels * math.prod(kernel) * math.prod(self.grid[1:]) * dtype.itemsize)
        self.block = min(max(1, BLOCK_BYTES // (per_row * out[0])), max(1, self.count))
        self.rows = out[0] if self.block > 1 else min(out[0], max(1, BLOCK_BYTES // per_row))
        self.image = np.zeros((self.block, self.channels, self.length), dtype)
        self.memory = np.empty(
            self.channels * math.prod(kernel) * self.block * self.rows * math.prod(self.grid[1:]), dtype
        )

    def sample_blocks(self) -> Iterator[slice]:
        """The batch, a block of samples at a time."""
        for start in range(0, self.count, self.block):
            yield slice(start, min(start + self.block, self.count))

    def row_blocks(self) -> Iterator[slice]:
        """The positions along the first spatial axis: one block unless a single image is large."""
        for start in range(0, self.out[0], self.rows):
            yield slice(start, min(start + self.rows, self.out[0]))

    def interior(self, count: int) -> np.ndarray:
        """The part of the padded images that is image."""
        item = self.image.itemsize
        steps = [math.prod(self.padded[axis + 1 :]) * item for axis in range(len(self.padded))]
        images = as_strided(self.image, (count, self.channels, *self.padded), (*self.image.strides[:2], *steps))
        return images[(slice(None), slice(None), *self.inner)]

    def windows(self, count: int, rows: slice) -> np.ndarray:
        """The padded images as columns, without a copy: (C, kernel…, samples, grid…)."""
        item = self.image.itemsize
        sample, channel, _ = self.image.strides
        start = self.image.reshape(-1)[rows.start * self.grid_steps[0] :]
        shape = (self.channels, *self.kernel, count, rows.stop - rows.start, *self.grid[1:])
        taps, grid = ([step * item for step in steps] for steps in (self.tap_steps, self.grid_steps))
        return as_strided(start, shape, (channel, *taps, sample, *grid))

    def empty(self, count: int, rows: slice) -> np.ndarray:
        """Memory for the columns of a block."""
        shape = (self.channels, *self.kernel, count, rows.stop - rows.start, *self.grid[1:])
        return self.memory[: math.prod(shape)].reshape(shape)

    def blocks(self, x: np.ndarray) -> Iterator[Block]:
        """The columns of x, block by block."""
        for samples in self.sample_blocks():
            part = x[(samples, slice(None), *self.kept)]
            self.interior(len(part))[...] = part
            for rows in self.row_blocks():
                columns = self.empty(len(part), rows)
                np.copyto(columns, self.windows(len(part), rows))
                yield Block(samples, rows, columns)

    def matrix(self, columns: np.ndarray, groups: int) -> np.ndarray:
        """Columns as one matrix per group: (groups, rows, positions)."""
        rows = self.channels // groups * math.prod(self.kernel)
        return columns.reshape(groups, rows, math.prod(columns.shape[1 + len(self.kernel) :]))

    def results(self, flat: np.ndarray, count: int, rows: slice) -> np.ndarray:
        """(channels, positions) as (samples, channels, out…), without the wrapped columns."""
        shaped = flat.reshape(-1, count, rows.stop - rows.start, *self.grid[1:])
        return shaped[self.valid].swapaxes(0, 1)

    def cotangents(self, g: np.ndarray, samples: slice, rows: slice, groups: int) -> np.ndarray:
        """A block of g as (groups, channels, positions), zero in the wrapped columns."""
        part = g[samples, :, rows].swapaxes(0, 1)
        spread = np.zeros((*part.shape[:3], *self.grid[1:]), g.dtype)
        spread[self.valid] = part
        return spread.reshape(groups, part.shape[0] // groups, math.prod(spread.shape[1:]))


def _is_pointwise(kernel: Sizes, stride: Sizes, padding: Pairs) -> bool:
    """Whether the kernel has one tap and every pixel is a position: no columns are needed."""
    return math.prod(kernel) == 1 and all(s == 1 for s in stride) and all(p == (0, 0) for p in padding)


def conv(
    x: np.ndarray, w: np.ndarray, shape: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int
) -> np.ndarray:
    """y of `shape` (N, O, out…)."""
    kernel, outputs = w.shape[2:], w.shape[0] // groups
    weights = w.reshape(groups, outputs, math.prod(w.shape[1:]))
    if _is_pointwise(kernel, stride, padding):
        count, channels, *size = x.shape
        pixels = np.ascontiguousarray(x).reshape(count, groups, channels // groups, math.prod(size))
        return np.matmul(weights, pixels).reshape(shape)
    y = np.empty(shape, x.dtype)
    layout = Columns(x.shape, x.dtype, kernel, shape[2:], stride, padding, dilation)
    for samples, rows, columns in layout.blocks(x):
        product = np.matmul(weights, layout.matrix(columns, groups))
        y[samples, :, rows] = layout.results(product, samples.stop - samples.start, rows)
    return y


def conv_weight(
    x: np.ndarray,
    g: np.ndarray,
    shape: Sizes,
    kernel: Sizes,
    stride: Sizes,
    padding: Pairs,
    dilation: Sizes,
    groups: int,
) -> np.ndarray:
    """The cotangent of w, of `shape` (O, C / groups, kernel…)."""
    total = np.zeros((groups, shape[0] // groups, math.prod(shape[1:])), x.dtype)
    layout = Columns(x.shape, x.dtype, kernel, g.shape[2:], stride, padding, dilation)
    for samples, rows, columns in layout.blocks(x):
        matrix = layout.matrix(columns, groups)
        total += np.matmul(layout.cotangents(g, samples, rows, groups), matrix.swapaxes(1, 2))
    return total.reshape(shape)


def conv_transpose(
    g: np.ndarray, w: np.ndarray, shape: Sizes, size: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int
) -> np.ndarray:
    """The cotangent of x, of `shape` (N, C, size…)."""
    kernel = w.shape[2:]
    by_group = w.reshape(groups, w.shape[0] // groups, *w.shape[1:])
    if _is_pointwise(kernel, stride, padding):
        count, channels, *_ = g.shape
        # A cotangent that was broadcast has strides of 0, with which BLAS cannot work.
        flat = np.ascontiguousarray(g).reshape(count, groups, channels // groups, math.prod(size))
        return np.matmul(by_group.reshape(*by_group.shape[:3]).swapaxes(1, 2), flat).reshape(shape)
    if all(s == 1 for s in stride) and w.shape[0] < 4 * shape[1]:
        # A convolution with the flipped kernel: copying the columns of g is cheaper than adding up
        # those of x, unless they are many times as many.
        axes = tuple(range(3, by_group.ndim))
        flipped = np.ascontiguousarray(np.flip(by_group.swapaxes(1, 2), axes))
        around = tuple(
            (d * (k - 1) - before, d * (k - 1) - after)
            for k, d, (before, after) in zip(kernel, dilation, padding, strict=True)
        )
        flipped = flipped.reshape(shape[1], w.shape[0] // groups, *kernel)
        return conv(g, flipped, shape, stride, around, dilation, groups)
    return _add_columns(g, by_group, shape, stride, padding, dilation, groups)


def _add_columns(
    g: np.ndarray, w: np.ndarray, shape: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes, groups: int
) -> np.ndarray:
    kernel = w.shape[3:]
    dx = np.zeros(shape, g.dtype)
    layout = Columns(shape, g.dtype, kernel, g.shape[2:], stride, padding, dilation)
    weights = w.reshape(groups, w.shape[1], math.prod(w.shape[2:])).swapaxes(1, 2)
    for samples in layout.sample_blocks():
        count = samples.stop - samples.start
        layout.image[...] = 0
        for rows in layout.row_blocks():
            columns = layout.empty(count, rows)
            np.matmul(weights, layout.cotangents(g, samples, rows, groups), out=layout.matrix(columns, groups))
            windows = layout.windows(count, rows)
            for tap in np.ndindex(*kernel):
                windows[(slice(None), *tap)] += columns[(slice(None), *tap)]
        dx[(samples, slice(None), *layout.kept)] = layout.interior(count)
    return dx
