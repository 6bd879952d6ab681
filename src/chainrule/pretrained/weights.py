"""Putting the tensors of a file into a network that was described beside them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from .. import nn
from ..core.errors import DataError
from ..interop import TensorFile
from ..nn import init

M = TypeVar("M", bound=nn.Module)


def load_weights(make: Callable[[], M], size: int, weights: TensorFile, path: Path, surplus: str) -> M:
    """A network with the weights of a file, in evaluation mode and without gradients.

    Args:
        make: makes the network.
        size: how many weights it has; checked before memory is taken for them.
        weights: the file's tensors under the network's names.
        path: what to call the file.
        surplus: pattern of names that the file may hold besides.

    Raises:
        DataError: names are missing or unknown, or there are fewer numbers than the network needs.
        StateDictError: shapes do not fit; the message lists them.
    """
    found = sum(math.prod(weights.shape(name)) for name in weights)
    if size > found:
        raise DataError(f"{path}: its sizes ask for {size:,} weights, it holds {found:,}")
    with init.skipped():
        model = make()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    unexpected = [name for name in unexpected if not re.fullmatch(surplus, name)]
    if missing or unexpected:
        listed = [f"it lacks {name}" for name in missing] + [f"it holds {name}" for name in unexpected]
        raise DataError(f"{path}: its tensors are not those of {type(model).__name__} here: {', '.join(listed[:8])}")
    return model.eval().requires_grad_(False)
