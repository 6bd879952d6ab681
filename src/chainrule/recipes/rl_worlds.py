"""What the recipes of reinforcement learning share: environments, networks, and how an agent is judged."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from .. import nn, optim
from ..core.autodiff import no_grad
from ..core.errors import ChainruleError
from ..core.tensor import Tensor
from ..nn import init
from ..train.compiling import compiled_if


class WorldError(ChainruleError, ImportError):
    """An environment cannot be made."""


def make_worlds(name: str, count: int) -> Any:
    """Several copies of an environment of Gymnasium that are stepped together and start over by themselves.

    Raises:
        WorldError: gymnasium is not installed, or does not have what this environment needs.
    """
    try:
        import gymnasium
        from gymnasium.vector import AutoresetMode
    except ImportError as error:
        raise WorldError("reinforcement learning needs gymnasium: pip install 'chainrule[rl]'") from error
    try:
        return gymnasium.make_vec(
            name, count, vectorization_mode="sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP}
        )
    except gymnasium.error.Error as error:
        raise WorldError(f"{name} cannot be made: {error}") from error


def network(inputs: int, width: int, outputs: int, last_gain: float = 1.0, activation: Any = nn.Tanh) -> nn.Sequential:
    """Two hidden layers; orthogonal weights (Saxe et al. 2014), those of the output scaled by `last_gain`."""
    layers = [nn.Linear(inputs, width), nn.Linear(width, width), nn.Linear(width, outputs)]
    for layer, gain in zip(layers, (2**0.5, 2**0.5, last_gain), strict=True):
        init.orthogonal_(layer.weight, gain)
        assert layer.bias is not None
        init.zeros_(layer.bias)
    return nn.Sequential(layers[0], activation(), layers[1], activation(), layers[2])


Policy = Callable[[Tensor], Tensor]
"""Scores of the actions for observations, shapes (N, …) and (N, actions)."""


def evaluate(policy: Policy, world: str, episodes: int, seed: int) -> list[float]:
    """The returns (sums of rewards) of episodes in which the action with the highest score is taken.

    How many episodes each copy of the environment plays is settled beforehand: counting
    whichever end first would favour short ones.
    """
    copies = min(episodes, 10)
    worlds = make_worlds(world, copies)
    try:
        observations, _ = worlds.reset(seed=seed)
        returns: list[list[float]] = [[] for _ in range(copies)]
        running = np.zeros(copies)
        share = [len(range(i, episodes, copies)) for i in range(copies)]
        with no_grad():
            while any(len(r) < n for r, n in zip(returns, share, strict=True)):
                scores = policy(Tensor(np.asarray(observations, np.float32))).numpy()
                observations, rewards, ended, cut, _ = worlds.step(scores.argmax(axis=1))
                running += rewards
                for i in np.flatnonzero(ended | cut):
                    returns[i].append(float(running[i]))
                    running[i] = 0.0
        return [r for of_copy, n in zip(returns, share, strict=True) for r in of_copy[:n]]
    finally:
        worlds.close()


class Returns:
    """Returns of the episodes that end while an agent learns."""

    def __init__(self, copies: int) -> None:
        self._running = np.zeros(copies)
        self.finished: list[float] = []

    def add(self, rewards: np.ndarray, over: np.ndarray) -> None:
        """Rewards of one step of every copy, and which of their episodes are over."""
        self._running += rewards
        for i in np.flatnonzero(over):
            self.finished.append(float(self._running[i]))
            self._running[i] = 0.0

    @property
    def recent(self) -> float:
        """Mean of the last 100; NaN before the first."""
        return float(np.mean(self.finished[-100:])) if self.finished else float("nan")


class Learner:
    """An agent that learns by playing: what the algorithms have in common.

    Attributes:
        model: what is trained.
        plan: the hyperparameters.
        compiled: makes compiled functions of functions, or leaves them as they are.
        policy: the model, which gives the scores of the actions, compiled.
        updating: `update`, compiled.
        played: steps so far, of all copies of the environment together.
        returns: of the episodes that ended.
    """

    def __init__(self, worlds: Any, model: nn.Module, plan: Any, seed: int, compile: bool) -> None:
        self.worlds, self.model, self.plan = worlds, model, plan
        self.optimizer = optim.Adam(model.parameters(), lr=plan.lr, eps=1e-5)
        self.compiled = partial(compiled_if, compile)
        self.policy: Policy = self.compiled(model)
        self.updating: Callable[..., Any] = self.compiled(self.update)
        self.played = 0
        self.returns = Returns(worlds.num_envs)
        self.rng = np.random.default_rng(seed)
        self.observations = np.asarray(worlds.reset(seed=seed)[0], np.float32)

    def update(self, *batch: Tensor) -> Any:
        """One step of the optimiser on a minibatch; a plain function of tensors, so that it can be compiled."""
        raise NotImplementedError

    @property
    def left(self) -> float:
        """The share of the run that is still to come."""
        return max(0.0, 1.0 - self.played / self.plan.steps)

    def first_loss(self) -> Tensor:
        """Play for a horizon; the loss of one minibatch of what was played, not yet learned from."""
        raise NotImplementedError

    def round(self) -> dict[str, float]:
        """Play for a while and learn from it; numbers about what was learned."""
        raise NotImplementedError

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Take one action in every copy.

        Returns:
            Rewards (N,), the observations led to (N, …), whether the episode ended there (N,),
            and whether it is over, ended or cut off (N,).
        """
        observations, rewards, ended, cut, info = self.worlds.step(actions)
        led_to = np.asarray(final_observations(observations, info), np.float32)
        self.returns.add(rewards, ended | cut)
        self.observations = np.asarray(observations, np.float32)
        self.played += len(actions)
        return rewards.astype(np.float32), led_to, ended, ended | cut

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps. Environments cannot be saved: episodes under way start over."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "played": self.played,
            "returns": self.returns.finished,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.played = state["played"]
        self.returns.finished = list(state["returns"])


def final_observations(observations: np.ndarray, info: dict[str, Any]) -> np.ndarray:
    """The observations that a step led to: those of an episode's end where one ended, not of the next one's start."""
    if "final_obs" not in info:
        return observations
    led_to = observations.copy()
    for i in np.flatnonzero(info["_final_obs"]):
        led_to[i] = info["final_obs"][i]
    return led_to
