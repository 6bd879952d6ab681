"""Graphs of 5,000 nodes: nothing recurses, and the document stays of bounded size."""

from __future__ import annotations

import sys

import numpy as np

import chainrule as cr
from chainrule.core.tensor import Tensor
from chainrule.recipes import find_recipe
from chainrule.train.first import first_loss


def test_five_thousand_nodes_are_explained_without_recursion() -> None:
    rng = np.random.default_rng(0)
    w = Tensor((rng.standard_normal((16, 16)) * 0.2).astype(np.float32), requires_grad=True)
    h = Tensor(rng.standard_normal((8, 16)).astype(np.float32))
    for _ in range(1250):
        h = cr.tanh(h @ w) + h * 0.5
    limit = sys.getrecursionlimit()
    try:
        sys.setrecursionlimit(300)
        e = cr.explain(cr.mean(h**2), wrt=w)
        steps = e.steps
        answer = e.why()
    finally:
        sys.setrecursionlimit(limit)
    assert len(steps) > 5000
    assert len(steps[-1].terms) == 1250
    assert abs(sum(t.share for t in steps[-1].terms) - 1) < 1e-4
    assert answer.text
    assert len(e.to_json()) < 8_000_000


def test_the_document_of_a_recipe_stays_far_below_the_page_s_two_megabytes() -> None:
    loss, _ = first_loss(find_recipe("fashion-mnist"), "fashion-mnist")
    assert len(cr.explain(loss).to_json()) < 1_000_000
