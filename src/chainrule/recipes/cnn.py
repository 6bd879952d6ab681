"""`chainrule train cnn`: a residual convolutional network that tells ten kinds of clothing apart.

The blocks are those of He, Zhang, Ren and Sun 2016, "Deep residual learning for image
recognition" (arXiv:1512.03385), with the one-cycle schedule of Smith and Topin 2018
(arXiv:1708.07120). On the full Fashion-MNIST it takes minutes; `chainrule data fashion-mnist`
gets it. The embedded subset is used otherwise, and gives a lower accuracy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .. import nn, optim
from ..core.autodiff import no_grad
from ..data import Compose, DataLoader, FashionMNIST, Normalize, RandomHorizontalFlip, Subset, ToFloat
from ..nn import functional as F
from ..random import manual_seed
from ..train import Job, accuracy
from .pictures import save_sheet
from .report import save_plot
from .settings import Settings as BaseSettings
from .settings import setting


@dataclass(frozen=True)
class Settings(BaseSettings):
    """What can be chosen about a run."""

    FAST: ClassVar = {"epochs": 2, "width": 8, "batch_size": 32}  # on 1,000 images

    epochs: int = setting(8, "How often to go through the training data.", minimum=1)
    batch_size: int = setting(128, "Samples a step.", minimum=1)
    lr: float = setting(0.1, "Highest learning rate of the cycle.")
    weight_decay: float = setting(5e-4, "Weight decay.", minimum=0)
    width: int = setting(24, "Channels of the first layer; the last have four times as many.", minimum=1)


class Block(nn.Module):
    """y = relu(x + F(x)), where F is two 3×3 convolutions; a stride halves the image, and the shortcut with it."""

    def __init__(self, channels_in: int, channels: int, stride: int = 1) -> None:
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Any) -> Any:
        y = F.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.shortcut(x))


class ResNet(nn.Module):
    """Images (N, 1, 28, 28) → class scores (N, 10): three blocks at 14², 7² and 7² pixels."""

    def __init__(self, width: int = 24) -> None:
        self.stem = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.block1 = Block(width, 2 * width, stride=2)
        self.block2 = Block(2 * width, 4 * width, stride=2)
        self.block3 = Block(4 * width, 4 * width)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.output = nn.Linear(4 * width, 10)

    def forward(self, x: Any) -> Any:
        x = F.relu(self.bn(self.stem(x)))
        x = self.block3(self.block2(self.block1(x)))
        return self.output(self.pool(x).flatten(1))


def load(settings: Settings) -> tuple[Any, Any, str]:
    """Training images, mirrored at random, test images, and where they came from."""
    normalise = Compose([ToFloat(), Normalize(0.2860, 0.3530)])
    images = FashionMNIST(True, settings.data, Compose([RandomHorizontalFlip(), normalise]))
    test = FashionMNIST(False, settings.data, normalise)
    if settings.fast:
        return Subset(images, range(1000)), Subset(test, range(500)), str(images.source)
    return images, test, str(images.source)


def train(job: Job) -> dict[str, Any]:
    """Train as the run's settings say, report, and return the results."""
    settings = Settings(**job.run.settings)
    images, test, source = load(settings)
    manual_seed(settings.seed)
    model = ResNet(settings.width)
    loader = DataLoader(images, settings.batch_size, shuffle=True, drop_last=True)
    optimizer = optim.SGD(
        model.parameters(), lr=settings.lr, momentum=0.9, nesterov=True, weight_decay=settings.weight_decay
    )
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, settings.lr, total_steps=settings.epochs * len(loader))
    weights = sum(p.size for p in model.parameters())
    job.say(f"Fashion-MNIST: {len(images):,} training and {len(test):,} test images ({source})")
    job.say(f"residual network, {weights:,} weights, SGD with momentum, one-cycle schedule")
    job.say(f"{settings.epochs} epochs of {len(loader)} batches of {settings.batch_size}; run {job.run.folder}")
    done = job.fit(
        model,
        loader,
        optimizer,
        loss=F.cross_entropy,
        metrics={"accuracy": accuracy},
        epochs=settings.epochs,
        scheduler=schedule,
        validation=DataLoader(test, 500),
        validation_name="test",
        unit="images",
    )
    result = done.validation
    job.say(f"test accuracy {result['accuracy']:.2%}, {done.seconds:.0f} s of training")
    save_plot(job.run, f"Residual network: test accuracy {result['accuracy']:.2%}", job.reporter)
    images_, captions = mistakes(model, test)
    save_sheet(job.run.folder / "mistakes.png", images_, captions, job.reporter)
    job.say(f"saved in {job.run.folder}: training.png, mistakes.png (the surest ones), checkpoints, metrics.jsonl")
    return {
        "recipe": job.run.recipe,
        "run": str(job.run.folder),
        "data": source,
        "images": len(images),
        "weights": weights,
        "epochs": settings.epochs,
        "test_accuracy": result["accuracy"],
        "test_loss": result["loss"],
        "seconds": done.seconds,
    }


@no_grad()
def mistakes(model: nn.Module, test: Any, count: int = 40) -> tuple[np.ndarray, list[str]]:
    """The test images whose wrong class the model is surest of, and what it says: (n, 28, 28) and n captions."""
    model.eval()
    found: list[tuple[float, np.ndarray, str]] = []
    for x, labels in DataLoader(test, 500):
        p = F.softmax(model(x), -1).numpy()
        guess = p.argmax(1)
        for i in np.flatnonzero(guess != labels.numpy()):
            names = FashionMNIST.classes[guess[i]], FashionMNIST.classes[int(labels[i])]
            found.append((float(p[i].max()), x.numpy()[i, 0], f"{names[0]},\nnot {names[1]}"))
    found.sort(key=lambda entry: -entry[0])
    return np.array([image for _, image, _ in found[:count]]), [caption for *_, caption in found[:count]]
