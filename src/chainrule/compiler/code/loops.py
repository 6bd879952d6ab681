"""Loop nests: pointwise work, reductions, and several passes over a row.

A kernel shares its outer indices among threads. For each it makes as many passes over the inner
axes as its reductions need: softmax finds the largest element, then adds up exponentials, then writes
quotients. One axis runs in vectors. Where the innermost axis is contiguous, that is the one, and the
lanes of a sum are added up at the end; where memory is contiguous along an outer axis (the sum over
a batch), each lane has a sum of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..schedule.kernels import LoopKernel, Reduction, Store
from ..schedule.signature import pointers
from ..schedule.storage import cost
from .expression import Call, Expression, Load, Outside, Position, nodes
from .ir import I64, PTR, Function, Module, Type, Value, vector
from .loop_axes import is_flat, lanes_of, merged, unroll_of
from .loop_elements import LoopElements
from .pointwise import register_type
from .reductions import across, combine, identity
from .target import Target

BLOCK = 1 << 12  # elements of one piece of work where a row is shared among threads
_STRETCH = 64  # vectors of the vector axis whose sums are in memory at a time
_SCRATCH = 1 << 17  # bytes of a row that is kept between passes
_BOOL = np.dtype(bool)


def emit_loops(module: Module, name: str, kernel: LoopKernel, target: Target) -> Function:
    """The function `name(pointers…, thread, threads)` of a kernel; `pointers` says what it takes."""
    return _LoopCode(module, name, kernel, target).f


class _LoopCode(LoopElements):
    def __init__(self, module: Module, name: str, kernel: LoopKernel, target: Target) -> None:
        self.arguments = {pointer: i for i, pointer in enumerate(pointers(kernel))}
        self.f = f = module.function(name, [PTR] * len(self.arguments) + [I64] * 3, internal=True)
        self.kernel = kernel
        self.width = lanes_of(kernel, target)
        self.expressions = nodes(*(r.operand for r in kernel.reductions), *(s.expression for s in kernel.stores))
        self._inner_ids = {a for a, _ in kernel.inner}
        self._varies: dict[int, bool] = {}
        self._along: dict[int, bool] = {}
        self.memos: list[dict[int, Value]] = []
        self.kept: dict[int, Value] = {}
        self._arrange()
        self._levels()
        self.axis: dict[int, Value] = {}
        self.base: Value | None = None
        self.mask: Value | None = None
        self.part = 0
        self._emit()
        f.ret()

    def _arrange(self) -> None:
        """Merge axes, and choose the one that runs in vectors."""
        kernel = self.kernel
        affines = {n.index for n in self.expressions if isinstance(n, Load | Position)}
        affines |= {s.index for s in kernel.stores}
        outer, inner = merged(kernel.outer, affines), merged(kernel.inner, affines)
        self.vertical = False
        if kernel.reductions:
            self.vertical = bool(outer) and (not inner or self._time(*outer[-1]) < self._time(*inner[-1]))
            vector_list = outer if self.vertical else inner
        else:
            vector_list = outer
        self.vector_axis: int | None = None
        self.length = 1
        self.folded = []
        if vector_list:
            self.vector_axis, self.length = vector_list.pop()
        if not kernel.reductions:
            # Short axes together fill a vector.
            while outer and 0 < outer[-1][1] * self.length <= self.width:
                self.folded.insert(0, outer.pop())
                self.length *= self.folded[0][1]
        self.outer, self.inner = outer, inner
        self.flat = is_flat(kernel)
        if not kernel.reductions and self.vector_axis is not None:
            self._inner_ids = {self.vector_axis, *(axis for axis, _ in self.folded)}

    def _time(self, axis: int, length: int) -> float:
        """Roughly, in loads of a vector: reading and writing one vector of each array, if vectors run along an axis.

        Addresses that change along inner or outer axes only are few elements, whichever axis it is.
        """
        at = [n.index for n in self.expressions if isinstance(n, Load)] + [s.index for s in self.kernel.stores]
        both = [index for index in at if {a in self._inner_ids for a, _ in index.terms} == {False, True}]
        steps = {0: 1, 1: 1, 2: 3}  # else elements are read one by one
        loads = sum(steps.get(index.coefficient(axis), self.width) for index in both)
        return loads * -(-length // self.width) * self.width / max(length, 1)

    def _levels(self) -> None:
        """Which nodes change along the inner axes, and in which pass each is known."""
        self.changing: set[int] = set()
        self.phase: dict[int, int] = {}
        known: dict[int, int] = {}
        for r in self.kernel.reductions:
            for node in nodes(r.operand):
                self._level(node, known)
            known[id(r.result)] = self.phase[id(r.operand)] + 1
        for node in self.expressions:
            self._level(node, known)

    def _level(self, node: Expression, known: dict[int, int]) -> None:
        if id(node) in self.phase:
            return
        if isinstance(node, Load | Position) and any(a in self._inner_ids for a, _ in node.index.terms):
            self.changing.add(id(node))
        if any(id(o) in self.changing for o in node.operands):
            self.changing.add(id(node))
        start = known.get(id(node), 0) if isinstance(node, Outside) else 0
        self.phase[id(node)] = max([start, *(self.phase[id(o)] for o in node.operands)])

    def _emit(self) -> None:
        f, kernel = self.f, self.kernel
        length, thread, threads = f.arguments[-3:]
        items = int(np.prod([n for _, n in self.outer], dtype=np.int64))
        changing = [n for n in self.expressions if id(n) in self.changing]
        weight = sum(cost(n.name) if isinstance(n, Call) else 1 for n in changing)
        self.unroll = 1
        self.stretch = 0
        pieces = 1
        if self.vertical:
            self.unroll = unroll_of(self.length, self.width, weight)
            pieces = -(-self.length // (self.width * self.unroll))
            vectors = -(-self.length // self.width)
            if self.unroll < min(vectors, 4) and all(r.operand.dtype != _BOOL for r in kernel.reductions):
                self.unroll, self.stretch = 1, self.width * min(max(vectors // 4, 4), _STRETCH)
                pieces = -(-self.length // self.stretch)
        elif kernel.reductions:
            self.unroll = 4 if weight <= 16 and self.length >= 8 * self.width else 1
        elif self.vector_axis is not None:
            pieces = max(1, self.length // BLOCK)
        self.invariant: dict[int, Value] = {}
        for node in self.expressions:
            if self._is_invariant(node):
                self._evaluate(node, self.invariant)
        if self.flat:
            self._share_vectors(length, thread, threads)
            return
        total = items * pieces
        start, stop = thread * total // threads, (thread + 1) * total // threads
        with f.loop(start, stop) as loop:
            item = loop.index
            piece = item % pieces if pieces > 1 else f.index(0)
            rest = item // pieces
            for position, (axis, n) in reversed(list(enumerate(self.outer))):
                self.axis[axis] = rest % n if position else rest
                rest = rest // n
            self._row(piece, pieces)

    def _is_invariant(self, node: Expression) -> bool:
        """Whether a node is one number for the whole kernel."""
        if id(node) not in self._varies:
            own = isinstance(node, Outside) or (isinstance(node, Load | Position) and bool(node.index.terms))
            self._varies[id(node)] = own or not all(self._is_invariant(o) for o in node.operands)
        return not self._varies[id(node)]

    def _is_along(self, node: Expression) -> bool:
        """Whether a node changes along the vector axis."""
        if id(node) not in self._along:
            own = isinstance(node, Outside) or (
                isinstance(node, Load | Position) and any(a == self.vector_axis for a, _ in node.index.terms)
            )
            self._along[id(node)] = own or any(self._is_along(o) for o in node.operands)
        return self._along[id(node)]

    def _share_vectors(self, length: Value, thread: Value, threads: Value) -> None:
        """A vector of any length, element by element: each thread takes whole vectors of it."""
        f, width = self.f, self.width
        vectors = (length + (width - 1)) // width
        low = thread * vectors // threads * width
        high = f.pairwise("smin", (thread + 1) * vectors // threads * width, length)
        self.memos = [dict(self.invariant)]
        self._pass(0, [], self.kernel.stores, low, high)

    def _row(self, piece: Value, pieces: int) -> None:
        f, kernel = self.f, self.kernel
        if self.stretch:
            self._columns(piece)
            return
        lengths = range(self.unroll) if self.vertical else range(1)
        self.memos = [dict(self.invariant) for _ in lengths]
        self.row_masks: list[Value | None] = [None for _ in lengths]
        if self.vertical:
            self.base = piece * (self.width * self.unroll)
            if self.length % (self.width * self.unroll):
                left = self.length - self.base
                self.row_masks = [f.mask(self.width, left - u * self.width) for u in lengths]
        full = [s for s in kernel.stores if self._is_full(s)]
        low, high = f.index(0), f.index(self.length)
        if pieces > 1 and not self.vertical:
            step = -(-self.length // pieces)
            step += -step % self.width
            low = f.pairwise("smin", piece * step, self.length)
            high = f.pairwise("smin", low + step, self.length)
        passes = self._passes(full)
        self._choose_kept(full, max((phase for phase, *_ in passes), default=-1))
        for phase, reductions, stores in passes:
            self._pass(phase, reductions, stores, low, high)
        for s in kernel.stores:
            if not self._is_full(s):
                for u in lengths:
                    self._at(u)
                    self._store(s, self._evaluate(s.expression, self.memos[u]))

    def _passes(self, full: Sequence[Store]) -> list[tuple[int, list[Reduction], list[Store]]]:
        """The passes over the inner axes by number, with what each reduces and what it stores."""
        found: dict[int, tuple[list[Reduction], list[Store]]] = {}
        for r in self.kernel.reductions:
            found.setdefault(self.phase[id(r.operand)], ([], []))[0].append(r)
        for s in full:
            found.setdefault(self.phase[id(s.expression)], ([], []))[1].append(s)
        return [(phase, *found[phase]) for phase in sorted(found)]

    def _columns(self, piece: Value) -> None:
        """A stretch of the vector axis: each pass goes through all of it at every inner index.

        What is one number for all of it is computed once for each inner index.
        """
        f = self.f
        begin = piece * self.stretch
        end = f.pairwise("smin", begin + self.stretch, self.length)
        whole = begin + (end - begin) // self.width * self.width

        def everywhere(body: Callable[[dict[int, Value]], None], known: dict[int, Value] = self.invariant) -> None:
            for start, stop, is_whole in ((begin, whole, True), (whole, end, False)):
                if is_whole or self.length % self.width:
                    with f.loop(start, stop, self.width) as loop:
                        self.base = loop.index
                        self.mask = None if is_whole else f.mask(self.width, end - loop.index)
                        memo = dict(known)
                        for pointer, type, result in self.sums.values():
                            memo[id(result)] = f.load(type, pointer, loop.index - begin)
                        body(memo)
            self.mask = None

        def nest(axes: Sequence[tuple[int, int]], roots: list[Expression], body: Callable[..., None]) -> None:
            if not axes:
                memo = dict(self.invariant)
                for node in nodes(*roots):
                    if not self._is_along(node):
                        self._evaluate(node, memo)
                everywhere(body, memo)
                return
            with f.loop(0, axes[0][1]) as loop:
                self.axis[axes[0][0]] = loop.index
                nest(axes[1:], roots, body)

        self.sums: dict[int, tuple[Value, Type, Expression]] = {}
        full = [s for s in self.kernel.stores if self._is_full(s)]
        for _, reductions, stores in self._passes(full):
            types = [vector(register_type(r.operand.dtype), self.width) for r in reductions]
            sums = [f.alloca(self.stretch * type.nbytes) for type in types]

            def clear(memo: dict[int, Value]) -> None:
                for r, type, at in zip(reductions, types, sums, strict=True):  # noqa: B023
                    f.store(f.constant(type, identity(r.kind, r.operand.dtype)), at, self._vector_base() - begin)

            def step(memo: dict[int, Value]) -> None:
                for r, type, at in zip(reductions, types, sums, strict=True):  # noqa: B023
                    place = self._vector_base() - begin
                    value = self._wide(self._evaluate(r.operand, memo))
                    f.store(combine(f, r, f.load(type, at, place), value), at, place)
                for s in stores:  # noqa: B023
                    self._store(s, self._evaluate(s.expression, memo))

            everywhere(clear)
            nest(self.inner, [*(r.operand for r in reductions), *(s.expression for s in stores)], step)
            self.sums |= {id(r): (at, t, r.result) for r, t, at in zip(reductions, types, sums, strict=True)}
        rest = [s for s in self.kernel.stores if not self._is_full(s)]

        def finish(memo: dict[int, Value]) -> None:
            for s in rest:
                self._store(s, self._evaluate(s.expression, memo))

        everywhere(finish)

    def _is_full(self, s: Store) -> bool:
        axes = {a for a, _ in s.index.terms}
        return bool(self._inner_ids & axes) or id(s.expression) in self.changing

    def _choose_kept(self, full: Sequence[Store], last: int) -> None:
        """Dear values that several passes need are kept for the length of a row."""
        if self.vertical or last < 1 or self.vector_axis is None:
            return
        elements = self.length * int(np.prod([n for _, n in self.inner], dtype=np.int64))
        uses: dict[int, set[int]] = {}
        found: dict[int, Expression] = {}
        roots = [(r.operand, self.phase[id(r.operand)]) for r in self.kernel.reductions]
        for root, phase in [*roots, *((s.expression, self.phase[id(s.expression)]) for s in full)]:
            for node in nodes(root):
                if isinstance(node, Call) and id(node) in self.changing:
                    uses.setdefault(id(node), set()).add(phase)
                    found[id(node)] = node
        dear = [n for key, n in found.items() if len(uses[key]) > 1 and cost(n.name) >= 6]  # type: ignore[attr-defined]
        bytes_left = _SCRATCH
        for node in dear:
            size = elements * register_type(node.dtype).nbytes
            if node.dtype != _BOOL and size <= bytes_left:
                bytes_left -= size
                self.kept[id(node)] = self.f.alloca(size + 64)
        self.kept_at = {key: min(uses[key]) for key in self.kept}

    def _pass(
        self, phase: int, reductions: Sequence[Reduction], stores: Sequence[Store], low: Value, high: Value
    ) -> None:
        f = self.f
        self.now = phase
        roots = [*(r.operand for r in reductions), *(s.expression for s in stores)]
        order = [n for n in nodes(*roots) if id(n) not in self.changing]
        for u, memo in enumerate(self.memos):
            self._at(u)
            for node in order:
                self._evaluate(node, memo)
        width = self.width if self.vector_axis is not None else 0
        starts: list[Value] = []
        for r in reductions:
            type = vector(register_type(r.operand.dtype), width)
            starts += [f.constant(type, identity(r.kind, r.operand.dtype))] * self.unroll
        ends = self._nest(list(self.inner), starts, reductions, stores, low, high)
        for i, r in enumerate(reductions):
            parts = ends[i * self.unroll : (i + 1) * self.unroll]
            if self.vertical:
                for u, part in enumerate(parts):
                    self.memos[u][id(r.result)] = part
                continue
            value = parts[0]
            for part in parts[1:]:
                value = combine(f, r, value, part)
            self.memos[0][id(r.result)] = across(f, r, value) if width else value

    def _nest(
        self, axes: list[tuple[int, int]], carried: list[Value], reductions: Sequence[Reduction],
        stores: Sequence[Store], low: Value, high: Value,
    ) -> list[Value]:  # fmt: skip
        f = self.f
        if axes:
            (axis, n), *rest = axes
            with f.loop(0, n, carry=carried) as loop:
                self.axis[axis] = loop.index
                loop.carry(*self._nest(rest, loop.carried, reductions, stores, low, high))
            return loop.results
        if self.vertical or self.vector_axis is None:
            return self._body(carried, reductions, stores, range(self.unroll))
        step = self.width * self.unroll
        whole = low + (high - low) // step * step
        with f.loop(low, whole, step, carry=carried) as loop:
            self.base, self.mask = loop.index, None
            loop.carry(*self._body(loop.carried, reductions, stores, range(self.unroll)))
        carried = loop.results
        known = low.constant is not None and high.constant is not None
        if self.unroll > 1 and (not known or (int(high.constant or 0) - int(low.constant or 0)) % step >= self.width):
            end = low + (high - low) // self.width * self.width
            first = [carried[i * self.unroll] for i in range(len(reductions))]
            with f.loop(whole, end, self.width, carry=first) as loop:
                self.base, self.mask = loop.index, None
                loop.carry(*self._body(loop.carried, reductions, stores, range(1)))
            carried = _with_first(carried, loop.results, self.unroll)
            whole = end
        if self.flat or self.length % self.width:
            # A piece that is not the last of its row has whole vectors only.
            first = [carried[i * self.unroll] for i in range(len(reductions))]
            with f.loop(whole, high, self.width, carry=first) as loop:
                self.base, self.mask = loop.index, f.mask(self.width, high - loop.index)
                loop.carry(*self._body(loop.carried, reductions, stores, range(1)))
            self.mask = None
            carried = _with_first(carried, loop.results, self.unroll)
        return carried

    def _body(
        self, carried: Sequence[Value], reductions: Sequence[Reduction], stores: Sequence[Store], parts: range
    ) -> list[Value]:
        f = self.f
        results: list[list[Value]] = [[] for _ in reductions]
        unroll = len(parts)
        base = self.base
        for u in parts:
            if self.vertical:
                self._at(u)
                memo = dict(self.memos[u])
            else:
                if u and base is not None:
                    self.base = base + u * self.width
                memo = dict(self.memos[0])
            for i, r in enumerate(reductions):
                value = self._wide(self._evaluate(r.operand, memo))
                if self.mask is not None:
                    value = f.select(self.mask, value, f.constant(value.type, identity(r.kind, r.operand.dtype)))
                results[i].append(combine(f, r, carried[i * unroll + u], value))
            values = [self._evaluate(s.expression, memo) for s in stores]
            for s, value in zip(stores, values, strict=True):
                self._store(s, value)
        self.base = base
        return [value for values in results for value in values]

    def _at(self, u: int) -> None:
        """Look at part `u` of the vectors that a row of a vertical kernel has."""
        if self.vertical:
            self.part = u
            self.mask = self.row_masks[u]


def _with_first(carried: list[Value], first: list[Value], unroll: int) -> list[Value]:
    return [first[i // unroll] if i % unroll == 0 else v for i, v in enumerate(carried)]
