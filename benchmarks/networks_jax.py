"""The training steps of `networks` in JAX: plain functions of parameters, jitted whole, with donated state."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Step = tuple[Callable[..., Any], tuple[Any, ...]]
_rng = np.random.default_rng(7)


def data(shape: tuple[int, ...], classes: int = 0, seed: int = 0) -> Any:
    """As in `networks`."""
    rng = np.random.default_rng(seed)
    return jnp.asarray(rng.integers(0, classes, shape) if classes else rng.standard_normal(shape).astype(np.float32))


def weight(*shape: int) -> Any:
    """Initial values of about PyTorch's size."""
    bound = 1 / np.sqrt(np.prod(shape[1:]) or 1)
    return jnp.asarray(_rng.uniform(-bound, bound, shape).astype(np.float32))


def training(parameters: Any, loss_of: Callable[..., Any], *batch: Any) -> Step:
    """A step of Adam; parameters and moments stay inside."""
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    state = [(parameters, zeros, jax.tree.map(jnp.zeros_like, parameters), jnp.zeros(()))]

    def update(state: Any, *batch: Any) -> Any:
        p, m, v, t = state
        loss, g = jax.value_and_grad(loss_of)(p, *batch)
        t = t + 1
        m = jax.tree.map(lambda m, g: m + 0.1 * (g - m), m, g)
        v = jax.tree.map(lambda v, g: v + 0.001 * (g * g - v), v, g)
        root = jnp.sqrt(1 - 0.999**t)
        rate = 1e-3 * root / (1 - 0.9**t)
        p = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8 * root), p, m, v)
        return (p, m, v, t), loss

    compiled = jax.jit(update, donate_argnums=(0,))

    def step(*batch: Any) -> Any:
        state[0], loss = compiled(state[0], *batch)
        return loss

    return step, batch


def log_likelihood(logits: Any, y: Any) -> Any:
    """Cross entropy."""
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean()


def dense(sizes: Sequence[int]) -> list[Any]:
    """Weights and biases of an MLP."""
    return [(weight(b, a), jnp.zeros(b)) for a, b in pairwise(sizes)]


def forward(layers: Any, x: Any, act: Callable[[Any], Any]) -> Any:
    """The MLP."""
    for w, b in layers[:-1]:
        x = act(x @ w.T + b)
    w, b = layers[-1]
    return x @ w.T + b


def _mlp(sizes: Sequence[int], batch: int, act: Callable[[Any], Any]) -> Step:
    x, y = data((batch, sizes[0])), data((batch,), sizes[-1], 1)
    return training(dense(sizes), lambda p, x, y: log_likelihood(forward(p, x, act), y), x, y)


def tiny_mlp() -> Step:
    """See `networks`."""
    return _mlp((4, 64, 64, 2), 32, jnp.tanh)


def mlp() -> Step:
    """See `networks`."""
    return _mlp((784, 512, 512, 10), 128, jax.nn.relu)


def wide_mlp() -> Step:
    """See `networks`."""
    return _mlp((2048, 2048, 2048), 256, jax.nn.relu)


def conv(x: Any, w: Any, stride: int = 1) -> Any:
    """A convolution of NCHW images, padded to keep their size."""
    pad = w.shape[2] // 2
    return jax.lax.conv_general_dilated(
        x, w, (stride, stride), [(pad, pad)] * 2, dimension_numbers=("NCHW", "OIHW", "NCHW")
    )


def pooled(x: Any) -> Any:
    """2×2 maxima."""
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


def bias(b: Any) -> Any:
    """One number for each channel."""
    return b[None, :, None, None]


def cnn() -> Step:
    """See `networks`."""
    parameters = {
        "convs": [(weight(o, i, 3, 3), jnp.zeros(o)) for i, o in ((3, 32), (32, 64), (64, 64))],
        "out": (weight(10, 4096), jnp.zeros(10)),
    }

    def loss_of(p: Any, x: Any, y: Any) -> Any:
        for place, (w, b) in enumerate(p["convs"]):
            x = jax.nn.relu(conv(x, w) + bias(b))
            x = pooled(x) if place else x
        w, b = p["out"]
        return log_likelihood(x.reshape(len(x), -1) @ w.T + b, y)

    return training(parameters, loss_of, data((64, 3, 32, 32)), data((64,), 10, 1))


def batch_norm(x: Any, p: Any) -> Any:
    """Standardised over the batch, scaled and shifted."""
    mean, var = x.mean((0, 2, 3), keepdims=True), x.var((0, 2, 3), keepdims=True)
    return (x - mean) * jax.lax.rsqrt(var + 1e-5) * bias(p[0]) + bias(p[1])


def residual_cnn() -> Step:
    """See `networks`; without the running statistics, which the loss does not need."""

    def block(i: int, o: int) -> Any:
        made = {"conv1": weight(o, i, 3, 3), "conv2": weight(o, o, 3, 3)}
        made |= {f"bn{k}": (jnp.ones(o), jnp.zeros(o)) for k in (1, 2)}
        return made if i == o else made | {"short": weight(o, i, 1, 1)}

    parameters = {
        "enter": (weight(32, 1, 3, 3), jnp.zeros(32)),
        "blocks": [block(32, 32), block(32, 64), block(64, 128)],
        "out": (weight(10, 128), jnp.zeros(10)),
    }

    def loss_of(p: Any, x: Any, y: Any) -> Any:
        x = jax.nn.relu(conv(x, p["enter"][0]) + bias(p["enter"][1]))
        for q in p["blocks"]:
            stride = 2 if "short" in q else 1
            inner = jax.nn.relu(batch_norm(conv(x, q["conv1"], stride), q["bn1"]))
            short = conv(x, q["short"], stride) if "short" in q else x
            x = jax.nn.relu(batch_norm(conv(inner, q["conv2"]), q["bn2"]) + short)
        w, b = p["out"]
        return log_likelihood(x.mean((2, 3)) @ w.T + b, y)

    return training(parameters, loss_of, data((64, 1, 28, 28)), data((64,), 10, 1))


def lstm() -> Step:
    """See `networks`."""
    parameters = {"wx": weight(512, 32), "wh": weight(512, 128), "b": jnp.zeros(512), "out": dense((128, 10))}

    def loss_of(p: Any, x: Any, y: Any) -> Any:
        ahead = jnp.swapaxes(x @ p["wx"].T + p["b"], 0, 1)

        def cell(state: Any, gates: Any) -> Any:
            h, c = state
            i, f, g, o = jnp.split(gates + h @ p["wh"].T, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

        zero = jnp.zeros((len(x), 128))
        (h, _), _ = jax.lax.scan(cell, (zero, zero), ahead)
        return log_likelihood(forward(p["out"], h, jnp.tanh), y)

    return training(parameters, loss_of, data((32, 64, 32)), data((32,), 10, 1))


def layer_norm(x: Any, p: Any) -> Any:
    """Standardised along the last axis, scaled and shifted."""
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(var + 1e-5) * p[0] + p[1]


def gpt(layers: int, width: int, heads: int, length: int, batch: int, words: int = 65) -> Step:
    """See `networks`."""

    def norm() -> Any:
        return jnp.ones(width), jnp.zeros(width)

    def block() -> Any:
        sizes = {"qkv": (width, 3 * width), "proj": (width, width), "fc": (width, 4 * width), "out": (4 * width, width)}
        return {n: (weight(o, i), jnp.zeros(o)) for n, (i, o) in sizes.items()} | {"norm1": norm(), "norm2": norm()}

    parameters = {
        "token": weight(words, width), "place": weight(length, width), "norm": norm(), "head": weight(words, width),
        "blocks": [block() for _ in range(layers)],
    }  # fmt: skip
    mask = jnp.tril(jnp.ones((length, length), bool))

    def apply(x: Any, p: Any) -> Any:
        return x @ p[0].T + p[1]

    def loss_of(p: Any, tokens: Any, targets: Any) -> Any:
        x = p["token"][tokens] + p["place"]
        for q in p["blocks"]:
            qkv = apply(layer_norm(x, q["norm1"]), q["qkv"]).reshape(batch, length, 3, heads, -1)
            query, key, value = (qkv[:, :, i].transpose(0, 2, 1, 3) for i in range(3))
            scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(width // heads)
            mixed = jax.nn.softmax(jnp.where(mask, scores, -jnp.inf)) @ value
            x = x + apply(mixed.transpose(0, 2, 1, 3).reshape(batch, length, width), q["proj"])
            x = x + apply(jax.nn.gelu(apply(layer_norm(x, q["norm2"]), q["fc"]), approximate=False), q["out"])
        logits = layer_norm(x, p["norm"]) @ p["head"].T
        return log_likelihood(logits.reshape(-1, words), targets.reshape(-1))

    tokens, targets = (data((batch, length), words, seed) for seed in (0, 1))
    return training(parameters, loss_of, tokens, targets)


def small_gpt() -> Step:
    """See `networks`."""
    return gpt(4, 128, 4, 64, 12)


def large_gpt() -> Step:
    """See `networks`."""
    return gpt(6, 384, 6, 256, 4)


def group_norm(x: Any, p: Any) -> Any:
    """Standardised over 8 groups of channels, scaled and shifted."""
    n, c, h, w = x.shape
    y = x.reshape(n, 8, -1)
    y = (y - y.mean(-1, keepdims=True)) * jax.lax.rsqrt(y.var(-1, keepdims=True) + 1e-5)
    return y.reshape(n, c, h, w) * bias(p[0]) + bias(p[1])


def unet() -> Step:
    """See `networks`."""
    width = 48

    def affine(o: int, i: int, *kernel: int) -> Any:
        return weight(o, i, *kernel), jnp.zeros(o)

    def block(c: int) -> Any:
        made = {f"norm{k}": (jnp.ones(c), jnp.zeros(c)) for k in (1, 2)}
        made |= {f"conv{k}": affine(c, c, 3, 3) for k in (1, 2)}
        return made | {"scale": affine(c, 4 * width), "shift": affine(c, 4 * width)}

    parameters = {
        "time": affine(4 * width, 32), "label": weight(11, 4 * width), "wanted": affine(4 * width, 4 * width),
        "enter": affine(width, 4, 3, 3), "left": block(width), "right": block(width),
        "down": affine(2 * width, width, 3, 3), "deep1": block(2 * width), "deep2": block(2 * width),
        "up": affine(width, 2 * width, 3, 3), "norm": (jnp.ones(width), jnp.zeros(width)),
        "leave": affine(4, width, 3, 3),
    }  # fmt: skip

    def apply(x: Any, p: Any) -> Any:
        return x @ p[0].T + p[1]

    def convolve(x: Any, p: Any, stride: int = 1) -> Any:
        return conv(x, p[0], stride) + bias(p[1])

    def residual(x: Any, q: Any, wanted: Any) -> Any:
        y = group_norm(convolve(jax.nn.silu(group_norm(x, q["norm1"])), q["conv1"]), q["norm2"])
        y = y * (1 + apply(wanted, q["scale"])[:, :, None, None]) + apply(wanted, q["shift"])[:, :, None, None]
        return x + convolve(jax.nn.silu(y), q["conv2"])

    def loss_of(p: Any, images: Any, waves: Any, labels: Any, velocity: Any) -> Any:
        wanted = jax.nn.silu(apply(jax.nn.silu(apply(waves, p["time"]) + p["label"][labels]), p["wanted"]))
        n, _, h, w = images.shape
        x = images.reshape(n, h // 2, 2, w // 2, 2).transpose(0, 2, 4, 1, 3).reshape(n, 4, h // 2, w // 2)
        x = residual(convolve(x, p["enter"]), p["left"], wanted)
        y = residual(residual(convolve(x, p["down"], 2), p["deep1"], wanted), p["deep2"], wanted)
        y = convolve(jnp.repeat(jnp.repeat(y, 2, 2), 2, 3), p["up"])
        y = residual(x + y, p["right"], wanted)
        y = convolve(jax.nn.silu(group_norm(y, p["norm"])), p["leave"])
        y = y.reshape(n, 2, 2, h // 2, w // 2).transpose(0, 3, 1, 4, 2).reshape(n, 1, h, w)
        return ((y - velocity) ** 2).mean()

    images, velocity = data((32, 1, 28, 28)), data((32, 1, 28, 28), seed=1)
    return training(parameters, loss_of, images, data((32, 32), seed=2), data((32,), 11, 3), velocity)


def dqn() -> Step:
    """See `networks`."""
    target = dense((4, 128, 128, 2))

    def loss_of(p: Any, states: Any, actions: Any, rewards: Any, after: Any) -> Any:
        wanted = rewards + 0.99 * forward(target, after, jax.nn.relu).max(-1)
        chosen = jnp.take_along_axis(forward(p, states, jax.nn.relu), actions[:, None], 1)[:, 0]
        error = jnp.abs(chosen - jax.lax.stop_gradient(wanted))
        return jnp.where(error < 1, 0.5 * error**2, error - 0.5).mean()

    batch = data((128, 4)), data((128,), 2, 2), data((128,), seed=3), data((128, 4), seed=1)
    return training(dense((4, 128, 128, 2)), loss_of, *batch)


def adam_update() -> Step:
    """See `networks`: the gradients are given, as the derivative of a loss that is linear."""
    parameters = [data((1000, 1000), seed=i) for i in range(10)]
    gradients = tuple(data((1000, 1000), seed=i + 10) for i in range(10))
    zeros = [jnp.zeros((1000, 1000)) for _ in range(20)]
    state = [(parameters, zeros[:10], zeros[10:], jnp.zeros(()))]

    def update(state: Any, *gradients: Any) -> Any:
        p, m, v, t = state
        t = t + 1
        m = [m + 0.1 * (g - m) for m, g in zip(m, gradients, strict=True)]
        v = [v + 0.001 * (g * g - v) for v, g in zip(v, gradients, strict=True)]
        root = jnp.sqrt(1 - 0.999**t)
        rate = 1e-3 * root / (1 - 0.9**t)
        p = [p - rate * m / (jnp.sqrt(v) + 1e-8 * root) for p, m, v in zip(p, m, v, strict=True)]
        return (p, m, v, t), p[0][0, 0]

    compiled = jax.jit(update, donate_argnums=(0,))

    def step(*gradients: Any) -> Any:
        state[0], first = compiled(state[0], *gradients)
        return first

    return step, gradients


def cross_entropy() -> Step:
    """See `networks`; the gradient is returned, as the step keeps it there."""
    x, y = data((64, 50_000)), data((64,), 50_000, 1)
    compiled = jax.jit(jax.value_and_grad(log_likelihood))
    kept: list[Any] = [None]

    def step(y: Any) -> Any:
        loss, kept[0] = compiled(x, y)
        return loss

    return step, (y,)
