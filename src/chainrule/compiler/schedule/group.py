"""One kernel in the making: what it computes, and over which axes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..code.expression import Affine
from ..graph import Op, Value
from .access import Index, NotAffine, Reader, Sizes, SplitAxis, linear, split


class Group:
    """One kernel in the making.

    Attributes:
        position: its place in the order of kernels.
        sizes, order: the axes of its index space, and their order.
        inner: the axes that its reductions run over; None while it has none.
        values: what it computes, each after those it is computed from.
        place: for each of them the index at which it is computed, in the kernel's axes.
        operand: for the results of reductions the index of what is reduced.
        opaque: the operation, for a kernel that is no loop nest.
        product: the matrix product whose elements the kernel's values are computed from, if it is one.
        sums: values that are sums over all rows of a product, with the index of what is added up.
        slices: what is written into part of a value: that value, the address, and what, at which index.
        is_assembled: whether it is a concatenation whose parts are written one by one.
        parts: of such a concatenation, the operands that no kernel of their own writes there, and where each begins.
        late: whether it only computes new values of the state.
    """

    def __init__(
        self, position: int, opaque: Op | None = None, *, product: Op | None = None, late: bool = False
    ) -> None:
        self.position = position
        self.opaque = opaque
        self.product = product
        self.sums: dict[Value, Index] = {}
        self.slices: list[tuple[Value, Affine, Value, Index]] = []
        self.parts: list[tuple[Value, int]] = []
        self.is_assembled = False
        self.late = late
        self.sizes = Sizes()
        self.order: list[int] = []
        self.inner: frozenset[int] | None = None
        self.values: list[Value] = []
        self.place: dict[Value, Index] = {}
        self.operand: dict[Value, Index] = {}
        self.reader: Reader | None = None

    @property
    def outer(self) -> list[int]:
        return [a for a in self.order if a not in (self.inner or ())]

    def elements(self, axes: Iterable[int]) -> int:
        return int(np.prod([self.sizes[a] for a in axes], dtype=np.int64))

    def index_space(self, shape: Sequence[int]) -> Index:
        """Make the axes those of an array; returns its index."""
        index = []
        for n in shape:
            if n == 1:
                index.append(Affine())
                continue
            axis = len(self.sizes)
            self.sizes[axis] = n
            self.order.append(axis)
            index.append(Affine(0, [(axis, 1)]))
        return tuple(index)

    def refine(self, split_axis: SplitAxis) -> None:
        """Make one axis two."""
        axis, factor = split_axis.axis, split_axis.factor
        fresh = len(self.sizes)
        self.sizes[axis] //= factor
        self.sizes[fresh] = factor
        self.order.insert(self.order.index(axis) + 1, fresh)
        if self.inner is not None and axis in self.inner:
            self.inner |= {fresh}

        def moved(at: Affine) -> Affine:
            c = at.coefficient(axis)
            return at + Affine(0, [(axis, c * (factor - 1)), (fresh, c)]) if c else at

        self.place = {v: tuple(map(moved, index)) for v, index in self.place.items()}
        self.operand = {v: tuple(map(moved, index)) for v, index in self.operand.items()}
        self.sums = {v: tuple(map(moved, index)) for v, index in self.sums.items()}
        self.slices = [(v, moved(at), part, tuple(map(moved, index))) for v, at, part, index in self.slices]
        self.reader = None

    def fit(self, shape: Sequence[int], *, whole: bool = False) -> Index | None:
        """The index at which an array of this shape would be computed here; None if it does not fit.

        It is one value for each index of the kernel, or (unless `whole`) one for each outer index.
        """
        lengths = [n for n in shape if n != 1]
        for axes in (self.order, *(() if whole or self.inner is None else (self.outer,))):
            if lengths == [self.sizes[a] for a in axes]:
                following = iter(axes)
                return tuple(Affine() if n == 1 else Affine(0, [(next(following), 1)]) for n in shape)
            count = self.elements(axes)
            if count and count == np.prod(lengths, dtype=np.int64):
                flat = linear([self.sizes[a] for a in axes], tuple(Affine(0, [(a, 1)]) for a in axes))
                try:
                    return split(flat, shape, self.sizes, None)  # type: ignore[arg-type]
                except (NotAffine, SplitAxis):
                    continue
        return None


def axes_of(indices: Iterable[Affine]) -> frozenset[int]:
    return frozenset(axis for at in indices for axis, _ in at.terms)
