"""The recipes' networks and losses, compiled: first gradients and the losses of some steps as in eager mode."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import chainrule as cr
from chainrule import nn, optim
from chainrule.core.tree import tree_map
from chainrule.data import DataLoader, FashionMNIST
from chainrule.nn import functional as F
from chainrule.recipes import cnn, depth_networks, detector, diffusion, fashion_mnist, gpt, llm, rl_ppo, rnn
from chainrule.recipes.scenes import Scenes
from tests.pretrained.small_llama import small_model


def images(shape: tuple[int, ...]) -> tuple[cr.Tensor, cr.Tensor]:
    rng = np.random.default_rng(0)
    return cr.asarray(rng.normal(size=shape).astype(np.float32)), cr.asarray(rng.integers(0, 10, shape[0]))


def cross_entropy(model: Any, batch: Any) -> Any:
    out = model(batch[0])
    return F.cross_entropy(out[0] if isinstance(out, tuple) else out, batch[1])


def of_variant(network: Any, width: int, depth: int, **variant: Any) -> Callable[[], nn.Module]:
    return lambda: network(depth_networks.Variant(**variant), width, depth)


def scenes() -> Any:
    targets = detector.Targets(Scenes(FashionMNIST(), True, 8, seed=2), 10)
    return next(iter(DataLoader(targets, 4)))


def q_loss(model: Any, batch: Any) -> Any:
    states, actions, wanted = batch
    chosen = cr.take_along_axis(model(states), actions.reshape(-1, 1), axis=1).reshape(-1)
    return F.smooth_l1_loss(chosen, wanted)


def ppo_loss(model: Any, batch: Any) -> Any:
    states, actions, gained = batch
    logs = F.log_softmax(model.policy(states), -1)
    chosen = cr.take_along_axis(logs, actions.reshape(-1, 1), axis=1).reshape(-1)
    ratio = cr.exp(chosen - chosen.detach() - 0.1)
    surrogate = cr.mean(cr.minimum(ratio * gained, cr.clip(ratio, 0.8, 1.2) * gained))
    return cr.mean((model.value(states).reshape(-1) - gained) ** 2) / 2 - surrogate + 0.01 * cr.sum(cr.exp(logs) * logs)


def plays(inputs: int) -> tuple[cr.Tensor, ...]:
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(16, inputs)), rng.integers(0, 2, 16), rng.normal(size=16)
    return tuple(cr.asarray(p.astype(np.float32) if p.dtype.kind == "f" else p) for p in parts)


RECIPES: dict[str, tuple[Callable[[], Any], Any, Callable[[], Any]]] = {
    "fashion-mnist": (fashion_mnist.MLP, cross_entropy, lambda: images((32, 1, 28, 28))),
    "cnn": (lambda: cnn.ResNet(8), cross_entropy, lambda: images((8, 1, 28, 28))),
    "diffusion": (lambda: diffusion.UNet(8), diffusion.objective, lambda: images((4, 1, 28, 28))),
    "detector": (lambda: detector.Detector(10, 8), detector.objective, scenes),
    "depth: MLP": (
        of_variant(depth_networks.MLP, 16, 6, activation="relu", init="He", norm="before", residual=True),
        cross_entropy, lambda: images((8, 1, 28, 28)),
    ),
    "depth: transformer": (
        of_variant(depth_networks.Transformer, 16, 3, activation="gelu", init="Xavier", norm="before", residual=True),
        cross_entropy, lambda: images((4, 1, 28, 28)),
    ),
    "depth: recurrent": (
        of_variant(depth_networks.Recurrent, 16, 28, activation="LSTM", init="orthogonal"),
        cross_entropy, lambda: images((4, 1, 28, 28)),
    ),
    "rnn": (
        lambda: rnn.Listener(rnn.Settings(hidden=8, dropout=0.2), np.zeros(5, np.float32), np.ones(5, np.float32), 10),
        cross_entropy, lambda: ((images((3, 7, 5))[0], cr.asarray(np.array([7, 2, 4]))), images((3, 1))[1]),
    ),
    "gpt": (
        lambda: gpt.GPT(9, gpt.Settings(context=8, width=16, heads=2, layers=2, dropout=0.1)),
        lambda model, batch: gpt.next_character_loss(model(batch[0]), batch[1]),
        lambda: (images((4, 8))[0].astype("int64") % 9, cr.asarray(np.arange(32).reshape(4, 8) % 9)),
    ),
    "llm": (
        small_model, llm.next_token_loss, lambda: cr.asarray(np.random.default_rng(0).integers(0, 30, (2, 9))),
    ),
    "rl: DQN": (
        lambda: nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2)), q_loss, lambda: plays(4),
    ),
    "rl: PPO": (lambda: rl_ppo.Agent(4, 2, 32), ppo_loss, lambda: plays(4)),
}  # fmt: skip


def trainer(name: str, dtype: str) -> tuple[Any, Callable[..., Any], Any]:
    make, loss_of, batch_of = RECIPES[name]
    cr.manual_seed(0)
    model = make().to(getattr(cr, dtype))
    optimizer = optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def step(batch):
        optimizer.zero_grad()
        loss = loss_of(model, batch)
        loss.backward()
        optim.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        return loss

    return model, step, tree_map(lambda t: t.astype(dtype) if t.dtype.kind == "f" else t, batch_of())


@pytest.fixture
def default_dtype():
    """Sets the data type of random numbers for one test."""
    before = cr.default_dtype()
    yield lambda name: cr.set_default_dtype(getattr(cr, name))
    cr.set_default_dtype(before)


# In float64 rounding cannot be taken for anything else. In float32 the sums' other order moves a loss by less than
# 1e-5 of itself; gradients may move more where a rectifier's input is close to 0.
CASES = [(name, "float64", 1e-9) for name in RECIPES] + [
    (name, "float32", 1e-5) for name in ("fashion-mnist", "cnn", "depth: transformer", "gpt", "llm", "rl: PPO")
]


@pytest.mark.parametrize(("name", "dtype", "bound"), CASES)
def test_compiled_steps_follow_eager_ones(name, dtype, bound, default_dtype):
    default_dtype(dtype)
    eager_model, eager, batch = trainer(name, dtype)
    cr.manual_seed(1)
    losses = [eager(batch).item()]
    gradients = {n: p.grad.numpy().copy() for n, p in eager_model.named_parameters() if p.grad is not None}
    losses += [eager(batch).item() for _ in range(3)]
    model, step, batch = trainer(name, dtype)
    compiled = cr.compile(step)
    cr.manual_seed(1)
    mine = [compiled(batch).item()]
    if dtype == "float64":
        largest = max(float(np.abs(g).max()) for g in gradients.values())
        for n, g in gradients.items():
            np.testing.assert_allclose(
                model.get_parameter(n).grad.numpy(), g, rtol=1e-8, atol=bound * largest, err_msg=n
            )
    mine += [compiled(batch).item() for _ in range(3)]
    np.testing.assert_allclose(mine, losses, rtol=bound)
    assert not compiled.report(time=False).handed_over


def test_what_trained_models_are_used_for_gives_the_same_compiled():
    """Drawing, detecting, writing: the functions of the recipes, handed a compiled model."""
    cr.manual_seed(0)
    unet, labels = diffusion.UNet(8).eval(), np.array([1, 7, 3])
    found = []
    for model in (unet, cr.compile(unet)):
        cr.manual_seed(1)
        found.append(diffusion.draw(model, labels, 3, 2.0))
    np.testing.assert_allclose(*found, atol=1e-5)

    net = detector.Detector(10, 8).eval()
    picture = images((2, 3, 64, 64))[0]
    eager, compiled = (detector.detect(model, picture, least=0.009) for model in (net, cr.compile(net)))
    assert [len(b.labels) for b in eager] == [len(b.labels) for b in compiled] and len(eager[0].labels)
    np.testing.assert_allclose(eager[0].corners, compiled[0].corners, rtol=1e-4, atol=1e-3)

    settings = gpt.Settings(context=16, width=16, heads=2, layers=1, sample=40)
    writer = gpt.GPT(9, settings)
    written = [gpt.write(model, np.array([1, 2, 3]), settings) for model in (writer, cr.compile(writer))]
    assert (written[0] == written[1]).all() and len(written[0]) == 43
    assert writer.training
