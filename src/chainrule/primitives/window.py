"""Pooling: the maximum or the sum of an image in windows that slide over its last axes.

`window_max` differentiates through `window_argmax`, which finds the tap that won, and the pair
`window_take` and `window_put`, which read and write at such taps and are each other's transpose,
as are `window_sum` and `window_spread`. Windows run over the last len(kernel) axes; padding is
given as pairs and adds nothing: positions outside the image are no part of a window.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..core.errors import DTypeError, ShapeError
from ..core.node import ShapeDtype
from ..core.primitive import Primitive
from ..core.tensor import Tensor
from .conv import output_size
from .families import linear
from .shape import broadcast_to

_F = np.dtype("float32")
Sizes = tuple[int, ...]
Pairs = tuple[tuple[int, int], ...]
Slices = tuple[slice, ...]

CHUNK_BYTES = 1 << 19
"""Images are taken in chunks of about this size, so that all taps find them in the cache."""


class Tap(NamedTuple):
    """One offset within the window: which windows have it inside the image, and where it lies there."""

    number: int
    windows: tuple[Any, ...]
    pixels: tuple[Any, ...]


def _taps(size: Sizes, out: Sizes, kernel: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes) -> Iterator[Tap]:
    for number, tap in enumerate(np.ndindex(*kernel)):
        windows: list[Any] = [...]
        pixels: list[Any] = [...]
        for n, count, k, s, (before, _), d in zip(size, out, tap, stride, padding, dilation, strict=True):
            offset = k * d - before
            first = max(0, -(offset // s))
            stop = min(count, (n - 1 - offset) // s + 1)
            if stop <= first:
                break
            windows.append(slice(first, stop))
            pixels.append(slice(first * s + offset, (stop - 1) * s + offset + 1, s))
        else:
            yield Tap(number, tuple(windows), tuple(pixels))


def _require(x: Any, kinds: str) -> None:
    if x.dtype.kind not in kinds:
        raise DTypeError(
            f"needs a {'real ' if kinds == 'f' else ''}floating tensor, got {x.dtype}; convert it with astype"
        )


def _check(x: Any, kernel: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes) -> Sizes:
    rank = len(kernel)
    if not len(stride) == len(padding) == len(dilation) == rank or x.ndim < rank:
        raise ShapeError(f"windows of {rank} axes need as many strides, paddings and dilations, and shape {x.shape}")
    if min(*kernel, *stride, *dilation) < 1:
        raise ShapeError(f"kernel {kernel}, stride {stride} and dilation {dilation} must be positive")
    size = x.shape[x.ndim - rank :]
    out = output_size(size, kernel, stride, padding, dilation)
    if min(out) < 1:
        raise ShapeError(
            f"a window of size {kernel} (dilation {dilation}) does not fit into the padded input of size "
            f"{tuple(n + a + b for n, (a, b) in zip(size, padding, strict=True))}: use a smaller window or more padding"
        )
    return (*x.shape[: x.ndim - rank], *out)


def _max_rule(x: Any, **windows: Any) -> ShapeDtype:
    _require(x, "f")
    return ShapeDtype(_check(x, **windows), x.dtype)


def _argmax_rule(x: Any, y: Any, **windows: Any) -> ShapeDtype:
    if y.shape != _max_rule(x, **windows).shape:
        raise ShapeError(f"maxima of shape {y.shape} for an input of shape {x.shape}")
    return ShapeDtype(y.shape, np.min_scalar_type(2 * math.prod(windows["kernel"])))


def _take_rule(x: Any, index: Any, **windows: Any) -> ShapeDtype:
    spec = _max_rule(x, **windows)
    if spec.shape != index.shape:
        raise ShapeError(f"an index of shape {index.shape} for windows of shape {spec.shape}")
    return spec


def _put_rule(g: Any, index: Any, size: Sizes, **windows: Any) -> ShapeDtype:
    _require(g, "f")
    spec = _spread_rule(g, size, **windows)
    if g.shape != index.shape:
        raise ShapeError(f"an index of shape {index.shape} for values of shape {g.shape}")
    return spec


def _sum_rule(x: Any, **windows: Any) -> ShapeDtype:
    _require(x, "fc")
    return ShapeDtype(_check(x, **windows), x.dtype)


def _spread_rule(g: Any, size: Sizes, **windows: Any) -> ShapeDtype:
    _require(g, "fc")
    image = ShapeDtype((*g.shape[: g.ndim - len(size)], *size), g.dtype)
    if _check(image, **windows) != g.shape:
        raise ShapeError(f"an image of size {size} has windows of another shape than {g.shape}")
    return image


class _Walk:
    """Images and windows side by side, in chunks, with all axes before the windows' own as one."""

    def __init__(self, image: Sizes, out: Sizes, itemsize: int, windows: dict[str, Any]) -> None:
        rank = len(windows["kernel"])
        self.front = math.prod(image[: len(image) - rank])
        self.size, self.out = image[len(image) - rank :], out[len(out) - rank :]
        self.taps = list(_taps(self.size, self.out, **windows))
        self.chunk = max(1, CHUNK_BYTES // max(1, math.prod(self.size) * itemsize))

    def images(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(self.front, *self.size)

    def windows(self, y: np.ndarray) -> np.ndarray:
        return y.reshape(self.front, *self.out)

    def __iter__(self) -> Iterator[slice]:
        return (slice(i, i + self.chunk) for i in range(0, self.front, self.chunk))


def _max_value(x: np.ndarray, **windows: Any) -> np.ndarray:
    y = np.full(_max_rule(x, **windows).shape, -np.inf, x.dtype)
    walk = _Walk(x.shape, y.shape, x.itemsize, windows)
    images, maxima = walk.images(x), walk.windows(y)
    for part in walk:
        image, largest = images[part], maxima[part]
        for tap in walk.taps:
            at = largest[tap.windows]
            np.maximum(at, image[tap.pixels], out=at)
    return y


def _argmax_value(x: np.ndarray, y: np.ndarray, **windows: Any) -> np.ndarray:
    spec = _argmax_rule(x, y, **windows)
    count = spec.dtype.type(math.prod(windows["kernel"]))
    index = np.full(spec.shape, count)
    walk = _Walk(x.shape, y.shape, x.itemsize, windows)
    images, maxima, indices = walk.images(x), walk.windows(y), walk.windows(index)
    for part in walk:
        image, largest, found = images[part], maxima[part], indices[part]
        for tap in walk.taps:
            # The smallest number among the taps that attain the maximum; `count` and more for the others.
            other = (image[tap.pixels] != largest[tap.windows]).view(np.uint8)
            at = found[tap.windows]
            np.minimum(at, other * count + index.dtype.type(tap.number), out=at)
        if (found >= count).any():
            # NaN equals nothing. Like PyTorch, take the last one.
            for tap in walk.taps:
                nan = np.isnan(image[tap.pixels]) & np.isnan(largest[tap.windows])
                np.copyto(found[tap.windows], tap.number, where=nan)
            np.minimum(found, count, out=found)
    return index


def _chosen(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The values where the mask is true, 0 elsewhere, as bits: quick, and exact for infinities, too."""
    return values.view(f"i{values.itemsize}") & -mask.view(np.int8)


def _take_value(x: np.ndarray, index: np.ndarray, **windows: Any) -> np.ndarray:
    y = np.zeros(_take_rule(x, index, **windows).shape, x.dtype)
    walk = _Walk(x.shape, y.shape, x.itemsize, windows)
    images, indices, taken = walk.images(x), walk.windows(index), walk.windows(y.view(f"i{x.itemsize}"))
    for part in walk:
        image, which, out = images[part], indices[part], taken[part]
        for tap in walk.taps:
            out[tap.windows] |= _chosen(image[tap.pixels], which[tap.windows] == tap.number)
    return y


def _put_value(g: np.ndarray, index: np.ndarray, size: Sizes, **windows: Any) -> np.ndarray:
    dx = np.zeros(_put_rule(g, index, size, **windows).shape, g.dtype)
    walk = _Walk(dx.shape, g.shape, g.itemsize, windows)
    images, values, indices = walk.images(dx), walk.windows(g), walk.windows(index)
    shared = _overlap(**windows)
    for part in walk:
        image, value, which = images[part], values[part], indices[part]
        bits = image.view(f"i{g.itemsize}")
        for tap in walk.taps:
            put = _chosen(value[tap.windows], which[tap.windows] == tap.number)
            if shared:
                image[tap.pixels] += put.view(g.dtype)
            else:
                bits[tap.pixels] = put
    return dx


def _overlap(kernel: Sizes, stride: Sizes, padding: Pairs, dilation: Sizes) -> bool:
    """Whether a pixel may lie in several windows."""
    return any(s < d * (k - 1) + 1 for k, s, d in zip(kernel, stride, dilation, strict=True))


def _sum_value(x: np.ndarray, **windows: Any) -> np.ndarray:
    y = np.zeros(_sum_rule(x, **windows).shape, x.dtype)
    walk = _Walk(x.shape, y.shape, x.itemsize, windows)
    images, sums = walk.images(x), walk.windows(y)
    for part in walk:
        image, total = images[part], sums[part]
        for tap in walk.taps:
            total[tap.windows] += image[tap.pixels]
    return y


def _spread_value(g: np.ndarray, size: Sizes, **windows: Any) -> np.ndarray:
    dx = np.zeros(_spread_rule(g, size, **windows).shape, g.dtype)
    walk = _Walk(dx.shape, g.shape, g.itemsize, windows)
    images, values = walk.images(dx), walk.windows(g)
    for part in walk:
        image, value = images[part], values[part]
        for tap in walk.taps:
            image[tap.pixels] += value[tap.windows]
    return dx


def _spread_over(size: int, batched: Sequence[bool], inputs: Sequence[Tensor]) -> list[Tensor]:
    """All operands with the batch axis in front."""
    return [t if b else broadcast_to(t, shape=(size, *t.shape)) for t, b in zip(inputs, batched, strict=True)]


def _in_front(primitive: Callable[[], Primitive]) -> Any:
    # Windows run over the last axes: a batch axis in front is one more that they do not touch.
    return lambda size, batched, inputs, params: primitive()(*_spread_over(size, batched, inputs), **params)


def _space(x: Any, kernel: Sizes) -> Sizes:
    return x.shape[x.ndim - len(kernel) :]


_PARAMS: dict[str, Any] = {"kernel": (2, 2), "stride": (2, 1), "padding": ((0, 0), (1, 0)), "dilation": (1, 1)}
_IMAGE, _OUT, _INDEX = ((2, 4, 3), _F), ((2, 2, 3), _F), ((2, 2, 3), np.dtype("uint8"))

window_argmax = Primitive(
    "window_argmax", _argmax_value, abstract=_argmax_rule, batch=_in_front(lambda: window_argmax),
    latex=r"\mathrm{{argmax}}_{{\mathrm{{window}}}} \, {a}", text="argmax_window({a:0})",
    example=([_IMAGE, _OUT], _PARAMS),
    doc="Per window the number of the first tap at which x equals y; the number of taps where there is none.",
)  # fmt: skip

window_take = Primitive(
    "window_take", _take_value, abstract=_take_rule,
    vjps=(lambda g, _y, _x, index, **p: window_put(g, index, size=_space(_x, p["kernel"]), **p), None),
    jvp=lambda tangents, _y, _x, index, **p: None if tangents[0] is None else window_take(tangents[0], index, **p),
    batch=_in_front(lambda: window_take), latex=r"\mathrm{{take}}({a:0}, {b:0})",
    example=([_IMAGE, _INDEX], _PARAMS), doc="Per window the pixel at the tap of that number, 0 for no tap.",
)  # fmt: skip

window_put = Primitive(
    "window_put", _put_value, abstract=_put_rule,
    vjps=(lambda h, _y, _g, index, size, **p: window_take(h, index, **p), None),
    jvp=lambda tangents, _y, _g, index, **p: None if tangents[0] is None else window_put(tangents[0], index, **p),
    batch=_in_front(lambda: window_put), latex=r"\mathrm{{put}}({a:0}, {b:0})",
    example=([_OUT, _INDEX], {"size": (4, 3), **_PARAMS}),
    doc="An image of zeros to which every window adds its value at the tap of that number.",
)  # fmt: skip

window_max = Primitive(
    "window_max", _max_value, abstract=_max_rule,
    vjps=(lambda g, y, x, **p: window_put(g, window_argmax(x, y, **p), size=_space(x, p["kernel"]), **p),),
    jvp=lambda tangents, y, x, **p: window_take(tangents[0], window_argmax(x, y, **p), **p),
    batch=_in_front(lambda: window_max), latex=r"\max_{{\mathrm{{window}}}} {x}", text="max_window({x:0})",
    example=([_IMAGE], _PARAMS),
    doc="The largest pixel of each window. Among equal ones the first has the derivative, as in PyTorch.",
)  # fmt: skip

window_sum = linear(
    "window_sum", _sum_value, abstract=_sum_rule,
    transpose=lambda g, _x, **p: window_spread(g, size=_space(_x, p["kernel"]), **p),
    batch=_in_front(lambda: window_sum), latex=r"\sum_{{\mathrm{{window}}}} {x}", text="sum_window({x:0})",
    example=([_IMAGE], _PARAMS), doc="The sum of the pixels of each window.",
)  # fmt: skip

window_spread = linear(
    "window_spread", _spread_value, abstract=_spread_rule,
    transpose=lambda h, _g, size, **p: window_sum(h, **p),
    batch=_in_front(lambda: window_spread), latex=r"\mathrm{{spread}}({x:0})",
    example=([_OUT], {"size": (4, 3), **_PARAMS}),
    doc="An image to whose pixels every window adds its value: the transpose of `window_sum`.",
)  # fmt: skip
