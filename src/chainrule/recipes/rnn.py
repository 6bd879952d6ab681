"""`chainrule train rnn`: an LSTM or a GRU that tells nine speakers apart by one vowel each.

The recordings (`data.vowels`) have 7 to 29 frames. Packed, each is read to its own end in
both directions; what the network has seen by then is its last state, from which one linear layer
tells the speaker (Hochreiter and Schmidhuber 1997; Schuster and Paliwal 1997).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from .. import nn, optim
from ..array import concat, pad
from ..core.autodiff import no_grad
from ..core.tensor import Tensor
from ..data import DataLoader, JapaneseVowels
from ..nn import functional as F
from ..nn.utils.rnn import pack_padded_sequence, pad_sequence
from ..random import manual_seed, randn
from ..train import Job, Reporter, accuracy
from ..train.plots import PlotError, new_figure, save_figure
from .report import save_plot
from .settings import Settings as BaseSettings
from .settings import setting


@dataclass(frozen=True)
class Settings(BaseSettings):
    """What can be chosen about a run."""

    FAST: ClassVar = {"epochs": 3, "hidden": 16}

    epochs: int = setting(60, "How often to go through the training data.", minimum=1)
    batch_size: int = setting(16, "Recordings a step.", minimum=1)
    lr: float = setting(4e-3, "Highest learning rate of the cycle.")
    cell: str = setting("lstm", "Kind of recurrent cell.", choices=("lstm", "gru"))
    hidden: int = setting(64, "Width of the state, in each direction.", minimum=1)
    layers: int = setting(1, "Recurrent layers on top of each other.", minimum=1)
    dropout: float = setting(0.4, "Share of the last state that is dropped in training.", minimum=0)
    noise: float = setting(0.2, "Noise on the frames in training, in standard deviations of a coefficient.", minimum=0)


class Listener(nn.Module):
    """Recordings (N, T, channels) with their lengths (N,) → scores of the speakers (N, classes)."""

    def __init__(self, settings: Settings, mean: np.ndarray, deviation: np.ndarray, classes: int) -> None:
        recurrent = nn.LSTM if settings.cell == "lstm" else nn.GRU
        self.rnn = recurrent(len(mean), settings.hidden, settings.layers, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(settings.dropout)
        self.output = nn.Linear(2 * settings.hidden, classes)
        self.mean, self.deviation = nn.Buffer(Tensor(mean)), nn.Buffer(Tensor(deviation))
        self.noise = settings.noise

    def forward(self, recordings: tuple[Tensor, Tensor]) -> Any:
        frames, lengths = recordings
        frames = (frames - self.mean) / self.deviation
        if self.training and self.noise:
            frames = frames + self.noise * randn(*frames.shape)
        packed = pack_padded_sequence(frames, lengths, batch_first=True, enforce_sorted=False)
        _, state = self.rnn(packed)
        last = state[0] if isinstance(state, tuple) else state  # of an LSTM: h, not c
        return self.output(self.dropout(concat([last[-2], last[-1]], axis=1)))


def collate(samples: list[Any], time: int = 0) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Recordings of different lengths as one batch, padded to the longest or to `time`, with the lengths; and the
    speakers."""
    frames = [sequence for sequence, _ in samples]
    lengths = [len(sequence) for sequence in frames]
    padded = pad_sequence(frames, batch_first=True)
    if time > padded.shape[1]:
        padded = pad(padded, [(0, 0), (0, time - padded.shape[1]), (0, 0)])
    return (padded, Tensor(lengths)), Tensor([speaker for _, speaker in samples])


def load(settings: Settings) -> tuple[JapaneseVowels, JapaneseVowels]:
    """Recordings to train on and to test with."""
    return JapaneseVowels(True, settings.data), JapaneseVowels(False, settings.data)


def make(settings: Settings, recordings: JapaneseVowels) -> Listener:
    """The network, which scales every coefficient to mean 0 and deviation 1 over the training frames."""
    frames = np.concatenate(recordings.sequences)
    return Listener(settings, frames.mean(axis=0), frames.std(axis=0), recordings.classes)


def train(job: Job) -> dict[str, Any]:
    """Train as the run's settings say, report, and return the results."""
    settings = Settings(**job.run.settings)
    recordings, test = load(settings)
    manual_seed(settings.seed)
    model = make(settings, recordings)
    # Compiled, all batches have one shape: one program serves all.
    longest = max(len(sequence) for data in (recordings, test) for sequence in data.sequences) if job.compile else 0
    batches = partial(collate, time=longest)
    loader = DataLoader(recordings, settings.batch_size, shuffle=True, collate_fn=batches)
    tests = DataLoader(test, 100, collate_fn=batches)
    optimizer = optim.AdamW(model.parameters(), lr=settings.lr, weight_decay=0.01)
    steps = settings.epochs * len(loader)
    weights = sum(p.size for p in model.parameters())
    lengths = [len(sequence) for sequence in recordings.sequences]
    job.say(f"Japanese vowels: {len(recordings)} recordings to train on, {len(test)} to test ({recordings.source})")
    job.say(f"{min(lengths)} to {max(lengths)} frames of {recordings.channels} numbers, {recordings.classes} speakers")
    job.say(f"bidirectional {settings.cell.upper()}, {weights:,} weights; run {job.run.folder}")
    done = job.fit(
        model,
        loader,
        optimizer,
        loss=F.cross_entropy,
        metrics={"accuracy": accuracy},
        epochs=settings.epochs,
        scheduler=optim.lr_scheduler.OneCycleLR(optimizer, settings.lr, total_steps=steps),
        clip_norm=1.0,
        validation=tests,
        validation_name="test",
        unit="recordings",
    )
    result = done.validation
    job.say(f"test accuracy {result['accuracy']:.2%}, {done.seconds:.0f} s of training")
    save_plot(job.run, f"{settings.cell.upper()}: test accuracy {result['accuracy']:.2%}", job.reporter)
    save_confusions(job.run.folder / "speakers.png", confusions(job.compiled(model), tests, test.classes), job.reporter)
    job.say(f"saved in {job.run.folder}: training.png, speakers.png (who is taken for whom), metrics.jsonl")
    return {
        "recipe": job.run.recipe,
        "run": str(job.run.folder),
        "data": str(recordings.source),
        "weights": weights,
        "epochs": settings.epochs,
        "test_accuracy": result["accuracy"],
        "test_loss": result["loss"],
        "seconds": done.seconds,
    }


@no_grad()
def confusions(model: nn.Module, loader: DataLoader, classes: int) -> np.ndarray:
    """How many recordings of each speaker (row) are taken for each (column)."""
    model.eval()
    counts = np.zeros((classes, classes), np.int64)
    for recordings, speakers in loader:
        np.add.at(counts, (speakers.numpy(), model(recordings).numpy().argmax(axis=1)), 1)
    return counts


def save_confusions(path: Path, counts: np.ndarray, reporter: Reporter) -> None:
    """Draw the table; without matplotlib, say what is missing."""
    try:
        figure, axes = new_figure(1, 1, (4.5, 4.5))
    except PlotError as error:
        reporter.say(f"no picture: {error}")
        return
    ax = axes[0, 0]
    ax.grid(False)
    ax.imshow(counts / counts.sum(axis=1, keepdims=True).clip(min=1), cmap="Blues", vmin=0, vmax=1)
    for row, column in zip(*counts.nonzero(), strict=True):
        shade = "white" if row == column else "black"
        ax.text(column, row, str(counts[row, column]), ha="center", va="center", color=shade, fontsize=8)
    numbers = range(len(counts))
    ax.set(xlabel="taken for speaker", ylabel="speaker", xticks=numbers, yticks=numbers)
    save_figure(figure, path)
