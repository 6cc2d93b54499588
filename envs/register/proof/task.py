"""Prove tasks by grading: the empty patch and every cheat must score 0, the reference patch 1."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial

from envs.grading.grade import grade
from envs.grading.run import sandbox_spec
from envs.grading.submission import Submission, submission_of
from envs.parallel import fitting_workers, in_order
from envs.tasksets.taskset import TaskSet
from envs.types import Task
from sandboxes.backend import Backend

from ..settings import ProofSettings
from .cheats import CHEATS, Cheat

GRADED, IDLE = "graded", "nothing to hand in"


@dataclass(frozen=True)
class TaskCheck:
    """Outcome of proving one task."""

    id: str
    problems: tuple[str, ...]
    """Faults of the task; empty for a sound task."""
    seconds: float
    cheats: Mapping[str, str] = field(default_factory=dict)
    """Name of a tried cheat to its outcome: `refused` as tampering, `graded` with score 0, `nothing to
    hand in` if the submission has no change, or `passes`."""


def prove_tasks(taskset: TaskSet, settings: ProofSettings, *, share: int | None = None) -> list[TaskCheck]:
    """Prove every task of a set, with all cheats, or with `share` cheats per task (`by_turns`).

    Raises SandboxError.
    """
    if not taskset.tasks:
        return []
    what, checks = f"proving {taskset.name}", list[TaskCheck]()
    settings.progress(what, 0, len(taskset.tasks))

    def prove(backend: Backend, numbered: tuple[int, Task]) -> TaskCheck:
        number, task = numbered
        return prove_task(taskset, task, by_turns(number, share), backend=backend, runs=settings.runs)

    workers = settings.workers or fitting_workers(sandbox_spec(taskset, taskset.tasks[0]))
    tasks = enumerate(taskset.tasks)
    with closing(in_order(prove, tasks, backend=settings.backend, workers=workers)) as found:
        for check in found:
            checks.append(check)
            settings.progress(what, len(checks), len(taskset.tasks))
    return checks


def by_turns(number: int, share: int | None) -> Sequence[Cheat]:
    """Return `share` cheats for task `number` (from 0); the next task gets the cheats that follow."""
    if share is None or share >= len(CHEATS):
        return CHEATS
    start = number * share
    return [CHEATS[(start + step) % len(CHEATS)] for step in range(share)]


def prove_task(
    taskset: TaskSet, task: Task, cheats: Sequence[Cheat], *, backend: Backend, runs: int
) -> TaskCheck:
    """Prove that the empty patch and cheats score 0, and the reference 1 in all runs. Raises SandboxError."""
    started, problems = time.monotonic(), list[str]()
    score = partial(grade, taskset=taskset, task=task, backend=backend)
    if score(submission_of(taskset.base_tree(task), taskset, task)).resolved:
        problems.append("the empty patch passes")
    reference = submission_of(taskset.solved_tree(task), taskset, task)
    failed = sum(not score(reference).resolved for _ in range(runs))
    if failed:
        problems.append(f"the reference patch fails {failed} of {runs} times")
    tried = {}
    for cheat in cheats:
        submission = submission_of(cheat.tree(taskset, task), taskset, task)
        tried[cheat.name] = fate(submission) or ("passes" if score(submission).resolved else GRADED)
    problems += [f"a cheat passes: {name}" for name, what in tried.items() if what == "passes"]
    return TaskCheck(task.id, tuple(problems), round(time.monotonic() - started, 2), tried)


def fate(submission: Submission) -> str:
    """Return why a submission needs no test run to score 0, or an empty string.

    A submission without a change is the empty patch, which is graded separately.
    """
    return "" if submission.patch else IDLE
