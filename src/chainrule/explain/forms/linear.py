"""Layers that are linear in their weights: dense layers, convolutions, embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from ..trace import Value
from .call import REARRANGE, Call, Candidate, as_rows, equation, form, numbers, plain
from .moves import MOVES, moved_back


@form("affine", "matmul", "Linear", "linear")
def dense(call: Call) -> Iterator[Candidate]:
    """y = x Wᵀ + b."""
    node = call.node("affine", "matmul")
    if node is None or (node.params and node.params != {"transpose_a": False, "transpose_b": True}):
        return
    x, w = (call.source(v) for v in node.inputs[:2])
    added = call.node("add")
    b = call.source(node.inputs[2]) if len(node.inputs) > 2 else None
    if b is None and added is not None and len(call.group.values) > 1:
        b = next((call.source(i) for i in added.inputs if i is not node and call.source(i) not in call.group), None)
    if len(w.shape) not in (1, 2) or w.size != node.inputs[1].size or not x.shape:
        return
    delta = as_rows(call.delta) if len(w.shape) == 2 else call.delta.reshape(-1, 1)
    inputs, weight = as_rows(numbers(x)), numbers(w).reshape(-1, w.shape[-1])
    equations, gradients = [], {}
    if w.requires_grad:
        meaning = "each row of x and δ is a sample: the sum over the samples of the textbook's δ xᵀ"
        equations.append(equation("W", "δᵀ x", r"\delta^{\top} x", meaning))
        gradients[w] = (delta.T @ inputs).reshape(w.shape)
    if b is not None and b.requires_grad:
        equations.append(equation("b", "Σ δ", r"\sum \delta", "added up over the samples"))
        gradients[b] = delta.sum(0).reshape(b.shape)
    if x.requires_grad:
        equations.append(equation("x", "δ W", r"\delta \, W", "what the layer before gets"))
        gradients[x] = (delta @ weight).reshape(x.shape)
    rows = [("x", "x", "the input", x), ("W", "W", "the weight", w)]
    if b is not None:
        rows.append(("b", "b", "the bias", b))
    forward = "y = x Wᵀ" + (" + b" if b is not None else "")
    first = plain(forward, r"y = x \, W^{\top}" + (" + b" if b is not None else ""), "one row for each sample")
    yield Candidate(
        [first, *equations], call.legend(*rows, ("y", "y", "the output", call.output), call.delta_row()), gradients
    )


@form("conv")
def convolution(call: Call) -> Iterator[Candidate]:
    """y = x ⋆ W + b."""
    node = call.node("conv")
    assert node is not None
    x, w = (call.source(v) for v in node.inputs)
    border = x if x in call.group else None  # the image with a border made of itself
    if border is not None:
        x = _within(call, border)
    b = next((v for v in call.group.inputs if v not in (x, w) and v.requires_grad and v.size == w.shape[0]), None)
    delta = call.delta.reshape(node.shape)
    image, kernel = numbers(node.inputs[0]), numbers(node.inputs[1])
    to_image, to_kernel = _conv_gradients(delta, image, kernel, node.params)
    equations, gradients = [], {}
    if w.requires_grad:
        text = "Σ over samples n and positions p of δ[n, o, p] · x[n, c, p + k]"
        meaning = text + " (strides, padding and dilation shift p + k)"
        equations.append(equation("W[o, c, k]", "Σ δ[n, o, p] · x[n, c, p + k]",
                                  r"\sum_{n, p} \delta_{n o p} \, x_{n c, p + k}", meaning, "W_{o c k}"))  # fmt: skip
        gradients[w] = to_kernel.reshape(w.shape)
    if b is not None:
        equations.append(equation("b[o]", "Σ δ[n, o, p]", r"\sum_{n, p} \delta_{n o p}",
                                  "added up over samples and positions", "b_{o}"))  # fmt: skip
        gradients[b] = delta.sum(axis=(0, *range(2, delta.ndim))).reshape(b.shape)
    if x.requires_grad:
        continued = "" if border is None else "; an entry that the border repeats gets the parts of all its copies"
        equations.append(equation("x[n, c, q]", "Σ δ[n, o, q - k] · W[o, c, k]",
                                  r"\sum_{o, k} \delta_{n o, q - k} \, W_{o c k}",
                                  "the kernel, flipped, runs over δ" + continued, "x_{n c q}"))  # fmt: skip
        if border is None:
            gradients[x] = to_image.reshape(x.shape)
        else:
            gradients |= moved_back(call, border, to_image)[0]
    first = plain("y[n, o, p] = Σ x[n, c, p + k] · W[o, c, k]" + (" + b[o]" if b is not None else ""),
                  r"y_{n o p} = \sum_{c, k} x_{n c, p + k} \, W_{o c k}" + (" + b_{o}" if b is not None else ""),
                  "n samples, c input and o output channels, p positions, k places of the kernel")  # fmt: skip
    rows = [("x", "x", "the input", x), ("W", "W", "the kernel", w)]
    if b is not None:
        rows.append(("b", "b", "the bias", b))
    yield Candidate([first, *equations], call.legend(*rows, call.delta_row()), gradients)


def _within(call: Call, border: Value) -> Value:
    """The image that a border was put around by moving entries of it; ValueError where it is something else."""
    for value in call.group.values[: call.group.values.index(border) + 1]:
        if value.primitive is None or value.primitive.name not in MOVES | REARRANGE:
            raise ValueError("the image is computed within the call")
    return call.data()[0]


def _conv_gradients(delta: np.ndarray, x: np.ndarray, w: Any, params: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Both gradients of a convolution by its definition, one place of the kernel after the other."""
    padded, cropped, inside = _padded(x, params["padding"])
    to_padded: Any = np.zeros_like(padded)
    to_w: Any = np.zeros_like(w)
    for k, o, c in _places(w, params["groups"]):
        where = (slice(None), c, *_window(k, params, delta.shape[2:]))
        d = delta[:, o].reshape(len(delta), -1, np.prod(delta.shape[2:], dtype=int))
        seen = padded[where].reshape(len(x), -1, d.shape[2])
        to_w[(o, slice(None), *k)] = np.einsum("nop,ncp->oc", d, seen, optimize=True)
        back = np.einsum("nop,oc->ncp", d, w[(o, slice(None), *k)], optimize=True)
        to_padded[where] += back.reshape(padded[where].shape)
    to_x = np.zeros_like(x)
    to_x[cropped] = to_padded[inside]
    return to_x, to_w


def _padded(x: np.ndarray, padding: Any) -> tuple[Any, Any, Any]:
    """x with its border, where in x the part is that was not cropped, and where in the result it stands."""
    everything = slice(None), slice(None)
    widths = [(max(a, 0), max(b, 0)) for a, b in padding]
    cropped = (
        *everything,
        *(slice(max(-a, 0), n - max(-b, 0)) for n, (a, b) in zip(x.shape[2:], padding, strict=True)),
    )
    inner = x[cropped]
    inside = (*everything, *(slice(a, a + n) for n, (a, _) in zip(inner.shape[2:], widths, strict=True)))
    return np.pad(inner, [(0, 0), (0, 0), *widths]), cropped, inside


def _places(w: np.ndarray, groups: int) -> Iterator[tuple[tuple[int, ...], slice, slice]]:
    """Every place of the kernel with the output and input channels of every group."""
    outputs, channels = w.shape[0] // groups, w.shape[1]
    for k in np.ndindex(*w.shape[2:]):
        for g in range(groups):
            yield k, slice(g * outputs, (g + 1) * outputs), slice(g * channels, (g + 1) * channels)


def _window(k: tuple[int, ...], params: dict[str, Any], positions: tuple[int, ...]) -> tuple[slice, ...]:
    """What one place of the kernel sees of the padded image from all its positions."""
    return tuple(
        slice(i * d, i * d + (n - 1) * s + 1, s)
        for i, d, s, n in zip(k, params["dilation"], params["stride"], positions, strict=True)
    )


@form("conv_transpose")
def transposed_convolution(call: Call) -> Iterator[Candidate]:
    """y = x ⋆ᵀ W + b: what a convolution's gradient by its image is."""
    node = call.node("conv_transpose")
    assert node is not None
    x, w = (call.source(v) for v in node.inputs)
    b = next((v for v in call.group.inputs if v not in (x, w) and v.requires_grad and v.size == node.shape[1]), None)
    delta, values, kernel = call.delta.reshape(node.shape), numbers(node.inputs[0]), numbers(node.inputs[1])
    params = {k: v for k, v in node.params.items() if k != "size"}
    _, to_kernel = _conv_gradients(values, delta, kernel, params)
    equations = [
        plain("y[n, c, p + k] gets x[n, o, p] · W[o, c, k] for every p and k",
              r"y_{n c, p + k} = \sum_{o} x_{n o p} \, W_{o c k}", "each entry of x is spread by the kernel"),
    ]  # fmt: skip
    gradients: dict[Value, np.ndarray] = {}
    if w.requires_grad:
        equations.append(equation("W[o, c, k]", "Σ x[n, o, p] · δ[n, c, p + k]",
                                  r"\sum_{n, p} x_{n o p} \, \delta_{n c, p + k}", "", "W_{o c k}"))  # fmt: skip
        gradients[w] = to_kernel.reshape(w.shape)
    if b is not None:
        equations.append(equation("b[c]", "Σ δ[n, c, p]", r"\sum_{n, p} \delta_{n c p}",
                                  "added up over samples and positions", "b_{c}"))  # fmt: skip
        gradients[b] = delta.sum(axis=(0, *range(2, delta.ndim))).reshape(b.shape)
    if x.requires_grad:
        equations.append(equation("x[n, o, p]", "Σ δ[n, c, p + k] · W[o, c, k]",
                                  r"\sum_{c, k} \delta_{n c, p + k} \, W_{o c k}",
                                  "a convolution of δ with the same kernel", "x_{n o p}"))  # fmt: skip
        gradients[x] = _conv_value(delta, kernel, values.shape, params).reshape(x.shape)
    rows = [("x", "x", "the input", x), ("W", "W", "the kernel", w)]
    if b is not None:
        rows.append(("b", "b", "the bias", b))
    yield Candidate(equations, call.legend(*rows, call.delta_row()), gradients)


def _conv_value(x: np.ndarray, w: Any, shape: tuple[int, ...], params: dict[str, Any]) -> np.ndarray:
    """A convolution by its definition, one place of the kernel after the other."""
    padded, _, _ = _padded(x, params["padding"])
    out: Any = np.zeros(shape)
    for k, o, c in _places(w, params["groups"]):
        seen = padded[(slice(None), c, *_window(k, params, shape[2:]))]
        part = np.einsum("ncp,oc->nop", seen.reshape(*seen.shape[:2], -1), w[(o, slice(None), *k)], optimize=True)
        out[:, o] += part.reshape(*part.shape[:2], *shape[2:])
    return out


@form("embedding", "Embedding")
def embedding(call: Call) -> Iterator[Candidate]:
    """y[t] = E[x[t]]."""
    table = next((v for v in call.group.inputs if v.requires_grad and len(v.shape) == 2), None)
    tokens = next((v for v in call.group.inputs if not v.several and v.dtype.kind in "iu"), None)
    if table is None or tokens is None:
        return
    g = np.zeros(table.shape)
    np.add.at(g, np.asarray(tokens.array()).ravel(), call.delta.reshape(-1, table.shape[1]))
    equations = [
        plain("y[t] = E[x[t]]", r"y_{t} = E_{x_{t}}", "a row of the table for every token"),
        equation("E[i]", "Σ δ[t] over the places t where x[t] = i", r"\sum_{t \in x = i} \delta_{t}",
                 "a token that does not occur gets the gradient 0", "E_{i}"),
    ]  # fmt: skip
    legend = call.legend(("E", "E", "the table", table), ("x", "x", "the tokens", tokens), call.delta_row())
    yield Candidate(equations, legend, {table: g})
