"""The explanations whose pages are tested: a neuron, an MLP with its run, residual blocks, a long chain, evil names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import chainrule as cr
from chainrule import nn, optim
from chainrule.data import DataLoader, FashionMNIST, Subset, ToFloat
from chainrule.nn import functional as F
from chainrule.recipes import fashion_mnist
from chainrule.train import course
from chainrule.train.metrics import MetricsLog
from chainrule.train.runs import new_run
from chainrule.train.statistics import Probe

EVIL = "<script>document.title='evil'</script>"


def neuron(path: Path) -> Path:
    """The neuron of the README: its numbers are known."""
    x, w, b = (cr.tensor(number, requires_grad=True) for number in (1.5, -0.8, 0.2))
    z = w * x + b
    a = cr.tanh(z)
    loss = (a - 0.5) ** 2 / 2
    return cr.explain(loss, [w, b, x]).save(path)


def mlp(path: Path) -> Path:
    """The network of `chainrule train fashion-mnist` on real images, after some steps, with the course of its run."""
    cr.manual_seed(0)
    model = fashion_mnist.MLP()
    images = Subset(FashionMNIST(True, None, ToFloat()), range(640))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    run = new_run(path.parent / "runs", "fashion-mnist", {}, "example")
    log = MetricsLog(run.metrics)
    for step, (inputs, labels) in enumerate(DataLoader(images, 32)):
        optimizer.zero_grad()
        with Probe(model) as probe:
            loss = F.cross_entropy(model(inputs), labels)
            loss.backward()
            optimizer.step()
        log.append(event="layers", step=step, layers=probe.rows)
        log.append(event="step", step=step + 1, loss=float(loss), grad_norm=1.0, lr=0.1)
    log.close()
    loss = F.cross_entropy(model(inputs), labels)
    return cr.explain(loss, model.hidden1.weight).save(path, course=course(run.folder))


class Block(nn.Module):
    """x + W₂ gelu(W₁ norm(x))"""

    def __init__(self, width: int) -> None:
        self.norm = nn.LayerNorm(width)
        self.up = nn.Linear(width, 2 * width)
        self.act = nn.GELU()
        self.down = nn.Linear(2 * width, width)

    def forward(self, x: Any) -> Any:
        h = self.act(self.up(self.norm(x)))
        return x + self.down(h)


def residual(path: Path) -> Path:
    """Eight residual blocks: modules to open, gradients that add up."""
    cr.manual_seed(0)
    model = nn.Sequential(*[Block(16) for _ in range(8)], nn.Linear(16, 4))
    loss = F.cross_entropy(model(cr.randn(8, 16)), cr.randint(0, 4, (8,)))
    return cr.explain(loss, model[0].up.weight).save(path)


class Sequence(nn.Module):
    """A convolution over time, an LSTM, attention over its states, and a dense layer."""

    def __init__(self) -> None:
        self.conv = nn.Conv1d(3, 6, 3, padding=1)
        self.rnn = nn.LSTM(6, 8, batch_first=True)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.out = nn.Linear(8, 4)

    def forward(self, x: Any) -> Any:
        h, _ = self.rnn(cr.tanh(self.conv(x)).permute(0, 2, 1))
        return self.out(cr.mean(self.attend(h, h, h)[0], axis=1))


def sequence(path: Path) -> Path:
    """Layers that share their weights over places and times."""
    cr.manual_seed(0)
    model = Sequence()
    return cr.explain(F.cross_entropy(model(cr.randn(5, 3, 7)), cr.randint(0, 4, (5,)))).save(path)


def long(path: Path) -> Path:
    """About 5,000 nodes and no modules to close."""
    s, w = (cr.tensor([value] * 4, requires_grad=True) for value in (0.1, 0.5))
    for _ in range(1250):
        s = cr.tanh(s * w) + s * 0.5
    loss = s.sum()
    return cr.explain(loss, w).save(path)


def evil(path: Path) -> Path:
    """Module classes, attributes and variables with names that are markup."""

    class Model(nn.Module):
        def __init__(self) -> None:
            setattr(self, EVIL, type(EVIL, (nn.Linear,), {})(3, 3))

        def forward(self, x: Any) -> Any:
            return cr.tanh(getattr(self, EVIL)(x))

    loss = Model()(cr.ones((2, 3))).sum()
    return cr.explain(loss).save(path)


PAGES: dict[str, Callable[[Path], Path]] = {
    "neuron": neuron,
    "mlp": mlp,
    "residual": residual,
    "sequence": sequence,
    "long": long,
    "evil": evil,
}
