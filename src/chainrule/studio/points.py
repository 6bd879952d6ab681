"""Data in the plane: points of two classes, and points with a number to predict.

Those of TensorFlow Playground and two moons, in a plane from -1.8 to 1.8, each with a chosen amount of noise.
"""

from __future__ import annotations

import math

import numpy as np

Points = tuple[np.ndarray, np.ndarray]  # (count, 2) and (count, 1), float32
REACH = 1.8  # the plane is shown for inputs between -REACH and REACH
COUNT = 200


def _points(x: np.ndarray, y: np.ndarray) -> Points:
    return x.astype(np.float32), y.reshape(-1, 1).astype(np.float32)


def two_moons(noise: float = 0.12, count: int = COUNT) -> Points:
    """Two half circles that reach into each other: classes 0 and 1."""
    rng = np.random.default_rng(0)
    half = count // 2
    angle = np.linspace(0, math.pi, half)
    upper = np.stack([np.cos(angle) - 0.5, np.sin(angle) - 0.25], 1)
    lower = np.stack([0.5 - np.cos(angle), 0.25 - np.sin(angle)], 1)
    x = np.concatenate([upper, lower]) + rng.normal(scale=noise, size=(2 * half, 2))
    return _points(x, np.repeat([0.0, 1.0], half))


def circle(noise: float = 0.1) -> Points:
    """A disc, class 1, within a ring, class 0."""
    rng = np.random.default_rng(0)
    half = COUNT // 2
    radius = np.concatenate([rng.uniform(0, 0.75, half), rng.uniform(1.05, 1.5, half)])
    angle = rng.uniform(0, 2 * math.pi, 2 * half)
    x = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    return _points(x + rng.normal(scale=noise, size=x.shape), np.repeat([1.0, 0.0], half))


def quarters(noise: float = 0.05) -> Points:
    """XOR of the signs: class 1 where one coordinate is negative and the other is not."""
    rng = np.random.default_rng(0)
    x = rng.uniform(0.08, 1.5, (COUNT, 2)) * rng.choice([-1, 1], (COUNT, 2))
    return _points(x + rng.normal(scale=noise, size=x.shape), x[:, 0] * x[:, 1] < 0)


def clouds(noise: float = 0.3) -> Points:
    """Two normal distributions: classes 0 and 1."""
    rng = np.random.default_rng(0)
    half = COUNT // 2
    middle = np.repeat([[-0.8, -0.8], [0.8, 0.8]], half, axis=0)
    return _points(middle + rng.normal(scale=noise + 0.1, size=middle.shape), np.repeat([0.0, 1.0], half))


def spiral(noise: float = 0.03) -> Points:
    """Two spiral arms, classes 0 and 1."""
    rng = np.random.default_rng(0)
    half = COUNT // 2
    along = np.linspace(0.06, 1, half)
    arms = []
    for turn in (0.0, math.pi):
        angle = 3.5 * math.pi * along / 2 + turn
        arms.append(1.6 * along[:, None] * np.stack([np.sin(angle), np.cos(angle)], 1))
    x = np.concatenate(arms)
    return _points(x + rng.normal(scale=noise, size=x.shape), np.repeat([0.0, 1.0], half))


def slope(noise: float = 0.1) -> Points:
    """A number that grows along the diagonal: y = (x₁ + x₂) / 3.2."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.6, 1.6, (COUNT, 2))
    return _points(x, x.sum(1) / 3.2 + rng.normal(scale=noise, size=COUNT))


_HILLS = np.array([[-1.0, 0.7, 1], [0.0, -0.7, 1], [1.0, 0.7, 1], [-1.0, -0.7, -1], [0.0, 0.7, -1], [1.0, -0.7, -1]])


def hills(noise: float = 0.05) -> Points:
    """A number with three hills and three hollows: of each a normal distribution's density, 1 or -1 at its middle."""
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.6, 1.6, (COUNT, 2))
    distance = ((x[:, None] - _HILLS[None, :, :2]) ** 2).sum(-1)
    y = (_HILLS[:, 2] * np.exp(-distance / (2 * 0.3**2))).sum(1)
    return _points(x, y + rng.normal(scale=noise, size=COUNT))
