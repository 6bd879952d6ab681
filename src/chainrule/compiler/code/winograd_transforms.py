"""The transforms of Winograd's convolution F(2×2, 3×3), on vectors of tiles.

Two outputs of three taps take four multiplications instead of six, and 2×2 outputs of 3×3 taps sixteen instead of
36: y = Aᵀ[(G w Gᵀ) ⊙ (Bᵀ x B)]A for a tile x of 4×4 pixels, whose first is two pixels from the next tile's
(Winograd 1980; Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", 2016). The gradient of the weights
is the transpose in w: Gᵀ[(A g Aᵀ) ⊙ (Bᵀ x B)]G. Each function here is one of these matrices, applied along one axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .ir import Value

POINTS = 16  # products for a tile: 4 × 4
OUT = 2  # outputs of a tile along an axis
IN = 4  # pixels of a tile along an axis

Vectors = list[Value]


def pixels(x: Sequence[Value]) -> Vectors:
    """Bᵀ, of four pixels."""
    return [x[0] - x[2], x[1] + x[2], x[2] - x[1], x[1] - x[3]]


def weights(w: Sequence[Value]) -> Vectors:
    """G, of three weights."""
    outer = (w[0] + w[2]) * 0.5
    middle = w[1] * 0.5
    return [w[0], outer + middle, outer - middle, w[2]]


def outputs(m: Sequence[Value]) -> Vectors:
    """Aᵀ, of four sums of products: two outputs."""
    return [m[0] + m[1] + m[2], m[1] - m[2] - m[3]]


def cotangents(g: Sequence[Value]) -> Vectors:
    """A, of two outputs' cotangents; but for the last sign, which `taps` has."""
    return [g[0], g[0] + g[1], g[0] - g[1], g[1]]


def taps(m: Sequence[Value]) -> Vectors:
    """Gᵀ, of four sums of products of what `cotangents` gave: three taps."""
    outer = (m[1] + m[2]) * 0.5
    return [m[0] + outer, (m[1] - m[2]) * 0.5, outer - m[3]]


def both_axes(f: Callable[[Sequence[Value]], Vectors], x: Sequence[Sequence[Value]]) -> list[Vectors]:
    """Along columns, then along rows; `x` is a list of rows."""
    across = [f(row) for row in x]
    down = [f([row[j] for row in across]) for j in range(len(across[0]))]
    return [[column[i] for column in down] for i in range(len(down[0]))]
