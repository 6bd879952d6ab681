"""Flow matching: exact velocities lead to the image, guidance exaggerates, labels are withheld."""

import numpy as np

import chainrule as cr
from chainrule import nn
from chainrule.recipes import diffusion
from chainrule.recipes.diffusion import NO_CLASS, draw, objective, waves


class Known(nn.Module):
    """The exact velocity towards one image a class, (image - x) / (1 - t); for no class towards 0."""

    frequencies = 1

    def __init__(self, images):
        self.images = images
        self.labels = []

    def forward(self, x, wave, label):
        self.labels.append(label.numpy())
        t = np.arccos(np.clip(wave.numpy(), -1, 1))[:, :, None, None]  # of frequency 1
        targets = np.concatenate([self.images, np.zeros((1, 1, 28, 28), np.float32)])[label.numpy()]
        return cr.Tensor(((targets - x.numpy()) / np.maximum(1 - t, 1e-3)).astype(np.float32))


def images():
    return np.random.default_rng(0).uniform(-1, 1, (10, 1, 28, 28)).astype(np.float32)


def test_exact_velocities_end_at_the_image_of_the_class():
    x = images()
    drawn = draw(Known(x), np.arange(10), 10, 1.0)
    np.testing.assert_allclose(drawn, x[:, 0] / 2 + 0.5, atol=1e-3)


def test_guidance_exaggerates_the_difference_to_no_class():
    x = images() * 0.4
    drawn = draw(Known(x), np.arange(10), 10, 2.0)
    # v = v₀ + 2 (v₁ - v₀) leads to 0 + 2 (image - 0).
    np.testing.assert_allclose(drawn, x[:, 0] + 0.5, atol=2e-3)


def test_one_label_in_ten_is_withheld():
    cr.manual_seed(2)
    x = images()
    model = Known(x)
    labels = np.random.default_rng(1).integers(0, 10, 2000)
    objective(model, (cr.Tensor(x[labels]), cr.Tensor(labels)))
    withheld = model.labels[0] == NO_CLASS
    assert 0.07 < withheld.mean() < 0.13
    assert (model.labels[0][~withheld] == labels[~withheld]).all()


def test_exact_velocities_have_no_loss(monkeypatch):
    monkeypatch.setattr(diffusion, "rand", cr.ones)  # no label is withheld
    cr.manual_seed(2)
    x = images()
    labels = np.arange(200) % 10
    assert objective(Known(x), (cr.Tensor(x[labels]), cr.Tensor(labels))).item() < 1e-6


def test_times_are_told_apart():
    found = waves(cr.Tensor(np.linspace(0, 1, 50, dtype=np.float32)[:, None]), 32).numpy()
    assert found.shape == (50, 32)
    distances = np.linalg.norm(found[:, None] - found[None], axis=-1) + 10 * np.eye(50)
    assert distances.min() > 0.5
