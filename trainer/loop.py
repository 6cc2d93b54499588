"""READ THIS FIRST: how a policy is trained, from top to bottom.

    draw tasks → play groups of episodes, graded in their environments → advantages → update → publish the
    weights to the engine → one line of metrics → checkpoint → every now and then, evaluate

`train` sets everything up (`workplace.py`) and warm-starts the policy; `learn` is the loop. It is
synchronous: episodes are sampled from the newest weights, and then learned from. Every token still carries
the version of the weights that sampled it, so that nothing else changes when generation runs ahead.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from agents.types import Trajectory
from sandboxes.progress import Progress, silent

from .algorithms.advantages import Advantages, group_advantages
from .algorithms.rewards import banner, step_rewards
from .cluster.interruption import Interrupted, Interruption
from .config import Config, Rl, TrainError
from .data.sampler import TaskSampler
from .data.samples import Sample, from_trajectory
from .learning.checkpoint import LoopState, latest_checkpoint, save_checkpoint
from .metrics import Clock, Row, episode_metrics, group_metrics
from .run import TrainingRun


class LearnerProtocol(Protocol):
    """What the loop needs of a learner (`learner.Learner`, `learner.RemoteLearner`)."""

    def update(
        self, samples: Sequence[Sample], *, done: float = 0.0, on_policy: bool = True
    ) -> dict[str, float]: ...

    def save(self, folder: Path) -> None: ...

    def restore(self, folder: Path) -> None: ...


class RolloutSource(Protocol):
    """What the loop needs of those who play (`workplace.Workplace`)."""

    @property
    def task_ids(self) -> Sequence[str]:
        """The tasks that are trained on."""
        ...

    def collect(self, groups: Sequence[tuple[str, str]], progress: Progress) -> list[Trajectory]:
        """Play every group (name, task id) and return its graded episodes. Raises `Interrupted`."""
        ...

    def publish(self) -> int:
        """Have the engine sample from the learner's weights; returns their version."""
        ...

    def evaluate(self, step: int, progress: Progress) -> float | None:
        """Pass rate on what is held out; None when nothing could be scored."""
        ...


@dataclass(frozen=True)
class TrainSummary:
    """How a run went."""

    steps: int
    version: int
    """Of the final weights."""
    episodes: int
    reward_first: float | None
    """Mean of what the first step of this process was trained on."""
    reward_last: float | None
    pass_rate_first: float | None
    """Part of that step's episodes that solved their task."""
    pass_rate_last: float | None
    heldout_first: float | None
    heldout_last: float | None
    interrupted: bool
    seconds: float
    reward_note: str | None = None
    """One line that says so when something else than the outcome was trained on."""


def train(config: Config, out: Path, *, resume: bool = False, progress: Progress = silent) -> TrainSummary:
    """Train a policy in the run folder `out`; with `resume`, go on with the settings it was started with.

    Raises, each in one line: `RunError`, `TrainError`, and what its parts raise when they cannot start.
    """
    return train_in(TrainingRun.go_on(out) if resume else TrainingRun.begin(out, config), progress=progress)


def train_in(run: TrainingRun, *, progress: Progress = silent) -> TrainSummary:
    """`train` in a run folder that is open already; closes it."""
    from .setup import open_workplace

    with run, Interruption() as interruption, open_workplace(run, interruption, progress) as place:
        if not run.checkpoints():
            try:
                if run.config.eval.untrained:
                    passed = place.evaluate_untrained(progress)
                    run.log({"step": 0, "phase": "untrained", "heldout_pass_rate": passed})
                place.warm_start(progress)
            except Interrupted:
                raise TrainError("interrupted before the first step; --resume begins anew") from None
        return learn(run, place.learner, place, interruption=interruption, progress=progress)


def learn(
    run: TrainingRun,
    learner: LearnerProtocol,
    actors: RolloutSource,
    *,
    interruption: Interruption,
    progress: Progress = silent,
) -> TrainSummary:
    """Reinforce until `rl.steps` are done, `rl.minutes` are over, or somebody asks for an end."""
    config, rl = run.config, run.config.rl
    started = time.monotonic()
    sampler = TaskSampler(actors.task_ids, seed=config.seed)
    state = _restored(run, learner, sampler) or LoopState(step=0, sampler=sampler.state())
    run.truncate_metrics(state.step)
    before = state.seconds
    rows: list[Row] = []
    interrupted = False
    try:
        state = replace(state, version=actors.publish())
        save_checkpoint(run, learner, state)
        if state.step == 0:
            _evaluate(run, actors, state, rows, progress)
        while state.step < rl.steps and not _late(rl, before, started):
            interruption.check()
            step, clock = state.step + 1, Clock()
            with clock.phase("sample"):
                trajectories, rewards, advantages = _sample(actors, sampler, config, step, progress)
            _refuse_outage(trajectories, rl)
            with clock.phase("update"):
                spent = before + time.monotonic() - started
                learned = _update(learner, trajectories, advantages, rl, _done(rl, step, spent))
            with clock.phase("publish"):
                version = actors.publish() if learned else state.version
            # The line comes before the checkpoint: a resumed run drops lines that are too new, and can
            # make up for none that is missing.
            row = {
                "step": step,
                "version": version,
                **episode_metrics(trajectories, rewards),
                **group_metrics(advantages),
            }
            _log(run, rows, {**row, **learned, **clock.row()})
            state = LoopState(step, version, sampler.state(), before + time.monotonic() - started)
            if step % config.checkpoint.every == 0:
                save_checkpoint(run, learner, state)
            progress("training", step, rl.steps)
            if config.eval.every and step % config.eval.every == 0 and step < rl.steps:
                _evaluate(run, actors, state, rows, progress)
        if state.step > 0:
            _evaluate(run, actors, state, rows, progress)
    except Interrupted:
        interrupted = True
    save_checkpoint(run, learner, state)
    return _summary(rows, state, interrupted, banner(config.reward) or None)


def _sample(
    actors: RolloutSource, sampler: TaskSampler, config: Config, step: int, progress: Progress
) -> tuple[list[Trajectory], dict[str, float], Advantages]:
    """Play this step's groups, and `rl.refill` more at most in place of groups that teach nothing."""
    trajectories: list[Trajectory] = []
    rl, budget = config.rl, config.policy.context_tokens
    wanted, refilled = rl.tasks_per_step, 0
    while True:
        drawn = sampler.draw(wanted)
        offset = len({t.group for t in trajectories})
        groups = [(f"step-{step}/{offset + n}/{task}", task) for n, task in enumerate(drawn)]
        trajectories += actors.collect(groups, progress)
        rewards = step_rewards(trajectories, config.reward, seed=config.seed, step=step, budget=budget)
        advantages = group_advantages(
            trajectories, rewards=rewards, baseline=rl.advantage, min_scored=rl.min_scored
        )
        wanted = min(rl.tasks_per_step - advantages.live, rl.refill - refilled)
        if wanted <= 0:
            return trajectories, rewards, advantages
        refilled += wanted


def _update(
    learner: LearnerProtocol, trajectories: Sequence[Trajectory], advantages: Advantages, rl: Rl, done: float
) -> dict[str, float]:
    """Make this step's updates and return their metrics; nothing when there was nothing to learn.

    They are the last update's, but for the mismatch between learner and engine, which is the first one's:
    later ones have moved the weights.
    """
    samples = [
        sample
        for trajectory in trajectories
        if trajectory.id in advantages.values
        and (sample := from_trajectory(trajectory, advantages.values[trajectory.id])) is not None
    ]
    metrics: dict[str, float] = {}
    for part in (samples[n :: rl.minibatches] for n in range(rl.minibatches)):
        if part:
            learned = learner.update(part, done=done, on_policy=rl.minibatches == 1)
            metrics |= {k: v for k, v in learned.items() if not (k in metrics and k.startswith("mismatch"))}
    return metrics


def _refuse_outage(trajectories: Sequence[Trajectory], rl: Rl) -> None:
    """Stop when too much could not be scored: learning from what is left would be learning from an outage."""
    failed = [trajectory for trajectory in trajectories if trajectory.reward is None]
    if len(failed) > rl.max_unscored * len(trajectories):
        raise TrainError(
            f"{len(failed)} of {len(trajectories)} episodes could not be scored, more than rl.max_unscored "
            f"({rl.max_unscored:.0%}) allows; the last one failed with: {failed[-1].error or 'no message'}"
        )


def _restored(run: TrainingRun, learner: LearnerProtocol, sampler: TaskSampler) -> LoopState | None:
    found = latest_checkpoint(run)
    if found is None:
        return None
    folder, state = found
    learner.restore(folder)
    sampler.restore(state.sampler)
    return state


def _late(rl: Rl, before: float, started: float) -> bool:
    return rl.minutes > 0 and before + time.monotonic() - started > rl.minutes * 60


def _done(rl: Rl, step: int, seconds: float) -> float:
    """Place on the learning-rate schedule: the part of the steps, or of the time, whichever is more."""
    return max(step / rl.steps, seconds / 60 / rl.minutes if rl.minutes else 0.0)


def _evaluate(
    run: TrainingRun, actors: RolloutSource, state: LoopState, rows: list[Row], progress: Progress
) -> None:
    clock = Clock()
    with clock.phase("evaluate"):
        rate = actors.evaluate(state.step, progress)
    if rate is not None:
        row: Row = {"step": state.step, "version": state.version, "heldout_pass_rate": rate}
        _log(run, rows, row | clock.row())


def _log(run: TrainingRun, rows: list[Row], row: Row) -> None:
    run.log(row)
    rows.append(row)


def _summary(rows: Sequence[Row], state: LoopState, interrupted: bool, note: str | None) -> TrainSummary:
    def values(name: str) -> list[float]:
        return [float(value) for row in rows if isinstance(value := row.get(name), int | float)]

    rewards, passed, heldout = values("reward_mean"), values("pass_rate"), values("heldout_pass_rate")
    return TrainSummary(
        steps=state.step,
        version=state.version,
        episodes=int(sum(values("episodes"))),
        reward_first=rewards[0] if rewards else None,
        reward_last=rewards[-1] if rewards else None,
        pass_rate_first=passed[0] if passed else None,
        pass_rate_last=passed[-1] if passed else None,
        heldout_first=heldout[0] if heldout else None,
        heldout_last=heldout[-1] if heldout else None,
        interrupted=interrupted,
        seconds=state.seconds,
        reward_note=note,
    )
