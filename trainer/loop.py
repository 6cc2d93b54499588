"""READ THIS FIRST: how a policy is trained, from top to bottom.

    draw tasks → play groups of graded episodes → buffer → rewards → advantages → update
    → publish the weights to the engine → log one row of metrics → checkpoint → evaluate

The first four arrows are `_sample`, the update is `_update`. Checkpoints are written every `checkpoint.every`
steps, evaluations run before the first step, every `eval.every` steps and after the last. `train` starts the
parts of a run (`setup.py`) and fine-tunes the policy on examples (SFT); `learn` is the RL loop.

The loop is synchronous: a step's buffer holds the groups of that step only, with a staleness bound of 0, and
the learner learns from them before the next step is played. Each token carries the version of the weights
that sampled it, and the loss decides by version which tokens are on policy. Asynchronous generation therefore
needs a larger staleness bound, and no other loss.

Reward, advantage and loss are looked up by the names in the configuration (`algorithms/__init__.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from agents.types import Trajectory
from sandboxes.progress import Progress, silent

from .algorithms import Algorithm
from .algorithms.advantages import Advantages, group_advantages
from .algorithms.rewards import banner, step_rewards
from .cluster.interruption import Interrupted, Interruption
from .config import Config, Rl, TrainError
from .data.buffer import Buffer, Group
from .data.sampler import TaskSampler
from .data.samples import Sample, from_trajectory
from .learning.checkpoint import LoopState, latest_checkpoint, save_checkpoint
from .metrics import Clock, Row, Stopwatch, episode_metrics, group_metrics
from .run import TrainingRun


class LearnerProtocol(Protocol):
    """The part of a learner that the loop uses (`learner.Learner`, `actor.RemoteLearner`)."""

    def step(self, samples: Sequence[Sample], loss: str, progress: float) -> dict[str, float]:
        """Make one optimiser step; `progress` (0 to 1) drives the learning rate. Returns metrics."""
        ...

    def weight_version(self) -> int:
        """Version of the weights; -1 after an update that failed half-way."""
        ...

    def save(self, folder: Path) -> None:
        """Write weights, optimiser and random state to a checkpoint folder."""
        ...

    def restore(self, folder: Path) -> None:
        """Load the state that `save` wrote."""
        ...


class RolloutSource(Protocol):
    """Plays groups of episodes with the current policy (`setup.Setup`)."""

    @property
    def task_ids(self) -> Sequence[str]:
        """Ids of the training tasks."""
        ...

    def start(self, groups: Sequence[tuple[str, str]]) -> None:
        """Request groups as (group name, task id), such as `("step-3/0/wcwidth-17", "wcwidth-17")`."""
        ...

    def ready(self, progress: Progress) -> Iterator[Group]:
        """Yield each requested group when all its episodes have ended. Raises `Interrupted`."""
        ...

    def publish(self) -> int:
        """Load the learner's weights into the engine; returns their version."""
        ...

    def evaluate(self, step: int, progress: Progress) -> float | None:
        """Pass rate on the held-out tasks; None when nothing could be scored."""
        ...

    def forget_after(self, step: int) -> None:
        """Remove evaluations of later steps: the weights that made them were lost."""
        ...


@dataclass(frozen=True)
class TrainSummary:
    """Outcome of a run. Rates and rewards are None where nothing was scored."""

    steps: int
    version: int
    """Version of the final weights."""
    episodes: int
    reward_first: float | None
    """Mean reward at the first step of this process."""
    reward_last: float | None
    pass_rate_first: float | None
    """Resolved share of the scored episodes at that step."""
    pass_rate_last: float | None
    heldout_first: float | None
    heldout_last: float | None
    interrupted: bool
    seconds: float
    reward_note: str | None = None
    """One line when the reward was not the outcome alone, else None."""


def train(config: Config, out: Path, *, resume: bool = False, progress: Progress = silent) -> TrainSummary:
    """Train a policy in the run folder `out`; `resume` continues the run under its stored settings.

    Raises `RunError`, `TrainError`, and the errors of parts that cannot start; each message is one line.
    """
    return train_in(TrainingRun.go_on(out) if resume else TrainingRun.begin(out, config), progress=progress)


def train_in(run: TrainingRun, *, progress: Progress = silent) -> TrainSummary:
    """Train in a run folder that is already open, and close the folder."""
    from .setup import open_setup

    with run, Interruption() as interruption, open_setup(run, interruption, progress) as setup:
        # The first checkpoint follows SFT, so a run without any starts from the untrained model.
        if not run.checkpoints():
            try:
                if run.config.eval.untrained:
                    passed = setup.evaluate_untrained(progress)
                    run.log({"step": 0, "phase": "untrained", "heldout_pass_rate": passed})
                setup.supervise(progress)
            except Interrupted:
                raise TrainError("interrupted before the first step; --resume begins anew") from None
        return learn(run, setup.learner, setup, interruption=interruption, progress=progress)


def learn(
    run: TrainingRun,
    learner: LearnerProtocol,
    source: RolloutSource,
    *,
    interruption: Interruption,
    progress: Progress = silent,
) -> TrainSummary:
    """Run the RL loop until `rl.steps`, `rl.minutes`, or an interruption; resumes from the newest checkpoint.

    Raises `TrainError` when too many episodes are unscored, or a name of the algorithm cannot be imported.
    """
    config, rl = run.config, run.config.rl
    algorithm = Algorithm.of(config)
    sampler = TaskSampler(source.task_ids, seed=config.seed)
    state = _restored(run, learner, sampler) or LoopState(step=0, sampler=sampler.state())
    run.truncate_metrics(state.step)
    source.forget_after(state.step)
    rows: list[Row] = []
    interrupted = False
    weights = learner.weight_version()  # of `state.step`
    try:
        state = replace(state, version=source.publish())  # a new engine has the model folder's weights
        save_checkpoint(run, learner, state)  # step 0 keeps the result of SFT; after a resume it is a no-op
        _evaluate_if_due(run, source, state, rows, progress)
        clock = Stopwatch(state.seconds)  # starting an engine and evaluating do not count
        while state.step < rl.steps and not _late(rl, state):
            interruption.check()
            step, phases = state.step + 1, Clock()
            with clock, phases.phase("sample"):
                played = _sample(source, sampler, algorithm, config, state, progress=progress)
                trajectories, rewards, advantages = played
            _refuse_outage(trajectories, rl)
            with clock, phases.phase("update"):
                learned = _update(learner, trajectories, advantages, rl, step / rl.steps)
            state = LoopState(step, state.version, sampler.state(), clock.seconds)
            weights = learner.weight_version()
            row: Row = {"step": step, **episode_metrics(trajectories, rewards), **group_metrics(advantages)}
            try:
                with phases.phase("publish"):
                    if learned:  # without a live group there are no new weights
                        state = replace(state, version=source.publish())
            finally:
                # Before the checkpoint: a resumed run drops newer rows, but cannot recreate a missing one.
                _log(run, rows, {**row, "version": state.version, **learned, **phases.row()})
            if step % config.checkpoint.every == 0:
                save_checkpoint(run, learner, state)
            progress("training", step, rl.steps)
            _evaluate_if_due(run, source, state, rows, progress)
        _evaluate_if_due(run, source, state, rows, progress, last=True)
    except Interrupted:
        interrupted = True
    except BaseException:
        # The first error is the one to report: a learner that died cannot be saved either.
        with suppress(Exception):
            if learner.weight_version() == weights:
                save_checkpoint(run, learner, state)
        raise
    save_checkpoint(run, learner, state)
    return _summary(rows, state, interrupted, banner(config.reward) or None)


def _sample(
    source: RolloutSource,
    sampler: TaskSampler,
    algorithm: Algorithm,
    config: Config,
    state: LoopState,
    *,
    progress: Progress,
) -> tuple[list[Trajectory], dict[str, float], Advantages]:
    """Play the next step's groups, plus up to `rl.refill` groups that replace zero-variance ones.

    Returns the step's trajectories, its rewards by trajectory id, and the advantages of its live groups.
    """
    rl, step = config.rl, state.step + 1
    buffer = Buffer(capacity=rl.tasks_per_step, max_staleness=0)
    trajectories: list[Trajectory] = []
    wanted, refilled, started = rl.tasks_per_step, 0, 0
    taken: list[str] = []
    while True:
        drawn = sampler.draw(wanted, beside=taken)
        taken += drawn
        names = [f"step-{step}/{started + n}/{task}" for n, task in enumerate(drawn)]
        source.start(list(zip(names, drawn, strict=True)))
        started += wanted
        for group in source.ready(progress):
            buffer.put(group)
        # Completion order depends on machine load; the order of training data must not.
        groups = sorted(buffer.take(wanted, state.version), key=lambda group: names.index(group.name))
        trajectories += [trajectory for group in groups for trajectory in group.trajectories]
        rewards = step_rewards(
            trajectories,
            config.reward,
            seed=config.seed,
            step=step,
            budget=config.policy.context_tokens,
            reward=algorithm.reward,
        )
        advantages = group_advantages(
            trajectories,
            rewards=rewards,
            advantage=algorithm.advantage,
            settings=rl.advantage_settings,
            min_scored=rl.min_scored,
        )
        # Counted by outcomes: a shaped reward differs within nearly every group.
        useful = advantages.mixed if config.reward.mode == "outcome" else advantages.live
        wanted = min(rl.tasks_per_step - useful, rl.refill - refilled)
        if wanted <= 0:
            return trajectories, rewards, advantages
        refilled += wanted


def _update(
    learner: LearnerProtocol,
    trajectories: Sequence[Trajectory],
    advantages: Advantages,
    rl: Rl,
    progress: float,
) -> dict[str, float]:
    """Make `rl.minibatches` optimiser steps; returns metrics, or an empty dict without a live group.

    Metrics come from the last optimiser step, except `mismatch_*`, which come from the first: only the first
    compares engine and learner under the same weights.
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
            learned = learner.step(part, rl.loss, progress)
            metrics |= {k: v for k, v in learned.items() if not (k in metrics and k.startswith("mismatch"))}
    return metrics


def _refuse_outage(trajectories: Sequence[Trajectory], rl: Rl) -> None:
    """Raise `TrainError` when more than `rl.max_unscored` of the episodes are unscored.

    The few scored episodes of an outage are a biased sample of the tasks.
    """
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


def _late(rl: Rl, state: LoopState) -> bool:
    return rl.minutes > 0 and state.seconds > rl.minutes * 60


def _evaluate_if_due(
    run: TrainingRun,
    source: RolloutSource,
    state: LoopState,
    rows: list[Row],
    progress: Progress,
    *,
    last: bool = False,
) -> None:
    """Evaluate before the first step, every `eval.every` steps and after the `last`, each of them once.

    The metrics say which evaluations were made, so that one that was interrupted is made by the resumed run.
    """
    every = run.config.eval.every
    due = last or state.step == 0 or (every > 0 and state.step % every == 0)
    if not due or any(row.get("step") == state.step and "evaluate_s" in row for row in run.metrics()):
        return
    clock = Clock()
    with clock.phase("evaluate"):
        rate = source.evaluate(state.step, progress)
    row: Row = {"step": state.step, "version": state.version}
    _log(run, rows, row | ({} if rate is None else {"heldout_pass_rate": rate}) | clock.row())


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
