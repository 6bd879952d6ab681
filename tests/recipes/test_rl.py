"""The recipe `rl`: its parts against their definitions, and agents that learn, are stopped and go on."""

from __future__ import annotations

import builtins
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chainrule.recipes import rl, rl_dqn, rl_ppo
from chainrule.recipes.rl_worlds import Returns, WorldError, evaluate, final_observations, make_worlds
from chainrule.train import Interrupted, Job, Reporter, new_run, open_run, read_metrics


def test_advantages_are_the_sum_of_their_definition() -> None:
    rng = np.random.default_rng(0)
    decay, smoothing, steps = 0.97, 0.9, 12
    rewards, values = rng.normal(size=(2, steps, 3))
    over = rng.random((steps, 3)) < 0.3
    after = np.where(over & (rng.random((steps, 3)) < 0.5), 0.0, rng.normal(size=(steps, 3)))
    found = rl_ppo.advantages(rewards, values, after, over, decay, smoothing)
    for n in range(3):
        for t in range(steps):
            expected, weight = 0.0, 1.0
            for k in range(t, steps):
                expected += weight * (rewards[k, n] + decay * after[k, n] - values[k, n])
                weight *= decay * smoothing
                if over[k, n]:
                    break
            assert found[t, n] == pytest.approx(expected, rel=1e-12)


def test_a_memory_keeps_the_last_steps_together() -> None:
    memory = rl_dqn.Memory(5, 1)
    for step in range(4):
        number = np.array([2 * step, 2 * step + 1])
        memory.add(number[:, None], number, number, number[:, None], number % 2 == 0)
    assert len(memory) == 5
    seen, actions, rewards, led_to, ended = memory.draw(200, np.random.default_rng(0))
    assert set(actions) == {3, 4, 5, 6, 7}
    np.testing.assert_array_equal(seen[:, 0], actions)
    np.testing.assert_array_equal(rewards, actions)
    np.testing.assert_array_equal(led_to[:, 0], actions)
    np.testing.assert_array_equal(ended, actions % 2 == 0)


def test_a_step_that_ends_an_episode_led_to_its_last_observation() -> None:
    starts = np.array([[0.0], [1.0]])
    info = {"final_obs": np.array([np.array([9.0]), None], object), "_final_obs": np.array([True, False])}
    np.testing.assert_array_equal(final_observations(starts, info), [[9.0], [1.0]])
    np.testing.assert_array_equal(starts, [[0.0], [1.0]])
    assert final_observations(starts, {}) is starts


def test_returns_are_sums_over_an_episode() -> None:
    returns = Returns(2)
    returns.add(np.array([1.0, 2.0]), np.array([False, True]))
    returns.add(np.array([3.0, 4.0]), np.array([True, False]))
    assert returns.finished == [2.0, 4.0]
    assert returns.recent == 3.0


def test_an_agent_that_always_pushes_left_is_judged_to_be_bad() -> None:
    left = evaluate(lambda x: x[:, :2] * 0.0, "CartPole-v1", 12, 0)
    assert len(left) == 12
    assert 8 <= np.mean(left) <= 11  # the pole falls after nine or ten pushes


def _job(folder: Path, resume: bool = False, **settings: Any) -> Job:
    made = rl.Settings.make({"fast": True, **settings})
    return Job(new_run(folder, "rl", vars(made).copy()), Reporter(), resume, save_every=0.0)


@pytest.mark.parametrize("algorithm", list(rl.ALGORITHMS))
def test_every_algorithm_plays_learns_and_is_judged(tmp_path: Path, algorithm: str) -> None:
    job = _job(tmp_path, algorithm=algorithm, seeds=2, steps=2048)
    result = rl.train(job)
    assert [agent["seed"] for agent in result["agents"]] == [0, 1]
    assert all(agent["steps"] >= 2048 for agent in result["agents"])
    rounds = read_metrics(job.run.metrics, "round")
    assert any(row.get("surrogate") or row.get("loss") for row in rounds)
    assert (job.run.folder / "returns.png").exists()
    assert (job.run.folder / "agent-1.safetensors").exists()


def test_ppo_learns_to_balance_the_pole(tmp_path: Path) -> None:
    result = rl.train(_job(tmp_path, steps=20_480, episodes=10))
    assert result["agents"][0]["mean_return"] > 100  # a random agent: 22


def test_a_stopped_run_goes_on_with_the_agent_that_was_learning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = _job(tmp_path, seeds=2, steps=1024)
    play, rounds = rl_ppo.PPO.round, []

    def stopped(self: Any) -> dict[str, float]:
        rounds.append(self.played)
        if len(rounds) == 6:
            os.kill(os.getpid(), signal.SIGINT)
        return play(self)

    monkeypatch.setattr(rl_ppo.PPO, "round", stopped)
    with pytest.raises(Interrupted, match="train --resume"):
        rl.train(job)
    result = rl.train(Job(open_run(job.run.folder), Reporter(), resume=True))
    assert [agent["seed"] for agent in result["agents"]] == [0, 1]
    assert rounds == [0, 256, 512, 768, 0, 256, 512, 768]
    steps = [(row["seed"], row["step"]) for row in read_metrics(job.run.metrics, "round")]
    assert steps == [(seed, 256 * n) for seed in (0, 1) for n in (1, 2, 3, 4)]


def test_without_gymnasium_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("gymnasium"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(WorldError, match=r"chainrule\[rl\]"):
        make_worlds("CartPole-v1", 1)


def test_an_unknown_environment_is_an_error_with_its_name() -> None:
    with pytest.raises(WorldError, match="NoSuchWorld-v0"):
        make_worlds("NoSuchWorld-v0", 1)
