"""Proximal policy optimisation (Schulman et al. 2017) with generalised advantage estimation (Schulman et al. 2016).

A policy π and a value V learn from what the policy just did. The loss of a minibatch is

    L = -E[min(r A, clip(r, 1 - ε, 1 + ε) A)] + ½ c_v E[(V - R)²] - c_e E[H(π)],   r = π(a|s) / π_old(a|s)

with advantages A normalised over the minibatch, returns R = A + V_old and the policy's entropy H.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .. import nn
from ..array import exp, maximum, mean, minimum, std, take_along_axis
from ..array import sum as total
from ..core.autodiff import no_grad
from ..core.tensor import Tensor
from ..nn import functional as F
from ..optim import clip_grad_norm_
from ..random import rand
from .rl_worlds import Learner, network


@dataclass(frozen=True)
class Plan:
    """Hyperparameters for one environment.

    Attributes:
        steps: of all copies of the environment together.
        horizon: steps of each copy between two rounds of learning.
        decay: γ, the weight of a reward one step later; smoothing: λ of the advantages.
        anneal: let the learning rate and the clipping fall to 0 over the run.
    """

    steps: int
    copies: int
    horizon: int
    epochs: int
    minibatch: int
    lr: float
    decay: float
    smoothing: float
    entropy: float = 0.0
    clipping: float = 0.2
    value: float = 0.5
    largest_norm: float = 0.5
    anneal: bool = True
    width: int = 64


PLANS = {
    "CartPole-v1": Plan(
        steps=150_000, copies=8, horizon=32, epochs=20, minibatch=256, lr=1e-3, decay=0.98, smoothing=0.8
    ),
    "LunarLander-v3": Plan(
        steps=2_000_000, copies=16, horizon=512, epochs=4, minibatch=256, lr=1e-3, decay=0.999, smoothing=0.98,
        entropy=0.01,
    ),
}  # fmt: skip


class Agent(nn.Module):
    """A policy that gives the logits of the actions, and a value that estimates the return."""

    def __init__(self, inputs: int, actions: int, width: int) -> None:
        self.policy = network(inputs, width, actions, last_gain=0.01)
        self.value = network(inputs, width, 1)

    def forward(self, observations: Tensor) -> Tensor:
        return self.policy(observations)


class Rollout(NamedTuple):
    """What happened over a horizon, by time and copy: shape (T, N, …), each a float32 or int64 array."""

    observations: np.ndarray
    actions: np.ndarray
    log_probabilities: np.ndarray
    advantages: np.ndarray
    returns: np.ndarray


def advantages(
    rewards: np.ndarray, values: np.ndarray, next_values: np.ndarray, over: np.ndarray, decay: float, smoothing: float
) -> np.ndarray:
    """A_t = Σ_k (γλ)^k δ_{t+k} within an episode, δ_t = r_t + γ V(s_{t+1}) - V(s_t).

    Args:
        rewards, values: shape (T, N).
        next_values: V of the state that step t led to; 0 where the episode ended there.
        over: whether the episode was over after step t, ended or cut off.
    """
    errors = rewards + decay * next_values - values
    found = np.zeros_like(errors)
    running = np.zeros(errors.shape[1], errors.dtype)
    for t in reversed(range(len(errors))):
        running = errors[t] + decay * smoothing * np.where(over[t], 0.0, running)
        found[t] = running
    return found


class PPO(Learner):
    """Plays for a horizon, then goes through what happened a few times."""

    model: Agent

    def __init__(self, worlds: Any, plan: Plan, seed: int, compile: bool = False) -> None:
        inputs, actions = worlds.single_observation_space.shape[0], int(worlds.single_action_space.n)
        super().__init__(worlds, Agent(inputs, actions, plan.width), plan, seed, compile)
        self.value = self.compiled(self.model.value)

    def round(self) -> dict[str, float]:
        """Play and learn once; the means of the loss's parts."""
        left = self.left if self.plan.anneal else 1.0
        self.optimizer.param_groups[0]["lr"] = self.plan.lr * left
        clipping = Tensor(np.float32(self.plan.clipping * left))
        rollout = self._play()
        parts = [self.updating(clipping, *map(Tensor, batch)) for batch in self._minibatches(rollout)]
        return {name: float(np.mean([float(p[name]) for p in parts])) for name in parts[0]}

    @no_grad()
    def _play(self) -> Rollout:
        rows: list[tuple[np.ndarray, ...]] = []
        for _ in range(self.plan.horizon):
            observed = self.observations
            logs = F.log_softmax(self.policy(Tensor(observed)), -1).numpy()
            # Gumbel's trick: the largest of log p - log(-log u) falls on each action with its probability p.
            noise = -np.log(-np.log(np.maximum(rand(*logs.shape).numpy(), 1e-20)))
            actions = (logs + noise).argmax(axis=1)
            rewards, led_to, ended, over = self.step(actions)
            chosen = np.take_along_axis(logs, actions[:, None], 1)[:, 0]
            next_values = np.where(ended, np.float32(0), self._values(led_to))
            rows.append((observed, actions, chosen, rewards, self._values(observed), next_values, over))
        observed, actions, chosen, rewards, values, next_values, over = map(np.stack, zip(*rows, strict=True))
        gained = advantages(rewards, values, next_values, over, self.plan.decay, self.plan.smoothing)
        return Rollout(observed, actions, chosen, gained, gained + values)

    def _values(self, observations: np.ndarray) -> np.ndarray:
        return self.value(Tensor(observations)).numpy()[:, 0]

    def _minibatches(self, rollout: Rollout) -> Iterator[Rollout]:
        flat = Rollout(*(part.reshape(-1, *part.shape[2:]) for part in rollout))
        count = len(flat.actions)
        for _ in range(self.plan.epochs):
            order = self.rng.permutation(count)
            for start in range(0, count, self.plan.minibatch):
                chosen = order[start : start + self.plan.minibatch]
                yield Rollout(*(part[chosen] for part in flat))

    def first_loss(self) -> Tensor:
        """The loss of the first minibatch."""
        batch = next(self._minibatches(self._play()))
        return self.loss(Tensor(np.float32(self.plan.clipping)), *map(Tensor, batch))[0]

    def loss(self, *batch: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Clipping ε and a rollout's parts, shapes () and (B, …), to the loss and its parts."""
        clipping, observations, actions, earlier, gained, wanted = batch
        gained = (gained - mean(gained)) / (std(gained) + 1e-8)
        logs = F.log_softmax(self.model.policy(observations), -1)
        chosen = take_along_axis(logs, actions.reshape(-1, 1), axis=1).reshape(-1)
        ratio = exp(chosen - earlier)
        bounded = minimum(maximum(ratio, 1 - clipping), 1 + clipping)
        surrogate = mean(minimum(ratio * gained, bounded * gained))
        value_error = mean((self.model.value(observations).reshape(-1) - wanted) ** 2) / 2
        entropy = -mean(total(exp(logs) * logs, axis=1))
        loss = self.plan.value * value_error - surrogate - self.plan.entropy * entropy
        return loss, {"surrogate": surrogate, "value_error": value_error, "entropy": entropy}

    def update(self, *batch: Tensor) -> dict[str, Tensor]:
        """One step on a minibatch as `loss` takes it; the parts of the loss before the step."""
        loss, parts = self.loss(*batch)
        self.optimizer.zero_grad()
        loss.backward()
        clip_grad_norm_(self.model.parameters(), self.plan.largest_norm)
        self.optimizer.step()
        return {name: part.detach() for name, part in parts.items()}
