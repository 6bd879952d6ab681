"""When two kernels are the same code: the same shape of everything but where their buffers are."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

from ..code.expression import Affine, Call, Const, Expression, Load, Outside, Position, nodes
from ..code.gemm import Gemm
from .kernels import GemmKernel, Kernel, LoopKernel, Store

Pointer = tuple[Any, int]


def pointers(kernel: LoopKernel | GemmKernel) -> list[Pointer]:
    """The buffers of a kernel, each with the element at which the pointer that its function takes begins.

    That an offset is no part of the code lets kernels that differ in nothing else share it.
    """
    found: list[Pointer] = []
    if isinstance(kernel, GemmKernel):
        found += kernel.gemm.buffers()
    expressions, stores = _contents(kernel)
    found += [(n.buffer, n.index.offset) for n in nodes(*expressions) if isinstance(n, Load)]
    found += [(s.buffer, s.index.offset) for s in stores]
    return list(dict.fromkeys(found))


def _contents(kernel: LoopKernel | GemmKernel) -> tuple[list[Expression], list[Store]]:
    if isinstance(kernel, GemmKernel):
        stores = [*kernel.gemm.stores, *getattr(kernel.gemm, "sums", ())]
        return [s.expression for s in stores], stores
    return [*(r.operand for r in kernel.reductions), *(s.expression for s in kernel.stores)], kernel.stores


def signature(kernel: Kernel, *, lengths: bool = True) -> Hashable:
    """A key that kernels of the same code share; None for kernels whose code is their own.

    Args:
        lengths: whether the lengths of the axes are part of the code.
    """
    if isinstance(kernel, LoopKernel):
        axes = [kernel.outer, kernel.inner]
    elif isinstance(kernel, GemmKernel):
        g = kernel.gemm
        axes = [g.batch, g.rows, [g.columns], g.reduced] if isinstance(g, Gemm) else [[(a, 0) for a in g.axes]]
    else:
        return None
    number = {axis: i for i, axis in enumerate(axis for part in axes for axis, _ in part)}
    if not lengths:
        # One axis after all: the last of them is what addresses advance along.
        number = {axes[0][-1][0]: 0}
    place = {pointer: i for i, pointer in enumerate(pointers(kernel))}
    expressions, stores = _contents(kernel)
    seen: dict[int, int] = {}
    outside: dict[Any, int] = {}
    code: list[Hashable] = []

    def terms(at: Affine) -> Hashable:
        dynamic = tuple((seen[id(e)], c) for e, c in at.dynamic)
        return tuple((number[a], c) for a, c in at.terms if a in number), dynamic

    results: Sequence[Any] = kernel.reductions if isinstance(kernel, LoopKernel) else ()
    for r in results:
        outside.setdefault(r.result.key, len(outside))
    for node in nodes(*expressions):
        own: Hashable
        if isinstance(node, Const):
            own = (str(node.value), node.value == node.value and repr(node.value))
        elif isinstance(node, Call):
            own = (node.name, tuple(sorted(node.params.items())))
        elif isinstance(node, Load):
            own = (place[node.buffer, node.index.offset], terms(node.index), _guard_offset(node))
        elif isinstance(node, Position):
            own = (node.index.offset, terms(node.index))
        else:
            assert isinstance(node, Outside)
            own = outside.setdefault(node.key, len(outside))
        seen[id(node)] = len(seen)
        code.append((type(node).__name__, str(node.dtype), own, tuple(seen[id(o)] for o in node.operands)))
    return (
        type(kernel).__name__,
        tuple(tuple(n for _, n in part) for part in axes) if lengths else None,
        tuple(code),
        tuple((r.kind, seen[id(r.operand)], outside[r.result.key]) for r in results),
        tuple((place[s.buffer, s.index.offset], terms(s.index), seen[id(s.expression)]) for s in stores),
        _product_part(kernel, place, number),
    )


def _guard_offset(node: Load) -> Hashable:
    # A guarded load may fall back to the start of its buffer, which its code then has to know.
    return None if node.guard is None else node.index.offset


def _product_part(kernel: Kernel, place: dict[Pointer, int], number: dict[int, int]) -> Hashable:
    if not isinstance(kernel, GemmKernel):
        return None
    g = kernel.gemm
    if not isinstance(g, Gemm):
        return type(g).__name__, g.key, str(g.product.dtype), len(g.stores)
    return (
        *((place[o.buffer, o.index.offset], tuple((number[a], c) for a, c in o.index.terms)) for o in (g.a, g.b)),
        str(g.product.dtype),
        len(g.stores),
    )
