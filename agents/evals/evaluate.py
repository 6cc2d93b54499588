"""Evaluate a policy on tasks: play the episodes, store every trajectory, compute the summary."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from envs.coding import CodingEnv
from envs.grading.memory import VerdictMemory
from envs.search.embedder import Embedder
from envs.tasksets.taskset import TaskSet
from envs.types import Task
from sandboxes.backend import Backend
from sandboxes.progress import Progress, silent

from ..executor import EpisodeRequest, Executor, ThreadExecutor, episode_seed
from ..rollout import TaskEnv
from ..runs.folder import RunFolder, describe, read_manifest
from ..runs.store import TrajectoryStore
from ..types import Policy, Trajectory
from .scores import EvalSummary, summarize

SAME = ("policy", "temperature", "dialect", "embedder")
"""Entries of a manifest without which episodes of one folder could not be counted together."""


class EvaluationError(Exception):
    """The evaluation cannot be run as asked. Takes one sentence."""


class EvaluationOutage(EvaluationError):
    """Sandboxes or the policy failed repeatedly, so the evaluation was given up."""


@dataclass(frozen=True)
class EvalSettings:
    """Settings of an evaluation."""

    out: Path
    """The run folder to write."""
    split: str | None = None
    """`train` or `heldout`; None means every task."""
    samples: int = 1
    """Episodes per task."""
    seed: int = 0
    """Each episode has a sampling seed of its own, drawn from this one, the task's id and its number."""
    max_format_errors: int = 3
    """Unreadable actions in a row that end an episode."""
    resume: bool = False
    """Continue an existing run folder; its scored episodes are kept."""
    concurrency: int = 4
    """Concurrent episodes, where the evaluation makes its own executor."""
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """Additional entries of `manifest.json`, such as `{"policy": "oracle"}`."""

    def tasks_of(self, taskset: TaskSet) -> Sequence[Task]:
        """The tasks of the split."""
        return taskset.split(self.split) if self.split else taskset.tasks


def evaluate(
    policy: Policy,
    tasksets: Sequence[TaskSet],
    settings: EvalSettings,
    *,
    backend: Backend,
    embedder: Embedder | None = None,
    progress: Progress = silent,
) -> EvalSummary:
    """Run a policy on task sets; write `manifest.json`, `trajectories/` and `summary.json` to `settings.out`.

    Raises `EvaluationError` or `RunError` when the folder or its stored episodes do not fit the settings.
    """
    tasks = [task for taskset in tasksets for task in settings.tasks_of(taskset)]

    memory = VerdictMemory()

    def make_env() -> TaskEnv:
        return CodingEnv(
            tasksets, backend=backend, split=settings.split, embedder=embedder, verdict_memory=memory
        )

    ran_with = {
        **describe([taskset.folder for taskset in tasksets], run=settings.out),
        "policy": policy.name,
        "sandbox": backend.name,
        **settings.manifest,
    }
    executor = ThreadExecutor(make_env, settings.concurrency)
    return evaluate_tasks(policy, tasks, executor, replace(settings, manifest=ran_with), progress=progress)


def evaluate_tasks(
    policy: Policy,
    tasks: Sequence[Task],
    executor: Executor,
    settings: EvalSettings,
    *,
    progress: Progress = silent,
) -> EvalSummary:
    """`evaluate` on given tasks and a given executor. A manifest is written only if `settings` has one."""
    started = time.monotonic()
    _check(tasks, settings)
    with RunFolder.open(settings.out) as run, TrajectoryStore(run.trajectories) as store:
        wanted = {
            (task.id, episode_seed(settings.seed, task.id, number)): task
            for number in range(settings.samples)
            for task in tasks
        }
        _check_manifest(run, settings.manifest)
        stored = _stored(store, wanted, policy.name)
        run.note(settings.manifest)
        requests = [
            EpisodeRequest(task, seed, f"eval/{task.id}")
            for (task_id, seed), task in wanted.items()
            if (task_id, seed) not in stored
        ]
        played = _run(requests, executor, policy, settings, store=store, progress=progress)
        summary = summarize(
            [*stored.values(), *played],
            tasks,
            policy=policy.name,
            split=settings.split,
            samples=settings.samples,
            seed=settings.seed,
            wall_s=time.monotonic() - started,
        )
        run.write_summary(asdict(summary))
    return summary


def _check(tasks: Sequence[Task], settings: EvalSettings) -> None:
    """Refuse an impossible evaluation before anything is written."""
    split, out = settings.split, settings.out
    if not tasks:
        raise EvaluationError(f"there are no tasks in the split {split!r}" if split else "there are no tasks")
    if settings.samples < 1:
        raise EvaluationError(f"samples must be at least 1, got {settings.samples}")
    if not settings.resume and out.exists() and any(out.iterdir()):
        raise EvaluationError(f"{out} exists; continue it with --resume, or name another folder")


def _check_manifest(run: RunFolder, manifest: Mapping[str, Any]) -> None:
    """Refuse to continue a folder that was begun with another policy or sampling."""
    before = read_manifest(run.path) if (run.path / "manifest.json").exists() else {}
    for name in SAME:
        if name in before and name in manifest and before[name] != manifest[name]:
            raise EvaluationError(
                f"{run.path} was begun with {name} {before[name]!r}, not {manifest[name]!r}; "
                "name another folder"
            )


def _stored(
    store: TrajectoryStore, wanted: Mapping[tuple[str, int], Task], policy: str
) -> dict[tuple[str, int], Trajectory]:
    """Return the requested episodes that are stored and scored, by task id and seed."""
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
    executor: Executor,
    policy: Policy,
    settings: EvalSettings,
    *,
    store: TrajectoryStore,
    progress: Progress,
) -> list[Trajectory]:
    """Play and store episodes; raise `EvaluationOutage` after repeated failures."""
    played: list[Trajectory] = []
    failed_in_a_row = 0
    patience = settings.max_format_errors
    episodes = executor.play(requests, policy, progress=progress, max_format_errors=patience)
    try:
        for trajectory in episodes:
            store.append(trajectory)
            played.append(trajectory)
            failed_in_a_row = failed_in_a_row + 1 if trajectory.reward is None else 0
            if failed_in_a_row >= max(8, 2 * executor.slots):
                raise EvaluationOutage(
                    f"the last {failed_in_a_row} episodes all failed ({trajectory.error}); "
                    "scored episodes are stored, continue with --resume"
                )
    finally:
        episodes.close()
    return played
