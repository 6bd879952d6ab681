"""Losses: cross entropies and squared error."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np

from ..layers import Equation
from ..trace import Value
from .call import Call, Candidate, Gradients, equation, form, numbers, plain


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
                yield Candidate(_squared(written, latex), legend, {x: scale * 2 * (values - other)}, "mse_loss")
                logistic = "binary_cross_entropy_with_logits"
                yield Candidate(_logistic(written, latex), legend, {x: scale * (p - other)}, logistic)
                yield Candidate(_logistic(written, latex), complement, {x: scale * (p - (1 - other))}, logistic)


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


@form("l1_loss", "L1Loss", "smooth_l1_loss", "SmoothL1Loss", "huber_loss", "HuberLoss")
def robust(call: Call) -> Iterator[Candidate]:
    """Losses of an error e = x - t that grow like |e| where it is large."""
    error = call.node("subtract")
    if error is None or error.inputs[0].size != error.size:
        return
    x, t = error.inputs
    values = numbers(error)
    constants = [float(v.value.item()) for v in call.group.inputs if isinstance(v.value, np.ndarray) and v.size == 1]
    # The width itself is compared with only; ½ width is subtracted.
    widths = [1.0, *(width for c in constants for width in (c, 2 * c))]
    widths += [getattr(call.module, name) for name in ("beta", "delta") if hasattr(call.module, name)]
    legend = call.legend(("x", "x", "the prediction", x), ("t", "t", "the target", t))
    for over, written, latex in reductions(call, x):
        for width in dict.fromkeys(w for w in widths if w > 0):
            clipped = np.clip(values, -width, width)
            for kind, slope, text, tex, meaning in (
                ("l1_loss", np.sign(values), "sign(x - t)", r"\mathrm{sign}(x - t)", "of the error its sign only"),
                ("smooth_l1_loss", clipped / width, f"clip((x - t) / {width:g}, -1, 1)",
                 rf"\mathrm{{clip}}((x - t) / {width:g}, -1, 1)",
                 f"small errors pull in proportion, errors beyond {width:g} all alike"),
                ("huber_loss", clipped, f"clip(x - t, ±{width:g})", rf"\mathrm{{clip}}(x - t, \pm {width:g})",
                 f"small errors pull in proportion, errors beyond {width:g} all alike"),
            ):  # fmt: skip
                gradients = Gradients()
                gradients.add(x, over * slope)
                gradients.add(t, -(over * slope))
                yield Candidate([equation("x", text + written, latex + tex, meaning)], legend, gradients.found, kind)


def reductions(call: Call, x: Value) -> Iterator[tuple[np.ndarray, str, str]]:
    """What arrives at every entry, if the loss is their mean, their sum, or not reduced; and how it is written."""
    if call.delta.size == 1:
        yield call.delta.item() / x.size * np.ones(x.shape), " / n", r"\frac{1}{n} "
        yield call.delta.item() * np.ones(x.shape), "", ""
    elif call.delta.shape == x.shape:
        yield call.delta, " · δ", r"\delta \, "


@form("nll_loss", "NLLLoss")
def likelihood(call: Call) -> Iterator[Candidate]:
    """L = -s[class], averaged or summed."""
    if not call.data() or call.delta.size != 1:
        return
    s = call.data()[0]
    for classes in (v for v in call.group.inputs if not v.several and v.dtype.kind in "iu"):
        picked = np.asarray(classes.array()).ravel()
        if len(s.shape) != 2 or len(picked) != s.shape[0] or not np.isin(picked, range(s.shape[1])).all():
            continue
        chosen = np.zeros(s.shape)
        chosen[np.arange(len(picked)), picked] = 1.0
        legend = call.legend(("s", "s", "the log-probabilities", s), ("y", "y", "the classes, as 0 and 1,", classes))
        for count, written, latex in ((len(picked), " / N", r"-\frac{1}{N} y"), (1, "", "-y")):
            equations = [equation("s", f"-y{written}", latex, "only the right class's entry counts")]
            yield Candidate(equations, legend, {s: -call.delta.item() / count * chosen})


@form("kl_div", "KLDivLoss")
def divergence(call: Call) -> Iterator[Candidate]:
    """L = Σ t (ln t - x): the divergence of log-probabilities x from t, or from exp(t), averaged or not."""
    error = call.node("subtract")
    if error is None:
        return
    product = next((v for v in call.group.values if v.primitive and v.primitive.name == "multiply"), None)
    data = [v for v in call.group.inputs if not v.several and v.dtype.kind == "f" and v.shape == error.shape]
    for x, t in itertools.permutations(data, 2):
        values, target = numbers(x), numbers(t)
        for logarithms in (product is not None and error in product.inputs, False):
            p = np.exp(target) if logarithms else target
            with_logs = target if logarithms else np.log(np.where(target > 0, target, 1))
            legend = call.legend(("x", "x", "the log-probabilities", x), ("t", "t", "the target", t))
            name, logarithm, tex = ("p", "t", "t") if logarithms else ("t", "ln t", r"\ln t")
            meaning = "how far x is from the target" + ", whose probabilities are p = exp(t)" * logarithms
            for over, written, latex in [*reductions(call, x), *_by_samples(call, x)]:
                summed = "" if "δ" in written else "Σ "
                equations = [
                    plain(f"L = {summed}{name} ({logarithm} - x)" + (written if summed else ""),
                          (f"L = {latex}\\sum" if summed else "L =") + rf" {name} \, ({tex} - x)", meaning),
                    equation("x", f"-{name}{written}", f"-{latex}{name}",
                             "the target alone decides; log_softmax before it takes the mean off, which leaves p - t"),
                ]  # fmt: skip
                gradients = Gradients()
                gradients.add(x, -(over * p))
                if t.requires_grad:
                    slope = np.where(p > 0, with_logs - values + 1, -values) * (p if logarithms else 1)
                    factor = "p " * logarithms
                    equations.append(
                        equation("t", f"{factor}({logarithm} - x + 1){written}",
                                 latex + factor + rf"({tex} - x + 1)", "")
                    )  # fmt: skip
                    gradients.add(t, over * slope)
                yield Candidate(equations, legend, gradients.found)


def _by_samples(call: Call, x: Value) -> Iterator[tuple[np.ndarray, str, str]]:
    """As `reductions`, for the sum over the number of samples."""
    if call.delta.size == 1 and x.shape:
        yield call.delta.item() / x.shape[0] * np.ones(x.shape), " / N", r"\frac{1}{N} "


@form("cosine_similarity", "CosineSimilarity")
def cosine(call: Call) -> Iterator[Candidate]:
    """c = a · b / (‖a‖ ‖b‖) along one axis."""
    products = [v for v in call.group.values if v.primitive and v.primitive.name == "divide"]
    if len(products) < 2:
        return
    a, b = (call.source(v.inputs[0]) for v in products[:2])
    if a.shape != b.shape or a in call.group or b in call.group:
        return
    for axis in range(len(a.shape)):
        lengths = [np.linalg.norm(numbers(v), axis=axis, keepdims=True) for v in (a, b)]
        units = [numbers(v) / n for v, n in zip((a, b), lengths, strict=True)]
        c = (units[0] * units[1]).sum(axis, keepdims=True)
        if c.size != call.delta.size:
            continue
        delta = call.delta.reshape(c.shape)
        gradients = Gradients()
        gradients.add(a, delta * (units[1] - c * units[0]) / lengths[0])
        gradients.add(b, delta * (units[0] - c * units[1]) / lengths[1])
        equations = [
            plain("c = â · b̂ with â = a / ‖a‖, b̂ = b / ‖b‖",
                  r"c = \hat{a} \cdot \hat{b}, \; \hat{a} = \frac{a}{\|a\|}, \; \hat{b} = \frac{b}{\|b\|}", ""),
            equation("a", "δ · (b̂ - c · â) / ‖a‖", r"\frac{\delta}{\|a\|} \left( \hat{b} - c \, \hat{a} \right)",
                     "across a only: along a nothing changes the angle; b likewise"),
        ]  # fmt: skip
        legend = call.legend(("a", "a", "", a), ("b", "b", "", b), call.delta_row())
        yield Candidate(equations, legend, gradients.found)


@form("triplet_margin_loss", "TripletMarginLoss")
def triplet(call: Call) -> Iterator[Candidate]:
    """L = max(‖a - p‖ - ‖a - n‖ + margin, 0), averaged or summed."""
    differences = [v for v in call.group.values if v.primitive and v.primitive.name == "subtract" and len(v.shape) == 2]
    if len(differences) < 2 or differences[0].inputs[0] is not differences[1].inputs[0] or call.delta.size != 1:
        return
    (a, near), (_, far) = (v.inputs for v in differences[:2])
    # PyTorch's ε is added to every difference, so that no distance is 0.
    gaps = [numbers(v) + 1e-6 for v in differences[:2]]
    distances = [np.linalg.norm(g, axis=1, keepdims=True) for g in gaps]
    to_near, to_far = (g / d for g, d in zip(gaps, distances, strict=True))
    constants = [float(v.value.item()) for v in call.group.inputs if isinstance(v.value, np.ndarray) and v.size == 1]
    margins = dict.fromkeys([float(getattr(call.module, "margin", 1.0)), *constants])
    reductions = (len(near.array()), " / N", r"\frac{1}{N} "), (1, "", "")
    for margin, (count, written, latex) in itertools.product(margins, reductions):
        violated = distances[0] - distances[1] + margin > 0
        scale = call.delta.item() / count * violated
        gradients = Gradients()
        gradients.add(a, scale * (to_near - to_far))
        gradients.add(near, -(scale * to_near))
        gradients.add(far, scale * to_far)
        equations = [
            plain("L = Σ max(‖a - p‖ - ‖a - n‖ + m, 0)" + written,
                  rf"L = {latex}\sum \max(\|a - p\| - \|a - n\| + m, 0)", f"margin m = {margin:g}"),
            equation("p", f"-(a - p) / ‖a - p‖{written}", rf"-{latex}\frac{{a - p}}{{\|a - p\|}}",
                     f"where the margin is not kept ({int(violated.sum())} of {len(violated)} triplets), 0 elsewhere: "
                     "a step against it moves p straight towards a"),
            equation("n", f"(a - n) / ‖a - n‖{written}", rf"{latex}\frac{{a - n}}{{\|a - n\|}}", "n is pushed away"),
            equation("a", "-∂L/∂p - ∂L/∂n", r"-\frac{\partial L}{\partial p} - \frac{\partial L}{\partial n}", ""),
        ]  # fmt: skip
        legend = call.legend(
            ("a", "a", "the anchor", a), ("p", "p", "the positive", near), ("n", "n", "the negative", far)
        )
        yield Candidate(equations, legend, gradients.found)


@form("vector_norm")
def length(call: Call) -> Iterator[Candidate]:
    """r = √Σ x² along some axes."""
    if not call.data():
        return
    x = call.data()[0]
    values = numbers(x)
    for count in range(1, len(x.shape) + 1):
        for axes in itertools.combinations(range(len(x.shape)), count):
            r = np.sqrt((values**2).sum(axis=axes, keepdims=True))
            if r.size != call.delta.size:
                continue
            equations = [
                plain("r = √Σ x²", r"r = \sqrt{\sum x^2}", "the length"),
                equation("x", "δ · x / r", r"\delta \, \frac{x}{r}", "straight outwards: the direction of x"),
            ]
            gradient = call.delta.reshape(r.shape) * np.where(r > 0, values / np.where(r > 0, r, 1), 0)
            yield Candidate(equations, call.legend(("x", "x", "", x), call.delta_row()), {x: gradient})
