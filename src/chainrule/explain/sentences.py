"""What a step did, in a sentence with its numbers."""

from __future__ import annotations

import numpy as np

from .steps import Step, Term, norm

_MOVES = frozenset({"reshape", "permute_dims", "flip", "identity", "astype", "project"})
_PICKS = frozenset({"index", "concat", "pad"})


def brief(value: float) -> str:
    """A number in a sentence: three significant digits and a true minus sign."""
    if not np.isfinite(value):
        return "NaN" if np.isnan(value) else "∞" if value > 0 else "−∞"
    mantissa, e, exponent = f"{value:.3g}".partition("e")
    return (f"{mantissa}e{int(exponent)}" if e else mantissa).replace("-", "−")


def percent(share: float) -> str:
    """A share in percent."""
    if not np.isfinite(share):
        return "–"
    if 0 < abs(share) < 0.01:
        return "< 1 %"
    return f"{100 * share:.0f} %".replace("-", "−")


def sentence(step: Step, *, is_loss: bool = False) -> str:
    """What happened in a step."""
    live = [t for t in step.terms if t.product is not None]
    if is_loss and not live:
        return "The loss's derivative by itself is 1: here the chain rule starts."
    if not live:
        stops = ", ".join(f"{t.consumer} ({t.primitive})" for t in step.terms) or "nothing that the loss depends on"
        return f"The gradient is zero: the derivative of {stops} is zero everywhere."
    size = norm(step.gradient)
    if len(live) == 1:
        return _one(step, live[0], size)
    parts = [f"{t.consumer} ({percent(t.share)})" for t in sorted(live, key=lambda t: -abs(t.share))[:4]]
    more = f" and {len(live) - 4} more" if len(live) > 4 else ""
    return (
        f"{step.name} is used {len(live)} times: the gradients that come back from {', '.join(parts)}{more} "
        f"add up to norm {brief(size)}."
    )


def _one(step: Step, term: Term, size: float) -> str:
    before = norm(term.upstream)
    change = f"the norm goes from {brief(before)} to {brief(size)}" if before != size else f"the norm is {brief(size)}"
    consumer = term.consumer
    if term.primitive in _MOVES:
        return f"{consumer} holds the same numbers in another arrangement; so does its gradient: {change}."
    if term.primitive in _PICKS:
        return f"{consumer} takes entries of {step.name}; they get its gradient, all others get 0: {change}."
    if term.primitive in ("sum", "mean"):
        return f"Every entry of {step.name} has the same part in {consumer}, so all get the same gradient: {change}."
    local = term.local
    if local is None:
        return f"Back through {term.primitive}, which computed {consumer}: {change}."
    values = np.abs(local) if local.dtype.kind == "c" else local
    if values.size == 0:
        return f"Back through {term.primitive}: there are no entries."
    low, high = float(values.min()), float(values.max())
    if low == high == 1:
        summed = local.shape != step.shape
        how = f"{step.name} served several entries, whose gradients add up" if summed else "passed on as it is"
        return f"{consumer} grows with {step.name} one to one: {how}; {change}."
    zeros = float((values == 0).mean())
    stopped = f", and is 0 at {percent(zeros)} of the entries" if zeros else ""
    slope = f"is {brief(low)}" if low == high else f"lies between {brief(low)} and {brief(high)}{stopped}"
    return f"Times the local derivative of {term.primitive}, which {slope}: {change}."
