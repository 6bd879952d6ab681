"""`chainrule train detector`: a single-stage detector without anchors, on garments or on tree crowns.

Every cell of a grid of 8 × 8 pixels predicts classes and, if an object's centre is near, the
distances to its four sides, as in Tian, Shen, Chen and He 2019, "FCOS" (arXiv:1904.01355);
the classes are trained with the focal loss of Lin et al. 2017 (arXiv:1708.02002), the sides with
the generalised intersection over union of Rezatofighi et al. 2019 (arXiv:1902.09630).

`--scenes garments` trains on garments of Fashion-MNIST pasted on photographs, `--scenes
tree-crowns` on aerial photographs. The result is the mean average precision at an overlap of
0.5 on scenes that were not trained on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from .. import nn, optim
from ..array import concat
from ..core.autodiff import no_grad
from ..core.tensor import Tensor
from ..data import DataLoader, Dataset
from ..nn import functional as F
from ..nn.functional.detection import batched_nms, generalized_box_iou_loss, sigmoid_focal_loss
from ..random import manual_seed
from ..train import Job
from ..train.average_precision import Boxes, average_precision
from .cnn import Block
from .detection_data import load
from .pictures import save_boxes
from .report import save_plot
from .scenes import true_boxes
from .settings import Settings as BaseSettings
from .settings import setting

STRIDE = 8  # pixels between the cells of the grid


@dataclass(frozen=True)
class Settings(BaseSettings):
    """What can be chosen about a run."""

    FAST: ClassVar = {"count": 96, "epochs": 2, "width": 8, "batch_size": 8, "held_out": 24}

    scenes: str = setting("garments", "What to detect.", choices=("garments", "tree-crowns"))
    count: int = setting(5000, "Scenes an epoch.", minimum=1)
    epochs: int = setting(30, "How many epochs.", minimum=1)
    batch_size: int = setting(16, "Scenes a step.", minimum=1)
    lr: float = setting(2e-3, "Highest learning rate of the cycle.")
    width: int = setting(32, "Channels of the first layer; the deepest has four times as many.", minimum=1)
    held_out: int = setting(400, "Held-out scenes of garments.", minimum=1)


class Detector(nn.Module):
    """Pictures (N, 3, H, W) → class scores (N, C, H/8, W/8) and distances (N, 4, H/8, W/8) in pixels."""

    def __init__(self, classes: int, width: int = 24) -> None:
        self.stem = nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.down1 = Block(width, 2 * width, stride=2)
        self.down2 = Block(2 * width, 4 * width, stride=2)
        self.deep1 = Block(4 * width, 4 * width)
        self.deep2 = Block(4 * width, 4 * width)
        self.classes = nn.Conv2d(4 * width, classes, 1)
        self.sides = nn.Conv2d(4 * width, 4, 1)

    def forward(self, x: Any) -> Any:
        x = F.relu(self.bn(self.stem(x)))
        x = self.deep2(self.deep1(self.down2(self.down1(x))))
        # At first every cell says: almost surely nothing here; and if there is, about 17 pixels to each side.
        return self.classes(x) - 4.0, STRIDE * F.softplus(self.sides(x) + 2.0)


def detection_loss(scores: Any, sides: Any, classes: Any, wanted: Any, near: Any) -> Any:
    """Focal loss of the scores plus 1 - GIoU of the boxes, per cell near an object's centre.

    `classes` (N, C, h, w) is 1 where a cell belongs to an object of that class, `near` (N, 1, h, w)
    where it belongs to any, and `wanted` (N, 4, h, w) holds its distances to the sides.
    """
    count = near.sum() + 1.0
    focal = sigmoid_focal_loss(scores, classes, reduction="sum")
    apart = generalized_box_iou_loss(around_cell(sides), around_cell(wanted))
    return (focal + (apart * near[:, 0]).sum()) / count


def around_cell(sides: Any) -> Any:
    """Distances (N, 4, h, w) to left, top, right and bottom as boxes (N, h, w, 4) around a cell at 0."""
    return concat([-sides[:, :2], sides[:, 2:]], axis=1).permute(0, 2, 3, 1)


class Targets(Dataset):
    """Samples (picture, boxes, labels) as the loss wants them: (picture, classes, sides, near)."""

    def __init__(self, scenes: Any, classes: int) -> None:
        self.scenes, self.classes = scenes, classes

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        picture, corners, labels = self.scenes[index]
        maps = targets(true_boxes(corners.numpy(), labels.numpy()), picture.shape[1:], self.classes)
        return (picture, *map(Tensor, maps))


def targets(boxes: Boxes, size: Sequence[int], classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What each cell should say: it belongs to the smallest box that holds it and whose centre is within 1.5 cells."""
    h, w = (n // STRIDE for n in size)
    y, x = np.meshgrid((np.arange(h) + 0.5) * STRIDE, (np.arange(w) + 0.5) * STRIDE, indexing="ij")
    one_of, wanted, near = (np.zeros((n, h, w), np.float32) for n in (classes, 4, 1))
    areas = (boxes.corners[:, 2:] - boxes.corners[:, :2]).prod(-1)
    for i in np.argsort(-areas, kind="stable"):
        x1, y1, x2, y2 = boxes.corners[i]
        sides = np.stack([x - x1, y - y1, x2 - x, y2 - y])
        central = (np.abs(x - (x1 + x2) / 2) < 1.5 * STRIDE) & (np.abs(y - (y1 + y2) / 2) < 1.5 * STRIDE)
        mine = central & (sides.min(0) > 0)
        one_of[:, mine], wanted[:, mine], near[:, mine] = 0, sides[:, mine], 1
        one_of[boxes.labels[i], mine] = 1
    return one_of, wanted, near


def objective(model: nn.Module, batch: Any) -> Any:
    """The loss of a batch of `Targets`."""
    picture, *wanted = batch
    return detection_loss(*model(picture), *wanted)


@no_grad()
def detect(model: nn.Module, pictures: Any, least: float = 0.05, most: int = 300) -> list[Boxes]:
    """The boxes that a model in evaluation mode finds in pictures (N, 3, H, W), each object once."""
    scores, sides = model(pictures)
    probabilities, distances = F.sigmoid(scores).numpy(), sides.numpy()
    found = []
    for p, d in zip(probabilities, distances, strict=True):
        labels, rows, columns = np.nonzero(p > least)
        order = np.argsort(-p[labels, rows, columns], kind="stable")[: 4 * most]
        labels, rows, columns = labels[order], rows[order], columns[order]
        centre = (np.stack([columns, rows], 1) + 0.5) * STRIDE
        left_top, right_bottom = d[:2, rows, columns].T, d[2:, rows, columns].T
        corners = np.concatenate([centre - left_top, centre + right_bottom], 1)
        kept = batched_nms(Tensor(corners), Tensor(p[labels, rows, columns]), Tensor(labels), 0.5).numpy()[:most]
        found.append(Boxes(corners[kept], labels[kept], p[labels, rows, columns][kept]))
    return found


def precision(model: nn.Module, scenes: Any, classes: int) -> tuple[np.ndarray, list[Boxes]]:
    """Average precision of each class at an overlap of 0.5, and what was found in each scene."""
    model.eval()
    found, true = [], []
    for picture, corners, labels in DataLoader(scenes, 1 if classes == 1 else 16):
        found += detect(model, picture)
        true += [true_boxes(c, n) for c, n in zip(corners.numpy(), labels.numpy(), strict=True)]
    model.train()
    return average_precision(found, true, classes), found


def train(job: Job) -> dict[str, Any]:
    """Train as the run's settings say, report, and return the results."""
    settings = Settings(**job.run.settings)
    scenes, held_out, names, source = load(settings)
    manual_seed(settings.seed)
    model = Detector(len(names), settings.width)
    loader = DataLoader(Targets(scenes, len(names)), settings.batch_size, shuffle=True, drop_last=True)
    optimizer = optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=1e-2)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, settings.lr, total_steps=settings.epochs * len(loader))
    weights = sum(p.size for p in model.parameters())
    job.say(f"{settings.scenes}: {source}")
    job.say(f"detector with {weights:,} weights for {len(names)} classes, AdamW, one-cycle schedule")
    job.say(f"{settings.epochs} epochs of {len(loader)} batches of {settings.batch_size}; run {job.run.folder}")

    detecting = job.compiled(model)

    def validate() -> dict[str, float]:
        return {
            f"AP {name}": float(np.nanmean(precision(detecting, data, len(names))[0]))
            for name, data in held_out.items()
        }

    done = job.fit(
        model, loader, optimizer, objective=objective, epochs=settings.epochs, scheduler=schedule, clip_norm=10.0,
        validation=validate, monitor=f"AP {next(iter(held_out))}", unit="scenes",
    )  # fmt: skip
    result: dict[str, Any] = {"recipe": job.run.recipe, "run": str(job.run.folder), "data": source, "weights": weights}
    for name, data in held_out.items():
        per_class, found = precision(detecting, data, len(names))
        result[f"mAP@0.5 {name}"] = float(np.nanmean(per_class))
        result[f"AP@0.5 by class, {name}"] = {
            n: None if math.isnan(ap) else float(ap) for n, ap in zip(names, per_class, strict=True)
        }
        job.say(f"mAP@0.5 on {len(data)} {name}: {result[f'mAP@0.5 {name}']:.3f}")
        job.say("  " + ", ".join(f"{n} {ap:.3f}" for n, ap in zip(names, per_class, strict=True)))
        save_boxes(job.run.folder / f"{name.replace(' ', '-')}.png", data, found, names, job.reporter)
    save_plot(job.run, f"Detector of {settings.scenes}", job.reporter)
    job.say(f"saved in {job.run.folder}: pictures with boxes, training.png, checkpoints, metrics.jsonl")
    return result | {"seconds": done.seconds}
