"""`chainrule train fashion-mnist`: a multilayer perceptron that tells ten kinds of clothing apart.

After training it shows what backpropagation did: to each layer over the whole run, and to one
weight of one neuron, number by number.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .. import nn, optim
from ..data import Compose, DataLoader, FashionMNIST, Normalize, Subset, ToFloat
from ..nn import functional as F
from ..random import manual_seed
from ..train import Job, accuracy
from .neuron import ACTIVATIONS, walk_through
from .report import layer_table, save_plot
from .settings import Settings as BaseSettings
from .settings import setting

CLASSES = FashionMNIST.classes


@dataclass(frozen=True)
class Settings(BaseSettings):
    """What can be chosen about a run."""

    FAST: ClassVar = {"epochs": 2}  # on 1,000 images

    epochs: int = setting(10, "How often to go through the training data.", minimum=1)
    batch_size: int = setting(64, "Samples a step.", minimum=1)
    lr: float = setting(1e-3, "Learning rate.")
    activation: str = setting("tanh", "Activation function.", choices=tuple(ACTIVATIONS))


class MLP(nn.Module):
    """784 pixels → 256 → 128 → 10 class scores. Each layer computes z = W x + b, each hidden one a = f(z)."""

    def __init__(self, activation: type[nn.Module] = nn.Tanh) -> None:
        self.pixels = nn.Flatten()
        self.hidden1 = nn.Linear(28 * 28, 256)
        self.f1 = activation()
        self.hidden2 = nn.Linear(256, 128)
        self.f2 = activation()
        self.output = nn.Linear(128, 10)

    def forward(self, x: Any) -> Any:
        x = self.pixels(x)
        x = self.f1(self.hidden1(x))
        x = self.f2(self.hidden2(x))
        return self.output(x)


def load(settings: Settings) -> tuple[Any, Any, str]:
    """Training and test images, normalised to mean 0 and deviation 1, and where they came from."""
    normalise = Compose([ToFloat(), Normalize(0.2860, 0.3530)])
    images, test = (FashionMNIST(train, settings.data, normalise) for train in (True, False))
    source = str(images.source)
    if settings.fast:
        return Subset(images, range(1000)), Subset(test, range(500)), source
    return images, test, source


def train(job: Job) -> dict[str, Any]:
    """Train as the run's settings say, report, and return the results."""
    run, reporter = job.run, job.reporter
    settings = Settings(**run.settings)
    images, test, source = load(settings)
    manual_seed(settings.seed)
    model = MLP(ACTIVATIONS[settings.activation].module)
    loader = DataLoader(images, settings.batch_size, shuffle=True)
    optimizer = optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=0.01)
    steps = settings.epochs * len(loader)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps, eta_min=settings.lr / 100)
    weights = sum(p.size for p in model.parameters())
    reporter.say(f"Fashion-MNIST: {len(images):,} training and {len(test):,} test images ({source})")
    reporter.say(f"MLP 784-256-128-10 with {settings.activation}, {weights:,} weights, AdamW, cosine schedule")
    reporter.say(f"{settings.epochs} epochs of {len(loader)} batches of {settings.batch_size}; run {run.folder}")

    done = job.fit(
        model,
        loader,
        optimizer,
        loss=lambda scores, labels: F.cross_entropy(scores, labels),
        metrics={"accuracy": accuracy},
        epochs=settings.epochs,
        scheduler=schedule,
        validation=DataLoader(test, 1000),
        validation_name="test",
        unit="images",
    )

    result, best, seconds = done.validation, done.best or done.validation, done.history[-1]["seconds"]
    reporter.say()
    reporter.say(
        f"test accuracy {result['accuracy']:.2%} (best {best['accuracy']:.2%} after epoch {best['epoch']}), "
        f"{seconds:.1f} s of training"
    )
    reporter.say()
    reporter.say(layer_table(run.metrics))
    reporter.say()
    walk = walk_through(model, *undecided(model, test), classes=CLASSES, activation=settings.activation)
    reporter.say(str(walk))
    reporter.say()
    picture = save_plot(run, f"Fashion-MNIST, {len(images):,} images: test accuracy {result['accuracy']:.2%}", reporter)
    files = [p.name for p in (run.last, run.best, run.metrics, picture) if p is not None]
    reporter.say(f"saved in {run.folder}: {', '.join(files)}")
    return {
        "recipe": run.recipe,
        "run": str(run.folder),
        "data": source,
        "images": len(images),
        "weights": weights,
        "epochs": settings.epochs,
        "test_accuracy": result["accuracy"],
        "test_loss": result["loss"],
        "best_test_accuracy": best["accuracy"],
        "seconds": seconds,
        "neuron": walk.to_dict(),
    }


def undecided(model: MLP, test: Any) -> tuple[np.ndarray, int, int]:
    """Of the first 500 test images the one whose class the model gives closest to 50 %: image, label, number."""
    x, y = next(iter(DataLoader(test, 500)))
    p = F.softmax(model(x), -1).numpy()[np.arange(len(x)), y.numpy()]
    number = int(np.abs(p - 0.5).argmin())
    return x.numpy()[number], int(y.numpy()[number]), number
