"""The recipes' networks, losses and batches at their own sizes, in either library, from the same source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np


class Workload(NamedTuple):
    """What one update of a recipe takes.

    Attributes:
        make: makes the network.
        loss: of the network and a batch.
        batch: arrays.
    """

    make: Callable[[], Any]
    loss: Callable[[Any, tuple[Any, ...]], Any]
    batch: list[np.ndarray]


def library(name: str) -> Any:
    """chainrule or PyTorch, by its name in tables."""
    if name == "chainrule":
        import chainrule

        return chainrule
    import torch

    return torch


def step(name: str, work: Workload, compiled: bool = False) -> Callable[[], float]:
    """One update with AdamW: gradients set to zero, forward, backward, optimiser; as one program if `compiled`."""
    made = library(name)
    model = work.make()
    optimizer = made.optim.AdamW([p for p in model.parameters() if p.requires_grad], 1e-3)
    convert = made.Tensor if name == "chainrule" else made.tensor
    batch = tuple(convert(array) for array in work.batch)

    def update(*batch: Any) -> Any:
        optimizer.zero_grad()
        value = work.loss(model, batch)
        value.backward()
        optimizer.step()
        return value

    run = made.compile(update) if compiled else update
    return lambda: run(*batch).item()


def _parts(name: str, *parts: Any, **names: Any) -> dict[str, Any]:
    if name == "chainrule":
        return {part.__name__: part for part in parts}
    from .same_source import in_pytorch

    return in_pytorch(*parts, **names)


def _classified(name: str, make: Callable[[], Any], batch: int) -> Workload:
    rng = np.random.default_rng(0)
    entropy = library(name).nn.functional.cross_entropy
    images = [rng.standard_normal((batch, 1, 28, 28), np.float32), rng.integers(0, 10, batch)]
    return Workload(make, lambda model, given: entropy(model(given[0]), given[1]), images)


def mlp(name: str) -> Workload:
    """`fashion-mnist`, batch 64."""
    from chainrule.recipes import fashion_mnist

    made = _parts(name, fashion_mnist.MLP)["MLP"]
    return _classified(name, made, 64)


def cnn(name: str) -> Workload:
    """`cnn`, batch 128."""
    from chainrule.recipes import cnn

    return _classified(name, _parts(name, cnn.Block, cnn.ResNet)["ResNet"], 128)


def detector(name: str) -> Workload:
    """`detector`, batch 16."""
    from chainrule.data import DataLoader, FashionMNIST
    from chainrule.recipes import detector
    from chainrule.recipes.cnn import Block
    from chainrule.recipes.scenes import Scenes

    parts = (Block, detector.Detector, detector.around_cell, detector.detection_loss, detector.objective)
    space = _parts(name, *parts, STRIDE=detector.STRIDE)
    scenes = detector.Targets(Scenes(FashionMNIST(), True, 16, seed=0), 10)
    batch = [t.numpy().copy() for t in next(iter(DataLoader(scenes, 16)))]
    return Workload(lambda: space["Detector"](10), space["objective"], batch)


def diffusion(name: str) -> Workload:
    """`diffusion`, batch 64."""
    from chainrule.recipes import diffusion

    parts = (diffusion.Block, diffusion.UNet, diffusion.waves, diffusion.objective)
    space = _parts(name, *parts, CLASSES=diffusion.CLASSES, NO_CLASS=diffusion.NO_CLASS)
    rng = np.random.default_rng(0)
    batch = [rng.standard_normal((64, 1, 28, 28), np.float32), rng.integers(0, 10, 64)]
    return Workload(space["UNet"], space["objective"], batch)


def rnn(name: str) -> Workload:
    """`rnn`, batch 16, recordings of 7 to 29 frames of 12 numbers."""
    from chainrule.recipes import rnn

    if name == "chainrule":
        made = rnn.Listener
    else:
        import torch

        packing = torch.nn.utils.rnn.pack_padded_sequence
        made = _parts(name, rnn.Listener, Settings=rnn.Settings, pack_padded_sequence=packing)["Listener"]
    entropy = library(name).nn.functional.cross_entropy
    rng = np.random.default_rng(0)
    lengths = np.sort(rng.integers(7, 30, 16))[::-1].copy()
    batch = [rng.standard_normal((16, lengths[0], 12), np.float32), lengths, rng.integers(0, 9, 16)]
    mean, deviation = np.zeros(12, np.float32), np.ones(12, np.float32)
    return Workload(
        lambda: made(rnn.Settings(), mean, deviation, 9),
        lambda model, given: entropy(model((given[0], given[1])), given[2]),
        batch,
    )


def gpt_parts(name: str) -> tuple[Any, Any]:
    """The class of the recipe's network, and its loss."""
    from chainrule.recipes import gpt

    names = {} if name == "chainrule" else {"Settings": gpt.Settings, "arange": library(name).arange}
    space = _parts(name, gpt.Block, gpt.GPT, gpt.next_character_loss, **names)
    return space["GPT"], space["next_character_loss"]


def gpt(name: str) -> Workload:
    """`gpt`, 16 windows of 64 of 86 characters."""
    from chainrule.recipes import gpt

    settings = gpt.Settings()
    made, loss = gpt_parts(name)
    codes = np.random.default_rng(0).integers(0, 86, (settings.batch_size, settings.context + 1))
    batch = [codes[:, :-1].copy(), codes[:, 1:].copy()]
    return Workload(lambda: made(86, settings), lambda model, given: loss(model(given[0]), given[1]), batch)


SMOLLM2 = {
    "vocab_size": 49152,
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "head_dim": 64,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
}


def llm(name: str, checkpointed: bool = False) -> Workload:
    """`llm`: LoRA on a network of SmolLM2-135M's sizes, 4 windows of 128 tokens; for PyTorch that of `transformers`."""
    tokens = [np.random.default_rng(0).integers(0, SMOLLM2["vocab_size"], (4, 129))]
    if name == "chainrule":
        from chainrule.nn import init
        from chainrule.pretrained import Adapters, Llama, LlamaConfig
        from chainrule.recipes.llm import next_token_loss

        def make() -> Any:
            with init.skipped():
                model = Llama(LlamaConfig(**SMOLLM2))  # type: ignore[arg-type]
            for p in model.parameters():
                p.assign(np.full(p.shape, 0.01, np.float32))
            Adapters(model, ["q_proj", "v_proj"])
            model.model.checkpointed = checkpointed
            return model

        return Workload(make, lambda model, batch: next_token_loss(model, batch[0]), tokens)
    import torch
    import transformers

    class Adapted(torch.nn.Module):
        def __init__(self, base: torch.nn.Linear) -> None:
            super().__init__()
            self.base = base
            self.a = torch.nn.Linear(base.in_features, 8, bias=False)
            self.b = torch.nn.Linear(8, base.out_features, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.base(x) + self.b(self.a(x)) * 2.0

    def make_torch() -> Any:
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SMOLLM2)).requires_grad_(False)
        for layer in model.model.layers:
            layer.self_attn.q_proj, layer.self_attn.v_proj = map(
                Adapted, (layer.self_attn.q_proj, layer.self_attn.v_proj)
            )
        if checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        return model.train()

    def loss(model: Any, batch: tuple[Any, ...]) -> Any:
        scores = model(batch[0][:, :-1], use_cache=False).logits
        return torch.nn.functional.cross_entropy(scores.reshape(-1, scores.shape[-1]), batch[0][:, 1:].reshape(-1))

    return Workload(make_torch, loss, tokens)


def llm_checkpointed(name: str) -> Workload:
    """`llm --checkpointed`, and gradient checkpointing of `transformers`."""
    return llm(name, checkpointed=True)


TASKS: dict[str, Callable[[str], Workload]] = {
    "fashion-mnist, batch 64": mlp,
    "cnn, batch 128": cnn,
    "detector, batch 16": detector,
    "diffusion, batch 64": diffusion,
    "rnn, batch 16": rnn,
    "gpt, 16 × 64 characters": gpt,
    "llm by LoRA, 4 × 128 tokens": llm,
    "the same, layers computed twice": llm_checkpointed,
}
