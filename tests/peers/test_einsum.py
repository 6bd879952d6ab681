"""`einsum`: values, gradients and second derivatives equal PyTorch's, real and complex."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import chainrule as cr
from tests.peers.agreement import agree, noise

pytestmark = pytest.mark.peers

CASES = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("bij,bjk->bik", (2, 2, 3), (2, 3, 2)),
    ("bhqd,bhkd->bhqk", (2, 2, 3, 4), (2, 2, 2, 4)),
    ("...ij,...jk->...ik", (2, 1, 2, 3), (3, 3, 2)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("iji->j", (3, 2, 3)),
    ("iij,jkk->ik", (2, 2, 3), (3, 4, 4)),
    ("ij->", (2, 3)),
    ("i,j,k->kij", (2,), (3,), (2,)),
    ("ij,i,j->", (2, 3), (2,), (3,)),
    ("ab,bc,cd,de->ea", (2, 3), (3, 2), (2, 4), (4, 2)),
    ("bi,bi->b", (3, 4), (3, 4)),
    ("i,i->i", (3,), (3,)),
    ("i,->i", (3,), ()),
    ("ij,jk->ik", (2, 1), (3, 4)),
]


@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
@pytest.mark.parametrize("case", CASES, ids=lambda c: c[0])
def test_einsum_equals_pytorch(case: tuple, dtype: type) -> None:
    expression, *shapes = case
    arrays = [noise(shape, dtype, i) for i, shape in enumerate(shapes)]
    agree(lambda *xs: cr.einsum(expression, *xs), lambda *ts: torch.einsum(expression, *ts), *arrays)
