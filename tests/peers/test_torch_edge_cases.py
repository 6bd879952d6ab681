"""The PyTorch column of docs/numerics.md."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.edge_cases import Row, rows, same

pytestmark = pytest.mark.peers

NAMES: dict[str, Any] = {
    **{name: getattr(torch, name) for name in dir(torch) if not name.startswith("_")},
    **{
        name: getattr(torch.nn.functional, name)
        for name in ("softmax", "log_softmax", "softplus", "gelu", "leaky_relu")
    },
    "max": torch.amax,
    "min": torch.amin,
    "logsumexp": lambda x: torch.logsumexp(x, 0),
    "std": lambda x: torch.std(x, correction=0),
    "var": lambda x: torch.var(x, correction=0),
    "cumulative_prod": lambda x: torch.cumprod(x, 0),
}


@pytest.mark.parametrize("row", rows(), ids=lambda r: r.case)
def test_pytorch_gives_what_the_page_says(row: Row) -> None:
    xs = [torch.tensor(point, dtype=torch.float64, requires_grad=True) for point in row.points()]
    value, gradient = row.peer()
    local = dict(zip("ab", xs, strict=False))
    if value == "error":
        with pytest.raises(RuntimeError):
            eval(row.expression, dict(NAMES), local)
        return
    y = eval(row.expression, dict(NAMES), local)
    same(value, y.detach().numpy())
    for text, g in zip(gradient.split("; "), torch.autograd.grad(y, xs, torch.ones_like(y)), strict=True):
        same(text, g.numpy())
