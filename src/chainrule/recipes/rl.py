"""`chainrule train rl`: agents that learn to act, by PPO or by deep Q-learning, in environments of Gymnasium.

One agent for each seed, since a single run says little in reinforcement learning (Henderson et
al. 2018, "Deep reinforcement learning that matters"). Ten times in a run an agent plays some
episodes without learning; the weights that did best there are kept, and judged by others.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..core.errors import OperationError
from ..random import default_generator, manual_seed
from ..train import Interrupted, Job, load_checkpoint, read_metrics, save_checkpoint
from ..train.metrics import MetricsLog
from ..train.plots import PlotError, new_figure, save_figure
from ..train.progress import Status, text_table
from ..train.session import Signals
from . import rl_dqn, rl_ppo
from .rl_worlds import Learner, evaluate, make_worlds
from .settings import Settings as BaseSettings
from .settings import setting

SOLVED = {"CartPole-v1": 475.0, "LunarLander-v3": 200.0}
TRIALS = 20
"""Episodes that decide which weights of a run are kept."""
ALGORITHMS: dict[str, Any] = {"ppo": (rl_ppo.PPO, rl_ppo.PLANS), "dqn": (rl_dqn.DQN, rl_dqn.PLANS)}


@dataclass(frozen=True)
class Settings(BaseSettings):
    """What can be chosen about a run."""

    FAST: ClassVar = {"seeds": 1, "steps": 1024, "episodes": 4}

    world: str = setting("CartPole-v1", "Environment.", choices=tuple(SOLVED))
    algorithm: str = setting("ppo", "How to learn.", choices=tuple(ALGORITHMS))
    seeds: int = setting(5, "Agents, each with its own seed.", minimum=1)
    steps: int | None = setting(None, "Steps each agent plays; as many as the environment needs.", minimum=1)
    episodes: int = setting(100, "Episodes that an agent is judged by.", minimum=1)


def build(settings: Settings) -> dict[str, Any]:
    """The loss of the first minibatch of an agent that has learned nothing yet, for `chainrule explain rl`."""
    algorithm, plans = ALGORITHMS[settings.algorithm]
    worlds = make_worlds(settings.world, plans[settings.world].copies)
    try:
        manual_seed(settings.seed)
        agent: Learner = algorithm(worlds, plans[settings.world], settings.seed, compile=False)
        return {"loss": agent.first_loss(), "model": agent.model}
    finally:
        worlds.close()


def train(job: Job) -> dict[str, Any]:
    """Train and judge an agent for every seed; `--resume` goes on with the agent that was learning."""
    settings = Settings(**job.run.settings)
    solved = SOLVED[settings.world]
    length = None
    saved = load_checkpoint(job.run.last) if job.resume and job.run.last.exists() else None
    if saved is not None:
        length = saved["metrics"]
        job.say(f"continuing with seed {saved['seed']} after {saved['played']:,} steps")
    log = MetricsLog(job.run.metrics, length)
    try:
        rows = read_metrics(job.run.metrics, "agent")
        job.say(f"{settings.algorithm} in {settings.world}; solved means a mean return of {solved:.0f}")
        with job.reporter, Signals() as signals:
            for seed in range(settings.seed + len(rows), settings.seed + settings.seeds):
                rows.append(_learn(job, settings, seed, saved, log, signals))
                saved = None
    finally:
        log.close()
    return _conclude(job, settings, rows, solved)


def _learn(
    job: Job, settings: Settings, seed: int, saved: dict[str, Any] | None, log: MetricsLog, signals: Signals
) -> dict[str, Any]:
    """One agent: play, learn, save now and then, judge."""
    algorithm, plans = ALGORITHMS[settings.algorithm]
    plan = plans[settings.world]
    plan = dataclasses.replace(plan, steps=settings.steps or plan.steps)
    worlds = make_worlds(settings.world, plan.copies)
    try:
        manual_seed(seed)
        agent: Learner = algorithm(worlds, plan, seed, job.compile)
        if saved is not None:
            agent.load(saved["agent"])
            default_generator.state.assign(saved["random"])
        best: dict[str, Any] | None = saved["best"] if saved is not None else None
        start, before, kept = time.monotonic(), agent.played, time.monotonic()
        tenth = 10 * agent.played // plan.steps
        while agent.played < plan.steps:
            numbers = agent.round()
            now = time.monotonic()
            rate = (agent.played - before) / (now - start)
            shown = {"return": agent.returns.recent, **numbers}
            log.append(event="round", seed=seed, step=agent.played, **shown)
            left = max(0, plan.steps - agent.played)
            job.reporter.update(
                Status(
                    seed - settings.seed + 1, settings.seeds, min(agent.played, plan.steps), plan.steps, shown, rate,
                    left / rate, "steps",
                )
            )  # fmt: skip
            if 10 * agent.played // plan.steps > tenth:
                tenth = 10 * agent.played // plan.steps
                reached = float(np.mean(evaluate(agent.policy, settings.world, TRIALS, 2000 + seed)))
                if best is None or reached >= best["return"]:
                    best = {"return": reached, "model": agent.model.state_dict()}
                job.say(
                    f"seed {seed}  step {agent.played:>9,}  mean return while learning {agent.returns.recent:7.1f}, "
                    f"without {reached:7.1f}  {rate:,.0f} steps/s"
                )
            if signals.received or now - kept >= job.save_every:
                kept = now
                _save(job, seed, agent, best, log)
            if signals.received:
                raise Interrupted(
                    f"stopped and saved; to go on: chainrule train --resume {job.run.folder}", signals.received
                )
        assert best is not None  # the last tenth ends with the run
        agent.model.load_state_dict(best["model"])
        returns = evaluate(agent.policy, settings.world, settings.episodes, 1000 + seed)
        row = {
            "seed": seed, "mean_return": float(np.mean(returns)), "worst_return": min(returns),
            "steps": agent.played, "seconds": round(time.monotonic() - start, 1),
        }  # fmt: skip
        log.append(event="agent", **row)
        job.say(
            f"seed {seed}: mean return {row['mean_return']:.1f} over {len(returns)} episodes, worst "
            f"{row['worst_return']:.1f}; {row['seconds']:.0f} s"
        )
        save_checkpoint(job.run.folder / f"agent-{seed}.safetensors", {"model": agent.model.state_dict(), **row})
        return row
    finally:
        worlds.close()


def _save(job: Job, seed: int, agent: Learner, best: dict[str, Any] | None, log: MetricsLog) -> None:
    save_checkpoint(
        job.run.last,
        {
            "seed": seed,
            "played": agent.played,
            "agent": agent.state(),
            "best": best,
            "random": default_generator.state,
            "metrics": log.sync(),
        },
    )


def _conclude(job: Job, settings: Settings, rows: list[dict[str, Any]], solved: float) -> dict[str, Any]:
    if not rows:
        raise OperationError("no agent was trained")
    reached = sum(row["mean_return"] >= solved for row in rows)
    headers = ["seed", "mean return", "worst", "steps", "seconds"]
    table = [
        [
            str(row["seed"]), f"{row['mean_return']:.1f}", f"{row['worst_return']:.1f}", f"{row['steps']:,}",
            f"{row['seconds']:.0f}",
        ]
        for row in rows
    ]  # fmt: skip
    job.say()
    job.say(text_table(headers, table))
    job.say(f"{reached} of {len(rows)} agents reach a mean return of {solved:.0f}")
    try:
        job.say(f"saved {_plot(job, settings, solved)}")
    except PlotError as error:
        job.say(f"no plot: {error}")
    return {
        "recipe": job.run.recipe, "run": str(job.run.folder), "world": settings.world,
        "algorithm": settings.algorithm, "solved": reached, "agents": rows,
    }  # fmt: skip


def _plot(job: Job, settings: Settings, solved: float) -> Any:
    """Mean return of the last 100 episodes over the steps played, a line for each seed."""
    figure, axes = new_figure(1, 1, (7.0, 4.0))
    ax = axes[0, 0]
    rounds = read_metrics(job.run.metrics, "round")
    for seed in sorted({row["seed"] for row in rounds}):
        mine = [row for row in rounds if row["seed"] == seed and row["return"] is not None]
        ax.plot([r["step"] for r in mine], [r["return"] for r in mine], label=f"seed {seed}", linewidth=1.2)
    ax.axhline(solved, color="#777777", linewidth=1, linestyle=":")
    ax.set_xlabel("steps played")
    ax.set_ylabel("mean return of the last 100 episodes")
    ax.set_title(f"{settings.algorithm.upper()} in {settings.world}")
    ax.legend(fontsize=8)
    return save_figure(figure, job.run.folder / "returns.png")
