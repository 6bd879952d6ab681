"""Pooling: kernels of the `window_*` primitives, plane by plane, vectors along a row of windows.

Where every window lies inside the image, pixels at every second column are read as whole vectors and sorted
into even and odd; elsewhere, and for other strides, they are gathered under a mask. In the other direction,
from windows to pixels, windows that do not overlap write each pixel once; others add to an image of zeros.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from .ir import I32, I64, PTR, Function, Module, Type, Value, vector
from .target import Target

Pair = tuple[int, int]


@dataclass(frozen=True)
class Tap:
    """One offset in the window: its number, and its place in the image as the first window sees it.

    `rows` and `columns` are the windows (first, one past the last) that have it inside the image.
    """

    number: int
    place: Pair
    rows: Pair
    columns: Pair


@dataclass(frozen=True)
class Windows:
    """Windows over the last two axes of `planes` images.

    Attributes:
        size, out: height and width of the image, and of the array of windows.
        taps: those that at least one window has inside the image.
        count: of all taps; `stride` of the windows.
    """

    planes: int
    size: Pair
    out: Pair
    taps: tuple[Tap, ...]
    count: int
    stride: Pair
    kernel: Pair

    @property
    def inside(self) -> bool:
        """Whether all windows have all taps."""
        whole = ((0, self.out[0]), (0, self.out[1]))
        return len(self.taps) == self.count and all((t.rows, t.columns) == whole for t in self.taps)

    @property
    def apart(self) -> bool:
        """Whether every pixel of the windows' rows lies in one window."""
        return (
            self.inside
            and self.kernel == self.stride
            and self.stride[1] <= 2
            and self.taps[-1].place
            == (
                self.kernel[0] - 1,
                self.kernel[1] - 1,
            )
        )


def windows(
    planes: int, size: Pair, out: Pair, *, kernel: Pair, stride: Pair, padding: tuple[Pair, Pair], dilation: Pair
) -> Windows:
    """The windows of a `window_*` primitive with two axes."""
    taps = []
    for number in range(math.prod(kernel)):
        places, ranges = [], []
        for d, k in enumerate(divmod(number, kernel[1])):
            place = k * dilation[d] - padding[d][0]
            first = max(0, -(place // stride[d]))
            places.append(place)
            ranges.append((first, min(out[d], (size[d] - 1 - place) // stride[d] + 1)))
        if all(first < stop for first, stop in ranges):
            taps.append(Tap(number, (places[0], places[1]), ranges[0], ranges[1]))
    return Windows(planes, size, out, tuple(taps), math.prod(kernel), stride, kernel)


def emit_windows(
    module: Module, name: str, kind: str, layout: Windows, type: Type, index: Type, target: Target
) -> Function:
    """The function `name(operands…, result, thread, threads)` of a primitive.

    Args:
        kind: the primitive's name without `window_`: max, argmax, take, sum; put, spread.
        type, index: of the pixels, and of the numbers of taps.
    """
    return _WindowCode(module, name, kind, layout, type, index, target.lanes(type)).f


class _WindowCode:
    def __init__(
        self, module: Module, name: str, kind: str, layout: Windows, type: Type, index: Type, lanes: int
    ) -> None:
        operands = {"max": 1, "sum": 1, "spread": 1, "argmax": 2, "take": 2, "put": 2}[kind]
        self.f = f = module.function(name, [PTR] * (operands + 1) + [I64, I64], internal=True)
        *self.operands, self.result, thread, threads = f.arguments
        self.kind, self.layout, self.type, self.index, self.lanes = kind, layout, type, index, lanes
        self.wide = vector(type, lanes)
        self.whole = vector(_integer(type), lanes)
        to_pixels = kind in ("put", "spread")
        with f.loop(thread * layout.planes // threads, (thread + 1) * layout.planes // threads) as loop:
            self.image = loop.index * math.prod(layout.size)
            self.window = loop.index * math.prod(layout.out)
            if to_pixels and not (layout.apart and self._covered()):
                self._clear()
            with f.loop(0, layout.out[0]) as row:
                self.row = row.index
                self._columns(self._spread if to_pixels else self._gather)
        f.ret()

    def _covered(self) -> bool:
        return all(n == o * s for n, o, s in zip(self.layout.size, self.layout.out, self.layout.stride, strict=True))

    def _clear(self) -> None:
        f, elements = self.f, math.prod(self.layout.size)
        with f.loop(0, elements, self.lanes) as loop:
            mask = f.mask(self.lanes, elements - loop.index) if elements % self.lanes else None
            f.store_masked(f.zero(self.wide), self.result, mask, self.image + loop.index)

    def _columns(self, body: Callable[[], None]) -> None:
        """The body for every vector of windows of a row."""
        f, count = self.f, self.layout.out[1]
        whole = count // self.lanes * self.lanes
        with f.loop(0, whole, self.lanes) as loop:
            self.column, self.mask = loop.index, None
            body()
        if count % self.lanes:
            self.column, self.mask = f.index(whole), f.mask(self.lanes, count - whole)
            body()

    def _keeps(self, tap: Tap) -> Value | None:
        """The lanes whose window has the tap inside the image; None for all."""
        f, layout = self.f, self.layout
        mask = self.mask
        if tap.columns != (0, layout.out[1]):
            column = f.binary("add", f.lanes(I64, range(self.lanes)), self.column)
            inside = f.compare("ge", column, tap.columns[0]) & f.compare("lt", column, tap.columns[1])
            mask = inside if mask is None else mask & inside
        if tap.rows != (0, layout.out[0]):
            here = (self.row >= tap.rows[0]) & (self.row < tap.rows[1])
            wide = f.broadcast(here, self.lanes)
            mask = wide if mask is None else mask & wide
        return mask

    def _place(self, tap: Tap) -> Value:
        """The address of the first lane's pixel."""
        (down, right), (y, x) = self.layout.stride, tap.place
        return self.image + (self.row * down + y) * self.layout.size[1] + self.column * right + x

    def _lanes(self, first: Value) -> Value:
        return self.f.binary("add", self.f.lanes(I64, [i * self.layout.stride[1] for i in range(self.lanes)]), first)

    def _pixels(self, tap: Tap, pointer: Value, mask: Value | None) -> Value:
        f, layout = self.f, self.layout
        step, x = layout.stride[1], tap.place[1]
        if step == 1:
            return f.load_masked(self.wide, pointer, mask, self._place(tap))
        if step != 2 or not layout.inside:
            return f.gather(self.wide, pointer, self._lanes(self._place(tap)), mask)
        # Even and odd columns of two whole vectors, of which those beyond the row are not read.
        start = self._place(tap) - x % 2
        left = layout.size[1] - (x - x % 2) - self.column * 2
        exact = layout.size[1] >= (layout.out[1] + -layout.out[1] % self.lanes) * 2 + x - x % 2
        halves = []
        for part in (0, 1):
            bound = None if exact else f.mask(self.lanes, left - part * self.lanes)
            key = (tap.place[0], x - x % 2, part, id(self.column))
            if key not in self.loaded:
                self.loaded[key] = f.load_masked(self.wide, pointer, bound, start + part * self.lanes)
            halves.append(self.loaded[key])
        return f.shuffle(halves[0], halves[1], range(x % 2, 2 * self.lanes, 2))

    def _gather(self) -> None:
        f, kind, layout = self.f, self.kind, self.layout
        self.loaded: dict[tuple[int, int, int, int], Value] = {}
        here = self.window + self.row * layout.out[1] + self.column
        second = None
        if kind == "argmax":
            second = f.load_masked(self.wide, self.operands[1], self.mask, here)
        elif kind == "take":
            second = self._numbers(here)
        start = f.constant(self.wide, float("-inf")) if kind == "max" else f.zero(self.wide)
        value = f.constant(self.whole, layout.count) if kind == "argmax" else start
        pixels = []
        for tap in layout.taps:
            mask = self._keeps(tap)
            pixels.append((tap, mask, self._pixels(tap, self.operands[0], mask)))
        if kind == "argmax":
            assert second is not None
            # The first tap that is equal; NaN equals nothing, and the last of those counts.
            for tap, mask, x in reversed(pixels):
                value = f.select(_both(f.equal(x, second), mask), tap.number, value)
            undefined = f.is_nan(second)
            for tap, mask, x in pixels:
                value = f.select(_both(undefined & f.is_nan(x), mask), tap.number, value)
            f.store_masked(f.convert(value, self.index), self.result, self.mask, here)
            return
        for tap, mask, x in pixels:
            if kind == "max":
                value = f.select(_both((x > value) | f.is_nan(x), mask), x, value)
            elif kind == "sum":
                value = value + x
            else:
                assert second is not None
                value = f.select(_both(f.equal(second, tap.number), mask), x, value)
        f.store_masked(value, self.result, self.mask, here)

    def _numbers(self, here: Value) -> Value:
        f = self.f
        loaded = f.load_masked(vector(self.index, self.lanes), self.operands[1], self.mask, here)
        return f.convert(loaded, self.whole.scalar, signed=False)

    def _spread(self) -> None:
        f, layout = self.f, self.layout
        here = self.window + self.row * layout.out[1] + self.column
        value = f.load_masked(self.wide, self.operands[0], self.mask, here)
        numbers = self._numbers(here) if self.kind == "put" else None

        def part(tap: Tap) -> Value:
            return value if numbers is None else f.select(f.equal(numbers, tap.number), value, 0.0)

        if layout.apart:
            for down in range(layout.kernel[0]):
                self._row(layout.taps[down * layout.kernel[1] : (down + 1) * layout.kernel[1]], part)
            return
        for tap in layout.taps:
            mask, place = self._keeps(tap), self._place(tap)
            if layout.stride[1] == 1:
                before = f.load_masked(self.wide, self.result, mask, place)
                f.store_masked(before + part(tap), self.result, mask, place)
            else:
                lanes = self._lanes(place)
                f.scatter(f.gather(self.wide, self.result, lanes, mask) + part(tap), self.result, lanes, mask)

    def _row(self, taps: tuple[Tap, ...], part: Callable[[Tap], Value]) -> None:
        """A row of pixels, of which each lies in one window: side by side."""
        f = self.f
        parts = [part(tap) for tap in taps]
        place = self._place(taps[0])
        if len(parts) == 1:
            f.store_masked(parts[0], self.result, self.mask, place)
            return
        count = 2 * (self.layout.out[1] - self.column)
        for half in (0, 1):
            order = [i // 2 + half * self.lanes // 2 + i % 2 * self.lanes for i in range(self.lanes)]
            mask = None if self.mask is None else f.mask(self.lanes, count - half * self.lanes)
            f.store_masked(f.shuffle(parts[0], parts[1], order), self.result, mask, place + half * self.lanes)


def _both(condition: Value, mask: Value | None) -> Value:
    return condition if mask is None else condition & mask


def _integer(type: Type) -> Type:
    return I32 if type.bits == 32 else I64
