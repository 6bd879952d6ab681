"""LoRA fine-tuning follows the same training in PyTorch step by step, on a network of `transformers`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"  # before the library is loaded: nothing is fetched from a hub

import numpy as np
import pytest
import torch
import transformers

from chainrule import Tensor, optim
from chainrule.interop import open_safetensors
from chainrule.interop.text_files import read_json
from chainrule.pretrained import Adapters
from chainrule.pretrained.llama_files import build, json_config
from chainrule.random import manual_seed
from chainrule.recipes.llm import next_token_loss

pytestmark = pytest.mark.peers
STEPS, RANK, ALPHA = 50, 4, 8.0


class Adapted(torch.nn.Module):
    """W x + α/r · B (A x), written for PyTorch."""

    def __init__(self, base: torch.nn.Linear, a: np.ndarray, b: np.ndarray) -> None:
        super().__init__()
        self.base = base
        self.a, self.b = (torch.nn.Parameter(torch.tensor(w)) for w in (a, b))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + (x @ self.a.T @ self.b.T) * (ALPHA / RANK)


# In float64, too, `transformers` normalises and turns vectors in float32.
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-6), (torch.float32, 1e-4)])
def test_losses_of_50_steps_and_first_gradients_agree(tmp_path: Path, dtype: torch.dtype, rtol: float) -> None:
    torch.manual_seed(0)
    sizes = {"vocab_size": 61, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 32}
    transformers.LlamaForCausalLM(transformers.LlamaConfig(initializer_range=0.2, **sizes)).save_pretrained(tmp_path)
    theirs = transformers.LlamaForCausalLM.from_pretrained(tmp_path, dtype=dtype).requires_grad_(False)
    ours = build(json_config(read_json(tmp_path / "config.json")), open_safetensors(tmp_path), tmp_path)
    manual_seed(0)
    adapters = Adapters(ours, ["q_proj", "v_proj"], RANK, ALPHA)
    if dtype == torch.float64:
        ours.double()
    pairs = {}
    for number, layer in enumerate(theirs.model.layers):
        for name in ("q_proj", "v_proj"):
            mine: Any = ours.get_submodule(f"model.layers.{number}.self_attn.{name}.adapter")
            adapted = Adapted(getattr(layer.self_attn, name), mine.lora_A.weight.numpy(), mine.lora_B.weight.numpy())
            setattr(layer.self_attn, name, adapted)
            pairs[f"{number}.{name}"] = (mine, adapted)
    a = optim.AdamW(adapters.parameters(), lr=3e-3, weight_decay=0.01)
    b = torch.optim.AdamW([p for p in theirs.parameters() if p.requires_grad], lr=3e-3, weight_decay=0.01)
    batches = np.random.default_rng(1).integers(0, 61, (5, 4, 17))
    losses: list[tuple[float, float]] = []
    for step in range(STEPS):
        tokens = batches[step % 5]
        a.zero_grad()
        loss = next_token_loss(ours, Tensor(tokens))
        loss.backward()
        b.zero_grad()
        scores = theirs(torch.tensor(tokens[:, :-1]), use_cache=False).logits
        expected = torch.nn.functional.cross_entropy(scores.reshape(-1, 61), torch.tensor(tokens[:, 1:]).reshape(-1))
        expected.backward()
        losses.append((loss.item(), expected.item()))
        for name, (mine, adapted) in pairs.items() if step < 2 else ():
            for w, p in ((mine.lora_A.weight, adapted.a), (mine.lora_B.weight, adapted.b)):
                wanted = p.grad.numpy()
                size = max(1e-6, float(np.abs(wanted).max()))
                np.testing.assert_allclose(w.grad.numpy(), wanted, rtol=10 * rtol, atol=10 * rtol * size, err_msg=name)
        a.step()
        b.step()
    found, wanted = np.array(losses).T
    np.testing.assert_allclose(found, wanted, rtol=rtol)
    assert wanted[-5:].mean() < wanted[:5].mean()
