"""Losses: cross entropies and squared error."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..layers import Equation
from .call import Call, Candidate, equation, form, numbers, plain


@form("cross_entropy", "CrossEntropyLoss")
def cross_entropy(call: Call) -> Iterator[Candidate]:
    """L = -ln softmax(s)[class], averaged or summed."""
    if not call.data() or call.delta.size != 1:
        return
    s = call.data()[0]
    scores = numbers(s)
    rows = np.moveaxis(scores, 1, -1).reshape(-1, scores.shape[1]) if scores.ndim > 1 else scores.reshape(1, -1)
    p = np.exp(rows - rows.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)
    for classes in call.group.inputs:
        if classes.several or classes.dtype.kind not in "iu" or classes.size != len(rows):
            continue
        y = np.zeros_like(p)
        picked = np.asarray(classes.array()).ravel()
        inside = (picked >= 0) & (picked < p.shape[1])
        y[np.arange(len(y))[inside], picked[inside]] = 1
        for count, written, latex in ((int(inside.sum()), " / N", r"\frac{1}{N} "), (1, "", "")):
            g = call.delta.item() * np.where(inside[:, None], p - y, 0) / max(count, 1)
            if scores.ndim > 1:
                g = np.moveaxis(g.reshape(scores.shape[0], *scores.shape[2:], scores.shape[1]), -1, 1)
            averaged = f"; averaged over N = {count}" if written else ""
            equations = [
                plain("L = -ln p[class] with p = softmax(s)",
                      r"L = -\ln p_{\mathrm{class}}, \; p = \mathrm{softmax}(s)", "the mean or sum over the samples"),
                equation("s", f"(p - y){written}", rf"{latex}(p - y)",
                         f"y is 1 for the right class and 0 for others{averaged}: the probability that is too much"),
            ]  # fmt: skip
            legend = call.legend(("s", "s", "the scores", s), ("y", "y", "the classes, as 0 and 1,", classes))
            yield Candidate(equations, legend, {s: g.reshape(scores.shape)})


@form("mse_loss", "MSELoss", "binary_cross_entropy_with_logits", "BCEWithLogitsLoss")
def regression(call: Call) -> Iterator[Candidate]:
    """Squared error and binary cross entropy: a difference, averaged or summed."""
    if not call.data() or call.delta.size != 1:
        return
    for x in (v for v in call.data() if v.requires_grad):
        for t in (v for v in call.group.inputs if v is not x and not v.several and v.shape == x.shape):
            values, other = numbers(x), numbers(t)
            legend = call.legend(("x", "x", "the prediction", x), ("t", "t", "the target", t))
            # The graph of a cross entropy may hold 1 - t in place of t.
            complement = call.legend(("x", "x", "the prediction", x), ("1 - t", "1 - t", "from the target", t))
            p = 1 / (1 + np.exp(-values))
            for count, written, latex in ((x.size, " / n", r"\frac{1}{n} "), (1, "", "")):
                scale = call.delta.item() / count
                yield Candidate(_squared(written, latex), legend, {x: scale * 2 * (values - other)})
                yield Candidate(_logistic(written, latex), legend, {x: scale * (p - other)})
                yield Candidate(_logistic(written, latex), complement, {x: scale * (p - (1 - other))})


def _squared(written: str, latex: str) -> list[Equation]:
    return [
        plain("L = Σ (x - t)²" + written, rf"L = {latex}\sum (x - t)^2", "over all n entries" if written else ""),
        equation("x", f"2 (x - t){written}", rf"{latex} 2 (x - t)", "twice the error"),
    ]


def _logistic(written: str, latex: str) -> list[Equation]:
    text = "L = -Σ (t ln p + (1 - t) ln(1 - p))" + written + ", p = σ(x)"
    return [
        plain(text, rf"L = -{latex}\sum (t \ln p + (1 - t) \ln (1 - p)), \; p = \sigma(x)", ""),
        equation("x", f"(p - t){written}", rf"{latex} (p - t)", "the excess of probability"),
    ]
