"""A network of the visitor's own in the studio: a script with a `model` and a function `forward()`.

model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
x, y = …

def forward():
    return F.mse_loss(model(x), y)

loss = forward()      # so that `chainrule explain` takes the script, too
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.tensor import Tensor
from ..explain.script import ScriptError, load
from ..nn.module import Module
from .own import Own


def own_network(path: Path | str) -> Own:
    """Run a script and take its model and its loss.

    Raises:
        ScriptError: it cannot be run, or has no `model` or no `forward()` that returns a scalar tensor.
    """
    found: dict[str, Any] = load(path)
    model, forward = found.get("model"), found.get("forward")
    if not isinstance(model, Module) or not callable(forward):
        missing = "`model`, an nn.Module" if not isinstance(model, Module) else "`forward()`, which returns the loss"
        raise ScriptError(f"{path}: the studio needs {missing}, to compute the loss anew whenever a weight changes")

    def loss() -> Tensor:
        result = forward()
        if not isinstance(result, Tensor) or result.size != 1:
            raise ScriptError(f"{path}: forward() returns a loss, a tensor of one number; got {result!r}")
        return result

    if not loss().requires_grad:
        raise ScriptError(f"{path}: the loss of forward() does not depend on anything that requires a gradient")
    return Own(Path(path).name, model, loss, {k: v for k, v in found.items() if k not in ("loss", "forward")})
