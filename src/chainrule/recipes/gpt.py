"""`chainrule train gpt`: a decoder-only transformer that learns to write like a book, character by character.

The architecture is that of GPT-2 (Radford et al. 2019): blocks of causal self-attention and a
perceptron, each behind a layer norm and around a residual connection, learned positions, and the
token embedding used again to score the next character. Samples are printed while it trains.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .. import nn, optim
from ..array import arange
from ..core.autodiff import no_grad
from ..core.tensor import Tensor
from ..data import Characters, DataLoader, Windows, read_text
from ..nn import functional as F
from ..random import Generator, manual_seed, rand
from ..train import Job, evaluate
from .report import save_plot
from .settings import Settings as BaseSettings
from .settings import setting

BETAS = (0.9, 0.95)  # of AdamW


@dataclass(frozen=True)
class Settings(BaseSettings):
    """What can be chosen about a run."""

    FAST: ClassVar = {"steps": 30, "layers": 2, "width": 32, "heads": 2, "context": 32, "sample": 60}

    text: str = setting("moby-dick", "moby-dick, shakespeare, or the path of a text file.")
    steps: int = setting(2000, "Updates.", minimum=1)
    batch_size: int = setting(16, "Windows a step.", minimum=1)
    lr: float = setting(2e-3, "Highest learning rate; it falls to a tenth along a cosine.")
    layers: int = setting(4, "Blocks.", minimum=1)
    width: int = setting(128, "Width of the sequence; a multiple of the heads.", minimum=1)
    heads: int = setting(4, "Attention heads.", minimum=1)
    context: int = setting(64, "Characters that the network sees.", minimum=1)
    dropout: float = setting(0.0, "Share of activations that is dropped in training.", minimum=0)
    sample: int = setting(300, "Characters of each sample.", minimum=1)
    temperature: float = setting(0.8, "How freely to choose characters; near 0 always the likeliest.", minimum=0.01)


class Block(nn.Module):
    """x + attention(norm(x)), then x + perceptron(norm(x))."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        self.heads = heads
        self.norm1 = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.joined = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.dropout = nn.Dropout(dropout)

    def attention(self, x: Any) -> Any:
        n, t, width = x.shape
        split = self.qkv(x).reshape((n, t, 3, self.heads, width // self.heads))
        q, k, v = (split[:, :, i].permute(0, 2, 1, 3) for i in range(3))  # (n, heads, t, width / heads)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.joined(mixed.permute(0, 2, 1, 3).reshape((n, t, width)))

    def forward(self, x: Any) -> Any:
        x = x + self.dropout(self.attention(self.norm1(x)))
        return x + self.dropout(self.perceptron(self.norm2(x)))


class GPT(nn.Module):
    """Codes (N, T) → scores of the next code at each position (N, T, symbols); T at most `context`."""

    def __init__(self, symbols: int, settings: Settings) -> None:
        width, layers = settings.width, settings.layers
        self.tokens = nn.Embedding(symbols, width)
        self.positions = nn.Embedding(settings.context, width)
        self.blocks = nn.Sequential(*(Block(width, settings.heads, settings.dropout) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        for name, weight in self.named_parameters():
            if weight.ndim > 1:
                # The branches of a block add up along the depth: their last layers start smaller.
                deep = name.endswith(("joined.weight", "perceptron.2.weight"))
                nn.init.normal_(weight, std=0.02 / (2 * layers) ** 0.5 if deep else 0.02)

    def forward(self, codes: Tensor) -> Any:
        x = self.tokens(codes) + self.positions(arange(codes.shape[1]))
        return F.linear(self.norm(self.blocks(x)), self.tokens.weight)


def next_character_loss(scores: Any, target: Tensor) -> Any:
    """Mean cross entropy in nats a character."""
    return F.cross_entropy(scores.reshape((-1, scores.shape[-1])), target.reshape((-1,)))


def load(settings: Settings) -> tuple[Characters, Windows, Windows, str]:
    """The characters, windows of the first nine tenths of the text, a quarter of those of the rest, and its origin."""
    text, source = read_text(settings.text, settings.data)
    characters = Characters(text)
    codes = characters.encode(text)
    border = len(codes) * 9 // 10
    held_out = codes[border : border + 20_000] if settings.fast else codes[border:]
    validation = Windows(held_out, settings.context, 4 * settings.context)
    return characters, Windows(codes[:border], settings.context), validation, source


def train(job: Job) -> dict[str, Any]:
    """Train as the run's settings say, printing samples, and return the results."""
    settings = Settings(**job.run.settings)
    characters, windows, held_out, source = load(settings)
    manual_seed(settings.seed)
    model = GPT(len(characters), settings)
    loader = DataLoader(windows, settings.batch_size, shuffle=True, drop_last=True)
    optimizer = optim.AdamW(decay_matrices(model), lr=settings.lr, betas=BETAS)
    weights = sum(p.size for p in model.parameters())
    job.say(f"{source}: {len(windows.codes):,} characters to train on, {len(characters)} different ones")
    job.say(f"{settings.layers} blocks of width {settings.width}, {settings.heads} heads, {weights:,} weights")
    job.say(f"{settings.steps} steps of {settings.batch_size} windows of {settings.context}; run {job.run.folder}")

    reading = job.compiled(model)

    def validate() -> dict[str, float]:
        found = evaluate(reading, DataLoader(held_out, 50), next_character_loss)
        job.say("\n" + characters.decode(write(reading, windows.codes[:12], settings)) + "\n")
        return found

    done = job.fit(
        model,
        loader,
        optimizer,
        loss=next_character_loss,
        steps=settings.steps,
        scheduler=optim.lr_scheduler.LambdaLR(optimizer, warm_up_then_cosine(settings.steps)),
        clip_norm=1.0,
        validation=validate,
        unit="windows",
    )
    loss = done.validation["loss"]
    job.say(f"validation loss {loss:.4f} nats a character, {done.seconds:.0f} s of training")
    save_plot(job.run, f"GPT on {settings.text}: validation loss {loss:.3f}", job.reporter)
    job.say(f"saved in {job.run.folder}: training.png, checkpoints, metrics.jsonl")
    return {
        "recipe": job.run.recipe,
        "run": str(job.run.folder),
        "data": source,
        "weights": weights,
        "steps": done.steps,
        "validation_loss": loss,
        "seconds": done.seconds,
    }


def decay_matrices(model: Any) -> list[dict[str, Any]]:
    """The groups of an optimiser that lets matrices decay, but no bias and no scale of a norm."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]


def warm_up_then_cosine(steps: int) -> Callable[[int], float]:
    """The factor of the learning rate at each step: up along a line, then down to a tenth along a cosine."""
    warm_up = max(1, min(100, steps // 10))

    def factor(step: int) -> float:
        if step < warm_up:
            return (step + 1) / warm_up
        share = (step - warm_up) / max(1, steps - warm_up)
        return 0.1 + 0.45 * (1 + float(np.cos(np.pi * share)))

    return factor


@no_grad()
def write(model: nn.Module, prompt: np.ndarray, settings: Settings) -> np.ndarray:
    """The codes of a prompt and of a continuation that the network chooses one by one."""
    was_training = model.training
    model.eval()
    codes, chance = list(prompt), Generator(settings.seed)
    for _ in range(settings.sample):
        read = codes[-settings.context :]
        window = np.zeros((1, settings.context), np.int64)  # of one length always; what follows is not seen
        window[0, : len(read)] = read
        p = F.softmax(model(Tensor(window))[0, len(read) - 1] / settings.temperature, -1).numpy()
        drawn = rand(1, generator=chance).item() * p.sum()
        codes.append(min(int(np.searchsorted(np.cumsum(p), drawn, side="right")), len(p) - 1))
    model.train(was_training)
    return np.array(codes)
