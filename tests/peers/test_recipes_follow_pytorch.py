"""Recipes' networks and losses, built from the same source for PyTorch, take the same steps.

The classes and functions of a recipe are run a second time with PyTorch's modules in place of
chainrule's. From the same weights, batches and random numbers, the first gradients must agree
parameter by parameter and the losses of 50 steps must stay together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import chainrule as cr
from benchmarks.same_source import in_pytorch
from chainrule import optim
from chainrule.data import DataLoader, FashionMNIST
from chainrule.nn import functional as F
from chainrule.recipes import cnn, detector, diffusion, gpt, rnn
from chainrule.recipes.scenes import Scenes
from tests.data.vowels import write_vowels

pytestmark = pytest.mark.peers
STEPS = 50


class Numbers:
    """Random numbers that both libraries draw alike."""

    def __init__(self, tensor: Any, dtype: str) -> None:
        self.tensor, self.dtype = tensor, dtype
        self.rng = np.random.default_rng(4)

    def randn(self, *shape: int) -> Any:
        return self.tensor(self.rng.standard_normal(shape).astype(self.dtype))

    def rand(self, *shape: int) -> Any:
        return self.tensor(self.rng.random(shape).astype(self.dtype))


def cast(array: np.ndarray, dtype: str) -> np.ndarray:
    """A copy, of another type where it holds floating-point numbers."""
    return array.astype(dtype if array.dtype.kind == "f" else array.dtype)


def compare(
    mine: Any, theirs: Any, my_loss: Any, their_loss: Any, batches: list[Any], optimisers: Any, dtype: str, rtol: float
) -> None:
    """Same weights, 50 steps of both with a one-cycle schedule; first gradients and all losses agree."""
    torch.set_num_threads(1)
    mine.to(getattr(cr, dtype))
    theirs.to(getattr(torch, dtype))
    theirs.load_state_dict({name: torch.tensor(t.numpy().copy()) for name, t in mine.state_dict().items()})
    a, b, rate, clip = optimisers(mine, theirs)
    my_cycle = optim.lr_scheduler.OneCycleLR(a, rate, total_steps=STEPS + 1)
    their_cycle = torch.optim.lr_scheduler.OneCycleLR(b, rate, total_steps=STEPS + 1)
    ours, others = [], []
    for step in range(STEPS):
        arrays = [cast(t.numpy(), dtype) for t in batches[step % len(batches)]]
        a.zero_grad()
        loss = my_loss(mine, tuple(map(cr.Tensor, arrays)))
        loss.backward()
        b.zero_grad()
        expected = their_loss(theirs, tuple(map(torch.tensor, arrays)))
        expected.backward()
        if step == 0:
            for (name, p), q in zip(mine.named_parameters(), theirs.parameters(), strict=True):
                scale = float(q.grad.abs().max())
                np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=rtol, atol=rtol * scale, err_msg=name)
        if clip is not None:
            optim.clip_grad_norm_(mine.parameters(), clip)
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), clip)
        a.step(), my_cycle.step()
        b.step(), their_cycle.step()
        ours.append(loss.item())
        others.append(expected.item())
    print(f"{dtype}: largest relative difference of {STEPS} losses {np.max(np.abs(np.divide(ours, others) - 1)):.1e}")
    assert np.mean(others[-10:]) < 0.9 * np.mean(others[:10])
    np.testing.assert_allclose(ours, others, rtol=rtol)


# At the recipes' learning rates rounding errors of float32 grow quickly: after 50 steps PyTorch's
# losses differ from its own by 4e-2 (cnn) and 5e-3 (detector) when one weight was changed by 3e-7
# of itself. So the full rates are compared in float64, and float32 at lower ones.
CASES = pytest.mark.parametrize(("dtype", "slower", "rtol"), [("float64", 1, 1e-9), ("float32", 10, 1e-3)])


def adamw(rate: float, clip: float) -> Any:
    def make(m: Any, t: Any) -> Any:
        options = {"lr": rate, "weight_decay": 1e-2}
        return optim.AdamW(m.parameters(), **options), torch.optim.AdamW(t.parameters(), **options), rate, clip

    return make


@CASES
def test_cnn(dtype: str, slower: int, rtol: float) -> None:
    images, _, _ = cnn.load(cnn.Settings(fast=True))
    cr.manual_seed(0)
    batches = [batch for batch, _ in zip(DataLoader(images, 64, shuffle=True), range(10), strict=False)]
    rate = 0.1 / slower**1.5

    def optimisers(m: Any, t: Any) -> Any:
        options = {"lr": rate, "momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
        return optim.SGD(m.parameters(), **options), torch.optim.SGD(t.parameters(), **options), rate, None

    def my_loss(model: Any, batch: Any) -> Any:
        return F.cross_entropy(model(batch[0]), batch[1])

    def their_loss(model: Any, batch: Any) -> Any:
        return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])

    theirs = in_pytorch(cnn.Block, cnn.ResNet)["ResNet"](12)
    compare(cnn.ResNet(12), theirs, my_loss, their_loss, batches, optimisers, dtype, rtol)


@CASES
def test_detector(dtype: str, slower: int, rtol: float) -> None:
    scenes = detector.Targets(Scenes(FashionMNIST(), True, 80, seed=2), 10)
    batches = list(DataLoader(scenes, 8))
    cr.manual_seed(0)
    parts = (cnn.Block, detector.Detector, detector.around_cell, detector.detection_loss, detector.objective)
    space = in_pytorch(*parts, STRIDE=detector.STRIDE)
    mine, theirs = detector.Detector(10, 8), space["Detector"](10, 8)
    compare(
        mine, theirs, detector.objective, space["objective"], batches, adamw(2e-3 / slower, 10.0), dtype, rtol
    )  # fmt: skip


@CASES
def test_diffusion(monkeypatch: pytest.MonkeyPatch, dtype: str, slower: int, rtol: float) -> None:
    images, _ = diffusion.load(diffusion.Settings(fast=True))
    cr.manual_seed(0)
    batches = list(DataLoader(images, 32, drop_last=True))
    mine, theirs = Numbers(cr.Tensor, dtype), Numbers(torch.tensor, dtype)
    monkeypatch.setattr(diffusion, "randn", mine.randn)
    monkeypatch.setattr(diffusion, "rand", mine.rand)
    parts = (diffusion.Block, diffusion.UNet, diffusion.waves, diffusion.objective)
    numbers = {"randn": theirs.randn, "rand": theirs.rand}
    space = in_pytorch(*parts, CLASSES=10, NO_CLASS=diffusion.NO_CLASS, **numbers)
    optimisers = adamw(2e-3 / slower, 1.0)
    compare(
        diffusion.UNet(16), space["UNet"](16), diffusion.objective, space["objective"], batches, optimisers, dtype, rtol
    )


@CASES
@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_rnn(cell: str, dtype: str, slower: int, rtol: float, tmp_path: Path) -> None:
    settings = rnn.Settings(cell=cell, dropout=0.0, noise=0.0, layers=2, data=str(write_vowels(tmp_path, each=10)))
    recordings, _ = rnn.load(settings)
    cr.manual_seed(0)
    mine = rnn.make(settings, recordings)
    loader = DataLoader(recordings, 16, shuffle=True, collate_fn=rnn.collate)
    batches = [(frames, lengths, speakers) for (frames, lengths), speakers in loader]
    space = in_pytorch(
        rnn.Listener, Settings=rnn.Settings, pack_padded_sequence=torch.nn.utils.rnn.pack_padded_sequence
    )
    theirs = space["Listener"](settings, mine.mean.numpy(), mine.deviation.numpy(), recordings.classes)

    def loss(functions: Any) -> Any:
        return lambda model, batch: functions.cross_entropy(model((batch[0], batch[1])), batch[2])

    compare(mine, theirs, loss(F), loss(torch.nn.functional), batches, adamw(1e-2 / slower, 1.0), dtype, rtol)


@CASES
def test_gpt(dtype: str, slower: int, rtol: float) -> None:
    settings = gpt.Settings.make({"fast": True, "width": 64, "heads": 4, "context": 64})
    characters, windows, _, _ = gpt.load(settings)
    cr.manual_seed(0)
    loader = DataLoader(windows, 12, shuffle=True, drop_last=True)
    batches = [batch for batch, _ in zip(loader, range(STEPS), strict=False)]
    space = in_pytorch(gpt.Block, gpt.GPT, gpt.next_character_loss, Settings=gpt.Settings, arange=torch.arange)

    def loss(of: Any) -> Any:
        return lambda model, batch: of(model(batch[0]), batch[1])

    mine, theirs = gpt.GPT(len(characters), settings), space["GPT"](len(characters), settings)
    rate = 2e-3 / slower
    compare(
        mine, theirs, loss(gpt.next_character_loss), loss(space["next_character_loss"]), batches, adamw(rate, 1.0),
        dtype, rtol,
    )  # fmt: skip
