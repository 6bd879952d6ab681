"""`chainrule train diffusion`: a small U-Net that draws clothing of the class it is asked for.

It is trained by flow matching (Lipman, Chen, Ben-Hamu, Nickel and Le 2023, arXiv:2210.02747;
Liu, Gong and Liu 2023, arXiv:2209.03003): between noise at t = 0 and an image at t = 1, on the
straight line x_t = (1 - t) · noise + t · image, the network learns the velocity
image - noise. Drawing follows the velocity from noise to an image, with the guidance of Ho and
Salimans 2022 (arXiv:2207.12598). A classifier that was trained separately by the recipe `cnn`
then says what it sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .. import nn, optim
from ..array import cos, where
from ..core.autodiff import no_grad
from ..core.errors import ChainruleError
from ..core.tensor import Tensor
from ..data import Compose, DataLoader, FashionMNIST, Normalize, RandomHorizontalFlip, Subset, ToFloat
from ..nn import functional as F
from ..random import manual_seed, rand, randn
from ..train import Job, Run, RunError, latest_run, load_checkpoint, open_run
from .cnn import ResNet
from .pictures import save_sheet
from .report import save_plot
from .settings import Settings as BaseSettings
from .settings import setting

CLASSES = 10
NO_CLASS = CLASSES  # the label that stands for "anything"


@dataclass(frozen=True)
class Settings(BaseSettings):
    """What can be chosen about a run."""

    FAST: ClassVar = {"epochs": 2, "width": 16, "batch_size": 32, "per_class": 2, "steps": 5}  # on 500 images

    epochs: int = setting(3, "How often to go through the training data.", minimum=1)
    batch_size: int = setting(64, "Images a step.", minimum=1)
    lr: float = setting(2e-3, "Highest learning rate of the cycle.")
    width: int = setting(32, "Channels at 14×14 pixels; twice as many at 7×7. A multiple of 8.", minimum=8)
    steps: int = setting(40, "Steps from noise to an image when drawing.", minimum=1)
    guidance: float = setting(2.0, "How much to exaggerate the class when drawing; 1 is not at all.")
    per_class: int = setting(50, "Images drawn of each class.", minimum=1)
    classifier: str | None = setting(None, "Run folder of the recipe cnn; its newest run if left out.")


class Block(nn.Module):
    """x + F(x), where F is two 3×3 convolutions, scaled and shifted by what is wanted: time and class."""

    def __init__(self, channels: int, wanted: int) -> None:
        self.norm1 = nn.GroupNorm(8, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.scale = nn.Linear(wanted, channels)
        self.shift = nn.Linear(wanted, channels)
        self.norm2 = nn.GroupNorm(8, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Any, wanted: Any) -> Any:
        y = self.norm2(self.conv1(F.silu(self.norm1(x))))
        y = y * (1 + self.scale(wanted)[:, :, None, None]) + self.shift(wanted)[:, :, None, None]
        return x + self.conv2(F.silu(y))


class UNet(nn.Module):
    """Velocity (N, 1, 28, 28) of images on their way at times t (N, 1) towards classes (N,)."""

    def __init__(self, width: int = 32, frequencies: int = 32) -> None:
        self.time = nn.Linear(frequencies, 4 * width)
        self.label = nn.Embedding(CLASSES + 1, 4 * width)
        self.wanted = nn.Linear(4 * width, 4 * width)
        self.enter = nn.Conv2d(4, width, 3, padding=1)
        self.left = Block(width, 4 * width)
        self.down = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.deep1 = Block(2 * width, 4 * width)
        self.deep2 = Block(2 * width, 4 * width)
        self.up = nn.Conv2d(2 * width, width, 3, padding=1)
        self.right = Block(width, 4 * width)
        self.norm = nn.GroupNorm(8, width)
        self.leave = nn.Conv2d(width, 4, 3, padding=1)
        self.frequencies = frequencies

    def forward(self, x: Any, waves: Any, label: Any) -> Any:
        wanted = F.silu(self.wanted(F.silu(self.time(waves) + self.label(label))))
        x = self.left(self.enter(F.pixel_unshuffle(x, 2)), wanted)  # four pixels become four channels
        y = self.deep2(self.deep1(self.down(x), wanted), wanted)
        y = self.up(F.interpolate(y, scale_factor=2.0))
        y = self.right(x + y, wanted)
        return F.pixel_shuffle(self.leave(F.silu(self.norm(y))), 2)


def waves(t: Any, count: int) -> Any:
    """Times (N, 1) as cosines (N, count) of frequencies from 1 to 100, by which a network tells them apart."""
    return cos(t * Tensor(np.geomspace(1, 100, count, dtype=np.float32)))


def objective(model: Any, batch: Any) -> Any:
    """Mean squared error of the velocity at a random time, with one label in ten withheld."""
    images, labels = batch
    noise = randn(*images.shape)
    t = F.sigmoid(randn(len(images), 1))  # most often in the middle, where it is hardest (arXiv:2403.03206)
    labels = where(rand(len(images)) < 0.1, NO_CLASS, labels)
    at = t[:, :, None, None]
    velocity = model((1 - at) * noise + at * images, waves(t, model.frequencies), labels)
    return F.mse_loss(velocity, images - noise)


@no_grad()
def draw(model: Any, labels: np.ndarray, steps: int, guidance: float) -> np.ndarray:
    """Images (N, 28, 28) from 0 to 1 of the classes that `labels` (N,) names.

    Euler's method from t = 0 to 1 along v(nothing) + guidance · (v(class) - v(nothing)).
    """
    n = len(labels)
    x = randn(n, 1, 28, 28)
    both = Tensor(np.concatenate([labels, np.full(n, NO_CLASS)]).astype(np.int64))
    for step in range(steps):
        t = Tensor(np.full((2 * n, 1), step / steps, np.float32))
        twice = Tensor(np.concatenate([x.numpy(), x.numpy()]))
        velocity = model(twice, waves(t, model.frequencies), both)
        x = x + (velocity[n:] + guidance * (velocity[:n] - velocity[n:])) * (1 / steps)
    return np.clip(x.numpy()[:, 0] / 2 + 0.5, 0, 1)


def load(settings: Settings) -> tuple[Any, str]:
    """Training images from -1 to 1, mirrored at random, and where they came from."""
    change = Compose([RandomHorizontalFlip(), ToFloat(), Normalize(0.5, 0.5)])
    images = FashionMNIST(True, settings.data, change)
    return Subset(images, range(500)) if settings.fast else images, str(images.source)


def load_classifier(folder: str | None, runs: Path) -> tuple[ResNet, Run] | None:
    """The best network of a run of the recipe `cnn`; None if there is no such run."""
    try:
        run = open_run(Path(folder)) if folder else latest_run(runs, "cnn")
    except RunError:
        if folder:
            raise
        return None
    model = ResNet(run.settings["width"])
    model.load_state_dict(load_checkpoint(run.best)["model"])
    return model.eval(), run


@no_grad()
def recognised(classifier: ResNet, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of each class the share of images (N, 28, 28), from 0 to 1, that the classifier says are of it."""
    scores = classifier(Normalize(0.2860, 0.3530)(Tensor(images[:, None].astype(np.float32))))
    right = scores.numpy().argmax(1) == labels
    return np.array([right[labels == k].mean() for k in range(CLASSES)])


def train(job: Job) -> dict[str, Any]:
    """Train as the run's settings say, report, and return the results."""
    settings = Settings(**job.run.settings)
    if settings.width % 8:
        raise ChainruleError(f"width must be a multiple of 8, got {settings.width}")
    images, source = load(settings)
    judge = load_classifier(settings.classifier, job.run.folder.parent.parent)
    manual_seed(settings.seed)
    model = UNet(settings.width)
    loader = DataLoader(images, settings.batch_size, shuffle=True, drop_last=True)
    optimizer = optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=1e-2)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, settings.lr, total_steps=settings.epochs * len(loader))
    weights = sum(p.size for p in model.parameters())
    job.say(f"Fashion-MNIST: {len(images):,} training images ({source})")
    job.say(f"U-Net with {weights:,} weights, flow matching, AdamW, one-cycle schedule, averaged weights")
    job.say(f"{settings.epochs} epochs of {len(loader)} batches of {settings.batch_size}; run {job.run.folder}")
    done = job.fit(
        model, loader, optimizer, objective=objective, epochs=settings.epochs, scheduler=schedule, clip_norm=1.0,
        average=0.999, unit="images",
    )  # fmt: skip
    job.say(f"drawing {settings.per_class} images of each class")
    manual_seed(settings.seed + 1)
    labels, drawing = np.tile(np.arange(CLASSES), settings.per_class), job.compiled(model)
    drawn = np.concatenate(
        [draw(drawing, part, settings.steps, settings.guidance) for part in np.split(labels, settings.per_class)]
    )
    captions = [FashionMNIST.classes[k] for k in labels[:100]]
    sheet = save_sheet(job.run.folder / "samples.png", drawn[:100], captions, job.reporter)
    save_plot(job.run, "Flow matching on Fashion-MNIST", job.reporter)
    result: dict[str, Any] = {"recipe": job.run.recipe, "run": str(job.run.folder), "data": source, "weights": weights}
    if judge is None:
        job.say("no run of the recipe cnn to judge the images: `chainrule train cnn`, then `--classifier ITS_RUN`")
    else:
        shares = recognised(job.compiled(judge[0]), drawn, labels)
        result |= {"recognised": float(shares.mean()), "classifier": str(judge[1].folder)}
        result["recognised by class"] = dict(zip(FashionMNIST.classes, shares.tolist(), strict=True))
        job.say(
            f"the classifier {judge[1].folder} names the class asked for in {shares.mean():.1%} of {len(drawn)} images"
        )
        job.say("  " + ", ".join(f"{n} {s:.0%}" for n, s in zip(FashionMNIST.classes, shares, strict=True)))
    job.say(f"saved in {job.run.folder}: {'samples.png, ' if sheet else ''}training.png, checkpoints, metrics.jsonl")
    return result | {"loss": done.history[-1]["loss"], "seconds": done.seconds}
