"""How good is a policy on a set of tasks: run it, keep every trajectory, sum up."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter

from envs.coding import CodingEnv
from envs.search.embedder import Embedder
from envs.tasksets.taskset import TaskSet
from envs.types import Task
from sandboxes.backend import Backend
from sandboxes.files import write_whole
from sandboxes.progress import Progress, silent

from ..executor import EpisodeRequest, Executor, ThreadExecutor
from ..rollout import TaskEnv
from ..runs.store import TrajectoryStore
from ..types import Policy, Trajectory
from .scores import EvalSummary, summarize


class EvaluationError(Exception):
    """The evaluation cannot be run as asked. Takes one sentence."""


class EvaluationOutage(EvaluationError):
    """What was asked for is fine; sandboxes or the policy failed again and again."""


def evaluate(
    policy: Policy,
    tasksets: Sequence[TaskSet],
    *,
    split: str | None,
    samples: int,
    out: Path,
    resume: bool,
    backend: Backend,
    concurrency: int,
    seed: int = 0,
    embedder: Embedder | None = None,
    progress: Progress = silent,
) -> EvalSummary:
    """Run `samples` episodes of every task and write `out/trajectories/` and `out/summary.json`.

    `split` None means every task. With `resume`, scored episodes that are stored are not run again. Raises
    `EvaluationError` in one sentence when the folder, or what is stored in it, does not allow the run.
    """
    tasks = [task for one in tasksets for task in (one.split(split) if split else one.tasks)]

    def make_env() -> TaskEnv:
        return CodingEnv(tasksets, backend=backend, split=split, embedder=embedder)

    return evaluate_tasks(
        policy,
        tasks,
        ThreadExecutor(make_env, concurrency),
        split=split,
        samples=samples,
        out=out,
        resume=resume,
        seed=seed,
        progress=progress,
    )


def evaluate_tasks(
    policy: Policy,
    tasks: Sequence[Task],
    stage: Executor,
    *,
    split: str | None,
    samples: int,
    out: Path,
    resume: bool,
    seed: int = 0,
    progress: Progress = silent,
) -> EvalSummary:
    """`evaluate` on given tasks, played on a given stage."""
    started = time.monotonic()
    if not tasks:
        raise EvaluationError(f"there are no tasks in the split {split!r}" if split else "there are no tasks")
    if samples < 1:
        raise EvaluationError(f"samples must be at least 1, got {samples}")
    if not resume and out.exists() and any(out.iterdir()):
        raise EvaluationError(f"{out} exists; continue it with --resume, or name another folder")
    store = TrajectoryStore(out / "trajectories")
    wanted = {(task.id, seed + n): task for n in range(samples) for task in tasks}
    stored = _stored(store, wanted, policy.name)
    requests = [
        EpisodeRequest(task, number, f"eval/{task.id}")
        for (task_id, number), task in wanted.items()
        if (task_id, number) not in stored
    ]
    try:
        found = _run(requests, stage, policy, store=store, progress=progress)
    finally:
        store.close()
    summary = summarize(
        [*stored.values(), *found],
        tasks,
        policy=policy.name,
        split=split,
        samples=samples,
        seed=seed,
        wall_s=time.monotonic() - started,
    )
    write_whole(out / "summary.json", TypeAdapter(EvalSummary).dump_json(summary, indent=2) + b"\n")
    return summary


def _stored(
    store: TrajectoryStore, wanted: dict[tuple[str, int], Task], policy: str
) -> dict[tuple[str, int], Trajectory]:
    """The scored episodes among those wanted; unscored ones are worth another try."""
    stored: dict[tuple[str, int], Trajectory] = {}
    for trajectory in store.read():
        key = (trajectory.task_id, trajectory.seed)
        if trajectory.policy != policy:
            raise EvaluationError(
                f"{store.folder} holds episodes of {trajectory.policy!r}, not of {policy!r}; "
                "name another folder"
            )
        if key in wanted and trajectory.task_hash != wanted[key].hash:
            raise EvaluationError(
                f"the task {trajectory.task_id} has changed since {store.folder} was written; "
                "name another folder"
            )
        if key in wanted and trajectory.reward is not None:
            stored[key] = trajectory
    return stored


def _run(
    requests: Sequence[EpisodeRequest],
    stage: Executor,
    policy: Policy,
    *,
    store: TrajectoryStore,
    progress: Progress,
) -> list[Trajectory]:
    """Run and store episodes; give up when nothing works any more."""
    found: list[Trajectory] = []
    failed_in_a_row = 0
    episodes = stage.play(requests, policy, progress=progress)
    try:
        for trajectory in episodes:
            store.append(trajectory)
            found.append(trajectory)
            failed_in_a_row = failed_in_a_row + 1 if trajectory.reward is None else 0
            patience = max(8, 2 * stage.slots)
            if failed_in_a_row >= patience:
                raise EvaluationOutage(
                    f"the last {failed_in_a_row} episodes all failed ({trajectory.error}); "
                    "what was scored is stored, continue with --resume"
                )
    finally:
        episodes.close()
    return found
