"""Regrade stored patches, without running the agent, and report the verdicts that changed.

A stored patch is applied to the task's base tree, passes the current submission checks and is graded by
`envs.grading.grade`, like any submission. Changes of protected paths are not part of a stored patch.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from envs.grading.grade import NOT_GRADED, grade, noted
from envs.grading.run import sandbox_spec
from envs.grading.submission import Submission, submission_of
from envs.parallel import fitting_workers, in_order
from envs.tasksets.taskset import TaskSet
from envs.tasksets.trees import PatchError, apply_patch
from envs.types import Task, Verdict
from sandboxes.backend import Backend
from sandboxes.base import SandboxError
from sandboxes.progress import Progress, silent

from ..runs.read import read_trajectories

NO_TASK = "there is no such task any more"
DOES_NOT_APPLY = "the patch does not apply"
OTHER_TASK = "the task has changed since"
SHOWN_IDS = 3


class RegradeError(Exception):
    """The run or the file of predictions cannot be graded again. Takes one sentence."""


@dataclass(frozen=True)
class StoredPatch:
    """A patch to grade again."""

    id: str
    """Id of the trajectory, or file and line of the prediction."""
    task_id: str
    patch: str
    task_hash: str = ""
    """Empty for a prediction."""
    verdict: Verdict | None = None
    """None for a prediction."""


@dataclass(frozen=True)
class Regraded:
    """The stored and the new outcome of one patch."""

    id: str
    task_id: str
    before: str | None
    """`resolved`, `failed` or `tampered`; None where no verdict was stored."""
    after: str | None
    """The outcome of most gradings; None where the patch cannot be graded any more."""
    reason: str = ""
    """The difference between the verdicts, and why; empty when they are equal."""
    runs: int = 0
    agreed: int = 0
    """Number of gradings with the most common verdict, compared test by test."""
    not_graded: str = ""
    """The changes of the patch that the rules leave out, each with its reason; empty when there are none."""

    @property
    def changed(self) -> bool:
        """Whether the outcome differs, or the patch cannot be graded any more."""
        return self.after is None or (self.before is not None and self.before != self.after)

    @property
    def stable(self) -> bool:
        """Whether every grading gave the same verdict."""
        return self.agreed == self.runs


@dataclass(frozen=True)
class RegradeReport:
    """Counts over all patches, and a row for each."""

    patches: int
    """Stored patches, with or without a stored verdict."""
    unscored: int
    """Episodes without a verdict; they are left out."""
    unread: int
    """Lines of the run that cannot be read; they are left out, and each is logged."""
    gradings: int
    """Test runs in a sandbox; equal patches of one task share their runs."""
    agreed: int
    """Patches with the same outcome as before."""
    identical: int
    """Patches with the same verdict as before, test by test."""
    changed: int
    unstable: int
    """Patches whose repeated gradings differ."""
    other_tasks: int
    """Patches of a task that has changed; graded against the current task."""
    rows: tuple[Regraded, ...] = field(repr=False, default=())
    wall_s: float = 0.0

    @property
    def differing(self) -> tuple[Regraded, ...]:
        """The rows of patches that changed, are unstable, were not graded whole, or got another verdict."""
        return tuple(
            row for row in self.rows if row.changed or row.reason or row.not_graded or not row.stable
        )


def read_patches(run: Path) -> tuple[list[StoredPatch], int, int]:
    """Read every graded patch of a run folder, evaluations within it included.

    Returns them with the numbers of unscored episodes and of unreadable lines. Raises RegradeError.
    """
    patches, unscored, unread = list[StoredPatch](), 0, list[str]()
    for episode in read_trajectories(run, unread):
        if episode.verdict is None:
            unscored += 1
        else:
            origin = episode.id, episode.task_id
            patches.append(StoredPatch(*origin, episode.patch, episode.task_hash, episode.verdict))
    if not patches:
        found = f"; {len(unread)} lines cannot be read, the first: {unread[0]}" if unread else ""
        raise RegradeError(
            f"{run} holds no graded episode; name a run folder that train or eval wrote{found}"
        )
    return patches, unscored, len(unread)


@dataclass(frozen=True)
class _Prediction:
    instance_id: str
    model_patch: str | None = None
    model_name_or_path: str | None = None


def read_predictions(file: Path) -> list[StoredPatch]:
    """Read SWE-bench predictions: JSON lines, one JSON list, or one JSON object of them by instance.

    Raises RegradeError, also when one model answers an instance twice.
    """
    try:
        rows = _prediction_rows(file.read_text("utf-8-sig", "surrogateescape"))
        parsed = TypeAdapter(list[_Prediction]).validate_python(rows)
    except (OSError, ValueError, RecursionError) as error:
        first = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else None
        reason = f"entry {first['loc'][0]}: {first['msg']}" if first and first["loc"] else str(error)
        raise RegradeError(f"{file} holds no predictions: {' '.join(reason.split())}") from error
    if not parsed:
        raise RegradeError(f"{file} holds no predictions: it is empty")
    places: dict[tuple[str, str | None], int] = {}
    for number, row in enumerate(parsed, 1):
        before = places.setdefault((row.instance_id, row.model_name_or_path), number)
        if before != number:
            raise RegradeError(
                f"{file} holds two answers of one model to {row.instance_id}, entries {before} and {number}; "
                "keep one of them"
            )
    return [
        StoredPatch(f"{file.name}:{number}", row.instance_id, row.model_patch or "")
        for number, row in enumerate(parsed, 1)
    ]


def _prediction_rows(text: str) -> Sequence[Any]:
    """Return the entries of a file of predictions of any form. Raises ValueError."""
    try:
        whole = json.loads(text)
    except ValueError:
        # Only a newline ends a line: str.splitlines() would also split at separators inside a patch.
        return [json.loads(line) for line in text.split("\n") if line.strip()]
    if isinstance(whole, list):
        return whole
    if not isinstance(whole, dict) or not all(isinstance(row, dict) for row in whole.values()):
        return [whole]
    for key, row in whole.items():
        if row.setdefault("instance_id", key) != key:
            raise ValueError(f"the entry of {key} names another instance, {row['instance_id']}")
    return [*whole.values()]


def regrade(
    stored: Sequence[StoredPatch],
    tasksets: Sequence[TaskSet],
    *,
    backend: Backend,
    runs: int = 1,
    unscored: int = 0,
    unread: int = 0,
    workers: int | None = None,
    progress: Progress = silent,
) -> RegradeReport:
    """Grade stored patches `runs` times each, several at once, and compare; rows are in the given order.

    Raises SandboxError when a sandbox fails twice for the same patch.
    """
    assert runs >= 1, "grading again takes at least one run"
    started = time.monotonic()
    plan = _Plan(stored, tasksets)
    verdicts: dict[int, list[Verdict]] = {number: [] for number in plan.cases}
    phase, total, done = "grading again", len(plan.cases) * runs, 0
    progress(phase, 0, total)

    def work(backend: Backend, case: _Case) -> tuple[int, Verdict]:
        return case.number, _graded(case, backend)

    if plan.cases:
        first = next(iter(plan.cases.values()))
        size = workers or fitting_workers(sandbox_spec(first.taskset, first.task))
        items = (case for case in plan.cases.values() for _ in range(runs))
        with closing(in_order(work, items, backend=backend, workers=size)) as graded:
            for number, verdict in graded:
                verdicts[number].append(verdict)
                done += 1
                progress(phase, done, total)
    rows = tuple(plan.row(patch, verdicts) for patch in stored)
    return RegradeReport(
        patches=len(rows),
        unscored=unscored,
        unread=unread,
        gradings=done,
        agreed=sum(row.before is not None and row.before == row.after for row in rows),
        identical=sum(row.before is not None and not row.reason for row in rows),
        changed=sum(row.changed for row in rows),
        unstable=sum(not row.stable for row in rows),
        other_tasks=sum(map(plan.is_of_another_task, stored)),
        rows=rows,
        wall_s=time.monotonic() - started,
    )


@dataclass(frozen=True)
class _Case:
    """One patch of one task to grade; equal patches of several episodes are one case."""

    number: int
    taskset: TaskSet
    task: Task
    submission: Submission


class _Plan:
    """The cases to grade, and which stored patches share a case."""

    def __init__(self, stored: Sequence[StoredPatch], tasksets: Sequence[TaskSet]) -> None:
        self.cases: dict[int, _Case] = {}
        self._tasks = {task.id: (taskset, task) for taskset in tasksets for task in taskset.tasks}
        # A task with the stored hash is preferred to a changed task of the same id.
        self._exact = {
            (task.id, task.hash): (taskset, task) for taskset in tasksets for task in taskset.tasks
        }
        self._numbers: dict[tuple[str, str, str], int | str] = {}
        for patch in stored:
            found = self._find(patch)
            if found is not None and (key := self._key(patch, found[1])) not in self._numbers:
                self._numbers[key] = self._prepared(patch, *found)

    def row(self, stored: StoredPatch, verdicts: Mapping[int, Sequence[Verdict]]) -> Regraded:
        """Compare the stored verdict of a patch with its new ones."""
        before = outcome_of(stored.verdict) if stored.verdict else None
        found = self._find(stored)
        if found is None:
            return Regraded(stored.id, stored.task_id, before, None, NO_TASK)
        number = self._numbers[self._key(stored, found[1])]
        other = OTHER_TASK if self.is_of_another_task(stored) else ""
        if isinstance(number, str):
            return Regraded(stored.id, stored.task_id, before, None, "; ".join(filter(None, (other, number))))
        verdict, agreed = most_common(verdicts[number])
        difference = compare(stored.verdict, verdict) if stored.verdict else ""
        reason = "; ".join(filter(None, (other, difference))) if difference else ""
        return Regraded(
            stored.id,
            stored.task_id,
            before,
            outcome_of(verdict),
            reason,
            runs=len(verdicts[number]),
            agreed=agreed,
            not_graded=noted(verdict, self.cases[number].submission).layers.get(NOT_GRADED, ""),
        )

    def is_of_another_task(self, stored: StoredPatch) -> bool:
        """Whether the task of this id has changed since the patch was stored."""
        found = self._find(stored)
        return found is not None and stored.task_hash not in ("", found[1].hash)

    def _find(self, stored: StoredPatch) -> tuple[TaskSet, Task] | None:
        return self._exact.get((stored.task_id, stored.task_hash)) or self._tasks.get(stored.task_id)

    def _key(self, stored: StoredPatch, task: Task) -> tuple[str, str, str]:
        return task.id, task.hash, stored.patch

    def _prepared(self, stored: StoredPatch, taskset: TaskSet, task: Task) -> int | str:
        """Make a case of a stored patch and return its number, or the reason why it cannot be graded."""
        try:
            tree = apply_patch(taskset.base_tree(task), stored.patch)
        except PatchError as error:
            return f"{DOES_NOT_APPLY}: {' '.join(str(error).split())}"
        number = len(self.cases)
        self.cases[number] = _Case(number, taskset, task, submission_of(tree, taskset, task))
        return number


def _graded(case: _Case, backend: Backend) -> Verdict:
    """Grade once; a sandbox failure is retried once."""
    try:
        return grade(case.submission, case.taskset, case.task, backend)
    except SandboxError:
        return grade(case.submission, case.taskset, case.task, backend)


def outcome_of(verdict: Verdict) -> str:
    """Return `resolved`, `tampered` or `failed`."""
    if verdict.resolved:
        return "resolved"
    return "tampered" if verdict.tampered else "failed"


def most_common(verdicts: Sequence[Verdict]) -> tuple[Verdict, int]:
    """Return the most common verdict, the earliest of equals, and its count."""
    counts = Counter(map(_signature, verdicts))
    signature, count = counts.most_common(1)[0]
    return next(verdict for verdict in verdicts if _signature(verdict) == signature), count


def _signature(verdict: Verdict) -> tuple[object, ...]:
    """The parts of a verdict that equal gradings share: everything except log and time."""
    return verdict.resolved, verdict.passed, verdict.failed, verdict.missing, verdict.tampered


def compare(before: Verdict, after: Verdict) -> str:
    """Describe the difference between two verdicts; empty when they are equal."""
    differences = (
        ("now tampered", set(after.tampered) - {*before.tampered}),
        ("no longer tampered", set(before.tampered) - {*after.tampered}),
        ("now failing", set(after.failed) - {*before.failed}),
        ("now missing", set(after.missing) - {*before.missing}),
        ("now passing", set(after.passed) - {*before.passed}),
    )
    return "; ".join(f"{name}: {_some(sorted(what))}" for name, what in differences if what)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN_IDS} more" if len(names) > SHOWN_IDS else ""
    return ", ".join(names[:SHOWN_IDS]) + more
