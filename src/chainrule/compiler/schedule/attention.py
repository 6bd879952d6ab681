"""Attention in the terms of the code that computes it: where its operands are, and their strides."""

from __future__ import annotations

from collections.abc import Sequence

from ..attention import ATTENTION, OWN
from ..code.attention import Attention, Operand, operand
from ..graph import Op, Value
from .access import strides
from .kernels import AttentionKernel, View


def is_attention(op: Op) -> bool:
    """Whether an operation is attention, or its gradients."""
    return OWN.get(op.primitive.name) is op.primitive


def attention_kernel(op: Op, views: Sequence[View]) -> AttentionKernel:
    """The kernel of an operation whose operands are where the views say."""
    q, k, v, *others = views
    batch = q.shape[:-2]
    work = {
        "dtype": op.outputs[0].dtype,
        "batch": batch,
        "queries": q.shape[-2],
        "keys": k.shape[-2],
        "width": q.shape[-1],
        "depth": v.shape[-1],
        **op.params,
        **dict(zip("qkv", map(_as_it_is, views), strict=False)),
    }
    if op.primitive is ATTENTION:
        y, largest, inverse = op.outputs
        bias = others[:1]
        work |= {"y": _placed(_whole(y)), "largest": _as_it_is(_whole(largest)), "inverse": _as_it_is(_whole(inverse))}
    else:
        (given, largest_view, inverse_view, g), bias = others[:4], others[4:]
        work |= {"y": _placed(given), "largest": _as_it_is(largest_view), "inverse": _as_it_is(inverse_view)}
        work |= {"g": _as_it_is(g), "gradients": tuple(_placed(_whole(value)) for value in op.outputs)}
    if bias:
        scores = (*batch, q.shape[-2], k.shape[-2])
        work["bias"] = operand(bias[0].base, bias[0].offset, bias[0].strides, bias[0].shape, scores)
    reads = list(dict.fromkeys(view.base for view in views))
    return AttentionKernel([op], reads, list(op.outputs), Attention(**work))


def _as_it_is(view: View) -> Operand:
    return operand(view.base, view.offset, view.strides, view.shape, view.shape)


def _placed(view: View) -> Operand:
    """An array (…, rows, heads, columns) as (…, heads, rows, columns)."""
    *front, rows, heads, columns = view.strides
    return Operand(view.base, view.offset, (*front, heads, rows, columns))


def _whole(value: Value) -> View:
    return View(value, 0, strides(value.shape), value.shape, value.dtype)
