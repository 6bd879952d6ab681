"""Array functions under `vmap`: a batch gives what its samples give one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import func

ALONG_AXIS = [
    "sum", "prod", "mean", "var", "std", "max", "min", "logsumexp", "cumulative_sum", "cumulative_prod", "argmax",
    "argmin", "all", "any", "sort", "argsort", "flip", "diff",
]  # fmt: skip
FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "clip": lambda t: cr.clip(t, -1, 1),
    "take": lambda t: cr.take(t, cr.tensor([0, 2]), axis=1),
    "take_along_axis": lambda t: cr.take_along_axis(t, cr.argsort(t, axis=1), axis=1),
    "tile": lambda t: cr.tile(t, (2, 1)),
    "repeat": lambda t: cr.repeat(t, 2, axis=0),
    "pad": lambda t: cr.pad(t, 1),
    "tril": cr.tril,
    "roll": lambda t: cr.roll(t, 1, axis=0),
    "searchsorted": lambda t: cr.searchsorted(cr.tensor([-1.0, 0.0, 1.0]), t),
    "tensordot": lambda t: cr.tensordot(t, t, axes=((0,), (0,))),
    "vecdot": lambda t: cr.vecdot(t, t),
    "where": lambda t: cr.where(t > 0, t, 0.0),
    "isclose": lambda t: cr.isclose(t, t),
    "gradient of a running product": func.grad(lambda t: cr.sum(cr.cumulative_prod(t, axis=1))),
    "gradient of a product": func.grad(cr.prod),
    "gradient of a deviation": func.grad(cr.std),
}


def _along(name: str) -> Callable[[Any], Any]:
    return lambda t: getattr(cr, name)(t, axis=0)


@pytest.mark.parametrize("name", ALONG_AXIS + list(FUNCTIONS))
def test_a_batch_gives_what_its_samples_give(name: str) -> None:
    function = FUNCTIONS.get(name) or _along(name)
    x = np.random.default_rng(0).normal(size=(3, 4, 5))
    found = func.vmap(function)(cr.tensor(x))
    expected = np.stack([function(cr.tensor(sample)).numpy() for sample in x])
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
