"""The training steps that `bench_compile` times, in one source for chainrule and PyTorch.

Each function takes the library's module and returns a step of no arguments that can be compiled as a
whole: new gradients, loss, backward pass, optimiser. Weights are the library's own initial ones; batches are the
same random numbers everywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

Step = tuple[Callable[..., Any], tuple[Any, ...]]


def data(library: ModuleType, shape: tuple[int, ...], classes: int = 0, seed: int = 0) -> Any:
    """Normal numbers, or integers below `classes`."""
    rng = np.random.default_rng(seed)
    array = rng.integers(0, classes, shape) if classes else rng.standard_normal(shape).astype(np.float32)
    return library.asarray(array)


def permuted(x: Any, axes: tuple[int, ...]) -> Any:
    """The axes in another order."""
    return x.permute(axes) if hasattr(x, "permute") and not hasattr(x, "__array_namespace__") else _permute(x, axes)


def _permute(x: Any, axes: tuple[int, ...]) -> Any:
    return x.__array_namespace__().permute_dims(x, axes)


def adam(library: ModuleType, parameters: Any, lr: float = 1e-3) -> Any:
    """Adam, in PyTorch's fused form."""
    return library.optim.Adam(list(parameters), lr=lr, fused=True)


def training(library: ModuleType, model: Any, loss_of: Callable[..., Any], *batch: Any) -> Step:
    """A step of Adam."""
    optimizer = adam(library, model.parameters())

    def step(*batch: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(*batch)
        loss.backward()
        optimizer.step()
        return loss

    return step, batch


def classifier(library: ModuleType, model: Any, shape: tuple[int, ...], classes: int) -> Step:
    """A step with cross entropy."""
    cross_entropy = library.nn.functional.cross_entropy
    x, y = data(library, shape), data(library, shape[:1], classes, 1)
    return training(library, model, lambda x, y: cross_entropy(model(x), y), x, y)


def tiny_mlp(library: ModuleType) -> Step:
    """4-64-64-2, tanh, batch 32."""
    nn = library.nn
    model = nn.Sequential(nn.Linear(4, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
    return classifier(library, model, (32, 4), 2)


def mlp(library: ModuleType) -> Step:
    """784-512-512-10, ReLU, batch 128."""
    nn = library.nn
    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    return classifier(library, model, (128, 784), 10)


def wide_mlp(library: ModuleType) -> Step:
    """2048-2048-2048, ReLU, batch 256."""
    nn = library.nn
    model = nn.Sequential(nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 2048))
    return classifier(library, model, (256, 2048), 2048)


def cnn(library: ModuleType) -> Step:
    """3×32×32, convolutions 32-64-pool-64-pool, batch 64."""
    from .bench_conv import plain

    return classifier(library, plain(library), (64, 3, 32, 32), 10)


def residual_cnn(library: ModuleType) -> Step:
    """1×28×28, three residual blocks with batch norm, batch 64."""
    from .bench_conv import residual

    return classifier(library, residual(library), (64, 1, 28, 28), 10)


def lstm(library: ModuleType) -> Step:
    """LSTM of 128, 64 steps of 32 numbers, batch 32."""
    nn = library.nn

    class Last(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(32, 128, batch_first=True)
            self.out = nn.Linear(128, 10)

        def forward(self, x: Any) -> Any:
            return self.out(self.lstm(x)[0][:, -1])

    return classifier(library, Last(), (32, 64, 32), 10)


def gpt(library: ModuleType, layers: int, width: int, heads: int, length: int, batch: int, words: int = 65) -> Step:
    """A transformer that predicts the next token."""
    nn, functional = library.nn, library.nn.functional

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.fc, self.out = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Any) -> Any:
            qkv = self.qkv(self.norm1(x)).reshape(batch, length, 3, heads, width // heads)
            q, k, v = (permuted(qkv[:, :, i], (0, 2, 1, 3)) for i in range(3))
            mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + self.proj(permuted(mixed, (0, 2, 1, 3)).reshape(batch, length, width))
            return x + self.out(functional.gelu(self.fc(self.norm2(x))))

    class Transformer(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.token, self.place = nn.Embedding(words, width), nn.Embedding(length, width)
            self.blocks = nn.Sequential(*(Block() for _ in range(layers)))
            self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, words, bias=False)

        def forward(self, tokens: Any, places: Any) -> Any:
            return self.head(self.norm(self.blocks(self.token(tokens) + self.place(places))))

    model = Transformer()
    places = library.asarray(np.arange(length))
    tokens, targets = (data(library, (batch, length), words, seed) for seed in (0, 1))

    def loss_of(tokens: Any, targets: Any) -> Any:
        logits = model(tokens, places)
        return functional.cross_entropy(logits.reshape(batch * length, words), targets.reshape(batch * length))

    return training(library, model, loss_of, tokens, targets)


def small_gpt(library: ModuleType) -> Step:
    """4 layers of 128, 64 tokens, batch 12."""
    return gpt(library, 4, 128, 4, 64, 12)


def large_gpt(library: ModuleType) -> Step:
    """6 layers of 384, 256 tokens, batch 4."""
    return gpt(library, 6, 384, 6, 256, 4)


def unet(library: ModuleType) -> Step:
    """The diffusion recipe's U-Net (48 channels), batch 32."""
    nn, functional = library.nn, library.nn.functional
    width = 48

    class Block(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.norm1, self.norm2 = nn.GroupNorm(8, channels), nn.GroupNorm(8, channels)
            self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
            self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
            self.scale, self.shift = nn.Linear(4 * width, channels), nn.Linear(4 * width, channels)

        def forward(self, x: Any, wanted: Any) -> Any:
            y = self.norm2(self.conv1(functional.silu(self.norm1(x))))
            y = y * (1 + self.scale(wanted)[:, :, None, None]) + self.shift(wanted)[:, :, None, None]
            return x + self.conv2(functional.silu(y))

    class UNet(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.time, self.label = nn.Linear(32, 4 * width), nn.Embedding(11, 4 * width)
            self.wanted = nn.Linear(4 * width, 4 * width)
            self.enter = nn.Conv2d(4, width, 3, padding=1)
            self.left, self.right = Block(width), Block(width)
            self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
            self.deep1, self.deep2 = Block(2 * width), Block(2 * width)
            self.up = nn.Conv2d(2 * width, width, 3, padding=1)
            self.norm = nn.GroupNorm(8, width)
            self.leave = nn.Conv2d(width, 4, 3, padding=1)

        def forward(self, x: Any, waves: Any, label: Any) -> Any:
            wanted = functional.silu(self.wanted(functional.silu(self.time(waves) + self.label(label))))
            x = self.left(self.enter(functional.pixel_unshuffle(x, 2)), wanted)
            y = self.deep2(self.deep1(self.down(x), wanted), wanted)
            y = self.right(x + self.up(functional.interpolate(y, scale_factor=2.0)), wanted)
            return functional.pixel_shuffle(self.leave(functional.silu(self.norm(y))), 2)

    model = UNet()
    images, velocity = data(library, (32, 1, 28, 28)), data(library, (32, 1, 28, 28), seed=1)
    waves, labels = data(library, (32, 32), seed=2), data(library, (32,), 11, 3)

    def loss_of(images: Any, waves: Any, labels: Any, velocity: Any) -> Any:
        return functional.mse_loss(model(images, waves, labels), velocity)

    return training(library, model, loss_of, images, waves, labels, velocity)


def dqn(library: ModuleType) -> Step:
    """Deep Q-learning: 4-128-128-2 and its target network, Huber loss, batch 128."""
    nn, functional = library.nn, library.nn.functional

    def network() -> Any:
        return nn.Sequential(nn.Linear(4, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 2))

    policy, target = network(), network()
    states, after = data(library, (128, 4)), data(library, (128, 4), seed=1)
    actions, rewards = data(library, (128,), 2, 2), data(library, (128,), seed=3)
    rows = library.asarray(np.arange(128))

    def loss_of(states: Any, actions: Any, rewards: Any, after: Any) -> Any:
        with library.no_grad():
            best = target(after).max(-1)
            wanted = rewards + 0.99 * (best.values if hasattr(best, "values") else best)
        return functional.smooth_l1_loss(policy(states)[rows, actions], wanted)

    return training(library, policy, loss_of, states, actions, rewards, after)


def adam_update(library: ModuleType) -> Step:
    """Adam alone, ten parameters of a million numbers."""
    parameters = [library.nn.Parameter(data(library, (1000, 1000), seed=i)) for i in range(10)]
    gradients = [data(library, (1000, 1000), seed=i + 10) for i in range(10)]
    optimizer = adam(library, parameters)

    def step(*gradients: Any) -> Any:
        for p, g in zip(parameters, gradients, strict=True):
            p.grad = g
        optimizer.step()
        return parameters[0][0, 0] * 1

    return step, tuple(gradients)


def cross_entropy(library: ModuleType) -> Step:
    """Softmax cross entropy over 50 000 classes and its gradient, 64 rows."""
    weight = library.nn.Parameter(data(library, (64, 50_000)))
    y = data(library, (64,), 50_000, 1)
    functional = library.nn.functional

    def step(y: Any) -> Any:
        weight.grad = None
        loss = functional.cross_entropy(weight, y)
        loss.backward()
        return loss

    return step, (y,)


TASKS: dict[str, Callable[[ModuleType], Step]] = {
    f.__name__: f
    for f in (
        tiny_mlp, mlp, wide_mlp, cnn, residual_cnn, lstm, small_gpt, large_gpt, unet, dqn, adam_update, cross_entropy,
    )
}  # fmt: skip
