"""Weights to PyTorch and back, and GGUF's number formats beside ggml's own reader."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import safetensors.torch
import torch

import chainrule as cr
from chainrule import nn
from chainrule.core.errors import ArgumentError
from chainrule.interop import SafetensorsFile, from_torch, to_torch
from chainrule.interop.blocks import FORMATS

pytestmark = pytest.mark.peers


def test_a_module_of_pytorch_becomes_one_of_ours_and_back() -> None:
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    ours = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    ours.load_state_dict(from_torch(theirs))
    ours.eval(), theirs.eval()
    x = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    np.testing.assert_allclose(ours(cr.Tensor(x)).numpy(), theirs(torch.tensor(x)).numpy(force=True), rtol=1e-5)
    again = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    again.load_state_dict(to_torch(ours))
    for name, value in again.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name])


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_exactly(kind: torch.dtype, tmp_path: object) -> None:
    state = {"w": torch.randn(3, 5).to(kind)}
    expected = state["w"].float().numpy()
    found = from_torch(state)["w"]
    assert found.dtype == "float32"
    np.testing.assert_array_equal(found.numpy(), expected)
    safetensors.torch.save_file(state, f"{tmp_path}/a.safetensors")
    np.testing.assert_array_equal(SafetensorsFile(f"{tmp_path}/a.safetensors")["w"], expected)


def test_values_are_copied_both_ways() -> None:
    state = {"w": torch.zeros(2)}
    ours = from_torch(state)
    state["w"] += 1
    np.testing.assert_array_equal(ours["w"].numpy(), [0, 0])
    theirs = to_torch(ours)
    theirs["w"] += 1
    np.testing.assert_array_equal(ours["w"].numpy(), [0, 0])


@pytest.mark.parametrize("source", [3, [torch.zeros(2)], {"w": np.zeros(2)}])
def test_what_is_no_state_of_pytorch_is_named(source: object) -> None:
    with pytest.raises(ArgumentError, match="from_torch"):
        from_torch(source)


def test_tensors_are_exchanged_without_a_copy() -> None:
    ours = cr.tensor([1.0, 2.0])
    assert torch.equal(torch.from_numpy(np.array(ours)), torch.tensor([1.0, 2.0]))
    theirs = torch.tensor([3.0, 4.0])
    np.testing.assert_array_equal(cr.from_dlpack(theirs).numpy(), [3, 4])
    np.testing.assert_array_equal(torch.from_dlpack(ours).numpy(), [1, 2])


@pytest.mark.parametrize("code", [c for c, f in FORMATS.items() if f.name[0] != "I" and f.name != "F64"])
def test_number_formats_agree_with_ggml_for_any_bytes(code: int) -> None:
    form = FORMATS[code]
    kind = gguf.GGMLQuantizationType(code)
    assert (form.name, (form.weights, form.size)) == (kind.name, gguf.GGML_QUANT_SIZES[kind])
    raw = np.random.default_rng(code).integers(0, 256, (64, form.size), dtype=np.uint8)
    with np.errstate(all="ignore"):
        expected = gguf.dequantize(raw if form.weights > 1 else raw.reshape(-1), kind)
        found = form.decode(raw)
    np.testing.assert_array_equal(found.astype(np.float32).reshape(-1), expected.reshape(-1))
