"""Grade stored patches again, without running the agent, and say which verdicts changed.

A stored patch is what travelled to grading: it is applied to the task's base tree, goes through today's
rules of admission and is graded by `envs.grading.grade`, like any submission. What those rules once refused
is not in the patch any more, so attempts on protected paths are carried over from the stored verdict.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from envs.grading.grade import grade
from envs.grading.run import sandbox_spec
from envs.grading.submission import Submission, submission_of
from envs.parallel import fitting_workers, in_order
from envs.protection import is_protected
from envs.tasksets.taskset import TaskSet, load_taskset
from envs.tasksets.trees import PatchError, apply_patch
from envs.types import Task, Verdict
from sandboxes.backend import Backend
from sandboxes.base import SandboxError
from sandboxes.progress import Progress, silent

from ..runs.store import TrajectoryStore

NO_TASK = "there is no such task any more"
NO_LONGER_APPLIES = "the patch no longer applies"
OTHER_TASK = "the task has changed since"
SHOWN_IDS = 3


class RegradeError(Exception):
    """What was named cannot be graded again. Takes one sentence."""


@dataclass(frozen=True)
class Stored:
    """A patch to grade again."""

    id: str
    """Of the trajectory, or file and line of the prediction."""
    task_id: str
    patch: str
    task_hash: str = ""
    """Empty where it is not known."""
    verdict: Verdict | None = None
    """None where it is not known."""


@dataclass(frozen=True)
class Regraded:
    """What became of one stored verdict."""

    id: str
    task_id: str
    before: str | None
    """`resolved`, `failed` or `tampered`; None where it was not known."""
    after: str | None
    """The same, of most gradings; None where it cannot be graded any more."""
    reason: str = ""
    """What is different, and why; empty when nothing is."""
    runs: int = 0
    agreed: int = 0
    """How many of the gradings gave that very verdict, test by test."""

    @property
    def changed(self) -> bool:
        """Whether the outcome is another one, or there is none any more."""
        return self.after is None or (self.before is not None and self.before != self.after)

    @property
    def stable(self) -> bool:
        """Whether every grading gave the same verdict."""
        return self.agreed == self.runs


@dataclass(frozen=True)
class RegradeReport:
    """What grading again found."""

    patches: int
    """Stored patches with a verdict to compare, or without."""
    unscored: int
    """Episodes that had not been graded and were left alone."""
    gradings: int
    """Runs in a sandbox: equal patches of one task share theirs."""
    agreed: int
    """Patches whose outcome is what it was."""
    identical: int
    """Of those, how many got the same verdict test by test."""
    changed: int
    unstable: int
    """Patches whose own gradings gave different verdicts."""
    other_tasks: int
    """Patches of a task that is another one by now; they were graded against what it is now."""
    rows: tuple[Regraded, ...] = field(repr=False, default=())
    wall_s: float = 0.0

    @property
    def told(self) -> tuple[Regraded, ...]:
        """Rows that say something: changed, unstable, or for another reason than before."""
        return tuple(row for row in self.rows if row.changed or row.reason or not row.stable)


def read_run(run: Path) -> tuple[list[Stored], int]:
    """Read every graded patch of a run folder, evaluations within it included, and count the unscored.

    Raises RegradeError, StoreError.
    """
    folders = sorted({part.parent for part in run.glob("**/trajectories/**/part-*.jsonl")})
    found, unscored = list[Stored](), 0
    for trajectory in (each for folder in folders for each in TrajectoryStore(folder).read()):
        if trajectory.verdict is None:
            unscored += 1
            continue
        found.append(
            Stored(
                trajectory.id,
                trajectory.task_id,
                trajectory.patch,
                trajectory.task_hash,
                trajectory.verdict,
            )
        )
    if not found:
        raise RegradeError(f"{run} holds no graded episode; name a run folder that train or eval wrote")
    return found, unscored


def read_predictions(file: Path) -> list[Stored]:
    """Read SWE-bench predictions: JSON lines, or one JSON list. Raises RegradeError."""

    @dataclass(frozen=True)
    class Row:
        instance_id: str
        model_patch: str | None = None

    try:
        text = file.read_text("utf-8", "surrogateescape")
        whole = text.lstrip().startswith("[")
        rows = json.loads(text) if whole else [json.loads(line) for line in text.splitlines() if line.strip()]
        parsed = TypeAdapter(list[Row]).validate_python(rows)
    except (OSError, ValueError) as error:
        said = error.errors(include_url=False)[0] if isinstance(error, ValidationError) else None
        reason = f"entry {said['loc'][0]}: {said['msg']}" if said and said["loc"] else str(error)
        raise RegradeError(f"{file} holds no predictions: {' '.join(reason.split())}") from error
    if not parsed:
        raise RegradeError(f"{file} holds no predictions: it is empty")
    return [
        Stored(f"{file.name}:{number}", row.instance_id, row.model_patch or "")
        for number, row in enumerate(parsed, 1)
    ]


def tasksets_of(run: Path) -> list[TaskSet]:
    """Load the task sets that a run folder's manifest names. Raises RegradeError, TaskSetError."""
    try:
        manifest: Mapping[str, Any] = json.loads((run / "manifest.json").read_bytes())
        names = [str(name) for name in manifest["tasks"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise RegradeError(f"{run} does not say which tasks it ran; name them with --tasks") from None
    places = [next((p for p in (Path(name), run / name) if p.is_dir()), None) for name in names]
    for name, place in zip(names, places, strict=True):
        if place is None:
            raise RegradeError(f"the task set {name} is not there; say with --tasks where it is now")
    return [load_taskset(place) for place in places if place is not None]


def regrade(
    stored: Sequence[Stored],
    tasksets: Sequence[TaskSet],
    *,
    backend: Backend,
    runs: int = 1,
    unscored: int = 0,
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
    what, total, done = "grading again", len(plan.cases) * runs, 0
    progress(what, 0, total)

    def work(lent: Backend, case: _Case) -> tuple[int, Verdict]:
        return case.number, _graded(case, lent)

    if plan.cases:
        first = next(iter(plan.cases.values()))
        size = workers or fitting_workers(sandbox_spec(first.taskset, first.task))
        items = (case for case in plan.cases.values() for _ in range(runs))
        with closing(in_order(work, items, backend=backend, workers=size)) as found:
            for number, verdict in found:
                verdicts[number].append(verdict)
                done += 1
                progress(what, done, total)
    rows = tuple(plan.row(each, verdicts) for each in stored)
    return RegradeReport(
        patches=len(rows),
        unscored=unscored,
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
    """A patch of a task as it is graded, whoever wrote it and how often."""

    number: int
    taskset: TaskSet
    task: Task
    submission: Submission


class _Plan:
    """What is graded, and which stored patches share a grading."""

    def __init__(self, stored: Sequence[Stored], tasksets: Sequence[TaskSet]) -> None:
        self.cases: dict[int, _Case] = {}
        self._tasks = {task.id: (one, task) for one in tasksets for task in one.tasks}
        # The very task that was worked on comes before another one of the same name.
        self._exact = {(task.id, task.hash): (one, task) for one in tasksets for task in one.tasks}
        self._numbers: dict[tuple[str, str, str, tuple[str, ...]], int | str] = {}
        for each in stored:
            found = self._find(each)
            if found is not None and (key := self._key(each, found[1])) not in self._numbers:
                self._numbers[key] = self._prepared(each, *found)

    def row(self, stored: Stored, verdicts: Mapping[int, Sequence[Verdict]]) -> Regraded:
        """Say what became of a stored verdict."""
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
        runs = len(verdicts[number])
        return Regraded(stored.id, stored.task_id, before, outcome_of(verdict), reason, runs, agreed)

    def is_of_another_task(self, stored: Stored) -> bool:
        """Whether the task of this name is not the one that was worked on."""
        found = self._find(stored)
        return found is not None and stored.task_hash not in ("", found[1].hash)

    def _find(self, stored: Stored) -> tuple[TaskSet, Task] | None:
        return self._exact.get((stored.task_id, stored.task_hash)) or self._tasks.get(stored.task_id)

    def _key(self, stored: Stored, task: Task) -> tuple[str, str, str, tuple[str, ...]]:
        return task.id, task.hash, stored.patch, attempts(stored.verdict)

    def _prepared(self, stored: Stored, taskset: TaskSet, task: Task) -> int | str:
        """Make a case of a stored patch and return its number, or say why there can be none."""
        try:
            tree = apply_patch(taskset.base_tree(task), stored.patch)
        except PatchError:
            return NO_LONGER_APPLIES
        submission = submission_of(tree, taskset, task)
        offences = tuple(dict.fromkeys((*submission.tampered, *attempts(stored.verdict))))
        number = len(self.cases)
        self.cases[number] = _Case(number, taskset, task, replace(submission, tampered=offences))
        return number


def _graded(case: _Case, backend: Backend) -> Verdict:
    """Grade once; a sandbox that fails is tried once more."""
    try:
        return grade(case.submission, case.taskset, case.task, backend)
    except SandboxError:
        return grade(case.submission, case.taskset, case.task, backend)


def outcome_of(verdict: Verdict) -> str:
    """Return `resolved`, `tampered` or `failed`."""
    if verdict.resolved:
        return "resolved"
    return "tampered" if verdict.tampered else "failed"


def attempts(verdict: Verdict | None) -> tuple[str, ...]:
    """Name the attempts on protected paths among a verdict's offences: `PATH: what was done`."""
    lines = verdict.tampered if verdict else ()
    return tuple(line for line in lines if any(is_protected(path) for path in _beginnings(line)))


def _beginnings(line: str) -> Iterator[str]:
    """What stands before each colon of a line: one of them is its path, if it has one."""
    parts = line.split(": ")
    return (": ".join(parts[:end]) for end in range(1, len(parts)))


def most_common(verdicts: Sequence[Verdict]) -> tuple[Verdict, int]:
    """Return the verdict that most gradings gave, the earliest of equals, and how many gave it."""
    counts = Counter(map(_signature, verdicts))
    signature, count = counts.most_common(1)[0]
    return next(each for each in verdicts if _signature(each) == signature), count


def _signature(verdict: Verdict) -> tuple[object, ...]:
    """What two gradings must share to be the same: everything but words and seconds."""
    return verdict.resolved, verdict.passed, verdict.failed, verdict.missing, verdict.tampered


def compare(before: Verdict, after: Verdict) -> str:
    """Say how two verdicts differ; empty when they do not."""
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
