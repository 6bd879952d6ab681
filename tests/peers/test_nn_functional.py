"""nn.functional against torch.nn.functional in float64: values, gradients, second derivatives.

The samples are enumerated: a function exported without one fails `test_every_function_is_compared`.
"""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch

import chainrule.nn.functional as F
from tests.nn import image_samples
from tests.nn.samples import CASES, RANDOM, Case, call, label
from tests.peers.agreement import agree

# Compared in test_conv.py.
IMAGES = {case[0] for case in image_samples.functions()}
# PyTorch computes these with float32 constants (1/6, 1/alpha) even in float64.
ROUGH = {"hardsigmoid", "celu"}
# One derivative only: PyTorch has no second one, or none that is differentiable.
FIRST_ORDER = {
    "hardsigmoid", "multi_margin_loss", "multilabel_margin_loss", "embedding", "scaled_dot_product_attention",
}  # fmt: skip


def test_every_function_is_compared() -> None:
    missing = set(F.__all__) - {case.name for case in CASES} - RANDOM - IMAGES
    assert not missing, f"no comparison with PyTorch for {sorted(missing)}"


@pytest.mark.filterwarnings("ignore:reduction.*divides:UserWarning")
@pytest.mark.parametrize("case", CASES, ids=label)
def test_agrees_with_pytorch(case: Case) -> None:
    if case.name == "one_hot":
        np.testing.assert_array_equal(call(case, ()).numpy(), call(case, (), torch.nn.functional, torch.tensor).numpy())
        return
    agree(
        lambda *tensors: call(case, tensors),
        lambda *tensors: call(case, tensors, torch.nn.functional, torch.tensor),
        *case.inputs,
        orders=1 if case.name in FIRST_ORDER else 2,
        rtol=1e-7 if case.name in ROUGH else 1e-10,
    )


@pytest.mark.parametrize("name", sorted(set(F.__all__)))
def test_names_order_and_defaults_are_pytorchs(name: str) -> None:
    # Pooling functions are dispatchers; the function with the signature has an underscore.
    theirs = getattr(torch.nn.functional, f"_{name}" if "max_pool" in name else name)
    try:
        parameters = inspect.signature(theirs).parameters
    except ValueError:
        # Implemented in C++: its documentation begins with the signature.
        arguments = " ".join(theirs.__doc__.split("->")[0].split())[len(name) + 1 : -1]
        parameters = inspect.signature(eval(f"lambda {arguments}: None")).parameters
    expected = [(n, p.default) for n, p in parameters.items() if n not in ("_stacklevel", "out")]
    ours = [(n, p.default) for n, p in inspect.signature(getattr(F, name)).parameters.items()]
    assert ours == expected
