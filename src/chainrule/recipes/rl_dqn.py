"""Deep Q-learning (Mnih et al. 2015) with the double estimator (van Hasselt et al. 2016).

Q(s, a) estimates the return after action a in state s. It is fitted, by Huber's loss, to

    r + γ Q⁻(s′, argmax_a Q(s′, a)),   or r where the episode ended,

on steps drawn from a memory of what was played; Q⁻ is Q as it was when the round began.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .. import nn
from ..array import argmax, take_along_axis
from ..core.autodiff import no_grad
from ..core.tensor import Tensor
from ..nn import functional as F
from ..optim import clip_grad_norm_
from .rl_worlds import Learner, network


@dataclass(frozen=True)
class Plan:
    """Hyperparameters for one environment; the learning rate falls to 0 over the run.

    Attributes:
        steps: of all copies of the environment together.
        horizon: steps of each copy between two rounds of learning, of `updates` minibatches each.
        memory: how many steps are remembered.
        explore: the share of the run over which random actions become rarer, down to `least`.
    """

    steps: int
    copies: int
    horizon: int
    updates: int
    minibatch: int
    lr: float
    decay: float
    memory: int
    first: int
    explore: float
    least: float
    largest_norm: float = 10.0
    width: int = 256


PLANS = {
    "CartPole-v1": Plan(
        steps=80_000, copies=4, horizon=64, updates=128, minibatch=64, lr=1e-3, decay=0.99, memory=100_000,
        first=1_000, explore=0.16, least=0.04,
    ),
    "LunarLander-v3": Plan(
        steps=400_000, copies=8, horizon=32, updates=128, minibatch=128, lr=6e-4, decay=0.99, memory=200_000,
        first=10_000, explore=0.2, least=0.05,
    ),
}  # fmt: skip


class Memory:
    """The last steps played, each (observation, action, reward, next observation, ended)."""

    def __init__(self, size: int, inputs: int) -> None:
        self.observations = np.zeros((size, inputs), np.float32)
        self.actions = np.zeros(size, np.int64)
        self.rewards = np.zeros(size, np.float32)
        self.led_to = np.zeros((size, inputs), np.float32)
        self.ended = np.zeros(size, np.bool_)
        self.stored = 0

    def __len__(self) -> int:
        return min(self.stored, len(self.actions))

    def add(self, *parts: np.ndarray) -> None:
        """One step of every copy; the oldest are overwritten."""
        where = (self.stored + np.arange(len(parts[0]))) % len(self.actions)
        for kept, new in zip(self._parts(), parts, strict=True):
            kept[where] = new
        self.stored += len(where)

    def draw(self, count: int, rng: np.random.Generator) -> list[np.ndarray]:
        chosen = rng.integers(len(self), size=count)
        return [part[chosen] for part in self._parts()]

    def _parts(self) -> tuple[np.ndarray, ...]:
        return self.observations, self.actions, self.rewards, self.led_to, self.ended


class DQN(Learner):
    """Plays a little, remembers it, and learns from steps drawn from memory."""

    model: nn.Sequential

    def __init__(self, worlds: Any, plan: Plan, seed: int, compile: bool = False) -> None:
        inputs, self.actions = worlds.single_observation_space.shape[0], int(worlds.single_action_space.n)
        q, self.earlier = (network(inputs, plan.width, self.actions, activation=nn.ReLU) for _ in range(2))
        super().__init__(worlds, q, plan, seed, compile)
        self.earlier.load_state_dict(q.state_dict())
        self.memory = Memory(plan.memory, inputs)

    @property
    def randomness(self) -> float:
        """The probability of a random action, ε."""
        done = min(1.0, self.played / (self.plan.explore * self.plan.steps))
        return 1.0 + done * (self.plan.least - 1.0)

    def round(self) -> dict[str, float]:
        """Play and learn once; the mean loss."""
        for _ in range(self.plan.horizon):
            self._play()
        if len(self.memory) < self.plan.first:
            return {"loss": float("nan"), "randomness": self.randomness}
        self.earlier.load_state_dict(self.model.state_dict())
        self.optimizer.param_groups[0]["lr"] = self.plan.lr * self.left
        losses = [self.updating(*map(Tensor, self._minibatch())) for _ in range(self.plan.updates)]
        return {"loss": float(np.mean([float(loss) for loss in losses])), "randomness": self.randomness}

    @no_grad()
    def _play(self) -> None:
        observed = self.observations
        best = self.policy(Tensor(observed)).numpy().argmax(axis=1)
        random = self.rng.integers(self.actions, size=len(best))
        actions = np.where(self.rng.random(len(best)) < self.randomness, random, best)
        rewards, led_to, ended, _ = self.step(actions)
        self.memory.add(observed, actions, rewards, led_to, ended)

    def _minibatch(self) -> list[np.ndarray]:
        *parts, ended = self.memory.draw(self.plan.minibatch, self.rng)
        return [*parts, 1 - ended.astype(np.float32)]

    def first_loss(self) -> Tensor:
        """The loss of the first minibatch."""
        for _ in range(self.plan.horizon):
            self._play()
        return self.loss(*map(Tensor, self._minibatch()))

    def loss(self, *batch: Tensor) -> Tensor:
        """Observations, actions, rewards, what they led to, 1 where the episode went on."""
        observations, actions, rewards, led_to, going_on = batch
        with no_grad():
            best = argmax(self.model(led_to), axis=1).reshape(-1, 1)
            value = take_along_axis(self.earlier(led_to), best, axis=1).reshape(-1)
            wanted = rewards + self.plan.decay * going_on * value
        chosen = take_along_axis(self.model(observations), actions.reshape(-1, 1), axis=1).reshape(-1)
        return F.smooth_l1_loss(chosen, wanted)

    def update(self, *batch: Tensor) -> Tensor:
        """One step on a minibatch as `loss` takes it; the loss before the step."""
        loss = self.loss(*batch)
        self.optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(self.model.parameters(), self.plan.largest_norm)
        self.optimizer.step()
        return loss.detach()
