"""Networks that the explanation was not built with, written as their users write them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

import chainrule as cr
from chainrule import nn
from chainrule.core.tensor import Tensor
from chainrule.nn import functional as F


def physics() -> Tensor:
    """A physics-informed network for u″ = -sin x with u = 0 at both ends: second derivatives in the loss."""
    model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
    x = cr.linspace(0, 3.14159, 12).reshape((12, 1))
    x.requires_grad = True
    u = model(x)
    du = cr.grad(u.sum(), x)
    ddu = cr.grad(du.sum(), x)
    residual = ddu + cr.sin(x)
    ends = cr.tensor([[0.0], [3.14159]])
    return (residual**2).mean() + 10 * (model(ends) ** 2).mean()


class Messages(nn.Module):
    """Each node adds up what its neighbours send and updates its state by a GRU cell."""

    def __init__(self, width: int) -> None:
        self.send = nn.Linear(2 * width, width)
        self.update = nn.GRUCell(width, width)

    def forward(self, h: Any, source: Any, target: Any, incidence: Any) -> Any:
        messages = F.relu(self.send(cr.concat([h[source], h[target]], axis=1)))
        return self.update(incidence @ messages, h)


def graph() -> Tensor:
    """Message passing over the edges of a small graph."""
    edges = np.array([[0, 1], [1, 0], [1, 2], [2, 1], [2, 3], [3, 2], [3, 0], [0, 3]]).T
    incidence = np.zeros((4, edges.shape[1]), np.float32)
    incidence[edges[1], np.arange(edges.shape[1])] = 1
    embed, rounds, read = nn.Embedding(3, 6), nn.ModuleList([Messages(6), Messages(6)]), nn.Linear(6, 2)
    h = embed(cr.tensor(np.array([0, 1, 1, 2])))
    for layer in rounds:
        h = layer(h, cr.tensor(edges[0]), cr.tensor(edges[1]), cr.tensor(incidence))
    return F.cross_entropy(read(h.mean(axis=0, keepdims=True)), cr.tensor(np.array([1])))


class Experts(nn.Module):
    """A mixture of experts of which each sample is answered by one."""

    def __init__(self, width: int, out: int, count: int) -> None:
        self.gate = nn.Linear(width, count)
        self.experts = nn.ModuleList(
            [nn.Sequential(nn.Linear(width, 8), nn.SiLU(), nn.Linear(8, out)) for _ in range(count)]
        )

    def forward(self, z: Any) -> Any:
        weights = F.softmax(self.gate(z), -1)
        best = cr.tensor(weights.numpy().argmax(-1))
        chosen = F.one_hot(best, len(self.experts)).astype(z.dtype) * weights
        answers = cr.stack([expert(z) for expert in self.experts], axis=1)
        return (answers * chosen[:, :, None]).sum(axis=1)


def variational() -> Tensor:
    """A variational autoencoder whose decoder is a mixture of experts."""
    encode, mean, spread = nn.Sequential(nn.Linear(6, 8), nn.ReLU()), nn.Linear(8, 2), nn.Linear(8, 2)
    x = cr.randn(5, 6)
    h = encode(x)
    mu, log_var = mean(h), spread(h)
    z = mu + cr.exp(log_var / 2) * cr.randn(5, 2)
    kl = -0.5 * (1 + log_var - mu**2 - cr.exp(log_var)).sum() / len(x)
    return F.mse_loss(Experts(2, 6, 4)(z), x, reduction="sum") / len(x) + 0.1 * kl


class Additive(nn.Module):
    """Attention by a small network over query and key (Bahdanau et al. 2015)."""

    def __init__(self, width: int) -> None:
        self.query, self.key = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.score = nn.Linear(width, 1, bias=False)

    def forward(self, state: Any, memory: Any) -> Any:
        energy = self.score(cr.tanh(self.query(state)[:, None] + self.key(memory)))
        attention = F.softmax(energy[..., 0], -1)
        return (attention[..., None] * memory).sum(axis=1)


def translation() -> Tensor:
    """Sequence to sequence: a GRU reads, an LSTM cell writes and looks back by attention."""
    embed, encoder, attend = nn.Embedding(9, 6), nn.GRU(6, 6, batch_first=True), Additive(6)
    cell, out = nn.LSTMCell(12, 6), nn.Linear(6, 9)
    words = np.random.default_rng(0).integers(0, 9, (2, 7))
    memory, last = encoder(embed(cr.tensor(words[:, :4])))
    h, c = last[0], cr.zeros((2, 6))
    scores = []
    for t in range(4, 6):
        h, c = cell(cr.concat([embed(cr.tensor(words[:, t])), attend(h, memory)], axis=1), (h, c))
        scores.append(out(h))
    return F.cross_entropy(cr.stack(scores, axis=1).reshape((-1, 9)), cr.tensor(words[:, 5:].reshape(-1)))


class Block(nn.Module):
    """A residual block over a torus."""

    def __init__(self, a: int, b: int) -> None:
        self.norm = nn.GroupNorm(2, a)
        self.conv = nn.Conv2d(a, b, 3, padding=1, padding_mode="circular")
        self.skip = nn.Conv2d(a, b, 1)

    def forward(self, x: Any) -> Any:
        return self.skip(x) + self.conv(F.silu(self.norm(x)))


def u_net() -> Tensor:
    """A U-Net with attention where it is deepest."""
    first, down, pool = nn.Conv2d(1, 4, 3, padding=1), Block(4, 8), nn.MaxPool2d(2)
    attention, up, join = nn.MultiheadAttention(8, 2, batch_first=True), nn.ConvTranspose2d(8, 4, 2, 2), Block(8, 1)
    clean = cr.randn(2, 1, 6, 6)
    top = first(clean + 0.5 * cr.randn(2, 1, 6, 6))
    low = pool(down(top))
    tokens = low.reshape((2, 8, 9)).permute(0, 2, 1)
    mixed = attention(tokens, tokens, tokens)[0]
    low = low + mixed.permute(0, 2, 1).reshape((2, 8, 3, 3))
    return F.smooth_l1_loss(join(cr.concat([up(low), top], axis=1)), clean)


NETWORKS: dict[str, Callable[[], Tensor]] = {
    "physics": physics, "graph": graph, "variational": variational, "translation": translation, "u-net": u_net,
}  # fmt: skip
