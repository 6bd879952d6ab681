"""Questions about a gradient, answered in words with evidence from its graph; nothing is run again.

Why is it None, zero, NaN or infinite, tiny or huge, and by which ways did it come?
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..steps import flat
from .answer import Answer, Evidence, together
from .none import why_none
from .not_finite import why_not_finite
from .ways import paths, why_size
from .zero import why_zero

if TYPE_CHECKING:
    from ..explanation import Explanation


def answers(e: Explanation) -> list[Answer]:
    """What the state of the gradient gives rise to ask, the most pressing first."""
    if not e.targets:
        return [why_none(e)]
    gradients = [v.gradient for v in e.targets if v.gradient is not None and not v.several]
    entries = np.concatenate([np.abs(flat(g)) for g in gradients]) if gradients else np.zeros(1)
    if not np.isfinite(entries).all():
        return [why_not_finite(e)]
    if not entries.any():
        return [why_zero(e)]
    found = [why_size(e), paths(e)]
    if (entries == 0).mean() > 0.02:
        found.append(why_zero(e))
    return found
