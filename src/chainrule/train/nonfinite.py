"""A loss or gradient that is not finite: the error, and where it began, which `explain` finds in the step's graph."""

from __future__ import annotations

import numpy as np

from ..core.errors import ChainruleError
from ..core.tensor import Tensor
from ..nn.module import Module


class NonFiniteError(ChainruleError, ArithmeticError):
    """The loss or a gradient became NaN or infinite; the message names where."""


def origin(loss: Tensor, model: Module) -> str:
    """What made `loss`, or a gradient of it, NaN or infinite, with the operands; nothing is run again."""
    from ..explain.explanation import explain  # not needed where all goes well

    e = explain(loss, names={"model": model})
    if all(np.isfinite(a).all() for a in (loss.numpy(), *(g.numpy() for g in e.gradient if g is not None))):
        return "the gradients of this step are finite one by one; their norm overflows"
    answer = e.why_not_finite()
    return "; ".join([answer.text, *(fact.text for fact in answer.evidence)])
